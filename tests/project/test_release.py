"""What a release consists of: the same bytes from the same commit, nothing besides the package."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
JUDGE = "ftreg/scoring/backends/entailment.safetensors"  # the adapters of the judge, no base
PROBES = "ftreg/scoring/probes/"  # texts and instructions that were written for ftreg
STARTER = "sample_datasets/ferry-desk/v2/"  # what `ftreg init` copies, and no other data

pytest.importorskip("build", reason="the tools of a release are in the extra dev")
pytest.importorskip("hatchling")


def checkout(folder: Path, *, time: int, umask: int) -> Path:
    """Copy what git knows of, as somebody else has it: other times, modes, and other files."""
    known = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, known):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod((0o777 if os.access(source, os.X_OK) else 0o666) & ~umask)
            os.utime(target, (time, time))
    # What lies about after a day's work, and belongs into no release.
    for name in ("checkpoints/a/model.safetensors", "evaluations/e/outputs.jsonl", ".env",
                 "sample_datasets/code-summary/v1/train.jsonl", "ftreg/__pycache__/x.cpython.pyc",
                 "sample_datasets/secret/v1/train.jsonl", "runs/1/log"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    return folder


def built(root: Path, output: Path, *, zone: str) -> Path:
    code = (
        "import sys; from pathlib import Path; from release import build\n"
        "build(Path(sys.argv[1]), Path(sys.argv[2]), epoch='1700000000')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, root, output],
        env=os.environ | {"PYTHONPATH": f"{SCRIPTS}:{ROOT}", "TZ": zone},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two builds of the same files, in other folders, at other times, by other people."""
    first = tmp_path_factory.mktemp("first")
    second = tmp_path_factory.mktemp("a second, elsewhere")
    return [
        built(checkout(first / "a", time=1_600_000_000, umask=0o022), first / "out", zone="UTC"),
        built(
            checkout(second / "b" / "c", time=1_750_000_000, umask=0o077),
            second / "out",
            zone="Asia/Tokyo",
        ),
    ]


@pytest.mark.slow
def test_two_builds_are_equal_byte_for_byte(builds: list[Path]) -> None:
    sums = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        for folder in builds
    ]
    assert len(sums[0]) == 2
    assert sums[0] == sums[1]


@pytest.mark.slow
def test_a_release_has_neither_tests_nor_data(builds: list[Path]) -> None:
    (wheel,) = builds[0].glob("*.whl")
    (sdist,) = builds[0].glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as packed:
        in_sdist = [item.name.partition("/")[2] for item in packed.getmembers() if item.isfile()]
    known = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert {name.partition("/")[0] for name in in_wheel} == {"ftreg", "ftreg-0.1.0.dist-info"}
    assert {name for name in in_sdist if name.partition("/")[0] not in
            {"ftreg", "configs", "sample_datasets"}} == {
        "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore",
    }  # fmt: skip
    assert set(in_sdist) - {"PKG-INFO"} <= set(known)
    for name in (*in_wheel, *in_sdist):
        assert "tests/" not in name and "__pycache__" not in name, name
        if name == JUDGE or name.startswith(PROBES):
            continue
        assert not name.endswith((".safetensors", ".gguf", ".bin", ".pt", ".arrow", ".env")), name
        if name.endswith((".jsonl", ".csv", ".parquet")) or "sample_datasets" in name:
            assert name.removeprefix("ftreg/jobs/starter/").startswith(STARTER), name


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_lists_what_is_needed() -> None:
    pytest.importorskip("cyclonedx")
    code = "from release import bill_of_materials; print(bill_of_materials(epoch='1700000000'))"
    texts = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": f"{SCRIPTS}:{ROOT}"},
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert texts[0] == texts[1]
    bill = json.loads(texts[0])
    names = {item["name"].lower() for item in bill["components"]}
    assert {"torch", "transformers", "safetensors", "pyyaml", "peft"} <= names
    assert not {"pytest", "ruff", "mypy", "hypothesis", "pip-audit"} & names
    assert all(item.get("version") and item.get("purl") for item in bill["components"])
    assert all(item.get("licenses") for item in bill["components"])
    assert bill["metadata"]["component"]["version"] == "0.1.0"
    root = bill["metadata"]["component"]["bom-ref"]
    needed = next(item["dependsOn"] for item in bill["dependencies"] if item["ref"] == root)
    assert any(ref.startswith("torch==") for ref in needed)
