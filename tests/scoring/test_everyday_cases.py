"""Small cases of everyday faults, each with its right range, with the packaged models.

`cases/everyday.jsonl` holds kinds, not rows: signs, scales, units, dates, relations, paraphrases,
courtesies, short answers, refusals and more. `scripts/check_cases.py` prints those that miss.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from ftreg.records.samples import Sample
from ftreg.scoring import get_scorer

FILE = Path(__file__).parent / "cases" / "everyday.jsonl"
ENOUGH = 0.95


@pytest.mark.slow
def test_nearly_all_cases_hold() -> None:
    cases = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    missed = []
    for case in cases:
        fields = {key: case[key] for key in ("context", "reference") if key in case}
        sample = Sample(id=case["id"], input=case.get("input", ""), output=case["output"], **fields)
        scorer = get_scorer(case["scorer"], **case.get("options", {}))
        (score,) = scorer.score([sample])
        if score.value is None or not case["low"] <= score.value <= case["high"]:
            missed.append(case["id"])
    assert len(missed) <= (1 - ENOUGH) * len(cases), Counter(missed)
