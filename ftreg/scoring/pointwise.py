"""What the scorers share that judge point by point: one batch to the backend, scores back."""

from collections.abc import Callable, Sequence
from typing import Any

from ftreg.records.samples import Sample, Score
from ftreg.scoring.protocol import Backend, BackendError, Inquiry, Relation, Support


def judged(
    samples: Sequence[Sample],
    inquire: Callable[[Sample], Inquiry | Score],
    combine: Callable[[Inquiry, Sequence[Support]], Score],
    *,
    relation: Relation,
    backend: Backend,
) -> list[Score]:
    """Score samples with one call of the backend.

    Args:
        samples: what to score.
        inquire: gives what to ask about a sample, or its score where nothing need be asked.
        combine: makes the score of the backend's findings.
        relation: what is asked.
        backend: who is asked.

    Returns:
        A score for each sample, in order; null where the backend failed, with its reason.
    """
    planned = [inquire(sample) for sample in samples]
    inquiries = [plan for plan in planned if isinstance(plan, Inquiry)]
    findings = iter(backend.judge(relation, inquiries) if inquiries else [])
    scores = []
    for plan in planned:
        if isinstance(plan, Score):
            scores.append(plan)
            continue
        found = next(findings)
        if isinstance(found, BackendError):
            scores.append(found.score())
        else:
            scores.append(combine(plan, found))
    return scores


def evidence_of(
    kind: str, inquiry: Inquiry, supports: Sequence[Support]
) -> tuple[dict[str, Any], ...]:
    """Return the JSON-ready evidence: one mapping per point, the point's text under `kind`."""
    return tuple(
        {
            kind: point,
            "support": support.support,
            "best": support.best,
            "checks": list(support.checks),
            **support.details,
        }
        for point, support in zip(inquiry.points, supports, strict=True)
    )
