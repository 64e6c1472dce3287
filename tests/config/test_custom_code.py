"""Code not shipped with ftreg runs because a configuration names it, and not otherwise."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from ftreg.config import custom_code
from ftreg.errors import UsageError
from ftreg.files.store import write_jsonl
from tests.conftest import Cli, write_dataset
from tests.hostile import add_code, module_that_touches

OPTION = "--no-custom-code"
SCORER = """
from tests.fakes import LengthScorer
def scorer():
    return LengthScorer(40)
"""
OPTIMIZER = """
import torch
class Mine(torch.optim.SGD):
    pass
"""


@pytest.fixture
def canary(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a stranger's code makes; the modules that make it are in the workspace."""
    path = workspace / "canary"
    for name, rest in (("their_scorer", SCORER), ("their_optimizer", OPTIMIZER)):
        module_that_touches(workspace, name, path, rest)
    monkeypatch.setattr(sys, "path", [*sys.path])  # ftreg appends the working folder
    yield path
    for name in ("their_scorer", "their_optimizer"):
        sys.modules.pop(name, None)


def changed(config: Path, **sections: object) -> Path:
    """Write the configuration with sections replaced or added, a key a line."""
    data = yaml.safe_load(config.read_text("utf-8").replace("1e-3", "0.001"))
    path = config.with_name("theirs.yaml")
    path.write_text(yaml.safe_dump({**data, **sections}, sort_keys=False), encoding="utf-8")
    return path


def line_of(path: Path, text: str) -> int:
    lines = path.read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


THEIRS = {
    "optimizer.path": ({"optimizer": {"name": "custom", "lr": 0.001,
                                      "path": "their_optimizer:Mine"}}, "path:"),
    "eval.scorers.1.name": ({"eval": {"scorers": ["equals", {"name": "their_scorer:scorer"}]}},
                            "their_scorer"),
    "eval.scorers.0.name": ({"eval": {"scorers": [{"name": "evaluate:./metric",
                                                   "options": {"key": "x"}}]}}, "evaluate:"),
    "eval.scorers.0.backend": ({"eval": {"scorers": [{"name": "faithfulness",
                                                      "backend": "their_scorer:scorer"}]}},
                               "backend:"),
    "base.trust_remote_code": ({"base": {"model": "x", "trust_remote_code": True}}, "trust_"),
}  # fmt: skip


@pytest.mark.parametrize("command", [("train",), ("optim", "show")], ids=" ".join)
@pytest.mark.parametrize("key", THEIRS)
def test_a_configuration_that_names_code_is_refused_with_file_line_and_key(
    key: str, command: tuple[str, ...], cli: Cli, config: Path, canary: Path
) -> None:
    sections, text = THEIRS[key]
    theirs = changed(config, **sections)
    done = cli(*command, theirs, OPTION)
    assert done.code == 2
    assert f"theirs.yaml:{line_of(theirs, text)}: {key}: " in done.err
    assert "Traceback" not in done.err
    assert not canary.exists()
    assert not Path("checkpoints").exists()


def test_an_override_that_names_code_is_refused_by_its_option(cli: Cli, config: Path) -> None:
    scorers = 'eval.scorers=["their_scorer:scorer"]'
    done = cli("train", config, "-s", scorers, OPTION)
    assert done.code == 2
    assert "-s eval.scorers: eval.scorers.0.name: their_scorer:scorer is code" in done.err


def test_every_piece_of_code_is_named_at_once(cli: Cli, config: Path) -> None:
    both = THEIRS["optimizer.path"][0] | THEIRS["eval.scorers.1.name"][0]
    done = cli("train", changed(config, **both), OPTION)
    assert done.err.count("is code not shipped with ftreg") == 2


def test_without_the_option_the_configurations_code_runs(
    cli: Cli, config: Path, canary: Path
) -> None:
    sections = THEIRS["optimizer.path"][0] | THEIRS["eval.scorers.1.name"][0]
    done = cli("train", changed(config, **sections), "-s", "train.max_steps=1", "-o", "a", "-q")
    assert done.code == 0, done
    assert canary.exists()  # the refusals above are no accident


