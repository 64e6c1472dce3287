"""The example repository of docs/ci.md, played with git: what the action does to pull requests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.conftest import Cli, rewrite_rows, rows_of, write_dataset
from tests.deployable import write_base
from tests.github_runner import Job, Runner
from tests.hostile import module_that_touches

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "release-gate"
WORKFLOW = Path(".github/workflows/gate.yml")


ARTEFACT_SETTINGS = """\
base: {model: base}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-3}
train: {batch_size: 4, precision: fp32, threads: 1}
eval:
  max_new_tokens: 4
  scorers: ["tests.fakes:variety_scorer"]
gate: {margin: 0.5, min_examples: 4, constant: ["tests.fakes:variety_scorer"]}
"""


def _program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def runner(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A runner whose ftreg is this one, and whose pip and gh only note what they are told."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NOTES", str(workspace.parent / "notes.txt"))
    path, note = workspace.parent / "bin", 'echo "$(basename "$0") $*" >> "$NOTES"'
    _program(path, "ftreg", f'exec "{sys.executable}" -m ftreg "$@"')
    _program(path, "gh", f"{note}; exit ${{GH_CODE:-0}}")
    _program(
        path,
        "python",
        f'if [ "$1 $2 $3" = "-P -m pip" ]; then {note}; else exec "{sys.executable}" "$@"; fi',
    )
    return Runner(workspace, action=ROOT, path=path, temp=workspace.parent / "temp")


def _git(*arguments: str) -> str:
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"))
    }
    done = subprocess.run(
        ["git", "-c", "commit.gpgsign=false", *arguments],
        env={**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _notes() -> str:
    return Path(os.environ["NOTES"]).read_text()


def _started(cli: Cli, tiny_model: Path) -> None:
    """The example's repository with its first baseline, as docs/ci.md makes it.

    Only the base model is another, random and tiny, which needs a larger lr and more epochs.
    """
    shutil.copytree(EXAMPLE, ".", dirs_exist_ok=True)
    base = yaml.safe_load(Path("configs/base.yaml").read_text())
    base["base"]["model"] = str(tiny_model)
    base["train"] = {"epochs": 16, "precision": "fp32", "threads": 1}
    Path("configs/base.yaml").write_text(yaml.safe_dump(base))
    recipe = Path("configs/specialist.yaml")
    assert "lr: 1e-4" in recipe.read_text()
    recipe.write_text(recipe.read_text().replace("lr: 1e-4", "lr: 1e-2"))
    _git("init", "--quiet", "--initial-branch=main")
    _git("add", ".")
    _git("commit", "--quiet", "-m", "A specialist for the desk")
    assert cli("train", "configs/specialist.yaml", "-o", "checkpoints/first").code == 0
    assert cli("eval", "checkpoints/first", "--no-gate").code == 0
    assert cli("promote", "latest", "--anchor", "--why", "first release").code == 0
    _git("add", "baselines")
    _git("commit", "--quiet", "-m", "Baseline: the first release")
    kept, look = _git("ls-files", "checkpoints", "evaluations", "baselines").split()
    assert kept == "baselines/desk-routing.json"
    assert look.startswith("baselines/desk-routing.looks/")


def _pull_request(runner: Runner, branch: str, old: str, new: str) -> Job:
    """Change the recipe on a branch, and run the workflow on a fresh clone of it."""
    _git("checkout", "--quiet", "-b", branch, "main")
    recipe = Path("configs/specialist.yaml")
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new))
    _git("commit", "--quiet", "-am", f"{branch}: {new}")
    clone = runner.repository.parent / branch
    _git("clone", "--quiet", "--branch", branch, ".", str(clone))
    there = Runner(clone, action=ROOT, path=runner.path, temp=runner.temp.parent / f"{branch}-temp")
    return there.run_workflow(clone / WORKFLOW)


def _run_gitlab_job(runner: Runner, folder: Path, variables: dict[str, str]) -> int:
    """Run the script of the GitLab template as its runner does, and return the exit code."""
    job = yaml.safe_load((ROOT / "docs/gitlab/ftreg.gitlab-ci.yml").read_text())[".ftreg-gate"]
    given = {key: value.replace("$CI_PROJECT_DIR", str(folder))
             for key, value in {**job["variables"], **variables}.items()}  # fmt: skip
    path = f"{runner.path}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join([*job["before_script"], *job["script"]])],
        cwd=folder, env={**os.environ, **given, "PATH": path}, capture_output=True,
    ).returncode  # fmt: skip


@pytest.mark.slow
def test_a_pull_request_that_swaps_adamw_for_lion_at_the_wrong_lr_is_stopped(
    cli: Cli, tiny_model: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The packaged model that the workflow fetches is not needed here.
    text = (EXAMPLE / WORKFLOW).read_text()
    assert "          models: smollm2-135m-instruct\n" in text
    _started(cli, tiny_model)
    WORKFLOW.write_text(text.replace("          models: smollm2-135m-instruct\n", ""))
    _git("commit", "--quiet", "-am", "Fetch no model")

    harmless = _pull_request(runner, "calmer", "lr: 1e-2", "lr: 9e-3")
    assert harmless.code == 0, harmless.log
    assert harmless.outputs["verdict"] == "pass"
    assert harmless.summary.startswith("# pass")
    assert any(use.startswith("actions/checkout@") for use in harmless.used)
    assert any(use.startswith("actions/upload-artifact@") for use in harmless.used)

    wrong = "name: lion\n  lr: 1e-1"
    stopped = _pull_request(runner, "lion", "name: adamw\n  lr: 1e-2", wrong)
    assert stopped.codes["Train"] == 0, stopped.log
    assert stopped.codes["Gate"] == 1
    assert stopped.outputs["verdict"] == "regression"
    assert "Comment on the pull request" in stopped.codes  # a failed job comments all the same
    summary = stopped.summary
    assert summary.startswith("# REGRESSION")
    assert "| optimizer.name | adamw | lion |" in summary
    assert "| optimizer.lr | 0.01 | 0.1 |" in summary
    assert "## Examples that dropped most" in summary
    assert "**reference:** " in summary
    assert "baseline in git has its scores alone" in summary
    (suite,) = ElementTree.parse(stopped.outputs["junit"]).getroot()
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert "all" in failed
    assert "all, against the anchor" in failed
    record = json.loads(Path(stopped.outputs["json"]).read_text())
    assert record["exit_code"] == stopped.code == int(stopped.outputs["exit-code"])
    (row,) = (
        row for row in record["rows"] if (row["cohort"], row["against"]) == ("all", "baseline")
    )
    assert row["delta"] < -0.3
    place = "::error file=baselines/desk-routing.json,title=ftreg gate%3A regression::equals: "
    assert place in stopped.log
    assert "gh api --paginate repos/owner/specialist/issues/7/comments" in _notes()
    assert f"pip install -- {ROOT}" in _notes()

    # GitLab's job comes to the same, on the checkpoints that are there now.
    for branch, code in (("calmer", 0), ("lion", 1)):
        clone = runner.repository.parent / branch
        assert _run_gitlab_job(runner, clone, {"FTREG_MODELS": ""}) == code
        assert ElementTree.parse(clone / "verdict.xml").getroot().tag == "testsuites"
        assert (clone / "report.md").is_file()

    # Advice by the papers stops the same before it costs a training.
    monkeypatch.chdir(runner.repository.parent / "lion")
    done = cli("train", "configs/specialist.yaml", "--strict", "-o", "checkpoints/strict")
    assert done.code == 2
    assert "optimizer.lr" in done.err


def _gated_without_weights(cli: Cli, config: Path) -> str:
    """A baseline in `baselines/`, and a stored evaluation that is as good; returns its id."""
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    for _ in "ab":
        assert cli("eval", "checkpoints/a", "--no-gate").code == 0
    first, second = sorted(path.name for path in Path("evaluations").iterdir())
    for scores in Path("evaluations").glob("*/scores.jsonl"):
        rewrite_rows(
            scores,
            lambda rows: [
                {**row, "score": 0.5 + 0.1 * (index % 2), "reason": None}
                for index, row in enumerate(rows)
            ],
        )
    assert cli("promote", first).code == 0
    shutil.rmtree("checkpoints")
    return second


def test_the_action_gates_a_stored_evaluation(cli: Cli, config: Path, runner: Runner) -> None:
    name = _gated_without_weights(cli, config)
    given = {
        "evaluation": name,
        "config": "not/trained.yaml",
        "artifact": "",
        "ftreg": "ftreg==1.2",
    }
    job = runner.run_action(given, Job(runner.temp))
    assert job.code == 0, job.log
    assert (job.outputs["verdict"], job.outputs["evaluation"]) == ("pass", name)
    assert "Train" not in job.codes
    assert "Comment on the pull request" not in job.codes
    assert not any("upload-artifact" in use for use in job.used)
    assert "pip install -- ftreg==1.2" in _notes()
    assert Path(job.outputs["report"]).read_text() == job.summary.removesuffix("\n")


@pytest.mark.slow
def test_action_and_template_gate_an_artefact_against_its_checkpoint(
    cli: Cli, workspace: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is exported where it is not there, compared, evaluated and gated; and stopped if wrong."""
    pytest.importorskip("xllamacpp")
    monkeypatch.setenv("FTREG_CACHE", str(workspace.parent / "cache"))
    write_dataset(workspace / "datasets", evaluation=rows_of(12))
    write_base(workspace / "base", "llama")
    Path("run.yaml").write_text(ARTEFACT_SETTINGS)
    assert cli("train", "run.yaml", "-o", "checkpoints/candidate", "-q").code == 0
    given = {"artefact": "served.gguf", "bootstrap": "true"}
    job = runner.run_action(given, Job(runner.temp))
    assert job.codes == {"Install ftreg": 0, "Gate": 0, "Gate the artefact": 0}, job.log
    assert "pip install -- " in _notes() and "[deploy]" in _notes()
    reports = runner.temp / "ftreg-gate"
    assert "served.gguf may replace candidate" in (reports / "artefact.md").read_text()
    assert ElementTree.parse(reports / "artefact.xml").getroot().tag == "testsuites"
    assert cli("promote", job.outputs["evaluation"], "--artefact", "latest").code == 0
    (released,) = cli("baseline", "colours", "--json").json["history"]
    assert released["artefact"]["file"] == "served.gguf"

    # A file of which one byte has changed is not what was exported.
    data = bytearray(Path("served.gguf").read_bytes())
    data[-1] ^= 1
    Path("served.gguf").write_bytes(data)
    assert _run_gitlab_job(runner, workspace, {"FTREG_ARTEFACT": "served.gguf"}) == 3


