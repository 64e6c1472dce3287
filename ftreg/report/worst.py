"""The examples that dropped most: the question, both sides' answers, and the evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftreg.errors import cut
from ftreg.files.store import canonical_json
from ftreg.records.baseline import Baseline
from ftreg.records.evaluation.stored import Evaluation, read_findings, read_outputs
from ftreg.records.samples import Scores, over_seeds
from ftreg.records.turns import chat_text
from ftreg.report import phrases
from ftreg.report.characters import one_line

_MOST_EXAMPLES = 5
_MOST_POINTS = 6
_LONGEST_POINT = 160
# Each kind of evidence has a key for its text, and a word for the backend's finding.
_FOUND = {"claim": "supported", "statement": "relevant", "key_point": "covered"}


@dataclass(frozen=True, slots=True)
class DropSide:
    """One side's answer, and scorer to its evidence, one line per point."""

    output: str
    evidence: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One example that got worse.

    `asked` is what the evaluation keeps of the example, title to text; `scores` are the scorers
    that dropped, with both scores, largest drop first; `before` is None if the baseline's
    evaluation is not available.
    """

    id: str
    critical: bool
    scores: Sequence[tuple[str, float, float]]
    before: DropSide | None
    after: DropSide
    asked: Mapping[str, str] = field(default_factory=dict)


def worst_drops(candidate: Evaluation, baseline: Baseline) -> list[Drop]:
    """Find the examples that dropped most by any scorer, largest drop first.

    Raises:
        UsageError: a row of an evaluation is damaged.
    """
    dropped: dict[str, list[tuple[float, str]]] = {}
    for scorer, column in candidate.scores.items():
        for name, cell in column.items():
            value = over_seeds(cell)
            old = over_seeds(baseline.scores.get(scorer, {}).get(name))
            if value is not None and old is not None and value < old:
                dropped.setdefault(name, []).append((value - old, scorer))
    worst = sorted(dropped, key=lambda name: (min(dropped[name]), name))[:_MOST_EXAMPLES]
    if not worst:
        return []
    rows = read_outputs(candidate.folder, worst)
    after = _sides(candidate.folder, worst)
    before = _sides(baseline.folder, worst) if baseline.folder else {}
    return [
        Drop(
            id=name,
            critical=name in candidate.critical,
            scores=[
                (
                    scorer,
                    _number(baseline.scores, scorer, name),
                    _number(candidate.scores, scorer, name),
                )
                for _, scorer in sorted(dropped[name])
            ],
            before=before.get(name),
            after=after[name],
            asked=_asked(rows[name]),
        )
        for name in worst
    ]


def _number(scores: Scores, scorer: str, name: str) -> float:
    return over_seeds(scores[scorer][name]) or 0.0


def _asked(row: Mapping[str, Any]) -> dict[str, str]:
    # A single question is shown as one.
    several = len(turns := row.get("messages") or ()) > 1
    asked = {"chat": chat_text(turns)} if several else {"input": row.get("input")}
    texts = {**asked, "reference": " / ".join(row.get("reference") or ())}
    return {title: text for title, text in texts.items() if text}


def _sides(folder: Path, ids: Sequence[str]) -> dict[str, DropSide]:
    outputs, findings = read_outputs(folder, ids), read_findings(folder, ids)
    evidence: dict[str, dict[str, list[str]]] = {name: {} for name in ids}
    for (scorer, name), row in findings.items():
        points = row.get("evidence") or []
        lines = [_point(point) for point in points[:_MOST_POINTS]]
        if len(points) > _MOST_POINTS:
            lines.append(f"and {len(points) - _MOST_POINTS} more")
        evidence[name][scorer] = lines
    return {name: DropSide(row["output"], evidence[name]) for name, row in outputs.items()}


def _point(point: Mapping[str, Any]) -> str:
    """One piece of evidence as a line: `not supported (12.0): "It opened in 1932."`."""
    kind = next((name for name in _FOUND if isinstance(point.get(name), str)), None)
    support = point.get("support")
    if kind is None or not isinstance(support, int | float):
        return _short(canonical_json(point))
    verb = _FOUND[kind] if support >= 0.5 else f"not {_FOUND[kind]}"
    line = f'{verb} ({phrases.points(support)}): "{_short(point[kind])}"'
    checks = ", ".join(map(str, point.get("checks") or ()))
    best = point.get("best")
    return (
        line
        + (f", against it: {checks}" if checks else "")
        + (f'; nearest: "{_short(best)}"' if isinstance(best, str) else "")
    )


def _short(text: str) -> str:
    return cut(one_line(text), _LONGEST_POINT)
