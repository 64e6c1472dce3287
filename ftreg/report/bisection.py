"""Why a checkpoint is worse, as found by `ftreg bisect`: for the terminal, and as a page."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.text import Text

from ftreg.records.bisect_record import Bisection, TriedHybrid
from ftreg.report import phrases
from ftreg.report.rendering import asset, template_environment
from ftreg.report.terminal import hanging, rows_view

_STYLES = {"undecided": "bold yellow", "noise": "bold green"}
_LONGEST = 34


class Dots(NamedTuple):
    """A hybrid's runs on a line, in percent of its width: each seed, and the mean."""

    hybrid: TriedHybrid
    name: str
    mean: float
    seeds: tuple[float, ...]
    middle: float


def bisection_headline(found: Bisection) -> str:
    """Return the answer in one sentence."""
    delta = _points(found.delta)
    if found.answer is None:
        return f"{len(found.factors)} differences can be tried; {found.why}"
    if found.answer == "culprit":
        return f"{found.culprit} explains {_share(found)} of the delta of {delta}"
    if found.answer == "pair":
        both = " and ".join(found.culprit or ())
        return f"no single factor: {both} together explain {_share(found)} of the delta of {delta}"
    if found.answer == "noise":
        return f"noise: {found.why}"
    more = f"; about {found.more_runs} more runs would tell" if found.more_runs else ""
    return f"undecided: {found.why}{more}"


def bisection_sentences(found: Bisection) -> list[str]:
    """Return what the answer is based on."""
    said = []
    if found.observed is not None:
        said.append(f"The two checkpoints differ by {_points(found.observed)} points")
    if found.delta is not None and found.delta_interval is not None:
        low, high = map(_points, found.delta_interval)
        said.append(
            f"their recipes, trained with other seeds, by {_points(found.delta)} "
            f"({_percent(found.confidence)} interval {low} to {high})"
        )
    if found.seed_deviation is not None:
        said.append(f"a seed moves a mean score by {phrases.points(found.seed_deviation)}")
    sentences = [f"{'; '.join(said)}."] if said else []
    if found.answer in ("culprit", "pair"):
        sentences.append(f"{found.why[0].upper()}{found.why[1:]}.")
    if found.minutes is not None:
        minutes = f"{found.minutes:.1f} minutes"
        sentences.append(
            f"{found.more_runs or 0} runs are expected to take {minutes} of training."
            if found.answer is None
            else f"{found.runs} runs in all; this call took {minutes}."
        )
    return sentences + [f"{note}." for note in found.notes]


def bisection_view(found: Bisection) -> RenderableType:
    """Show the answer, the factors and the hybrids."""
    parts: list[RenderableType] = []
    if found.factors:
        rows = [
            {
                "factor": factor.key,
                "good": _short(factor.good),
                "bad": _short(factor.bad),
                "probability": _chance(factor.probability),
            }
            for factor in found.factors
        ]
        parts += [rows_view("What differs", rows), ""]
    if found.hybrids:
        tried = [
            {
                "bad in it": _name(hybrid, found),
                "seeds": str(len(hybrid.seeds)),
                "mean score": phrases.points(_mean(hybrid.means)),
                "runs": " ".join(map(phrases.points, hybrid.means)),
            }
            for hybrid in found.hybrids
        ]
        parts += [rows_view("Hybrids, in points", tried), ""]
    word = (found.answer or "plan").upper()
    style = _STYLES.get(found.answer or "", "bold red" if found.answer else "bold")
    sentence = found.headline.removeprefix(f"{found.answer}: ")
    parts.append(hanging((Text(word, style), Text(sentence))))
    parts += [hanging((Text("  -"), Text(text))) for text in bisection_sentences(found)]
    if found.answer is not None:
        parts.append(Text(f"\n{found.folder}"))
    return Group(*parts)


def bisection_page(found: Bisection) -> str:
    """Return the page, which is self-contained and has no script."""
    style = asset("report.css")
    source = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = template_environment({"setting": _short, "pretty": _pretty}).get_template(
        "bisection.html"
    )
    return template.render(
        found=found,
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{source}'; img-src data:",
        headline=found.headline,
        sentences=bisection_sentences(found),
        dots=_dots(found),
        points=phrases.points,
        chance=_chance,
    )


def _dots(found: Bisection) -> list[Dots]:
    """Positions of each hybrid's runs between the lowest and the highest score of all."""
    every = [mean for hybrid in found.hybrids for mean in hybrid.means]
    low, high = min(every, default=0.0), max(every, default=1.0)
    width = (high - low) or 1.0

    def place(mean: float) -> float:
        return round(4 + 92 * (mean - low) / width, 2)

    return [
        Dots(
            hybrid,
            _name(hybrid, found),
            _mean(hybrid.means),
            tuple(map(place, hybrid.means)),
            place(_mean(hybrid.means)),
        )
        for hybrid in found.hybrids
    ]


def _name(hybrid: TriedHybrid, found: Bisection) -> str:
    if not hybrid.bad:
        return "nothing (the good recipe)"
    if len(hybrid.bad) == len(found.factors):
        return "all (the bad recipe)"
    left = [factor.key for factor in found.factors if factor.key not in hybrid.bad]
    if len(left) < len(hybrid.bad):
        return f"all but {', '.join(left)}"
    return ", ".join(hybrid.bad)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _share(found: Bisection) -> str:
    share = f"{_percent(found.share)}"
    if found.interval is None or found.interval[0] == found.interval[1]:
        return share
    low, high = map(_percent, found.interval)
    return f"{share} ({low} to {high})"


def _points(value: float | None) -> str:
    return phrases.signed(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _chance(value: float | None) -> str:
    return _percent(value)


def _pretty(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = "-" if value is None else _pretty(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
