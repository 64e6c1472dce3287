"""Names out of records and arguments stay in their folders, and writing follows no link."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ftreg.errors import UsageError
from ftreg.files.names import LONGEST, fault_of
from ftreg.files.store import write_record
from ftreg.records.baseline import baseline_path
from tests.conftest import Cli, write_dataset

HOSTILE = [
    "", ".", "..", "../up", "a/../../up", "/etc/passwd", "a\\..\\up", "C:up", "a\0b", "a\nb",
    "a\x1bb",
    "CON", "con", "nul.txt", "NUL .json", "aux", "COM1", "lpt9.v1", "COM¹", "conin$",
    "name.", "name ", "x" * (LONGEST + 1), "ü" * LONGEST, "\ud800", 'a"b', "a*b", "a?b", "a|b",
]  # fmt: skip
SOUND = ["a", "code-summary", "v1.2", "lion-20260101T000000-ab12", "con-1", "console", "com0",
         "com10", "größe", "名前", "x" * LONGEST, "-x", ".hidden", "a b",
         "auxiliary.json"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_refused_for_every_kind_of_thing(name: str, workspace: Path) -> None:
    from ftreg.data.reference import parse_ref
    from ftreg.files.store import check_writable, staged_folder

    assert fault_of(name)
    with pytest.raises(UsageError):
        baseline_path(workspace, name)
    with pytest.raises(UsageError):
        parse_ref(f"{name}@1")
    if name and not {"/", "\\", "\0"} & set(name) and name != ".":
        for write in (check_writable, lambda path: staged_folder(path).__enter__()):
            with pytest.raises(UsageError):
                write(workspace / name)
    assert [path.name for path in workspace.iterdir()] == []


@pytest.mark.parametrize("name", SOUND, ids=ascii)
def test_sound_names_are_taken(name: str) -> None:
    assert fault_of(name) is None


@given(st.text(max_size=300))
def test_whatever_is_taken_stays_in_its_folder(name: str) -> None:
    """Held against pathlib's own reading of the name, on both kinds of system."""
    from pathlib import PurePosixPath, PureWindowsPath

    if fault_of(name) is None:
        for path in (PurePosixPath("folder"), PureWindowsPath("folder")):
            assert (path / name).parent == path
            assert (path / name).name == name
        assert not PureWindowsPath(name).is_reserved()


@pytest.fixture
def evaluation(cli: Cli, config: Path) -> Path:
    own = yaml.safe_load(config.read_text("utf-8").replace("1e-3", "0.001"))
    own["eval"]["scorers"] = ["equals"]
    config.write_text(yaml.safe_dump(own))
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "checkpoints/a", "-q").code == 0
    assert cli("eval", "checkpoints/a", "--no-gate", "-q").code == 0
    (folder,) = Path("evaluations").iterdir()
    return folder


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a record as its author could, who gives it the digest that fits."""
    record = json.loads(path.read_text("utf-8"))
    sealed = record.pop("digest", None) is not None
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    if sealed:
        write_record(path, record)


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_record_cannot_send_a_command_out_of_its_folder(
    cli: Cli, evaluation: Path, tmp_path: Path
) -> None:
    """Each name in an evaluation that becomes a file's, and each command that would follow it."""
    header = evaluation / "evaluation.json"
    sound = header.read_text("utf-8")
    for name in ("../../elsewhere", "/tmp/elsewhere", "con", "a\0b"):
        for change in (
            lambda record, name=name: record["dataset"].update(name=name),
            lambda record, name=name: record.update(id=name),
        ):
            header.write_text(sound, encoding="utf-8")
            edit(header, change)
            before = files_of(tmp_path)
            for command in (["promote", "latest"], ["gate", "baseline", "latest"],
                            ["report", "latest"], ["compare", "latest", "latest"]):  # fmt: skip
                done = cli(*command)
                assert done.code == 2, (name, command, done)
                assert "evaluation.json: damaged evaluation: " in done.err
            assert files_of(tmp_path) == before


def test_a_baseline_and_a_gate_record_cannot_either(cli: Cli, evaluation: Path) -> None:
    assert cli("promote", "latest").code == 0
    assert (evaluation / "gate.json").is_file() is False
    cli("gate", "baseline", "latest")
    edit(evaluation / "gate.json", lambda record: record.update(baseline="../../elsewhere"))
    done = cli("report", "latest")
    assert (done.code, "gate.json: damaged gate record" in done.err) == (2, True)
    edit(
        Path("baselines/colours.json"),
        lambda record: record["baseline"]["header"].update(id="../../elsewhere"),
    )
    done = cli("gate", "baseline", "latest")
    assert (done.code, "colours.json: damaged baseline" in done.err) == (2, True)
    done = cli("baseline", "../evaluations/x")
    assert (done.code, "cannot be the name" in done.err) == (2, True)


@pytest.mark.parametrize("name", ["../run.yaml", "/etc/hostname", "a/../../run.yaml", "nul"])
def test_a_manifest_names_files_of_its_own_folder_only(
    name: str, cli: Cli, evaluation: Path
) -> None:
    manifest = Path("checkpoints/a/ftreg.json")
    edit(manifest, lambda record: record["files"].update({name: "0" * 64}))
    done = cli("checkpoints", "show", "a")
    assert done.code == 2
    assert "ftreg.json: damaged manifest: files" in done.err


