"""A light start: `--help` and a shell's completion import no command that they do not run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ftreg.cli.app import app

# What loads these has built pydantic models of configurations or records.
MODELS = {"ftreg.config.sections", "ftreg.config.policy", "ftreg.records.manifest"}
LISTED: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
CODE = """\
import atexit, json, sys
def tell():
    found = [name for name in sys.modules if name.startswith("ftreg.") or name == "pydantic"]
    open(sys.argv[-1], "w").write(json.dumps(found))
atexit.register(tell)
from ftreg.cli.app import app
app(sys.argv[1:-1], prog_name="ftreg")
"""


def start(tmp_path: Path, *arguments: str, **environment: str) -> tuple[str, set[str]]:
    """Run the command line; what it said, and the modules that it had loaded in the end."""
    note = tmp_path / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments, str(note)],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, set(json.loads(note.read_text()))


def test_help_imports_no_command(tmp_path: Path) -> None:
    text, loaded = start(tmp_path, "--help")
    assert all(f"  {name} " in text for name in LISTED)
    assert "pydantic" not in loaded
    assert not [
        name for name in loaded if name.startswith("ftreg.cli.") and name != "ftreg.cli.app"
    ]


@pytest.mark.parametrize("name", LISTED)
def test_help_says_what_the_command_says_of_itself(name: str) -> None:
    shown = " ".join(get_command(app).get_help(_context()).split())
    assert " ".join(LISTED[name].get_short_help_str(1000).split()) in shown


def _context() -> Any:
    return get_command(app).make_context("ftreg", [], resilient_parsing=True)


@pytest.mark.parametrize("name", LISTED)
def test_help_of_a_command_builds_no_model(name: str, tmp_path: Path) -> None:
    _, loaded = start(tmp_path, name, "--help")
    assert not MODELS & loaded


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ftreg tr", ["train", "track"]),
        ("ftreg train --all", ["--allow-change"]),
        ("ftreg eval ru", ["run-1", "run-2"]),
        ("ftreg gate an", ["anchor"]),
        ("ftreg clean ju", ["judge"]),
        ("ftreg data show co", ["colours@1"]),
    ],
)
def test_completion_builds_no_model(words: str, expected: list[str], tmp_path: Path) -> None:
    for folder in ("checkpoints/run-1", "checkpoints/run-2", "sample_datasets/colours/v1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sample_datasets/colours/v1/dataset.yaml").touch()
    text, loaded = start(
        tmp_path,
        _FTREG_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(words.count(" ")),
    )
    assert text.split() == expected
    assert not MODELS & loaded