def test_the_action_keeps_every_exit_code(
    cli: Cli, config: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _gated_without_weights(cli, config)
    Path("strict.yaml").write_text("{min_examples: 50}")
    job = runner.run_action({"evaluation": name, "policy": "strict.yaml"}, Job(runner.temp))
    assert (job.code, job.outputs["verdict"]) == (3, "undecided")
    Path("baselines/colours.json").unlink()
    # A pull request from a fork may write no comment: that changes nothing.
    monkeypatch.setenv("GH_CODE", "1")
    given = {"evaluation": name, "comment": "true"}
    job = runner.run_action(given, Job(runner.temp), event="pull_request")
    assert (job.code, job.outputs["exit-code"]) == (3, "3")
    assert job.outputs["verdict"] == "none"
    assert "there is no baseline yet" in job.log
    assert "ftreg ended with 3 and gave no verdict" in job.summary
    assert job.codes["Comment on the pull request"] == 0
    assert "::warning title=ftreg::the report could not be written" in job.log


@pytest.mark.parametrize("value", ["$(touch hacked)", "--help", "a b; touch hacked"])
def test_inputs_are_words_and_never_code(value: str, workspace: Path, runner: Runner) -> None:
    given = {"evaluation": value, "against": value, "policy": value, "ftreg": value}
    job = runner.run_action(given, Job(runner.temp))
    assert job.code == 2, job.log
    assert not Path("hacked").exists()
    assert f"pip install -- {value}\n" in _notes()


@pytest.mark.parametrize(
    ("fork", "given", "runs"),
    [
        (True, {}, False),
        (False, {"no-custom-code": "true"}, False),
        pytest.param(False, {}, True, marks=pytest.mark.slow),
        pytest.param(True, {"no-custom-code": "false"}, True, marks=pytest.mark.slow),
    ],
    ids=["fork", "own, refused", "own", "fork, allowed"],
)
def test_a_pull_request_from_a_fork_runs_no_code_of_its_own(
    fork: bool, given: dict[str, str], runs: bool, config: Path, workspace: Path, runner: Runner
) -> None:
    """Neither what its configuration names nor what lies in its checkout under a library's name."""
    canary, shadow = workspace / "canary", workspace / "shadow"
    rest = "import torch\nclass Mine(torch.optim.SGD):\n    pass\n"
    module_that_touches(workspace, "their_optimizer", canary, rest)
    for name in ("json", "pathlib", "pip", "yaml"):
        module_that_touches(workspace, name, shadow)
    # `ftreg` as pip installs it does not look in the working folder; `python -m` would.
    _program(
        runner.path,
        "ftreg",
        f'exec "{sys.executable}" -P -c "from ftreg.__main__ import main; main()" "$@"',
    )
    text = config.read_text("utf-8").replace("name: adamw", "name: custom").replace(
        "  lr: 1e-3", "  path: their_optimizer:Mine\n  lr: 1e-3"
    )  # fmt: skip
    config.write_text(text, encoding="utf-8")
    given = {"config": str(config), "bootstrap": "true", **given}
    job = runner.run_action(given, Job(runner.temp), event="pull_request", fork=fork)
    assert canary.exists() is runs, job.log
    if not runs:
        assert (job.codes["Train"], job.code) == (2, 2)
        assert "run.yaml:8: optimizer.path: their_optimizer:Mine is code" in job.log
    assert not shadow.exists()
