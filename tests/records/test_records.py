"""Records of every schema version: kept as they were written, and read by every command.

`tests/records/<set>/` is what an ftreg of its day wrote (scripts/write_records.py): a set is never
changed, and a schema version is never raised without one.
"""

import ast
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "records"
SETS = sorted(path.name for path in RECORDS.iterdir() if path.is_dir())

# Every schema version in the code, and the files of a set that carry it.
VERSIONED = {
    "ftreg.records.checkpoint:MANIFEST_SCHEMA": ["checkpoints/**/ftreg.json"],
    "ftreg.records.replicas:REPLICAS_SCHEMA": ["checkpoints/*/ftreg-replicas.json"],
    "ftreg.training.state.saved:STATE_SCHEMA": ["checkpoints/*.state/*/state.json"],
    "ftreg.training.failure:FAILURE_SCHEMA": ["checkpoints/*.failed/failure.json"],
    "ftreg.records.evaluation.stored:EVALUATION_SCHEMA": ["evaluations/*/evaluation.json"],
    "ftreg.records.layout:GATE_SCHEMA": [
        "evaluations/*/gate.json",
        "printed/verdict.json",
    ],
    "ftreg.records.baseline:BASELINE_SCHEMA": ["baselines/*.json"],
    "ftreg.records.artefact:ARTEFACT_SCHEMA": ["exports/*/ftreg-export.json"],
    "ftreg.records.looks:LOOK_SCHEMA": ["baselines/*.looks/*.json"],
    "ftreg.gate.contest:COMPARISON_SCHEMA": ["printed/comparison.json"],
    "ftreg.gate.choice:ROUTES_SCHEMA": ["routes.yaml"],
}
# What lies in the cache is part of its own key, or made again: an older version is not read.
CACHED = {
    "ftreg.generation.outputs:_SCHEMA",
    "ftreg.jobs.blame:_RANKING_SCHEMA",
    "ftreg.records.kept_answers:_SCHEMA",
}
# What commands print lies in no file.
PRINTED = {"ftreg.records.samples:PRINTED_SCHEMA"}
# They have no version: keys are added, and a file of before means what it meant.
UNVERSIONED = {
    "config": "run.yaml",
    "policy": "policy.yaml",
    "card": "sample_datasets/*/v*/dataset.yaml",
}


def _versions_in_the_code() -> dict[str, int]:
    """Module-level whole numbers named for a schema: `module:NAME` to the number."""
    found = {}
    for path in (ROOT / "ftreg").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, int)
            ):
                for target in node.targets:
                    if isinstance(target, ast.Name) and "SCHEMA" in target.id:
                        found[f"{module}:{target.id}"] = node.value.value
    return found


def _read(path: Path) -> dict[str, Any]:
    text = path.read_text("utf-8")
    value: dict[str, Any] = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    return value


def test_every_schema_version_has_its_records() -> None:
    code = _versions_in_the_code()
    assert set(code) == {*VERSIONED, *CACHED, *PRINTED}, (
        "say here which files carry a new schema version"
    )
    for name, patterns in VERSIONED.items():
        for pattern in patterns:
            kept = {
                _read(path)["schema_version"]
                for folder in SETS
                for path in (RECORDS / folder).glob(pattern)
            }
            assert kept == set(range(1, code[name] + 1)), (
                f"{name} is {code[name]}, and {pattern} is kept of {sorted(kept)}: add a set with "
                "scripts/write_records.py before the release"
            )
    for pattern in UNVERSIONED.values():
        assert any(list((RECORDS / folder).glob(pattern)) for folder in SETS), pattern


