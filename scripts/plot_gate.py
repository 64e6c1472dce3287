"""Draw what the gate can tell: docs/figures/verdicts.svg and docs/figures/paired.svg.

Both are simulations whose truth is known, judged by `ftreg.gate.compare` itself.

    python scripts/plot_gate.py
"""

import argparse
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
from figures import BLUE, GREEN, GREY, VERMILLION, lines, save

from ftreg.gate import GatePolicy, compare

POLICY = GatePolicy(margin=0.02, resamples=999)
SPREAD = 0.2
"""Standard deviation of one example's delta: 20 points."""
SIZES = (50, 100, 200, 400, 800, 1600, 3200)
TRUTHS = {
    "the candidate is as good": 0.0,
    "it is worse by the margin, 2 points": 0.02,
    "it is worse by 5 points": 0.05,
}
OUTCOMES = {"pass": GREEN, "undecided": GREY, "regression": VERMILLION}


def verdict(baseline: np.ndarray, candidate: np.ndarray) -> Any:
    """Gate two arrays of scores of the same examples."""
    sides = (
        {"score": {f"e{i:05d}": float(value) for i, value in enumerate(np.clip(side, 0, 1))}}
        for side in (baseline, candidate)
    )
    return compare(*sides, POLICY)


def shares(
    drop: float, size: int, *, trials: int, generator: np.random.Generator
) -> dict[str, float]:
    """Outcome to the share of `trials` that end with it."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for _ in range(trials):
        baseline = np.full(size, 0.5)
        delta = generator.uniform(-np.sqrt(3) * SPREAD, np.sqrt(3) * SPREAD, size) - drop
        counts[verdict(baseline, baseline + delta).outcome] += 1
    return {outcome: count / trials for outcome, count in counts.items()}


def _short(size: int) -> str:
    return f"{size / 1000:g}k" if size >= 1000 else str(size)


def draw_verdicts(trials: int) -> Path:
    """Draw how often each verdict comes, by the number of examples and the truth."""
    generator = np.random.default_rng(0)
    panels = []
    for title, drop in TRUTHS.items():
        rows = [
            {"n": _short(size), "order": place, "outcome": outcome, "share": share}
            for size in SIZES
            for place, (outcome, share) in enumerate(
                shares(drop, size, trials=trials, generator=generator).items()
            )
        ]
        for row in rows:
            if row["outcome"] == "undecided":
                print(f"{title}, {row['n']} examples: {100 * row['share']:.0f} % undecided")
        panels.append(
            alt.Chart(alt.Data(values=rows))
            .mark_bar()
            .encode(
                alt.X(
                    "n:N",
                    title="examples",
                    sort=[_short(size) for size in SIZES],
                    axis=alt.Axis(labelAngle=0, labelFontSize=10.5, ticks=False),
                    scale=alt.Scale(paddingInner=0.15),
                ),
                alt.Y(
                    "share:Q",
                    title="share of verdicts" if not panels else None,
                    axis=alt.Axis(format="%", tickCount=5, grid=False),
                ),
                color=alt.Color(
                    "outcome:N",
                    scale=alt.Scale(domain=list(OUTCOMES), range=list(OUTCOMES.values())),
                    legend=alt.Legend(title=None, orient="top"),
                ),
                order="order:Q",
            )
            .properties(width=205, height=170, title=title)
        )
    return save(alt.hconcat(*panels, spacing=22), "verdicts")


def draw_paired(trials: int, size: int = 200) -> Path:
    """Draw how wide the interval is, paired and not, by how alike the two sets of scores are."""
    generator = np.random.default_rng(0)
    rows = []
    for correlation in np.linspace(0, 0.95, 20):
        widths: dict[str, list[float]] = {"by example (the gate)": [], "two separate means": []}
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
            widths["by example (the gate)"].append((row.interval.high - row.interval.low) / 2)
            error = np.sqrt(sum(side.var(ddof=1) for side in sides) / size)
            widths["two separate means"].append(1.96 * error)
        rows += [
            {"x": float(correlation), "y": 100 * float(np.mean(found)), "line": name}
            for name, found in widths.items()
        ]
    print({row["line"]: round(row["y"], 2) for row in rows[:2]}, "at 0;",
          {row["line"]: round(row["y"], 2) for row in rows[-4:-2]}, "at 0.9")  # fmt: skip
    chart = lines(
        rows,
        title=f"half-width of the 95 % interval, in points, at {size} examples",
        x=alt.X(
            "x:Q",
            title="correlation of the two checkpoints' scores",
            axis=alt.Axis(grid=False),
        ),
        y=alt.Y("y:Q", title=None, scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=5)),
        colours={"two separate means": VERMILLION, "by example (the gate)": BLUE},
        width=420,
        height=190,
    )
    return save(chart, "paired")


def main() -> None:
    """Draw both figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300, help="simulations of each bar")
    trials = parser.parse_args().trials
    print(draw_verdicts(trials))
    print(draw_paired(max(1, trials // 10)))


if __name__ == "__main__":
    main()
