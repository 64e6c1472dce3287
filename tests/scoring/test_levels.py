"""Levels that a person expects, with the packaged models, on the sample datasets."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ftreg.records.samples import Sample
from ftreg.scoring import get_scorer

pytestmark = pytest.mark.slow

SETS = Path(__file__).parents[2] / "sample_datasets"
ROWS = {"ferry-desk/v1": 60, "ferry-desk/v2": 192, "code-summary/v2": 60}
SCORERS = ("faithfulness", "answer_relevancy", "completeness")


def gold(dataset: str) -> list[Sample]:
    """The first held-out rows, each with its accepted answer as the output."""
    lines = (SETS / dataset / "eval.jsonl").read_text("utf-8").splitlines()[: ROWS[dataset]]
    rows = [json.loads(line) for line in lines]
    found = []
    for row in rows:
        references = row["reference"] if isinstance(row["reference"], list) else [row["reference"]]
        found.append(
            Sample(
                id=row["id"],
                input=row["input"],
                output=references[0],
                reference=tuple(references),
                context=row.get("context") or row["input"],
            )
        )
    return found


def mean(name: str, samples: Sequence[Sample]) -> float:
    """The mean score; every sample has one."""
    values = [score.value for score in get_scorer(name).score(samples)]
    assert None not in values
    return sum(value for value in values if value is not None) / len(values)


def with_output(write: Callable[[int, Sample], str], samples: Sequence[Sample]) -> list[Sample]:
    return [
        Sample(
            id=one.id,
            input=one.input,
            output=write(place, one),
            reference=one.reference,
            context=one.context,
        )
        for place, one in enumerate(samples)
    ]


@pytest.mark.parametrize("dataset", ROWS)
@pytest.mark.parametrize("name", SCORERS)
def test_an_accepted_answer_scores_high(dataset: str, name: str) -> None:
    assert mean(name, gold(dataset)) >= 0.8


@pytest.mark.parametrize("dataset", ROWS)
@pytest.mark.parametrize("name", SCORERS)
def test_the_answer_to_something_else_scores_low(dataset: str, name: str) -> None:
    samples = gold(dataset)
    half = len(samples) // 2  # far away: rows of one notice stand together
    other = with_output(lambda place, _: samples[(place + half) % len(samples)].output, samples)
    assert mean(name, other) <= 0.25


@pytest.mark.parametrize("dataset", ROWS)
@pytest.mark.parametrize("name", ["answer_relevancy", "completeness"])
def test_not_knowing_scores_nothing(dataset: str, name: str) -> None:
    assert mean(name, with_output(lambda *_: "I do not know.", gold(dataset))) <= 0.1


def test_a_copy_of_the_context_is_faithful_and_not_relevant() -> None:
    copied = with_output(lambda _, one: one.context or "", gold("ferry-desk/v1")[::3])
    assert mean("faithfulness", copied) >= 0.95
    assert mean("answer_relevancy", copied) <= 0.5
