"""Draw what AdaGrad, Adam, AdamW and Lion do: docs/figures/optimizer-rules.svg, optimizer-runs.svg.

The rules: one weight receives known gradients. The runs: a small model with random weights is
trained by `ftreg train` on `ferry-desk@2`, once with each optimizer and long enough to show how
step sizes change; the plotted values are read from the checkpoints' histories.

    python scripts/plot_optimizers.py                    # minutes
    python scripts/plot_optimizers.py --only rules       # seconds
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from figures import lines, save

sys.path.insert(0, str(Path(__file__).parent.parent))

from ftreg.config.optimizer import OptimizerConfig
from ftreg.optim import build_optimizer
from ftreg.records.checkpoint import read_checkpoint
from ftreg.report.history import number, read_steps, running_median
from tests.conftest import make_model

# In drawing order: where two lines coincide, the dashed one is on top.
NAMES = {"AdaGrad": "vermillion", "Lion": "purple", "AdamW": "blue", "Adam": "green dashed"}
# Without weight decay, AdamW equals Adam.
RULES = {"AdaGrad": "vermillion", "Lion": "purple", "Adam and AdamW": "blue dashed"}
LR = 1e-4
STEPS = 200

# Learning rates of the runs. Training from scratch needs other rates than fine-tuning.
RATES = {"AdaGrad": 1e-2, "Adam": 2e-3, "AdamW": 2e-3, "Lion": 4e-4}
SETTINGS = (
    "base.model=model",
    "train.epochs=8",
    "train.batch_size=2",
    "train.precision=fp32",
    "train.threads=1",
)
CHANGE = 100
"""The step from which one of the gradients is a hundredth of its first value."""

# Steady; falling to a hundredth; only in every tenth step, as for a rare word's embedding.
GRADIENTS = {
    "A steady gradient": [0.01] * STEPS,
    f"A hundredth of it from step {CHANGE}": [
        0.01 if step < CHANGE else 0.0001 for step in range(STEPS)
    ],
    "In every tenth step only": [0.01 if step % 10 == 0 else 0.0 for step in range(STEPS // 4)],
}


def moves(name: str, gradients: list[float]) -> list[float]:
    """Return how far each step moves a weight, in units of lr, without weight decay or schedule."""
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
    panels = [
        lines(
            title,
            {style: list(enumerate(moves(name, gradients), 1)) for name, style in RULES.items()},
            across_title="step",
            low=0,
            high=1.2,
        )
        for title, gradients in GRADIENTS.items()
    ]
    key = {style: name for name, style in RULES.items()}
    return save("optimizer-rules", "Move of the weight / lr", panels, key=key)


def train(workspace: Path) -> None:
    """Train with each optimizer, unless its checkpoint exists."""
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
    losses: dict[str, list[tuple[float, float]]] = {}
    sizes: dict[str, list[tuple[float, float]]] = {}
    shares: dict[str, list[tuple[float, float]]] = {}
    for name, style in NAMES.items():
        checkpoint = read_checkpoint(workspace / "checkpoints" / name.lower())
        steps = read_steps(checkpoint.folder)
        smooth = running_median([number(row["loss"]) for row in steps])
        losses[style] = [
            (steps[index]["step"], value) for index, value in smooth.items() if value is not None
        ]
        sizes[style] = [(row["step"], float(row["step_size"])) for row in steps]
        shares[style] = [(row["step"], float(row["step_size"]) / float(row["lr"])) for row in steps]
        arguments = checkpoint.manifest.optimizer["arguments"]
        training = checkpoint.manifest.training
        print(
            f"{name}: lr {arguments['lr']:g}, {training.steps} steps of {training.batch_size}, "
            f"{training.precision}, loss {losses[style][-1][1]:.3f}, step / lr "
            f"{shares[style][0][1]:.3f} at the first and {shares[style][-1][1]:.3f} at the last "
            f"step, on {checkpoint.manifest.environment['hardware']['cpu_model']}"
        )
    panels = [
        lines("Loss in nats, running median", losses, low=0),
        lines("Mean move of a weight", sizes, logarithmic=True),
        lines("The same / lr", shares, logarithmic=True),
    ]
    key = {style: name for name, style in NAMES.items()}
    return save("optimizer-runs", "Four optimizers over a run", panels, key=key)


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
