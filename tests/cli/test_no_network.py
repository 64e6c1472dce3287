"""ftreg connects to nobody unless the configuration or OpenTelemetry's variables name somebody."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

# A process of its own: what a library may send, it may send while it is imported. Every way out
# of Python leads through these; whoever tries one is written down and refused.
RUN = """
import json, socket, sys
tried = []
def refuse(kind):
    def refused(*arguments, **options):
        where = next((a for a in arguments if not isinstance(a, socket.socket)), None)
        tried.append([kind, str(where)])
        raise OSError(101, "Network is unreachable")
    return refused
class Closed(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            refuse("connect")(address)
        return super().connect(address)
    def connect_ex(self, address):
        return self.connect(address) or 0
    def sendto(self, data, *rest):
        return refuse("sendto")(rest[-1])
socket.socket = Closed
for name in ("create_connection", "getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, name, refuse(name))
from ftreg.cli.app import app
codes = []
for arguments in json.loads(sys.argv[1]):
    try:
        app(arguments, prog_name="ftreg")
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code or 0)
print("\\n" + json.dumps({"codes": codes, "tried": tried}))
"""


def run(commands: list[list[str]], workspace: Path, **variables: str) -> dict[str, Any]:
    """Run commands in one process whose ways out are closed."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "FTREG_CACHE") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        cwd=workspace, capture_output=True, text=True,
        env=kept | {"PYTHONPATH": str(ROOT)} | variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"err": done.stderr}


@pytest.fixture
def quiet(config: Path) -> Path:
    data = yaml.safe_load(config.read_text("utf-8").replace("1e-3", "0.001"))
    data["train"]["max_steps"] = 1
    data["eval"]["scorers"] = ["equals"]
    config.write_text(yaml.safe_dump(data), encoding="utf-8")
    return config


@pytest.mark.slow
def test_train_eval_and_gate_connect_to_nobody(quiet: Path, workspace: Path) -> None:
    commands = [
        ["train", str(quiet), "-o", "checkpoints/a"],
        ["eval", "a", "--bootstrap"],
        ["promote", "latest"],
        ["eval", "a", "--no-gate"],
        ["gate", "baseline", "latest"],
        ["report", "latest"],
        ["evaluations", "list"],
        ["history", "colours"],
        ["compare", "latest", "baseline"],
        ["reproduce", "a"],
        ["optim", "show", str(quiet)],
        ["data", "verify", "colours@1", "--root", "datasets"],
        ["checkpoints", "list"],
        ["models", "list"],
        ["doctor"],
    ]
    found = run(commands, workspace)
    assert found["tried"] == []
    assert found["codes"][:4] == [0, 0, 0, 0], found
    assert set(found["codes"]) <= {0, 2, 3}


@pytest.mark.slow
def test_with_opentelemetrys_variables_the_collector_is_asked_for(
    quiet: Path, workspace: Path
) -> None:
    """And so the test above would see it if anything were sent."""
    found = run(
        [["train", str(quiet), "-o", "checkpoints/a"]],
        workspace,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.invalid:4318",
    )
    assert found["codes"] == [0]
    assert found["tried"]
    assert {where for _, where in found["tried"]} <= {
        "collector.invalid", "('collector.invalid', 4318)"}  # fmt: skip
