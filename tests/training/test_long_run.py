"""The look for what grows (scripts/long_run.py), in short; `make long-run` is the whole of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_grows_but_what_is_asked_for(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "long_run.py", "--steps", "200", "--save-steps", "20",
         "--rounds", "8", "--processes", "1", "--output", found],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(found.read_text("utf-8"))["findings"]
    assert all(item["holds"] for item in findings)
    told = {item["what"] for item in findings}
    assert {"most states on disk", "open files at the end", "half-written files"} <= told
