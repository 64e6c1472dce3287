"""The licences of what ftreg is installed with, and the audit of what is pinned."""

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> object:
    """Import a script by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_every_dependency_has_a_known_and_permitted_licence_and_is_listed() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "write_licences.py", "--check"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    page = (ROOT / "docs" / "licences.md").read_text("utf-8")
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    declared = re.findall(r'^  "([^"]+)"', text.partition("[project.optional")[0], re.MULTILINE)
    assert len(declared) > 25
    for line in declared:
        if ">=" in line:
            assert f"\n| {canonicalize_name(Requirement(line).name)} | " in page


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT", "MIT"),
        ("License: Apache 2.0", "Apache-2.0"),
        (
            "License: Copyright of somebody\nClassifier: License :: OSI Approved :: MIT License",
            "MIT",
        ),
        ("License: BSD-3-Clause", "BSD-3-Clause"),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", None),
        ("License: ask us", None),
        ("Summary: says nothing", None),
    ],
)
def test_licences_are_read_from_metadata(
    metadata: str, expected: str | None, script: object, tmp_path: Path
) -> None:
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{metadata}\n")
    assert script("installed").licence_of(Distribution.at(tmp_path)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception AND (GPL-2.0-only OR GPL-3.0-only)", False),
        ("", False),
    ],
)
def test_an_expression_is_permitted_only_as_a_whole(
    expression: str, expected: bool, script: object
) -> None:
    assert script("write_licences").permitted(expression) is expected


def test_every_pin_is_exact_and_covers_what_is_declared() -> None:
    pins = [
        Requirement(line)
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert all([item.operator for item in pin.specifier] == ["=="] for pin in pins)
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(set(names)) == len(names)


def test_an_audit_that_could_not_ask_is_no_clean_one(script: object) -> None:
    """pip-audit ends well where its service has never heard of any package."""
    audit = script("audit")
    sound = {"name": "a", "version": "1", "vulns": []}
    skipped = {"name": "b", "skip_reason": "not found on PyPI"}
    hit = {"id": "PYSEC-1", "fix_versions": ["2"]}
    assert audit.judge([sound], "pypi")[0] == 0
    code, lines = audit.judge([sound, skipped], "pypi")
    assert code == 3
    assert lines[0].startswith("NOT AUDITED: 1 of 2 packages")
    assert audit.judge([], "pypi")[0] == 3
    code, lines = audit.judge([{**sound, "vulns": [hit]}, skipped], "pypi")
    assert code == 1
    assert lines[0] == "a 1: PYSEC-1 (fixed in 2)"


def test_an_audit_without_a_network_says_so(tmp_path: Path) -> None:
    pytest.importorskip("pip_audit")
    pins = tmp_path / "constraints.txt"
    pins.write_text("packaging==24.0\n")
    nowhere = "http://127.0.0.1:9"  # the port of the service that discards, and nobody there
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "audit.py", "--constraints", pins, "--service", "osv"],
        env={"PATH": "/usr/bin:/bin", "HTTPS_PROXY": nowhere, "https_proxy": nowhere,
             "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "NOT AUDITED" in done.stderr
    assert "Traceback" not in done.stderr
