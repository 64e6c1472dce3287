"""An evaluation as flat named numbers, for experiment trackers."""

import re
from collections import defaultdict
from typing import Any

from ftreg.files.store import digest
from ftreg.gate import Verdict
from ftreg.gate.verdict import PRIMARY, Row
from ftreg.records.evaluation.stored import Evaluation
from ftreg.report.material import mean_scores

# Four such parts and the number's name stay below the 250 characters that trackers allow.
_LONGEST_PART = 48


def metrics_of(evaluation: Evaluation, verdict: Verdict | None) -> dict[str, float]:
    """Return the numbers of an evaluation and of its verdict.

    Names are `eval/<dataset>-<version>/<scorer>/<number>`, and for a cohort
    `eval/<dataset>-<version>/<scorer>/<tag>/<value>/<number>`; a split other than `eval` is named
    after the version. Numbers are `mean`, in [0, 1] and absent if no example has a score; `n` and
    `missing`, in examples (for replicas, `mean` is over their seeds, and an example is missing if
    one of them lacks its score); and for a verdict `delta`, `delta_low` and `delta_high`: candidate
    minus baseline, and its confidence interval. The same for the anchor is `anchor_delta`, ....

    Args:
        evaluation: as stored.
        verdict: of its last gate; None if there is none.
    """
    dataset = evaluation.header["dataset"]
    place = str(dataset["version"]).replace("@", "-")
    if dataset["split"] != "eval":
        place += f".{dataset['split']}"
    found: dict[str, float] = {}
    for scorer, column in mean_scores(evaluation.scores).items():
        slices: dict[str, list[float | None]] = defaultdict(list)
        for name, score in column.items():
            slices[_name(place, scorer)].append(score)
            for tag, value in evaluation.cohorts[name].items():
                slices[_name(place, scorer, tag, value)].append(score)
        for prefix, scores in slices.items():
            present = [score for score in scores if score is not None]
            if present:
                found[f"{prefix}/mean"] = sum(present) / len(present)
            found[f"{prefix}/n"] = len(present)
            found[f"{prefix}/missing"] = len(scores) - len(present)
    for row in verdict.rows if verdict else ():
        found |= _of_row(place, row)
    return found


def _of_row(place: str, row: Row) -> dict[str, float]:
    if row.delta is None:
        return {}
    cohort = () if row.cohort == PRIMARY else row.cohort.split("=", 1)
    key = _name(place, row.scorer, *cohort) + (
        "/anchor_delta" if row.against == "anchor" else "/delta"
    )
    numbers = {key: row.delta}
    if row.interval is not None:
        numbers |= {f"{key}_low": row.interval.low, f"{key}_high": row.interval.high}
    return numbers


def _name(*parts: Any) -> str:
    return "/".join(["eval", *(_part(str(part)) for part in parts)])


def _part(text: str) -> str:
    """One part of a name, in the characters that trackers allow; different names stay different."""
    allowed = re.sub(r"[^A-Za-z0-9_. -]", "_", text)
    if allowed == text and len(text) <= _LONGEST_PART and text.strip(". "):
        return text
    return f"{allowed[: _LONGEST_PART - 9]}-{digest(text)[:8]}"
