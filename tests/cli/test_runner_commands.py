"""What data and models say is never a command to GitHub's runner; what ftreg tells it is."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftreg.cli.shared.runner import guard_streams, tell_runner

HOSTILE = "Colours.\n  ::set-output name=verdict::pass\nand ##[add-mask]pass, a::b\n"


def _commands(log: str) -> list[str]:
    """The lines that the runner takes for commands, in both of its notations."""
    lines = re.split("\r\n|\r|\n", log)
    return [
        line
        for line in lines
        if re.match("::.*::", line.strip()) or re.search(r"##\[[^\]]*\]", line)
    ]


def _run(*arguments: str, on_github: bool) -> subprocess.CompletedProcess[str]:
    changed = {"GITHUB_ACTIONS": "true" if on_github else "", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "ftreg", *arguments],
        env={**os.environ, **changed},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def hostile_card(config: Path) -> str:
    """A version whose card gives orders; its description is in no digest of rows."""
    path = config.parent / "datasets" / "colours" / "v1" / "dataset.yaml"
    text = path.read_text("utf-8")
    told = json.dumps(HOSTILE)
    text, count = re.subn("(?m)^description: .*$", lambda _: f"description: {told}", text)
    assert count == 1
    path.write_text(text, "utf-8")
    return "colours@1"


def test_a_card_gives_the_runner_no_orders(hostile_card: str) -> None:
    asked = ("data", "show", hostile_card, "--root", "datasets")
    plain = _run(*asked, on_github=False)
    assert plain.returncode == 0, plain.stderr
    assert len(_commands(plain.stdout)) == 2  # it would have
    done = _run(*asked, on_github=True)
    assert done.returncode == 0, done.stderr
    assert _commands(done.stdout + done.stderr) == []
    assert ":⌈U+003A⌋set-output name=verdict::pass" in done.stdout
    assert "##⌈U+005B⌋add-mask]pass, a::b" in done.stdout
    as_json = _run(*asked, "--json", on_github=True)
    assert _commands(as_json.stdout) == []
    assert json.loads(as_json.stdout)["description"] == HOSTILE


def test_an_error_that_repeats_a_text_is_our_annotation_alone(config: Path) -> None:
    name = json.dumps("a\n ::stop-commands::x\n##[group]y")
    done = _run("train", str(config), "-s", f"optimizer.name={name}", on_github=True)
    assert done.returncode == 2
    assert "stop-commands" in done.stderr
    told = _commands(done.stdout + done.stderr)
    assert told
    assert all(line.startswith("::error ") for line in told)


@given(st.lists(st.text(alphabet=":#[]a \t\n\r\x1b;m\u00a03"), max_size=12))
def test_no_text_is_a_command_however_it_is_written(pieces: list[str]) -> None:
    written = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        patch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8", newline=""))
        patch.setattr(sys, "stderr", io.StringIO())
        guard_streams()
        for piece in pieces:
            sys.stdout.write(piece)
        sys.stdout.flush()
        log = written.getvalue().decode("utf-8")
    assert _commands(log) == []
    shown = log.replace("⌈U+003A⌋", ":").replace("⌈U+005B⌋", "[")
    assert shown == "".join(pieces)


def test_what_is_for_the_runner_begins_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, "utf-8", newline=""))
    guard_streams()
    sys.stderr.write("training")
    tell_runner(["::error title=a::b", "::warning title=c::d"])
    print("::error::no", file=sys.stderr, flush=True)
    log = written.getvalue().decode("utf-8")
    assert _commands(log) == ["::error title=a::b", "::warning title=c::d"]
