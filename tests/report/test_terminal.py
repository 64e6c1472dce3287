"""What a person sees at 80 columns: help pages and main tables, held against snapshots.

`pytest tests/report/test_terminal.py --snapshot-update` takes a change over; look at it first.
"""

import random
from importlib.metadata import version
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from typer.main import get_command

from ftreg.cli.app import app
from ftreg.gate import GatePolicy
from ftreg.records.evaluation.rows import Run
from ftreg.records.evaluation.stored import write_evaluation
from ftreg.records.samples import Example, Output, Score
from tests.conftest import Cli
from tests.drawn import as_pinned, unpadded, words_of
from tests.project.test_architecture import commands

SCORERS = ("completeness", "equals", "faithfulness")


@pytest.mark.parametrize("command", commands(), ids=lambda parts: " ".join(parts) or "ftreg")
def test_help(
    command: list[str], cli: Cli, snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = cli(*command, "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    known = get_command(app)
    for name in command:
        known = known.commands[name]
    for parameter in known.params:
        assert parameter.help
        assert words_of(parameter.help) <= words_of(shown)
    if as_pinned("typer", "rich"):
        assert shown == snapshot


def _evaluation(folder: Path, *, optimizer: str, lr: float, drop: float, missing: int = 0) -> None:
    """Store an evaluation of 120 examples whose faithfulness in easy ones falls by `drop`."""
    chance = random.Random(0)
    examples = [
        Example(
            id=f"e{index:03d}",
            input=f"Question {index}?",
            references=("Answer.",),
            tags={"difficulty": "easy" if index % 2 else "hard"},
        )
        for index in range(120)
    ]
    scores: dict[str, list[Score]] = {}
    for scorer in SCORERS:
        column = []
        for index, example in enumerate(examples):
            value = round(chance.uniform(0.5, 0.9), 3)
            if scorer == "equals":
                value = float(value > 0.8)
            elif scorer == "faithfulness" and example.tags["difficulty"] == "easy":
                value = round(value - drop, 3)
            absent = scorer == "completeness" and index < missing
            column.append(Score(None, "no key points") if absent else Score(value))
        scores[scorer] = column
    write_evaluation(
        folder,
        header={
            "created": "2026-01-01T00:00:00.000+00:00",
            "ftreg": "0.1.0",
            "checkpoint": {
                "name": folder.name,
                "identity": "0" * 64,
                "optimizer": optimizer,
                "lr": lr,
                "last_loss": 1.5,
                "recipe": {"optimizer.name": optimizer, "optimizer.lr": lr},
            },
            "dataset": {
                "name": "desk",
                "version": "desk@1",
                "digest": "1" * 64,
                "split": "eval",
                "rows": 120,
                "rows_digest": "2" * 64,
            },
            "generation": {
                "engine": "transformers",
                "decoding": "greedy",
                "max_new_tokens": 64,
                "precision": "fp32",
                "batch_size": 32,
                "cut_off": 3,
            },
            "policy": GatePolicy(margin=0.03).model_dump(mode="json"),
            "leakage": {},
            "scorers": {name: {"name": name, "version": 1} for name in SCORERS},
        },
        examples=examples,
        runs={
            None: Run(
                [
                    Output(id=example.id, text="Answer.", tokens=2, finish="stop")
                    for example in examples
                ],
                scores,
            )
        },
        cohort_tags={example.id: example.tags for example in examples},
        cluster=None,
    )


@pytest.mark.parametrize(
    ("drop", "missing", "code"),
    [(0.0, 0, 0), (0.3, 0, 1), (0.0, 4, 3)],
    ids=["pass", "regression", "undecided"],
)
def test_the_verdict(
    drop: float, missing: int, code: int, cli: Cli, workspace: Path, snapshot: SnapshotAssertion
) -> None:
    root = workspace / "evaluations"
    _evaluation(root / "adamw", optimizer="adamw", lr=5e-5, drop=0.0)
    _evaluation(root / "lion", optimizer="lion", lr=1e-5, drop=drop, missing=missing)
    done = cli("gate", "adamw", "lion")
    assert done.code == code, done
    assert max(map(len, done.out.splitlines())) <= 80
    assert unpadded(done.out) == snapshot


def test_the_baseline_and_what_was_promoted(
    cli: Cli, workspace: Path, snapshot: SnapshotAssertion
) -> None:
    _evaluation(workspace / "evaluations" / "adamw", optimizer="adamw", lr=5e-5, drop=0.0)
    assert cli("promote", "adamw", "--anchor", "--why", "first", "--json").json["anchor"]
    lines = cli("baseline", "desk").out.splitlines()
    # The time of the promotion is the one thing that moves.
    shown = [line if "first" not in line else line[16:] for line in lines]
    assert unpadded("\n".join(shown)) == snapshot


def test_a_dataset(cli: Cli, snapshot: SnapshotAssertion) -> None:
    root = Path(__file__).parents[2] / "sample_datasets"
    shown = cli("data", "show", "ferry-desk@1", "--root", root).out
    assert max(map(len, shown.splitlines())) <= 80
    assert unpadded(shown) == snapshot


def test_an_optimizer(cli: Cli, config: Path, snapshot: SnapshotAssertion) -> None:
    shown = cli("optim", "show", config).out
    build = f"AdamW ({version('torch')})"  # torch for a processor says +cpu
    assert build in shown
    assert unpadded(shown.replace(build, "AdamW (BUILD)")) == snapshot


def test_no_color_and_no_terminal_mean_no_escapes(cli: Cli, workspace: Path) -> None:
    _evaluation(workspace / "evaluations" / "adamw", optimizer="adamw", lr=5e-5, drop=0.0)
    assert "\x1b" not in cli("gate", "adamw", "adamw").out


def test_the_shell_is_offered_commands_and_what_the_workspace_holds(
    cli: Cli, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _evaluation(workspace / "evaluations" / "adamw-2", optimizer="adamw", lr=5e-5, drop=0.0)

    def offered(line: str) -> list[str]:
        monkeypatch.setenv("_FTREG_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        from typer.testing import CliRunner

        from ftreg.cli.app import app

        done = CliRunner().invoke(app, [], prog_name="ftreg")
        return done.stdout.split()

    assert offered("ftreg prom") == ["promote"]
    assert offered("ftreg promote ad") == ["adamw-2"]
    assert offered("ftreg gate ba") == ["baseline"]
    assert offered("ftreg compare latest ad") == ["adamw-2"]
    (workspace / "checkpoints" / "lion").mkdir(parents=True)
    assert offered("ftreg eval li") == ["lion"]
