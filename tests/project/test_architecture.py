"""The rules of docs/architecture.md: imports, sizes, names, light start, help for every command."""

import ast
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command

from ftreg.cli.app import app

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ftreg"
HEAVY = {"torch", "transformers", "datasets", "evaluate", "accelerate", "peft", "scipy",
         "sentence_transformers", "pytorch_optimizer", "pyarrow"}  # fmt: skip


def test_imports_keep_the_contracts_of_pyproject() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Imports run down the floors" in done.stdout


def test_a_function_has_at_most_60_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.name} has {lines}"
        for folder in ("ftreg", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := node.end_lineno - node.lineno + 1) > 60
    ]
    assert not long, "\n".join(long)


def test_the_package_has_few_rooms() -> None:
    entries = {path.name for path in PACKAGE.iterdir()}
    rooms = entries - {"__init__.py", "__main__.py", "py.typed", "__pycache__"}
    assert len(rooms) <= 18, sorted(rooms)


def test_no_two_modules_are_called_alike() -> None:
    """A name says where one is, with three exceptions.

    A command `cli/x.py` and its job `jobs/x.py` share their name, and may have that of the room,
    or of the package in a room, that they are about: `cli/gate.py`, `jobs/gate.py` and `gate/`.
    `ftreg/optim.py` is but a promised path to `training/optim/`. And the kernels of training and of
    generation are the same thing in two rooms, as `train.kernels` and `eval.kernels` say.
    """
    found = defaultdict(set)
    rooms = set()
    for path in PACKAGE.rglob("*.py"):
        *parts, last = path.relative_to(PACKAGE).with_suffix("").parts
        if last != "__init__":
            found[last].add(".".join([*parts, last]))
        elif parts:
            if len(parts) <= 2:
                rooms.add(".".join(parts))
            found[parts[-1]].add(".".join(parts))
    alike = []
    for name, modules in sorted(found.items()):
        commands_and_jobs = modules & {f"cli.{name}", f"jobs.{name}"}
        others = modules - commands_and_jobs - {"optim", "generation.kernels"}
        if len(others) > 1 or (commands_and_jobs and others - rooms):
            alike.append(f"{name}: {', '.join(sorted(modules))}")
    assert not alike, "\n".join(alike)


def _called_by_users() -> set[tuple[str, str]]:
    """Module and name of each function that is a command: users chose its name with its job's."""

    def below(command: click.Command) -> Iterator[tuple[str, str]]:
        if command.callback:
            yield command.callback.__module__, command.callback.__name__
        for sub in getattr(command, "commands", {}).values():
            yield from below(sub)

    return set(below(get_command(app)))


def test_no_two_public_classes_or_functions_are_called_alike() -> None:
    """But a command may be called like what it calls: its name is the word that users type."""
    found = defaultdict(list)
    commands_of_users = _called_by_users()
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and not node.name.startswith("_")
                and (module, node.name) not in commands_of_users
            ):
                found[node.name].append(module)
    alike = [f"{name}: {', '.join(modules)}" for name, modules in found.items() if len(modules) > 1]
    assert not alike, "\n".join(sorted(alike))


def commands() -> list[list[str]]:
    """Every command and subcommand, asked of the application itself."""
    found: list[list[str]] = [[]]
    for name, command in get_command(app).commands.items():
        found.append([name])
        found += [[name, sub] for sub in getattr(command, "commands", {})]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_loads_nothing_heavy_and_shows_an_example(command: list[str]) -> None:
    code = (
        "import json, sys\n"
        "from ftreg.cli.app import app\n"
        "try:\n    app(sys.argv[1:], prog_name='ftreg')\n"
        "except SystemExit as end:\n    code = end.code\n"
        "print(json.dumps([code, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    text, _, last = done.stdout.rstrip().rpartition("\n")
    exit_code, loaded = json.loads(last)
    assert not exit_code
    assert not HEAVY & set(loaded)
    if command and command[0] not in {"data", "models", "checkpoints", "optim"}:
        assert "Example: ftreg" in text


def test_no_arguments_shows_the_commands_and_unknown_ones_end_with_2() -> None:
    run = [sys.executable, "-m", "ftreg"]
    bare = subprocess.run(run, capture_output=True, cwd=ROOT)
    assert (bare.returncode, bare.stdout) == (2, b"")
    assert b"train" in bare.stderr
    assert subprocess.run([*run, "trian"], capture_output=True, cwd=ROOT).returncode == 2
