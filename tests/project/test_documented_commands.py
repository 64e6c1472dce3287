"""Every command of the README and of the docs, run in a shell as it stands there.

A page gets a workspace with what it takes for granted: the configurations and datasets of this
repository, a base model that is tiny, and the checkpoints and evaluations that it speaks of. A
command that no test can run says so on its page, and its words are checked all the same.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from typer.main import get_command

from ftreg.files.cache.folder import cache_folder
from ftreg.files.store import file_digest
from ftreg.models.packaged import PACKAGED, packaged_folder
from tests.conftest import make_model
from tests.data.test_spans import GEN_AI, OPENINFERENCE, export
from tests.deployable import write_base
from tests.documented import DOCS, PAGES, SHELLS, Command, commands, write_files
from tests.fork_server import ftreg_program
from tests.judge_server import completion, serving
from tests.services.test_telemetry import Collector

ROOT = DOCS.parent
WITH_COMMANDS = [page for page in PAGES if commands(page)]

EXAMPLES = 180
"""Rows that are evaluated, fewer than there are: 60 notices, enough for a pass."""
# What is begun and then goes on.
TRAIN = "ftreg train configs/{0}.yaml -o checkpoints/{0} --quiet\n"
BASELINE = TRAIN.format("adamw") + "ftreg eval adamw --bootstrap\nftreg promote latest --anchor\n"
CANDIDATE = TRAIN.format("lion") + "ftreg eval lion\n"
GIT = """\
git init --quiet --initial-branch=main
git config user.name A
git config user.email a@example.org
git config commit.gpgsign false
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a page is run: what is made before it, and what its placeholders stand for."""

    state: str = "begun"
    """`empty`, `begun` (configurations and data), `baseline` or `candidate`."""
    before: Mapping[int | str, str] = field(default_factory=dict)
    """Commands before a block, by its number, or before a command, by how that begins."""
    files: Callable[[Path], object] | None = None
    replaced: Mapping[str, str] = field(default_factory=dict)
    serving: Callable[[], AbstractContextManager[Mapping[str, str]]] = nullcontext
    """What runs beside it, and the addresses of the page that it stands behind."""


@contextmanager
def _collector() -> Iterator[dict[str, str]]:
    """OpenTelemetry's, which must be told of the training and of the evaluation."""
    collector = Collector()
    yield {"http://localhost:4318": collector.url}
    collector.server.shutdown()
    assert [span.name for span in collector.spans] == ["ftreg.train", "ftreg.eval"]


@contextmanager
def _chat_server() -> Iterator[dict[str, str]]:
    """A server with the checkpoint, which must be asked for every example."""
    with serving() as server:
        server.reads = lambda body: body["model"]
        server.script = lambda model: completion("A summary.")
        yield {"http://localhost:8000/v1": server.url}
        assert server.chats == ["lion"] * EXAMPLES


def _release_gate(folder: Path) -> None:
    shutil.copytree(DOCS / "examples" / "release-gate", folder, dirs_exist_ok=True)


def _to_import(folder: Path) -> None:
    for name, count, added in (("train.csv", 600, 1), ("dev.csv", 200, 2)):
        rows = (
            f"How much is {i} + {added}?,{i + added},{'easy' if i < 10 else 'hard'}\n"
            for i in range(count)
        )
        (folder / name).write_text("question,answer,difficulty\n" + "".join(rows))
    (folder / "spans.jsonl").write_text(json.dumps(export(GEN_AI, OPENINFERENCE)) + "\n")
    editor = folder / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/Passengers/Travellers/" "$1"\n')
    editor.chmod(0o755)


def _outputs(folder: Path) -> None:
    row = {"id": "1", "input": "When?", "output": "At 22:15.", "reference": "at 22:15"}
    (folder / "outputs.jsonl").write_text(json.dumps(row) + "\n")


def _labelled(folder: Path) -> None:
    """Answers of which some have their numbers swapped, and some the right words elsewhere."""
    lines = []
    for number in range(90):
        pier, minutes = 2 + number % 5, 10 + number % 45
        told = f"from pier {pier} at 8:{minutes}"
        swapped = f"from pier 8 at {pier}:{minutes}"
        output = (
            swapped
            if number % 3 == 0
            else f"at 8:{minutes} from pier {pier}"
            if number % 9 == 1
            else told
        )
        row = {
            "id": f"q{number}",
            "input": "Where and when does it sail?",
            "output": f"{output[0].upper()}{output[1:]}.",
            "reference": told,
            "good": "no" if number % 3 == 0 else "yes",
            "day": f"d{number // 2}",
        }
        lines.append(json.dumps(row) + "\n")
    (folder / "labelled.jsonl").write_text("".join(lines))


def _deployable(folder: Path) -> None:
    write_base(folder / "base", "llama", max_position_embeddings=2048)
    path = folder / "configs/base.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["base"]["model"] = "base"
    path.write_text(yaml.safe_dump(settings))


