"""Score a JSONL file of outputs made anywhere."""

from pathlib import Path
from typing import Any

from ftreg.errors import UsageError
from ftreg.records import Sample
from ftreg.scoring import get_scorer
from ftreg.store import read_jsonl


def score_file(
    path: Path, *, scorers: list[str], backend: str | None = None
) -> list[dict[str, Any]]:
    """Return a row per scorer and line: id, scorer, score or None, reason, evidence.

    Keys of a line other than id, input, output, reference and context are left alone.

    Raises:
        UsageError: a broken line, a missing key, an id that stands twice, an unknown scorer.
    """
    made = {name: get_scorer(name, **({"backend": backend} if backend else {})) for name in scorers}
    samples = _samples(path)
    rows = []
    for name, scorer in made.items():
        for sample, score in zip(samples, scorer.score(samples), strict=True):
            rows.append(
                {
                    "id": sample.id,
                    "scorer": name,
                    "score": score.value,
                    "reason": score.reason,
                    "evidence": [dict(item) for item in score.evidence],
                }
            )
    return rows


def _samples(path: Path) -> list[Sample]:
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        place = f"{path}:{number}"
        for key in ("id", "output"):
            if not isinstance(row.get(key), str):
                raise UsageError(f"{place}: {key!r} has to be a text; found {row.get(key)!r}")
        if row["id"] in seen:
            raise UsageError(
                f"{place}: the id {row['id']!r} stands here for the second time "
                f"(first on line {seen[row['id']]})"
            )
        seen[row["id"]] = number
        reference = row.get("reference")
        alternatives = [reference] if isinstance(reference, str) else reference or []
        if not isinstance(alternatives, list) or not all(
            isinstance(item, str) for item in alternatives
        ):
            raise UsageError(f"{place}: 'reference' has to be a text or a list of texts")
        for key in ("input", "context"):
            if not isinstance(row.get(key), str | None):
                raise UsageError(f"{place}: {key!r} has to be a text")
        samples.append(
            Sample(
                id=row["id"],
                input=row.get("input") or "",
                output=row["output"],
                reference=tuple(alternatives) or None,
                context=row.get("context"),
            )
        )
    if not samples:
        raise UsageError(f"{path}: no rows")
    return samples
