"""A small fake of GitHub's runner: it runs a workflow's `run:` steps with GitHub's variables.

Third-party actions (checkout, setup-python, cache, upload-artifact) are recorded but not run; this
repository's action is run. Only the expressions used in these files are supported.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")
_NAME = re.compile(r"(?<!['\w])[a-z]+(?:\.[\w-]+)+")


@dataclass
class Job:
    """A job's results: each step's exit code, outputs, actions used, and log."""

    folder: Path
    codes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    log: str = ""

    @property
    def code(self) -> int:
        """The exit code of the first step that failed, 0 if none did."""
        return next((code for code in self.codes.values() if code), 0)

    @property
    def summary(self) -> str:
        return (self.folder / "summary.md").read_text()


class Runner:
    """Runs in `repository`, with `path` first in PATH; `temp` is the runner's temporary folder."""

    def __init__(self, repository: Path, *, action: Path, path: Path, temp: Path) -> None:
        self.repository, self.action, self.path, self.temp = repository, action, path, temp
        self.action_inputs = yaml.safe_load((action / "action.yml").read_text())["inputs"]

    def run_workflow(self, file: Path, *, event: str = "pull_request") -> Job:
        """Run the steps of a workflow's only job."""
        (job,) = yaml.safe_load(file.read_text())["jobs"].values()
        result = Job(self.temp)
        for step in job["steps"]:
            if re.fullmatch(r"\w+/ftreg@[0-9a-f]{40}", step["uses"]):
                self.run_action(step.get("with", {}), result, event=event)
            else:
                result.used.append(step["uses"])
        return result

    def run_action(
        self, given: dict[str, str], result: Job, *, event: str = "push", fork: bool = False
    ) -> Job:
        """Run the action's steps in order, as GitHub does: after a failure, only those whose
        condition allows it."""
        self.temp.mkdir(parents=True, exist_ok=True)
        assert set(given) <= set(self.action_inputs)
        names = {f"inputs.{key}": spec["default"] for key, spec in self.action_inputs.items()}
        names |= {f"inputs.{key}": value for key, value in given.items()}
        names |= {
            "runner.temp": str(self.temp),
            "runner.os": "Linux",
            "github.event_name": event,
            "github.event.pull_request.number": "7",
            "github.event.pull_request.head.repo.fork": "true" if fork else "",
            "github.token": "not-a-token",
        }
        for step in yaml.safe_load((self.action / "action.yml").read_text())["runs"]["steps"]:
            condition = step.get("if", "${{ true }}")
            if result.code and "cancelled()" not in condition:
                continue
            if not self._evaluate(condition.removeprefix("${{").removesuffix("}}"), names):
                continue
            if "uses" in step:
                result.used.append(step["uses"])
                continue
            outputs = self._run(step, names, result)
            if "id" in step:
                names |= {f"steps.{step['id']}.outputs.{k}": v for k, v in outputs.items()}
                result.outputs |= outputs
        return result

    def _run(self, step: dict[str, Any], names: dict[str, str], result: Job) -> dict[str, str]:
        assert step["shell"] == "bash"
        script, output = self.temp / "step.sh", self.temp / "output"
        script.write_text(step["run"])
        output.write_text("")
        environment = {
            **os.environ,
            **{key: self._filled(value, names) for key, value in step.get("env", {}).items()},
            "PATH": f"{self.path}:{os.environ['PATH']}",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(self.action),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_REPOSITORY": "owner/specialist",
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.md"),
            "GITHUB_WORKSPACE": str(self.repository),
            "RUNNER_TEMP": str(self.temp),
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.repository / self._filled(step.get("working-directory", "."), names),
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        result.codes[step["name"]] = done.returncode
        result.log += done.stdout + done.stderr
        return dict(line.split("=", 1) for line in output.read_text().splitlines())

    def _filled(self, text: str, names: dict[str, str]) -> str:
        return _EXPRESSION.sub(lambda found: str(self._evaluate(found[1], names)), text)

    def _evaluate(self, expression: str, names: dict[str, str]) -> Any:
        python = _NAME.sub(lambda found: repr(names.get(found[0], "")), expression)
        for sign, word in (("&&", " and "), ("||", " or "), ("!cancelled()", "True")):
            python = python.replace(sign, word)
        return eval(python.strip(), {"true": True})