PLANS = {
    "../README.md": Plan("baseline"),
    "day-to-day.md": Plan("baseline"),
    "agree.md": Plan("empty", files=_labelled),
    "blame.md": Plan("candidate"),
    "ci.md": Plan(
        "empty",
        files=_release_gate,
        before={
            # The tiny model is right about nothing, which the example does not let through.
            0: GIT + "sed -i '/floors:/d' configs/base.yaml\n",
            2: "ftreg train configs/specialist.yaml -o checkpoints/second\nftreg eval second\n",
        },
        replaced={"<id>": "$(ls evaluations | tail -n 1)"},
    ),
    "datasets.md": Plan(files=_to_import),
    # A GGUF file wants a tokenizer with merges, which the tiny packaged model has not.
    "deploy.md": Plan(files=_deployable, replaced={"<id>": "$(ls evaluations | head -n 1)"}),
    "gate.md": Plan("baseline"),
    "history.md": Plan("candidate"),
    "index.md": Plan(
        "empty",
        # Its training takes minutes, even of a tiny model.
        before={
            2: "sed -i 's/epochs: 3/epochs: 1/; s/  version: .*@2/&\\n  max_train_examples: 8/;"
            " s/precision: auto/precision: fp32/; s/max_new_tokens: 32/max_new_tokens: 4/'"
            " configs/base.yaml\n"
        },
    ),
    "reference/cli.md": Plan(
        "candidate",
        files=lambda at: (_outputs(at), _labelled(at), _to_import(at)),
        before={
            "ftreg data freeze": "./editor sample_datasets/ferry-desk/draft/eval.jsonl\n",
            "ftreg slices": "ftreg eval lion --no-gate\n",
            "ftreg verify": "ftreg gate baseline latest --attest verdict.json\n",
        },
    ),
    # It removes packaged models, which the other pages want.
    "long-runs.md": Plan("empty", before={0: "export FTREG_CACHE=$PWD/cache\n"}),
    "attest.md": Plan("candidate"),
    "report.md": Plan("candidate"),
    "row.md": Plan("baseline"),
    "reproduce.md": Plan("candidate"),
    "scaling.md": Plan(replaced={"CONFIG": "configs/lion.yaml"}),
    "scorers.md": Plan(files=_outputs),
    "slices.md": Plan("candidate"),
    "telemetry.md": Plan("baseline", serving=_collector),
    "trackers.md": Plan("candidate"),
    "vllm.md": Plan("candidate", serving=_chat_server),
}


class Shell:
    """Runs commands in one folder by bash, with `ftreg` and `python` those of the tests."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)

    def run(self, script: str) -> list[str]:
        """Run lines that `said` has made, and return what each command wrote to stdout."""
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        last = done.stdout.rpartition(MARK)[2]
        assert done.returncode == 0, f"{last}\nended with {done.returncode}\n{done.stderr[-3000:]}"
        return [part.partition("\n")[2] for part in done.stdout.split(MARK)[1:]]


MARK = "\x1e"


def said(command: str) -> str:
    """A command, announced, and the end of the script where it fails."""
    stop = "code=$?; [ $code = 0 ] || exit $code"
    return f"printf '%s%s\\n' {MARK} {shlex.quote(command.splitlines()[0])}\n{command}\n{stop}\n"


def _small_model(cache: Path) -> None:
    """Put a tiny random model where the packaged base model would be, and all else as it is."""
    for name in PACKAGED:
        folder = cache / cache_folder("models").name / packaged_folder(name).name
        folder.parent.mkdir(parents=True, exist_ok=True)
        if PACKAGED[name].kind != "base model":
            folder.symlink_to(cache_folder("models", folder.name))
            continue
        make_model(folder, max_position_embeddings=2048)
        files = {
            path.name: {
                "sha256": file_digest(path),
                "stamp": [path.stat().st_size, path.stat().st_mtime_ns],
            }
            for path in folder.iterdir()
        }
        (folder / "ftreg-model.json").write_text(json.dumps({"name": name, "files": files}))
    (cache / "wheels").symlink_to(cache_folder("wheels"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Shell]]:
    """Makes shells, all with one server of `ftreg` and one cache."""
    root = tmp_path_factory.mktemp("shell")
    cache = root / "cache"
    _small_model(cache)
    with ftreg_program(root) as programs:
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FTREG_")}
        environment = {
            **kept,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "FTREG_CACHE": str(cache),
            "COLUMNS": "80",
            "EDITOR": "./editor",
            "no_proxy": "*",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "OMP_NUM_THREADS": "1",
        }
        yield lambda folder: Shell(folder, environment)


@pytest.fixture(scope="module")
def states(
    shell: Callable[[Path], Shell], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A workspace for each state that a page may begin in, to be copied."""
    root = tmp_path_factory.mktemp("states")
    empty, begun, baseline, candidate = (
        root / name for name in ("empty", "begun", "baseline", "candidate")
    )
    empty.mkdir()
    for name in ("configs", "sample_datasets"):
        shutil.copytree(ROOT / name, begun / name)
    base = yaml.safe_load((begun / "configs/base.yaml").read_text())
    base["dataset"] |= {"max_train_examples": 8, "max_eval_examples": EXAMPLES}
    base["eval"] |= {"scorers": ["equals"], "max_new_tokens": 4, "repeats": 1}
    base["train"] |= {"precision": "fp32", "threads": 1}
    base["gate"] |= {"margins": {"equals": 0.5}, "constant": ["equals"], "resamples": 999}
    (begun / "configs/base.yaml").write_text(yaml.safe_dump(base))
    shutil.copytree(begun, baseline)
    shell(baseline).run("".join(map(said, BASELINE.splitlines())))
    shutil.copytree(baseline, candidate)
    shell(candidate).run("".join(map(said, CANDIDATE.splitlines())))
    return {path.name: path for path in (empty, begun, baseline, candidate)}


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_run_and_print_what_it_shows(
    page: str, shell: Callable[[Path], Shell], states: dict[str, Path], tmp_path: Path
) -> None:
    wanted = [command for command in commands(page) if not command.not_run]
    if not wanted:
        pytest.skip("no command of this page is run; its words are checked")
    plan = PLANS.get(page, Plan())
    workspace = tmp_path / "workspace"
    shutil.copytree(states[plan.state], workspace)
    write_files(page, workspace)
    if plan.files:
        plan.files(workspace)
    with plan.serving() as addresses:
        script = _script(wanted, plan, {**plan.replaced, **(addresses or {})})
        printed = shell(workspace).run(script)
    assert len(printed) == len(wanted)
    for command, out in zip(wanted, printed, strict=True):
        if command.shown:
            # A table is padded to its width, and pages have no blanks at the end of a line.
            lines = [line.rstrip() for line in out.splitlines()]
            assert lines == command.shown.splitlines(), f"{page}:{command.line}: {command.text}"


