"""The house's rules: floors, no cycle, light start, help for every command."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ftreg"

# Bottom up; a module may import from its own floor and those below. `floor_of` takes the longest
# prefix that matches.
FLOORS = [
    ["ftreg", "errors", "files", "services", "process"],
    ["config"],
    ["records"],
    ["models", "data", "gate"],
    ["training", "generation", "scoring", "optim", "report"],
    ["jobs"],
    ["cli", "__main__"],
]  # fmt: skip
HEAVY = {"torch", "transformers", "datasets", "evaluate", "accelerate", "peft", "scipy",
         "sentence_transformers", "pytorch_optimizer", "pyarrow"}  # fmt: skip


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, *, top_level: bool) -> set[str]:
    """Names of the ftreg modules that a module imports; only at module level if asked."""
    tree = ast.parse(path.read_text())
    known = modules()
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name in known}


def floor_of(module: str) -> int:
    room = module.removeprefix("ftreg.").partition(".")[0] if module != "ftreg" else "ftreg"
    return next(index for index, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_run_down(module: str) -> None:
    above = {
        name
        for name in imports(modules()[module], top_level=False)
        if floor_of(name) > floor_of(module)
    }
    assert not above


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: imports(path, top_level=True) for name, path in modules().items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name in done:
            return
        for other in graph[name] - {name}:
            # A package's __init__ gathers its own modules, which may import the package's floor.
            if not name.startswith(f"{other}."):
                visit(other, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def commands() -> list[list[str]]:
    """Every command and subcommand, asked of the application itself."""
    from typer.main import get_command

    from ftreg.cli.app import app

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


def test_modules_are_small() -> None:
    long = {name: n for name, path in modules().items()
            if (n := len(path.read_text().splitlines())) > 300}  # fmt: skip
    assert not long


def test_no_arguments_shows_the_commands_and_unknown_ones_end_with_2() -> None:
    run = [sys.executable, "-m", "ftreg"]
    bare = subprocess.run(run, capture_output=True, cwd=ROOT)
    assert (bare.returncode, bare.stdout) == (2, b"")
    assert b"train" in bare.stderr
    assert subprocess.run([*run, "trian"], capture_output=True, cwd=ROOT).returncode == 2
