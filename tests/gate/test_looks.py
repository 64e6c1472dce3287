"""Looks: what judging again and again on the same rows costs, and that its levels add up."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ftreg.gate import GatePolicy, Looks, Verdict, compare
from ftreg.report.phrases import confidence, looks_sentence

Floats = NDArray[np.float64]


def _judge(
    baseline: Floats,
    candidate: Floats,
    looks: Looks | None = None,
    *,
    anchor: Floats | None = None,
    policy: GatePolicy | None = None,
    plan: bool = True,
) -> Verdict:
    def side(scores: Floats) -> dict[str, dict[str, float]]:
        return {"s": {f"e{index}": float(score) for index, score in enumerate(scores)}}

    return compare(
        side(baseline),
        side(candidate),
        policy or GatePolicy(resamples=999),
        anchor=None if anchor is None else side(anchor),
        looks=looks,
        plan=plan,
    )


def test_all_looks_together_spend_no_more_than_the_error() -> None:
    # A tree of all courses: each look is promoted or not, and then any side of those that can be
    # the anchor is.
    spent, deepest = 0.0, 12
    for number in range(1, deepest + 1):
        for course in itertools.product((0, 1), repeat=number - 1):
            looks = Looks(number=number, promoted=sum(course))
            spent += (1 + sum(course)) * looks.spent_level(0.05)
    share = sum(6 / (math.pi * number) ** 2 for number in range(1, deepest + 1))
    assert spent == pytest.approx(0.05 * share)
    assert Looks(number=5, unheld=4).spent_level(0.05) == Looks(number=5).spent_level(0.05) / 4


@pytest.mark.parametrize(
    "wrong", [{"number": 0}, {"promoted": 1}, {"chosen_from": 0}, {"anchor_from": 0}]
)
def test_looks_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)) if "promoted" not in wrong else "look"):
        Looks(**wrong)


def test_a_drop_from_the_best_of_many_counts_for_each() -> None:
    generator = np.random.default_rng(3)
    baseline = generator.uniform(0.4, 0.6, 300)
    candidate = baseline - 0.035 + generator.uniform(-0.1, 0.1, 300)
    alone, of_ten = (
        _judge(baseline, candidate, Looks(number=11, chosen_from=count)).rows[0]
        for count in (1, 10)
    )
    assert alone.p_beyond == of_ten.p_beyond
    assert of_ten.p_beyond_adjusted == pytest.approx(10 * (alone.p_beyond_adjusted or 0))
    assert of_ten.p_adjusted == pytest.approx(min(1, 10 * (alone.p_adjusted or 0)))
    assert of_ten.interval == alone.interval
    assert (of_ten.detectable_drop or 0) > (alone.detectable_drop or 0)


def test_the_anchor_was_chosen_from_others_than_the_baseline() -> None:
    generator = np.random.default_rng(4)
    baseline = generator.uniform(0.4, 0.6, 300)
    anchor = baseline + 0.04
    candidate = baseline - 0.03 + generator.uniform(-0.1, 0.1, 300)
    plain, counted = (
        _judge(baseline, candidate, looks, anchor=anchor).rows
        for looks in (None, Looks(number=9, chosen_from=1, anchor_from=5))
    )
    by_side = {row.against: row.p_beyond_adjusted for row in counted}
    assert [row.against for row in plain] == ["baseline", "anchor"]
    assert by_side["anchor"] == pytest.approx(5 * (plain[1].p_beyond_adjusted or 0), rel=0.6)
    assert (by_side["anchor"] or 0) > 2 * (plain[1].p_beyond_adjusted or 0)


@pytest.mark.parametrize("drop", [0.0, 0.02])
def test_an_equal_candidate_of_the_best_of_ten_seldom_regresses(drop: float) -> None:
    generator = np.random.default_rng(5)
    trials, hits = 200, {1: 0, 10: 0}
    for _ in range(trials):
        means = generator.uniform(0.3, 0.7, 150)
        equals = [(generator.random(150) < means).astype(float) for _ in range(10)]
        best = max(equals, key=lambda scores: float(scores.mean()))
        candidate = (generator.random(150) < means - drop).astype(float)
        for count in hits:
            verdict = _judge(best, candidate, Looks(number=10, chosen_from=count), plan=False)
            hits[count] += verdict.outcome == "regression"
    assert hits[10] <= 0.05 * trials + 3 * math.sqrt(0.05 * 0.95 * trials)
    assert hits[10] < hits[1]  # what is corrected is there
    if drop:
        assert hits[1] > 0.1 * trials


def test_spending_makes_later_looks_prove_more() -> None:
    generator = np.random.default_rng(6)
    baseline = generator.uniform(0.3, 0.7, 900)
    candidate = baseline - 0.005 + generator.uniform(-0.1, 0.1, 900)
    policy = GatePolicy(resamples=999, spend_error=True)
    found = []
    for number, promoted in ((1, 0), (5, 0), (5, 2), (90, 2)):
        looks = Looks(number=number, promoted=promoted)
        found.append(_judge(baseline, candidate, looks, anchor=baseline, policy=policy))
        assert found[-1].level == pytest.approx(looks.spent_level(1 - policy.confidence))
    lows = [row.interval.low for row in (each.rows[0] for each in found) if row.interval]
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) == 4
    assert [each.outcome for each in found] == ["pass", "pass", "pass", "undecided"]
    assert "too few examples to pass: 900" in found[-1].reasons[0]
    off = _judge(baseline, candidate, Looks(number=90, promoted=2), anchor=baseline)
    assert (off.level, off.outcome) == (None, "pass")
    assert Verdict.from_dict(found[2].to_dict()) == found[2]


def test_spending_wants_the_anchors_margin_proven() -> None:
    generator = np.random.default_rng(7)
    baseline = generator.uniform(0.3, 0.5, 600)
    candidate = baseline + generator.uniform(-0.01, 0.01, 600)
    anchor = np.clip(baseline + 0.045 + generator.normal(0, 0.15, 600), 0, 1)
    for spend, outcome in ((False, "pass"), (True, "undecided")):
        policy = GatePolicy(resamples=999, spend_error=spend)
        verdict = _judge(baseline, candidate, Looks(), anchor=anchor, policy=policy)
        assert verdict.outcome == outcome
        assert {row.against: row.gated for row in verdict.rows} == {
            "baseline": True,
            "anchor": spend,
        }
    assert all("against the anchor" in reason for reason in verdict.reasons)


def test_when_all_is_spent_nothing_passes() -> None:
    scores = np.linspace(0.2, 0.8, 3000)
    policy = GatePolicy(resamples=999, spend_error=True)
    spent = Looks(number=400, promoted=100)
    verdict = _judge(scores, scores, spent, anchor=scores, policy=policy)
    assert verdict.outcome == "undecided"
    (reason,) = verdict.reasons
    assert "freeze a dataset version with fresh rows" in reason
    plain = policy.model_copy(update={"mode": "threshold"})
    assert _judge(scores, scores, spent, policy=plain).outcome == "pass"


def _climb(generator: np.random.Generator, *, spend: bool) -> tuple[float, int]:
    """Answer 4 % of 300 rows anew, a little worse, again and again; return the true drop."""
    policy = GatePolicy(margin=0.05, resamples=999, spend_error=spend)
    anchor = baseline = (generator.random(300) < 0.7).astype(float)
    truth, promoted, step = 0.7, 0, 0.006
    for number in range(1, 201):
        looks = Looks(number=number, promoted=promoted)
        anew = generator.random(300) < 0.04
        fresh = (generator.random(300) < truth - step / 0.04).astype(float)
        candidate = np.where(anew, fresh, baseline)
        if candidate.mean() <= baseline.mean():
            continue
        verdict = _judge(baseline, candidate, looks, anchor=anchor, policy=policy, plan=False)
        if verdict.outcome == "pass":
            baseline, promoted, truth = candidate, promoted + 1, truth - step
        if 0.7 - truth > policy.anchor_margin:
            break
    return 0.7 - truth, promoted


def test_a_climber_that_fits_the_noise_is_held_near_its_anchor() -> None:
    chains = 10
    ends = {
        spend: [_climb(np.random.default_rng(seed), spend=spend) for seed in range(chains)]
        for spend in (False, True)
    }
    too_far = {spend: sum(drop > 0.05 for drop, _ in found) for spend, found in ends.items()}
    assert too_far[False] >= chains / 2  # the danger is there
    assert too_far[True] == 0
    assert sum(promoted for _, promoted in ends[True]) > 0  # and not for want of any pass


def test_the_phrase_counts_looks_in_english() -> None:
    scores = np.linspace(0.2, 0.8, 200)
    for number, words in ((1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (23, "23rd")):
        verdict = _judge(scores, scores, Looks(number=number, chosen_from=10))
        said = looks_sentence(verdict)
        assert said is not None
        assert said.startswith(f"the {words} candidate judged on these rows; ")
        assert "the baseline was chosen from 10 seen on them" in said
        assert confidence(verdict) == "95 %"
    assert looks_sentence(_judge(scores, scores)) is None
    policy = GatePolicy(resamples=999, spend_error=True)
    spent = _judge(scores, scores, Looks(number=112, promoted=1), policy=policy)
    assert "112th" in (looks_sentence(spent) or "")
    assert confidence(spent).startswith("99.99999")
    assert confidence(spent) in (looks_sentence(spent) or "")
