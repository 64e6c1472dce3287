"""Draw what AdaGrad, Adam, AdamW and Lion do: docs/figures/optimizer-rules.svg, optimizer-runs.svg.

The rules: one weight is fed gradients that are known. The runs: a small model with random weights
is trained by `ftreg train` on `ferry-desk@1`, once with each optimizer and long enough to see what
becomes of its steps; what the plot shows is read from the checkpoints' histories.

    python scripts/plot_optimizers.py                    # minutes
    python scripts/plot_optimizers.py --only rules       # seconds
"""

import argparse
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import altair as alt
import torch
from figures import BLUE, GREEN, PURPLE, VERMILLION, lines, save

sys.path.insert(0, str(Path(__file__).parent.parent))

from ftreg.config.optimizer import OptimizerConfig
from ftreg.optim import build_optimizer
from ftreg.records.checkpoint import read_checkpoint
from ftreg.report.history import number, read_steps, running_median
from tests.conftest import make_model

# In the order in which they are drawn: where two are alike, the dashed line lies on top.
COLOURS = {"AdaGrad": VERMILLION, "Lion": PURPLE, "AdamW": BLUE, "Adam": GREEN}
# Without decay AdamW is Adam.
RULES = {"AdaGrad": VERMILLION, "Lion": PURPLE, "Adam and AdamW": BLUE}
LR = 1e-4
STEPS = 200

# Of the runs. A model that knows nothing yet takes other rates than one that is fine-tuned.
RATES = {"AdaGrad": 1e-2, "Adam": 2e-3, "AdamW": 2e-3, "Lion": 4e-4}
SETTINGS = (
    "base.model=model",
    "train.epochs=8",
    "train.batch_size=2",
    "train.precision=fp32",
    "train.threads=1",
)
CHANGE = 100
"""The step from which one of the gradients is a hundredth of what it was."""

# Steady; falling to a hundredth; there in every tenth step only, as a rare word's embedding has it.
GRADIENTS = {
    "a steady gradient": [0.01] * STEPS,
    f"a hundredth of it from step {CHANGE}": [
        0.01 if step < CHANGE else 0.0001 for step in range(STEPS)
    ],
    "in every tenth step only": [0.01 if step % 10 == 0 else 0.0 for step in range(STEPS // 4)],
}


def moves(name: str, gradients: list[float]) -> list[float]:
    """How far each step moves a weight, in units of lr, without decay and schedule."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    config = OptimizerConfig(name=name.split()[0].lower(), lr=LR, weight_decay=0.0)
    optimizer = build_optimizer([weight], config)
    found = []
    for gradient in gradients:
        before = weight.item()
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        found.append(abs(weight.item() - before) / LR)
    return found


def draw_rules() -> Path:
    """Draw the step of each optimizer under each sequence of gradients."""
    panels = []
    for number_, (title, gradients) in enumerate(GRADIENTS.items()):
        rows = [
            {"x": step + 1, "y": moved, "line": name}
            for name in RULES
            for step, moved in enumerate(moves(name, gradients))
        ]
        panels.append(
            lines(
                rows,
                title=title,
                x=alt.X("x:Q", title="step", axis=alt.Axis(grid=False, tickCount=4)),
                y=alt.Y(
                    "y:Q",
                    title="move of the weight / lr" if number_ == 0 else None,
                    scale=alt.Scale(domain=[0, 1.25]),
                    axis=alt.Axis(tickCount=5),
                ),
                colours=RULES,
                dashed=("Adam and AdamW",),
            )
        )
    return save(alt.hconcat(*panels, spacing=22), "optimizer-rules")


def train(workspace: Path) -> None:
    """Train with each optimizer what is not trained yet."""
    if not (workspace / "configs").is_dir():
        workspace.parent.mkdir(parents=True, exist_ok=True)
        _ftreg(workspace.parent, "init", workspace.name)
        make_model(
            workspace / "model", hidden_size=64, intermediate_size=192, max_position_embeddings=2048
        )
    for name, lr in RATES.items():
        key = name.lower()
        if not (workspace / "checkpoints" / key).is_dir():
            given = [f"optimizer.lr={lr}", *SETTINGS]
            _ftreg(workspace, "train", f"configs/{key}.yaml", "-o", f"checkpoints/{key}",
                   *(part for item in given for part in ("-s", item)))  # fmt: skip


def _ftreg(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ftreg", *arguments], cwd=folder, check=True)


def draw_runs(workspace: Path) -> Path:
    """Draw loss and effective step size of the four runs."""
    losses: list[dict[str, Any]] = []
    sizes: list[dict[str, Any]] = []
    shares: list[dict[str, Any]] = []
    for name in COLOURS:
        checkpoint = read_checkpoint(workspace / "checkpoints" / name.lower())
        steps = read_steps(checkpoint.folder)
        smooth = running_median([number(row["loss"]) for row in steps])
        losses += [
            {"x": steps[index]["step"], "y": value, "line": name} for index, value in smooth.items()
        ]
        for row in steps:
            moved, rate = float(row["step_size"]), float(row["lr"])
            sizes.append({"x": row["step"], "y": moved, "line": name})
            shares.append({"x": row["step"], "y": moved / rate, "line": name})
        arguments = checkpoint.manifest.optimizer["arguments"]
        training = checkpoint.manifest.training
        print(
            f"{name}: lr {arguments['lr']:g}, {training.steps} steps of {training.batch_size}, "
            f"{training.precision}, loss {losses[-1]['y']:.3f}, step / lr "
            f"{shares[-len(steps)]['y']:.3f} at the first and {shares[-1]['y']:.3f} at the last "
            f"step, on {checkpoint.manifest.environment['hardware']['cpu_model']}"
        )
    x = alt.X(
        "x:Q",
        title="optimizer step",
        axis=alt.Axis(grid=False, tickCount=6),
        scale=alt.Scale(nice=False),
    )

    def logarithmic(rows: list[dict[str, Any]], title: str | None = None) -> alt.Y:
        low = min(row["y"] for row in rows)
        marks = [10.0**power for power in range(math.floor(math.log10(low)), 2)]
        return alt.Y(
            "y:Q",
            title=title,
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=marks, format="~e"),
        )

    shared: dict[str, Any] = {"x": x, "colours": COLOURS, "dashed": ("Adam",)}
    panels = [
        lines(
            losses,
            title="loss per token in nats, running median",
            y=alt.Y("y:Q", title=None, axis=alt.Axis(tickCount=5)),
            **shared,
        ),
        lines(sizes, title="mean move of a weight in a step", y=logarithmic(sizes), **shared),
        lines(shares, title="the same / lr of the step", y=logarithmic(shares), **shared),
    ]
    return save(alt.hconcat(*panels, spacing=22), "optimizer-runs")


def main() -> None:
    """Draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("rules", "runs"), help="one of the two figures")
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("runs/optimizers"),
        help="where the runs are, or are made",
    )
    options = parser.parse_args()
    if options.only != "runs":
        print(draw_rules())
    if options.only != "rules":
        train(options.workspace)
        print(draw_runs(options.workspace))


if __name__ == "__main__":
    main()