def test_a_group_of_replicas_has_its_members_within(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", "train.seeds=[1,2]", "-s", "train.max_steps=1",
               "-o", "g", "-q").code == 0  # fmt: skip
    edit(
        Path("g/ftreg-replicas.json"),
        lambda record: record["members"][0].update(folder="../g/seed-1"),
    )
    done = cli("checkpoints", "show", "g")
    assert (done.code, "damaged record of replicas" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"recipe": "../../run.yaml"}, "recipe"),
        ({"recipe": "/etc/passwd"}, "recipe"),
        ({"splits": {"train": {"file": "../x.jsonl", "rows": 1, "sha256": "0" * 64}}}, "file"),
        ({"splits": {"train": {"file": "con.jsonl", "rows": 1, "sha256": "0" * 64}}}, "file"),
    ],
)
def test_a_card_names_files_beside_it_only(
    change: dict, key: str, cli: Cli, workspace: Path
) -> None:
    card = write_dataset(workspace / "sample_datasets") / "dataset.yaml"
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), **change}))
    done = cli("data", "show", "colours@1")
    assert done.code == 2
    assert f"{key}: " in done.err
    assert "dataset.yaml:" in done.err


def test_an_imported_split_cannot_leave_its_version(cli: Cli, workspace: Path) -> None:
    from ftreg.data.sources.importing import import_version

    Path("rows.jsonl").write_text('{"id": "a", "input": "x", "reference": "y"}\n')
    Path("precious.jsonl").write_text("precious")
    for split in ("../../precious", "con"):
        with pytest.raises(UsageError, match="cannot be the name"):
            import_version(
                "new", {split: "rows.jsonl"}, root=workspace, mapping={}, facts={"license": "MIT"}
            )
    done = cli("data", "import", "new", "--split", "aux=rows.jsonl", "--license", "MIT")
    assert (done.code, "cannot be the name" in done.err) == (2, True)
    assert Path("precious.jsonl").read_text() == "precious"


@pytest.mark.parametrize("key", ["base.model", "dataset.root", "train.output"])
def test_a_nul_in_a_path_is_a_mistake_with_its_key(key: str, cli: Cli, config: Path) -> None:
    done = cli("train", config, "-s", f'{key}="a\\0b"')
    assert done.code == 2
    assert f"-s {key}: the value is not valid YAML" in done.err
    assert "cannot hold the character NUL" in done.err


def test_an_overlong_name_is_refused_before_anything_is_done(cli: Cli, config: Path) -> None:
    done = cli("train", config, "-o", f"checkpoints/{'x' * 250}", "-q")
    assert done.code == 2
    assert "200 is the most" in done.err
    done = cli("eval", "x" * 5000)
    assert done.code == 2
    assert "Traceback" not in done.err


# -- links -----------------------------------------------------------------------------------------


def test_writing_replaces_a_link_and_never_follows_it(
    cli: Cli, evaluation: Path, tmp_path: Path
) -> None:
    """A checkout may hold links: what is written there must not land where they lead."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    assert cli("promote", "latest").code == 0
    baseline = Path("baselines/colours.json")
    kept = baseline.read_bytes()
    shutil.copy(baseline, tmp_path / "outside.json")
    baseline.unlink()
    baseline.symlink_to(tmp_path / "outside.json")
    assert cli("promote", "latest", "--force", "--why", "a link").code == 0
    assert not baseline.is_symlink()
    assert (tmp_path / "outside.json").read_bytes() == kept
    for name, command in (
        ("report.html", ["report", "latest"]),
        ("report.md", ["gate", "baseline", "latest"]),
        ("gate.json", ["gate", "baseline", "latest"]),
    ):
        (evaluation / name).unlink(missing_ok=True)
        (evaluation / name).symlink_to(victim)
        assert cli(*command).code in (0, 3)
        assert not (evaluation / name).is_symlink()
    assert victim.read_text() == "precious"


def test_a_lock_that_is_a_link_opens_nothing(cli: Cli, evaluation: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path("baselines").mkdir()
    Path("baselines/.colours.json.lock").symlink_to(victim)
    done = cli("promote", "latest")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert victim.read_text() == "precious"


def test_a_run_follows_no_link_that_lies_in_its_way(cli: Cli, config: Path, tmp_path: Path) -> None:
    """The folder of states and its files may have been put there by somebody else."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "state.json").write_text("{}")
    (precious / "keep").write_text("precious")
    state = Path("checkpoints/a.state")
    state.mkdir(parents=True)
    (state / "history.jsonl").symlink_to(precious / "keep")
    (state / ".tmp-step-00000001-01234567").symlink_to(precious)
    (state / "step-00000009").symlink_to(precious)
    cli("train", config, "-o", "checkpoints/a", "-q", "--resume", "-s", "train.save_steps=1")
    (state / "step-00000009").unlink(missing_ok=True)
    done = cli("train", config, "-o", "checkpoints/b", "-q", "-s", "train.save_steps=1")
    assert done.code == 0, done
    assert (precious / "keep").read_text() == "precious"
    assert precious.is_dir()


def test_a_starting_folder_with_a_link_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    Path("start/configs").mkdir(parents=True)
    Path("start/configs/base.yaml").symlink_to(tmp_path / "not-yet")
    done = cli("init", "start")
    assert (done.code, "already exists" in done.err) == (2, True)
    assert not (tmp_path / "not-yet").exists()
