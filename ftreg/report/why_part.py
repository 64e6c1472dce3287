"""Why a candidate is worse: the commands that answer this, their cost, and their findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ftreg.report.phrases import signed

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class WhyLine:
    """A question about a regression.

    `cost` is the expected cost of its command, and `found` what it reported, empty if it has not
    run on these scores. `scorer` and `examples` (ids) are what shows it.
    """

    question: str
    command: str
    cost: str
    found: str = ""
    scorer: str = ""
    examples: Sequence[str] = ()


class RunCost(NamedTuple):
    """Minutes that one run takes: to train, and to generate; None if unknown."""

    training: float
    generating: float | None

    def of(self, runs: int) -> str:
        """Return, in words, the cost of some runs."""
        minutes = max(1, round(runs * (self.training + (self.generating or 0.0))))
        if self.generating is None:
            return f"about {minutes} min of training, and evaluating each"
        return f"about {minutes} min of training and generating, and scoring each"


@dataclass(frozen=True, slots=True)
class Recipes:
    """Two checkpoints whose recipes can be bisected.

    `runs` is the approximate number of runs needed, and `found` the result of a search, empty if
    none has finished.
    """

    good: str
    bad: str
    runs: int
    found: str = ""


def why_lines(
    candidate: str,
    baseline: str,
    *,
    slices: Mapping[str, Any] | None,
    blame: Mapping[str, Any] | None,
    run: RunCost | None,
    recipes: Recipes | None = None,
) -> list[WhyLine]:
    """Return what can be asked about a regression.

    Args:
        candidate: id of the evaluation.
        baseline: id of the evaluation that it was compared with.
        slices: the stored result of `ftreg slices`, or None.
        blame: the stored result of `ftreg blame`, or None.
        run: the checkpoint's cost; None if unavailable.
        recipes: both checkpoints, if available; None if one is missing, or nothing differs.
    """
    lines = [
        WhyLine(
            "Which groups of examples got worse?",
            f"ftreg slices {candidate} --against {baseline}",
            "No training, less than a minute",
            **({} if slices is None or slices["against"] != baseline else _slices_found(slices)),
        )
    ]
    if run is not None:
        lines.append(
            WhyLine(
                "Which training rows made it worse?",
                f"ftreg blame {candidate} --against {baseline}",
                f"6 runs, {run.of(6)}",
                "" if blame is None or blame["against"] != baseline else _blame_found(blame),
            )
        )
    if run is not None and recipes is not None:
        lines.append(
            WhyLine(
                "Which part of the recipe made it worse?",
                f"ftreg bisect {recipes.good} {recipes.bad}",
                f"About {recipes.runs} runs, {run.of(recipes.runs)}",
                recipes.found,
            )
        )
    return lines


def _slices_found(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The findings, and the worst examples of the clearest group."""
    texts = [
        f"{item['slice']} ({item['scorer']} {signed(item['delta'])}, p = {item['p_adjusted']:.2g})"
        for item in kept["found"]
    ]
    if not texts:
        return {"found": "no group is certainly worse by more than its margin"}
    clearest = kept["found"][0]
    worst = [one["id"] for one in clearest["worst"]]
    return {"found": _some(texts), "scorer": clearest["scorer"], "examples": worst[:_SHOWN]}


def _blame_found(kept: Mapping[str, Any]) -> str:
    named = _some(list(kept["named"]))
    if named:
        return f"{named}; without them {signed(kept['gain'])} points"
    return f"{kept['outcome']}: no row is named"


def _some(texts: list[str]) -> str:
    rest = len(texts) - _SHOWN
    return "; ".join(texts[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
