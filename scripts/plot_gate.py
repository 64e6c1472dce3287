"""Draw what the gate can detect: docs/figures/verdicts.svg and docs/figures/paired.svg.

Both are simulations with known truth, judged by `ftreg.gate.compare`.

    python scripts/plot_gate.py
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import FRAME, lines, save

from ftreg.gate import GatePolicy, compare
from ftreg.report.axis import AxisScale
from ftreg.report.curves import Curve, Frame, Panel

POLICY = GatePolicy(margin=0.02)
SPREAD = 0.2
"""Standard deviation of one example's delta: 20 points."""
SIZES = (50, 100, 200, 400, 800, 1600, 3200)
TRUTHS = {
    "The candidate is as good": 0.0,
    "It is worse by the margin, 2 points": 0.02,
    "It is worse by 5 points": 0.05,
}
OUTCOMES = {"pass": "green bar", "undecided": "grey bar", "regression": "vermillion bar"}


def verdict(baseline: np.ndarray, candidate: np.ndarray) -> Any:
    """Gate two arrays of scores of the same examples."""
    sides = (
        {"score": {f"e{i:05d}": float(value) for i, value in enumerate(np.clip(side, 0, 1))}}
        for side in (baseline, candidate)
    )
    return compare(*sides, POLICY, plan=False)


def shares(
    drop: float, size: int, *, trials: int, generator: np.random.Generator
) -> dict[str, float]:
    """Return each outcome's share of `trials` simulated comparisons."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for _ in range(trials):
        baseline = np.full(size, 0.5)
        delta = generator.uniform(-np.sqrt(3) * SPREAD, np.sqrt(3) * SPREAD, size) - drop
        counts[verdict(baseline, baseline + delta).outcome] += 1
    return {outcome: count / trials for outcome, count in counts.items()}


def _short(size: int) -> str:
    return f"{size / 1000:g}k" if size >= 1000 else str(size)


def draw_verdicts(trials: int) -> Path:
    """Draw the share of each verdict by number of examples, a panel per true drop."""
    generator = np.random.default_rng(0)
    panels = []
    for title, drop in TRUTHS.items():
        found = [shares(drop, size, trials=trials, generator=generator) for size in SIZES]
        for size, share in zip(SIZES, found, strict=True):
            print(f"{title}, {_short(size)} examples: {100 * share['undecided']:.0f} % undecided")
        panels.append(_bars(title, found))
    return save(
        "verdicts",
        "Share of verdicts by number of examples",
        panels,
        key={style: outcome for outcome, style in OUTCOMES.items()},
    )


def _bars(title: str, shares: Sequence[Mapping[str, float]]) -> Panel:
    """Return a panel with a stacked bar of outcome shares for each size."""
    up = AxisScale(low=0, high=1, start=FRAME.bottom, end=FRAME.top)
    width = (FRAME.right - FRAME.left) / len(SIZES)
    places = [FRAME.left + width * (index + 0.5) for index in range(len(SIZES))]
    paths = dict.fromkeys(OUTCOMES, "")
    for x, share in zip(places, shares, strict=True):
        below = 0.0
        for outcome, part in share.items():
            if part:
                ends = (up.place(below), up.place(below + part))
                paths[outcome] += f"M{x:.1f},{ends[0]:.1f}V{ends[1]:.1f}"
            below += part
    return Panel(
        title=title,
        curves=[Curve(name=OUTCOMES[outcome], path=path) for outcome, path in paths.items()],
        up=[(up.place(mark / 100), f"{mark} %") for mark in range(0, 101, 20)],
        across=[(x, _short(size)) for x, size in zip(places, SIZES, strict=True)],
        across_title="examples",
        frame=FRAME,
    )


def draw_paired(trials: int, size: int = 200) -> Path:
    """Draw the interval's half-width, paired and unpaired, by the scores' correlation."""
    generator = np.random.default_rng(0)
    names = {"two separate means": "vermillion", "by example (the gate)": "blue"}
    curves: dict[str, list[tuple[float, float]]] = {style: [] for style in names.values()}
    for correlation in np.linspace(0, 0.95, 20):
        widths: dict[str, list[float]] = {style: [] for style in curves}
        for _ in range(trials):
            shared = generator.normal(0, 1, size)
            sides = [
                np.clip(
                    0.5
                    + 0.15
                    * (
                        np.sqrt(correlation) * shared
                        + np.sqrt(1 - correlation) * generator.normal(0, 1, size)
                    ),
                    0,
                    1,
                )
                for _ in "ab"
            ]
            (row,) = verdict(*sides).rows
            widths["blue"].append((row.interval.high - row.interval.low) / 2)
            error = np.sqrt(sum(side.var(ddof=1) for side in sides) / size)
            widths["vermillion"].append(1.96 * error)
        for style, found in widths.items():
            curves[style].append((float(correlation), 100 * float(np.mean(found))))
    for name, style in names.items():
        print(f"{name}: {curves[style][0][1]:.2f} at 0, {curves[style][-2][1]:.2f} at 0.9")
    panel = lines(
        "Half-width in points",
        curves,
        across_title="correlation of the two checkpoints' scores",
        low=0,
        frame=Frame(width=480, height=232, left=44),
    )
    return save(
        "paired",
        f"The 95 % interval at {size} examples",
        [panel],
        key={style: name for name, style in names.items()},
    )


def main() -> None:
    """Draw both figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="simulations of each bar")
    trials = parser.parse_args().trials
    print(draw_verdicts(trials))
    print(draw_paired(max(1, trials // 10)))


if __name__ == "__main__":
    main()