def test_a_configuration_of_ftregs_own_passes(cli: Cli, config: Path) -> None:
    own = changed(config, eval={"scorers": ["equals"]})
    assert cli("train", own, "-s", "train.max_steps=1", "-o", "a", "-q", OPTION).code == 0
    assert cli("eval", "a", "--no-gate", "-q", OPTION).code == 0
    assert cli("reproduce", "a", "-q", OPTION).code == 0


def test_a_checkpoint_whose_manifest_names_code_is_refused(
    cli: Cli, config: Path, canary: Path
) -> None:
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "a", "-q").code == 0
    manifest = Path("a", "ftreg.json")
    done = cli("eval", "a", "--no-gate", OPTION)
    assert done.code == 2
    line = line_of(manifest, "tests.fakes:length_scorer")
    assert f"{manifest}:{line}: config.eval.scorers.1.name: tests.fakes:length_scorer" in done.err
    assert not Path("evaluations").exists()
    # An evaluation with other scorers runs nothing of theirs, whatever the optimizer was.
    assert cli("eval", "a", "--no-gate", "-q", "-s", "eval.scorers=[equals]", OPTION).code == 0


def test_reproducing_looks_at_the_optimizer_and_not_at_the_scorers(
    cli: Cli, config: Path, canary: Path
) -> None:
    sections = THEIRS["optimizer.path"][0]
    done = cli("train", changed(config, **sections), "-s", "train.max_steps=1", "-o", "a", "-q")
    assert done.code == 0, done
    done = cli("reproduce", "a", OPTION)
    assert done.code == 2
    line = line_of(Path("a", "ftreg.json"), '"path": "their_optimizer:Mine"')
    assert f"ftreg.json:{line}: config.optimizer.path: their_optimizer:Mine is code" in done.err
    assert "scorers" not in done.err


@pytest.mark.parametrize(
    ("options", "place"),
    [
        (["--scorer", "their_scorer:scorer"], "--scorer: their_scorer:scorer"),
        (["--scorer", "{name: their_scorer:scorer}"], "--scorer: their_scorer:scorer"),
        (["--scorer", "evaluate:./metric"], "--scorer: evaluate:./metric"),
        (["--scorer", "evaluate:exact_match"], "--scorer: evaluate:exact_match"),
        (
            ["--scorer", "faithfulness", "--backend", "their_scorer:scorer"],
            "--backend: their_scorer:scorer",
        ),
    ],
)
def test_score_refuses_code(options: list[str], place: str, cli: Cli, canary: Path) -> None:
    write_jsonl(Path("rows.jsonl"), [{"id": "a", "output": "x", "reference": "x"}])
    done = cli("score", "rows.jsonl", *options, OPTION)
    assert done.code == 2
    assert place in done.err
    assert not canary.exists()


