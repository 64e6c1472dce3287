"""The documentation: built without a warning, its reference what the code says."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from ftreg.config.engine import EngineConfig
from ftreg.config.optimizer import OPTIMIZERS
from ftreg.data.sources.readers import _KINDS
from ftreg.scoring import SCORERS

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        # Not `--quiet`: that hides the warnings, and a strict build then passes with them.
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    built = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*.html")}
    assert Path("gate/index.html") in built
    asked = re.findall(
        r"""(?:src|href)=["'](https?://[^"']+\.(?:js|css))["']""",
        (tmp_path / "site" / "index.html").read_text("utf-8"),
    )
    assert not asked  # the site reads nothing from elsewhere


def test_each_page_has_its_place_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    missing = [
        str(page) for page in PAGES if f": {page}" not in menu and "examples" not in str(page)
    ]
    assert not missing


@pytest.mark.parametrize("script", ["write_reference.py", "draw_architecture.py"])
def test_what_is_made_of_the_code_is_what_the_code_says(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_links_to_files_lead_somewhere(page: str) -> None:
    path = ROOT / page
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    for target in targets:
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize(
    ("page", "names"), [("scorers.md", SCORERS), ("optimizers.md", OPTIMIZERS)]
)
def test_each_has_a_row_in_the_table(page: str, names: Iterable[str]) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    cells = "".join(re.findall(r"^\| ([^|]+)", text, re.MULTILINE))
    assert set(names) - set(re.findall(r"`(\w+)", cells)) == set()


def test_each_kind_of_file_and_each_engine_is_described() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text("utf-8")
    assert [kind for kind in _KINDS if f"`{kind}`" not in page] == []
    page = (ROOT / "docs" / "evaluating.md").read_text("utf-8").partition("## Engines")[2]
    engines = get_args(EngineConfig.model_fields["name"].annotation)
    assert [engine for engine in engines if engine not in page] == []


def _defined(module: Path) -> set[str]:
    """Names of a module: its classes, functions and constants, and methods as `Class.method`."""
    found = set()
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if hasattr(item, "name")}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif hasattr(node, "name"):
            found.add(node.name)
    return found


@pytest.mark.parametrize("page", ["architecture.md", "row.md"])
def test_modules_that_a_page_of_the_code_names_are_there_and_have_what_it_says(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    modules = set(re.findall(r"`(ftreg/[\w/]+\.py)`", text))
    assert {module for module in modules if not (ROOT / module).is_file()} == set()
    named = re.findall(r"`([\w.]+)`\s+(?:in|of)\s+`(ftreg/[\w/]+\.py)`", text)
    assert len(named) > 5
    assert [
        f"{module}: {name}" for name, module in named if name not in _defined(ROOT / module)
    ] == []


def test_every_file_that_the_how_to_names_is_there() -> None:
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    named = set(re.findall(r"`((?:configs|docs|ftreg|scripts|tests)/[\w/.-]+)`", page))
    assert len(named) > 20
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_every_test_that_the_threat_model_names_is_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", page))
    assert len(named) > 30
    texts = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").glob("*/test_*.py")}
    written = set(re.findall(r"^def (test_\w+)", "\n".join(texts.values()), re.MULTILINE))
    assert named - written - set(texts) == set()