def test_a_set_is_never_changed() -> None:
    lines = (RECORDS / "SHA256SUMS").read_text("utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = {
        path.relative_to(RECORDS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in SETS
        for path in sorted((RECORDS / folder).rglob("*"))
        if path.is_file()
    }
    changed = sorted(name for name, digest in sums.items() if found.get(name) != digest)
    assert not changed, "these are what an older ftreg wrote; restore them"
    assert not sorted(set(found) - set(sums)), "add these with sha256sum to SHA256SUMS"


@pytest.fixture(params=SETS)
def kept(request: pytest.FixtureRequest, workspace: Path) -> Path:
    """A workspace with one set in it."""
    shutil.copytree(RECORDS / request.param, workspace, dirs_exist_ok=True)
    return workspace


def test_every_command_reads_the_records(kept: Path, cli: Cli) -> None:
    Path("any.yaml").write_text(
        "{mode: threshold, margin: 1, anchor_margin: 1, min_examples: 4, constant: [equals]}"
    )
    evaluations = sorted(path.name for path in Path("evaluations").iterdir())
    checkpoints = sorted(path.parent for path in Path("checkpoints").glob("**/ftreg.json"))
    checkpoints += [path.parent for path in Path("checkpoints").glob("*/ftreg-replicas.json")]
    gates = {path.parent.name: _read(path) for path in Path("evaluations").glob("*/gate.json")}
    assert gates

    def done(*arguments: object, codes: tuple[int, ...] = (0,)) -> Any:
        result = cli(*arguments)
        assert result.code in codes, (arguments, result)
        assert "damaged" not in result.err
        return result

    # First what reads a gate record, before a gate of today is kept in its place.
    for name, record in gates.items():
        done("report", name, "-o", "page.html")
        page = Path("page.html").read_text("utf-8")
        assert "Its last gate" not in page  # shown, not refused
        assert record["verdict"]["outcome"] in page.lower()
        assert done("power", name, "--json").json["scorers"]
        # Its policy is looser than the baseline's own: said by who has read both.
        assert "with a looser policy" in done("promote", name, codes=(2,)).err
    history = done("baseline", "colours", "--json").json["history"]
    assert history[0]["why"]
    assert len(done("checkpoints", "list", "--json").json["checkpoints"]) >= 1
    for checkpoint in checkpoints:
        told = done("diff", checkpoints[0], checkpoint, "--json").json
        assert bool(told["differences"]) == (checkpoint != checkpoints[0])
    for name in evaluations:
        for side in ("baseline", "anchor", name):
            told = done("gate", side, name, "--policy", "any.yaml", "--json").json
            assert told["outcome"] == "pass"
            assert told["rows"]
        done("report", name, "-o", "page.html")
    if len(evaluations) > 1:
        assert done("compare", *evaluations, "--json").json["contests"]
    done("promote", evaluations[-1], "--anchor", "--force", "--why", "read and written again")
    again = done("baseline", "colours", "--json").json["history"]
    assert again[: len(history)] == history
    assert len(again) == len(history) + 1


def test_its_dataset_configuration_and_state_are_used(cli: Cli, workspace: Path) -> None:
    sets = [name for name in SETS if list((RECORDS / name).glob(UNVERSIONED["card"]))]
    for name in sets:
        shutil.copytree(RECORDS / name, workspace, dirs_exist_ok=True)
        assert cli("data", "verify", "colours@1").code == 0
        # Resumed by the configuration of then, in the environment of now.
        done = cli("train", "run.yaml", "-s", "train.epochs=2", "--resume", "-o",
                   "checkpoints/stopped")  # fmt: skip
        assert done.code == 0, done
        assert "resuming after step 2 of 6" in done.err
        manifest = _read(Path("checkpoints/stopped/ftreg.json"))
        assert manifest["training"]["steps"] == 6
        assert manifest["training"]["resumed"][0]["after_step"] == 2
        for folder in ("checkpoints", "evaluations", "sample_datasets"):
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("verdict", "printed/verdict.json"),
        ("comparison", "printed/comparison.json"),
        ("routes", "routes.yaml"),
        ("gate", "evaluations/*/gate.json"),
        ("evaluation", "evaluations/*/evaluation.json"),
        ("baseline", "baselines/*.json"),
        ("checkpoint", "checkpoints/**/ftreg.json"),
    ],
)
def test_the_published_schema_still_describes_them(schema: str, pattern: str) -> None:
    published = json.loads((ROOT / "docs" / "schemas" / f"{schema}.json").read_text("utf-8"))
    version = int(published["$id"].rpartition(":")[2])
    found = [path for name in SETS for path in (RECORDS / name).glob(pattern)]
    values = [value for value in map(_read, found) if value["schema_version"] == version]
    assert values or schema == "evaluation"
    for value in values:
        errors = Draft202012Validator(published).iter_errors(value)
        assert [error.message for error in errors] == []


@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        ("baselines/colours.json", ["gate", "baseline", "latest"]),
        ("baselines/colours.json", ["promote", "latest"]),
        ("evaluations/one-*/evaluation.json", ["promote", "latest"]),
        ("evaluations/one-*/evaluation.json", ["compare", "baseline", "latest"]),
        ("evaluations/one-*/gate.json", ["promote", "latest"]),
        ("evaluations/one-*/gate.json", ["report", "latest"]),
        ("checkpoints/one/ftreg.json", ["checkpoints", "show", "one"]),
        ("checkpoints/one/ftreg.json", ["diff", "one", "group"]),
        ("checkpoints/group/ftreg-replicas.json", ["diff", "group", "one"]),
        ("checkpoints/stopped.state/*/state.json",
         ["train", "run.yaml", "--resume", "-o", "checkpoints/stopped"]),
    ],
)  # fmt: skip
def test_a_record_of_a_newer_ftreg_names_the_version_to_install(
    pattern: str, command: list[str], cli: Cli, workspace: Path
) -> None:
    shutil.copytree(RECORDS / "schema-2", workspace, dirs_exist_ok=True)
    (path,) = Path().glob(pattern)
    record = _read(path) | {"schema_version": 99}
    at_its_place = record
    for key in {"ftreg.json": ["environment", "versions"],
                "state.json": ["facts", "environment", "versions"]}.get(path.name, []):  # fmt: skip
        at_its_place = at_its_place[key]
    at_its_place["ftreg"] = "7.3"
    before = json.dumps(record)
    path.write_text(before, "utf-8")
    done = cli(*command)
    assert done.code == 2, done
    assert f"{path}: this " in done.err
    assert "schema version 99" in done.err
    assert "install ftreg 7.3, which wrote it, or a newer one" in done.err
    assert path.read_text("utf-8") == before


@pytest.mark.parametrize("damaged", ["digest", "scores", "candidate"])
def test_a_record_whose_keys_are_damaged_is_refused(damaged: str, cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    for _ in range(2):  # the first becomes the baseline, the second has a gate
        assert cli("eval", "checkpoints/a", "--bootstrap").code in (0, 3)
        cli("promote", "latest", "--force", "--why", "a test")
    path = next(Path("evaluations").glob("*/gate.json"))
    path.write_text(path.read_text("utf-8").replace(f'"{damaged}":', f'"{damaged}{damaged}":'))
    done = cli("report", path.parent)
    assert done.code == 2, done
    assert f"{path}: this gate record has changed since it was written" in done.err