def test_a_recipe_whose_builder_is_code_is_refused(cli: Cli, workspace: Path, canary: Path) -> None:
    folder = write_dataset(workspace / "sample_datasets", recipe="recipe.yaml")
    (folder / "train.jsonl").unlink()
    (folder / "recipe.yaml").write_text("# rows\nbuilder: their_scorer:scorer\n")
    done = cli("data", "build", "colours@1", OPTION)
    assert done.code == 2
    assert "recipe.yaml:2: builder: their_scorer:scorer is code" in done.err
    assert not canary.exists()


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_the_variable_is_the_option(
    value: str, cli: Cli, config: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(custom_code.VARIABLE, value)
    done = cli("train", changed(config, **THEIRS["optimizer.path"][0]))
    assert done.code == 2
    assert custom_code.VARIABLE in done.err
    assert not canary.exists()


def test_a_variable_that_says_no_refuses_nothing(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(custom_code.VARIABLE, "0")
    assert cli("optim", "show", config).code == 0
    monkeypatch.setenv(custom_code.VARIABLE, "perhaps")
    assert custom_code.forbidden()  # what cannot be read is no permission
    assert cli("optim", "show", config).code == 2


def test_the_library_refuses_too(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable holds below the command line as well, where no file and line are known."""
    from ftreg.config.registry import import_path
    from ftreg.models.pretrained import load_model, load_tokenizer
    from ftreg.scoring import get_scorer

    monkeypatch.setenv(custom_code.VARIABLE, "1")
    for name in ("os:getcwd", "evaluate:exact_match"):
        with pytest.raises(UsageError, match="code not shipped with ftreg"):
            get_scorer(name)
    for load in (load_model, load_tokenizer):
        with pytest.raises(UsageError, match="code not shipped with ftreg"):
            load(workspace, trust_remote_code=True)
    assert import_path("ftreg.scoring.equals:Equals")  # ftreg's own are no custom code
    assert get_scorer("equals")


def test_the_option_ends_with_its_command(cli: Cli, config: Path) -> None:
    cli("optim", "show", config, OPTION)
    assert not custom_code.forbidden()


def test_every_command_that_can_import_code_has_the_option() -> None:
    """`load_config` and `get_scorer` are where code is named; the gate reads records alone."""
    from typer.main import get_command

    from ftreg.cli.app import app

    def having(command: object) -> bool:
        return any(OPTION in parameter.opts for parameter in command.params)

    root = get_command(app).commands
    expected = {"train", "eval", "score", "rescore", "agree", "reproduce"}
    expected |= {"bisect", "blame", "export", "parity"}
    assert {name for name in root if having(root[name])} == expected
    assert having(root["optim"].commands["show"])
    assert having(root["data"].commands["build"])


# -- code that comes with a model ----------------------------------------------------------------


def test_a_models_code_does_not_run_unless_the_configuration_says_so(
    cli: Cli, config: Path, tiny_model: Path, canary: Path
) -> None:
    model = add_code(Path(shutil.copytree(tiny_model, "theirs")), canary)
    base = {"model": str(model)}
    done = cli("train", changed(config, base=base), "-s", "train.max_steps=1", "-o", "a")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert not canary.exists()

    trusted = changed(config, base=base | {"trust_remote_code": True})
    done = cli("train", trusted, "-s", "train.max_steps=1", "-o", "a", "-q")
    assert done.code == 0, done
    assert canary.exists()
    said = f"note: base.trust_remote_code is true: the code that comes with {model} is run"
    assert said in done.err
    assert json.loads(Path("a/ftreg.json").read_text())["base"]["trust_remote_code"] is True
    for command in (["eval", "a", "--no-gate", "-q", "-s", "eval.scorers=[equals]"],
                    ["reproduce", "a", "-q"], ["optim", "show", trusted]):  # fmt: skip
        done = cli(*command)
        assert said in done.err, command
        done = cli(*command, OPTION)
        assert done.code == 2
        assert "base.trust_remote_code: what comes with the model" in done.err


def test_code_beside_a_model_that_the_library_knows_does_not_run(
    cli: Cli, config: Path, tiny_model: Path, canary: Path
) -> None:
    model = add_code(Path(shutil.copytree(tiny_model, "theirs")), canary, custom=False)
    ours = changed(config, base={"model": str(model)})
    assert cli("train", ours, "-s", "train.max_steps=1", "-o", "a", "-q").code == 0
    assert cli("eval", "a", "--no-gate", "-q").code in (0, 3)
    assert not canary.exists()


def test_kernels_of_the_hub_are_refused(cli: Cli, config: Path, tiny_model: Path) -> None:
    model = Path(shutil.copytree(tiny_model, "theirs"))
    path = model / "config.json"
    kernel = {"attn_implementation": "somebody/attention"}
    path.write_text(json.dumps(json.loads(path.read_text()) | kernel))
    done = cli("train", changed(config, base={"model": str(model)}), "-o", "a")
    assert done.code == 2
    assert "theirs/config.json: attn_implementation: 'somebody/attention'" in done.err


def test_a_chat_template_cannot_leave_its_sandbox(
    cli: Cli, config: Path, tiny_model: Path, canary: Path
) -> None:
    model = Path(shutil.copytree(tiny_model, "theirs"))
    escape = (
        "{{ cycler.__init__.__globals__.os.system('touch " + str(canary) + "') }}"
        "{{ messages.append('x') }}"
    )
    (model / "chat_template.jinja").write_text(escape)
    done = cli("train", changed(config, base={"model": str(model)}), "-o", "a")
    assert done.code == 2, done
    assert not canary.exists()


# -- the working folder ----------------------------------------------------------------------------


def test_nothing_is_imported_out_of_the_working_folder(workspace: Path, canary: Path) -> None:
    """A checkout with a pip.py or a torch.py in it: the program `ftreg` takes the installed one."""
    for name in ("pip", "yaml", "torch", "transformers", "ftreg", "random"):
        module_that_touches(workspace, name, canary)
    code = (
        "import sys; sys.path = [p for p in sys.path if p]\n"
        "from ftreg.services.wheels import fetch_wheel\n"
        "from ftreg.errors import UsageError\n"
        "try: fetch_wheel('no-such-package==1', '0' * 64)\n"
        "except UsageError as error: print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=workspace,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
    )
    assert "cannot fetch no-such-package==1" in done.stdout, done.stderr
    assert not canary.exists()


TRACED = """\
import json, sys
missed, codes = set(), []
class Last:
    def find_spec(self, name, path=None, target=None):
        missed.add(name.partition(".")[0])
sys.meta_path.append(Last())
from ftreg.__main__ import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["ftreg", *line.split()]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
with open("missed.json", "w") as file:
    json.dump([sorted(missed), codes], file)
"""


# {n} is 1 the first time and 2 the second, for what is written once.
EVERY_COMMAND = """\
init fresh{n}
doctor
optim show run.yaml
optim convert run.yaml --to lion
train run.yaml -o checkpoints/first{n}
train run.yaml -s train.seed=1 -o checkpoints/second{n}
reproduce first1
checkpoints list
checkpoints show first1
checkpoints plot first1
checkpoints card first1 -o card{n}.md
eval first1 --no-gate
promote latest --anchor --force --why first
eval second1
gate baseline latest --attest verdict{n}.json
verify verdict1.json
report latest
power latest
rescore latest
evaluations list
evaluations export latest -o table{n}.csv
history colours -o history{n}.html
compare baseline latest -o compared{n}.html
baseline colours
diff first1 second1
slices latest
blame latest --no-proof --anyway
bisect first1 second1 --plan
export first1 --to merged -o merged{n}
parity first1 merged1
score outputs.jsonl --scorer equals
agree outputs.jsonl --label good --scorer equals
track latest
data list --root datasets
data show colours@1 --root datasets
data verify --root datasets
data leaks colours@1 --root datasets
data draft colours@1 --root datasets -o draft{n}
data import more --root datasets --train outputs.jsonl --license MIT --description x
data diff colours@1 colours@1 --root datasets
models list
clean --dry-run
schema config
"""


@pytest.mark.slow
def test_no_decoy_of_an_optional_module_is_run(config: Path, canary: Path, workspace: Path) -> None:
    """A file for each module that a traced run looked for in vain: `tabulate.py` is one."""

    here = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}

    def run(command: str, number: int) -> int:
        line = [sys.executable, "-P", "-m", "ftreg", *command.format(n=number).split()]
        done = subprocess.run(line, env={**os.environ, **here}, capture_output=True, text=True)
        assert done.returncode in (0, 1, 2, 3), done.stderr
        assert not canary.exists(), command
        return done.returncode

    lines = config.read_text("utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "tests.fakes" not in line), "utf-8")
    row = {"input": "a", "output": "a", "reference": "a", "good": "yes"}
    rows = [{"id": str(n), **row, "input": f"{n}"} for n in range(8)]
    Path("outputs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    subprocess.run(
        [sys.executable, "-P", "-c", TRACED], input=EVERY_COMMAND.format(n=1), text=True,
        env={**os.environ, **here}, capture_output=True, check=True,
    )  # fmt: skip
    missed, codes = json.loads(Path("missed.json").read_text())
    commands = EVERY_COMMAND.splitlines()
    # These cannot end with 0 here: no tracker, equal labels, an export without a deployable model.
    refused = {line.split()[0] for line, code in zip(commands, codes, strict=True) if code == 2}
    assert refused <= {"track", "agree", "doctor", "rescore"}
    assert set(codes) <= {0, 1, 2, 3}
    assert "tabulate" in missed
    for module in missed:
        module_that_touches(workspace, module, canary)
    with ThreadPoolExecutor(2) as pool:  # what they read is there by now
        assert list(pool.map(lambda command: run(command, 2), commands)) == codes
    run("eval first1 --no-gate -s eval.max_new_tokens=2", 2)  # not from the store of outputs


def _git(*arguments: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@y")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(workspace: Path) -> Path:
    """The working folder as a work tree with one committed file."""
    (workspace / "kept.txt").write_text("kept\n")
    _git("init", "--quiet")
    _git("add", "kept.txt")
    _git("commit", "--quiet", "-mx")
    (workspace / ".git" / "info" / "exclude").write_text("*\n")
    return workspace


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("trap", ["fsmonitor", "filter", "hook", "partial clone"])
def test_a_repository_runs_no_program(trap: str, canary: Path, repository: Path) -> None:
    """What `.git/config` and the hooks name, a status by git itself would run."""
    from ftreg.training.environment import describe_environment

    program = repository / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    if trap == "fsmonitor":
        _git("config", "core.fsmonitor", str(program))
    elif trap == "filter":
        (repository / ".gitattributes").write_text("*.txt filter=theirs\n")
        _git("config", "filter.theirs.clean", str(program))
    elif trap == "hook":
        shutil.copy(program, repository / ".git" / "hooks" / "post-index-change")
    else:
        _git("config", "remote.origin.url", f"ext::{program}")
        _git("config", "remote.origin.promisor", "true")
        _git("config", "remote.origin.uploadpack", str(program))
        _git("config", "protocol.ext.allow", "always")
        _git("config", "extensions.partialClone", "origin")
        for found in (repository / ".git" / "objects").glob("??/*"):
            found.unlink()
    os.utime(repository / "kept.txt", (1, 1))
    described = describe_environment()["git"]
    assert described["dirty"] is (None if trap == "partial clone" else False)
    assert not canary.exists()
    subprocess.run(["git", "status"], capture_output=True)
    assert canary.exists()  # git's own status runs it


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("change", ["none", "edited", "new", "staged", "removed", "ignored"])
def test_whether_a_work_tree_has_changes(change: str, repository: Path) -> None:
    """As `git status` says, also from a subfolder."""
    from ftreg.training.environment import describe_environment

    (repository / ".git" / "info" / "exclude").write_text("ignored\n")
    (repository / "sub").mkdir()
    for name in [path.name for path in repository.iterdir() if path.is_file()]:
        if name != "kept.txt":
            (repository / name).unlink()
    if change == "edited":
        (repository / "kept.txt").write_text("edit\n")
    elif change == "removed":
        (repository / "kept.txt").unlink()
    elif change != "none":
        (repository / ("ignored" if change == "ignored" else "new")).write_text("x")
    if change == "staged":
        _git("add", "new")
    says = subprocess.run(["git", "status", "--porcelain"], capture_output=True, check=True).stdout
    os.chdir(repository / "sub")
    assert (
        describe_environment()["git"]["dirty"] is bool(says) is (change not in ("none", "ignored"))
    )