def _script(wanted: list[Command], plan: Plan, replaced: Mapping[str, str]) -> str:
    script, block = "set -o pipefail\n", -1
    for command in wanted:
        while block < command.block:
            block += 1
            script += _unannounced(plan.before.get(block, ""))
        for start, before in plan.before.items():
            if isinstance(start, str) and command.text.startswith(start):
                script += _unannounced(before)
        text = command.text
        for placeholder, value in replaced.items():
            text = text.replace(placeholder, value)
        script += said(text)
    return script


def _unannounced(commands: str) -> str:
    """Commands whose output is of no interest."""
    return commands.replace("\n", " >&2 || exit 1\n")


# -- what is not run -----------------------------------------------------------------------------


def not_run() -> list[tuple[str, Command]]:
    return [(page, command) for page in PAGES for command in commands(page) if command.not_run]


def test_what_is_not_run_is_listed(snapshot: SnapshotAssertion) -> None:
    listed = [f"{page}: {command.text}  [{command.not_run}]" for page, command in not_run()]
    assert [f"{len(listed)} commands", *listed] == snapshot


def test_every_block_of_commands_is_found() -> None:
    """A fence that is indented, or called otherwise, would be left out in silence."""
    for page in PAGES:
        text = (DOCS / page).read_text("utf-8")
        prompts = re.findall(r"^\s*\$ .*", text, re.MULTILINE)
        assert len(prompts) == len(commands(page)), page
        openers = re.findall(rf"^\s*[`~]{{3,}}\s*(?:{'|'.join(SHELLS)})\b", text, re.MULTILINE)
        assert len(openers) == len({command.block for command in commands(page)}), page


@pytest.mark.parametrize(
    ("page", "command"),
    [pytest.param(page, command, id=f"{page}:{command.line}") for page, command in not_run()],
)
def test_the_words_of_what_is_not_run_are_right(page: str, command: Command) -> None:
    program, *arguments = command.arguments
    if program in ("pip", "transformers", "vllm"):
        return  # programs of others, which know best
    CHECKS[program](arguments)


def _check_make(arguments: list[str]) -> None:
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _check_script(arguments: list[str]) -> None:
    script, *rest = arguments
    text = (ROOT / script).read_text("utf-8")
    for option in rest:
        if option.startswith("--"):
            assert f'"{option}"' in text, f"{script} does not take {option}"


def _check_ftreg(arguments: list[str]) -> None:
    from ftreg.cli.app import app

    command = get_command(app)
    while commands_below := getattr(command, "commands", None):
        name, *arguments = arguments
        command = commands_below[name]
    command.make_context(name, arguments)  # ends the test where an option is not one


def _check_accelerate(arguments: list[str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert arguments[0] == "launch"
    asked = launch_command_parser().parse_args(arguments[1:])
    assert (asked.module, asked.training_script) == (True, "ftreg")
    assert asked.config_file is None or (ROOT / asked.config_file).is_file()
    _check_ftreg(asked.training_script_args)


CHECKS = {
    "accelerate": _check_accelerate,
    "ftreg": _check_ftreg,
    "make": _check_make,
    "python": _check_script,
}
