"""The packaged instructions and texts, and the programs that check answers."""

import json
from importlib.resources import files
from typing import Any

import pytest

from ftreg.scoring import get_scorer
from ftreg.scoring.probes.checks import CHECKS, failed_checks

ROWS = [
    json.loads(line)
    for line in (files("ftreg.scoring.probes") / "instructions.jsonl").read_text().splitlines()
]
REFUSAL = "I'm sorry, but as a language model I cannot help with that, and I would ask you kindly"
RAMBLING = (
    "Sure! Here is what you asked for, with a long explanation of it, since there is much to say. "
    "First of all, it depends on many things. Secondly, nobody knows. Thirdly, that is all"
)


def test_there_are_some_sixty_and_each_can_be_followed() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS) >= 60
    assert len({row["prompt"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert not failed_checks(row["answer"], row["checks"]), row


@pytest.mark.parametrize("answer", ["", " \n", REFUSAL, RAMBLING, "the the the the the " * 20])
def test_none_is_followed_by_an_answer_to_nothing(answer: str) -> None:
    followed = [row["id"] for row in ROWS if not failed_checks(answer, row["checks"])]
    # Some ask for so little besides their form that anything in it will do.
    assert len(followed) <= 4, followed


def test_every_check_is_used_and_says_no_too() -> None:
    assert {name for row in ROWS for name in row["checks"]} == set(CHECKS)
    for name in CHECKS:
        rows = [row for row in ROWS if name in row["checks"]]
        answers = [row["answer"] for row in ROWS] + [REFUSAL, RAMBLING, "Hot, hot", "no comma, e"]
        wanted = [row["checks"][name] for row in rows]
        found = {CHECKS[name](answer, each) for answer in answers for each in wanted}
        assert found == {True, False}, name


@pytest.mark.parametrize(
    ("name", "wanted", "yes", "no"),
    [
        ("json_keys", ["a"], '```json\n{"a": 1}\n```', 'Here: {"a": 1}'),
        ("json_keys", ["a"], '{"a": null}', '{"a": 1, "b": 2}'),
        ("json_items", [2, 2], "[1, [2, 3]]", '{"a": 1}'),
        ("sentences", [1, 1], "It costs 3.50 pounds.", "It costs 3. It is dear"),
        ("words", [2, 2], "well-known fact's", "a fact, known"),
        ("bullets", [2, 2], "- a\n\n- b", "- a\nb"),
        ("numbered", [2, 2], "1. a\n2) b", "1. a 2. b"),
        ("commas", [2, 2], "a, b.", "a, , b"),
        ("upper", True, "É 4!", "123"),
        ("one_of", ["yes"], " 'Yes.' ", "yes, of course"),
        ("without", ["hot"], "A hotel.", "Hot!"),
    ],
)
def test_checks(name: str, wanted: Any, yes: str, no: str) -> None:
    assert CHECKS[name](yes, wanted)
    assert not CHECKS[name](no, wanted)


def test_the_packaged_texts_are_enough_for_a_margin_of_two_points() -> None:
    probe: Any = get_scorer("retention")
    assert len(probe.items) >= 149
    assert len(set(probe.items.values())) == len(probe.items)
    assert probe.describe()["digest"] != get_scorer("instructions").describe()["digest"]
