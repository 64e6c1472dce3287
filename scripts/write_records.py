"""Write a set of golden records with this ftreg, for tests/records/test_records.py.

python scripts/write_records.py tests/records/schema-4

Run it when a schema version is raised, and never for an existing set: a set is the output of the
ftreg version of its time. Weights are left out, except the training state and its base model, which
have a few thousand parameters.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from typer.testing import CliRunner

from ftreg.training.events import Silent, StepRecord
from tests.conftest import make_model, write_dataset

_CONFIG = """\
base:
  model: tiny
dataset:
  version: colours@1
optimizer:
  name: adamw
  lr: 1e-3
train:
  batch_size: 4
  precision: fp32
  threads: 1
  save_steps: 2
eval:
  max_new_tokens: 4
  scorers: [equals]
gate:
  margin: 0.03
  min_examples: 4
  resamples: 999
"""
_POLICY = (
    "{mode: threshold, margin: 0.5, anchor_margin: 0.5, min_examples: 4, constant: [equals]}\n"
)
_SMALL = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
_WEIGHTS = ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class _Stopping(Silent):
    """Interrupts a run, as Ctrl-C does."""

    def step(self, record: StepRecord) -> None:
        """Raise KeyboardInterrupt after the third step."""
        if record.step == 3:
            raise KeyboardInterrupt


def run(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command in this process, and return its stdout; exits if its code is not in `codes`."""
    from ftreg.cli.app import app

    done = CliRunner().invoke(app, arguments)
    if done.exit_code not in codes:
        raise SystemExit(f"ftreg {' '.join(arguments)}: exit {done.exit_code}\n{done.stderr}")
    return done.stdout


def write_set() -> None:
    """Write every kind of record to the working folder."""
    import ftreg
    from ftreg.training.run import train

    make_model(Path("tiny"), **_SMALL, num_key_value_heads=1)
    write_dataset(Path("sample_datasets"))
    Path("run.yaml").write_text(_CONFIG, encoding="utf-8")
    Path("policy.yaml").write_text(_POLICY, encoding="utf-8")
    run("train", "run.yaml", "-o", "checkpoints/group", "-s", "train.seeds=[1,2]")
    run("train", "run.yaml", "-o", "checkpoints/one")
    run("train", "run.yaml", "-o", "checkpoints/broken", "-s", "optimizer.lr=1e30", codes=(1,))
    with contextlib.suppress(KeyboardInterrupt):
        config = ftreg.load_config(Path("run.yaml"), overrides=["train.epochs=2"])
        train(config, output=Path("checkpoints/stopped"), events=_Stopping())
    run("eval", "tiny", "--dataset", "colours@1", "--config", "run.yaml", "--no-gate")
    run("promote", "latest", "--anchor", "--why", "the first")
    run("eval", "group", "--no-gate")
    run("promote", "latest", "--force", "--why", "of replicas")
    run("eval", "one", "--no-gate")
    run("export", "one", "--to", "merged", "-o", "exports/one")
    printed = Path("printed")
    printed.mkdir()
    verdict = run("gate", "baseline", "latest", "--policy", "policy.yaml", "--json", codes=(0, 1))
    (printed / "verdict.json").write_text(verdict, encoding="utf-8")
    compared = run("compare", "baseline", "latest", "--json", "--routes", "routes.yaml")
    (printed / "comparison.json").write_text(compared, encoding="utf-8")


def keep(target: Path) -> None:
    """Copy the set, without weights and files that can be regenerated."""
    leave = shutil.ignore_patterns("report.*", "*.svg", "*.lock", "cache", *_WEIGHTS)
    for name in ("checkpoints", "evaluations", "baselines", "printed"):
        shutil.copytree(name, target / name, ignore=leave)
    shutil.rmtree(target / "checkpoints" / "broken.state")
    for path in (Path("checkpoints/stopped.state"), Path("tiny"), Path("sample_datasets")):
        locks = shutil.ignore_patterns("*.lock")
        shutil.copytree(path, target / path, ignore=locks, dirs_exist_ok=True)
    exported = Path("exports/one/ftreg-export.json")
    (target / exported).parent.mkdir(parents=True)
    shutil.copy(exported, target / exported)
    for name in ("run.yaml", "policy.yaml", "routes.yaml"):
        shutil.copy(name, target / name)


def main() -> None:
    """Write a set to a new folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    target = parser.parse_args().folder.absolute()
    if target.exists():
        raise SystemExit(f"{target} exists: a set is never written again")
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        os.environ["FTREG_CACHE"] = str(Path(name, "cache"))
        write_set()
        keep(target)
        os.chdir(home)
    print(json.dumps({"files": sum(path.is_file() for path in target.rglob("*"))}))


if __name__ == "__main__":
    main()
