"""Verdicts that hold whenever one stops: their error rates, and a reference for their numbers."""

import math

import numpy as np
import pytest

from ftreg.errors import UsageError
from ftreg.gate import GatePolicy, Order, compare

MARGIN = 0.05
POLICY = GatePolicy(margin=MARGIN, resamples=999)


def ids_of(count):
    return [f"e{number}" for number in range(count)]


def sides(deltas, scorer="f"):
    """Scores whose deltas are these, up to rounding."""
    old = [
        max(0.0, -delta) if abs(delta) > 0.4 else 0.5 + 0.01 * (place % 3)
        for place, delta in enumerate(deltas)
    ]
    new = [before + float(delta) for before, delta in zip(old, deltas, strict=True)]
    names = ids_of(len(deltas))
    return {scorer: dict(zip(names, old, strict=True))}, {
        scorer: dict(zip(names, new, strict=True))
    }


def judged(deltas, policy=POLICY, **more):
    old, new = sides(deltas)
    return compare(old, new, policy, order=Order(ids=ids_of(len(deltas))), **more)


def looked_at(deltas, every, policy=POLICY):
    """Stop at the first look that decides."""
    old, new = sides(deltas)
    for count in range(every, len(deltas) + 1, every):
        names = ids_of(count)
        seen = {"f": {name: new["f"][name] for name in names}}
        verdict = compare(old, seen, policy, order=Order(ids=names), plan=False)
        if verdict.outcome != "undecided":
            return verdict.outcome, count
    return "undecided", len(deltas)


# -- error rates -----------------------------------------------------------------------------


def even(generator, count, mean):
    return generator.uniform(-0.2, 0.2, count) + mean


def binary(generator, count, mean):
    return generator.choice([-1.0, 0.0, 1.0], count, p=[0.04 - mean, 0.92 + mean, 0.04])


def rare_collapse(generator, count, mean):
    return np.where(generator.random(count) < -mean / 0.8, -0.8, 0.0)


def rare_gain(generator, count, mean):
    return np.where(generator.random(count) < 0.05, 0.8, (mean - 0.04) / 0.95)


@pytest.mark.parametrize("shape", [even, binary, rare_collapse, rare_gain])
def test_a_drop_of_the_margin_passes_or_regresses_rarely(shape):
    """Every crossing on the way counts, so that one look at the end stands for all before it."""
    generator = np.random.default_rng(7)
    trials = 400
    found = [judged(shape(generator, 600, -MARGIN), plan=False) for _ in range(trials)]
    passes = sum(row.interval.low > -MARGIN for verdict in found for row in verdict.rows)
    regressions = sum(verdict.outcome == "regression" for verdict in found)
    # Of 400, 29 are too many for 5 %, and 18 for 2.5 %, but in one of a hundred.
    assert regressions <= 29
    assert passes <= 18


@pytest.mark.parametrize("shape", [even, binary])
def test_looking_often_does_not_make_equals_worse(shape):
    generator = np.random.default_rng(8)
    policy = GatePolicy(margin=0.005, resamples=999)
    found = [looked_at(shape(generator, 400, 0.0), 50, policy)[0] for _ in range(100)]
    assert found.count("regression") <= 10


def test_a_decision_stays_and_comes_early():
    generator = np.random.default_rng(9)
    for mean, outcome in ((0.0, "pass"), (-4 * MARGIN, "regression")):
        for _ in range(10):
            deltas = even(generator, 600, mean)
            decided, count = looked_at(deltas, 50)
            assert decided == outcome
            assert count <= 300
            assert judged(deltas).outcome == outcome


def test_a_collapse_that_comes_late_is_not_outrun():
    """Nothing is seen of it in the first 50 rows, and they are too few to pass."""
    assert judged(np.zeros(50)).outcome == "undecided"
    assert judged(np.zeros(150)).outcome == "pass"
    deltas = np.zeros(150)
    deltas[60::15] = -1.0
    assert judged(deltas).outcome == "undecided"


# -- an independent reference ----------------------------------------------------------------


def reference_p_value(values, sizes, bound, gap):
    """The e-process gambler by gambler and unit by unit, as the docstrings describe it."""
    wealth = {(1.0, 0.95): 1.0, (1.0, 0.5): 1.0, (4.0, 0.75): 1.0}
    most = 1.0
    for number in range(len(values)):
        second = 0.25 + sum((values[k] - bound * sizes[k]) ** 2 for k in range(number))
        size = 1.0 + sum(sizes[:number])
        for times, share in wealth:
            stake = min(times * gap * size * (1 + bound) / second, share)
            wealth[times, share] *= 1 + stake * (values[number] - bound * sizes[number]) / (
                1 + bound
            )
        most = max(most, sum(wealth.values()) / 3)
    return 1 / most


def test_the_p_values_and_the_interval_are_those_of_a_plain_loop():
    deltas = np.random.default_rng(3).uniform(-0.3, 0.2, 40).round(3)
    (row,) = judged(deltas).rows
    ones = [1.0] * len(deltas)
    assert row.method == "betting"
    down = [-delta for delta in deltas]
    assert row.p_beyond == pytest.approx(reference_p_value(down, ones, MARGIN, MARGIN))
    assert row.p_value == pytest.approx(reference_p_value(down, ones, 0.0, MARGIN))
    # Bets stay what they are at the margin; the mean that is bet against moves.
    assert row.interval.low == pytest.approx(_reference_low(deltas, 0.025), abs=1e-5)
    assert row.interval.high == pytest.approx(-_reference_low(down, 0.025, side=1), abs=1e-5)


def _reference_low(values, level, side=-1):
    bound = side * MARGIN
    stakes, second = [], 0.25
    for number, value in enumerate(values):
        best = MARGIN * (number + 1) * (1 + bound) / second
        stakes.append([min(best, 0.95), min(best, 0.5), min(4 * best, 0.75)])
        second += (value - bound) ** 2

    def reached(mean):
        wealth, most = [1.0, 1.0, 1.0], 1.0
        for value, bets in zip(values, stakes, strict=True):
            wealth = [
                old * (1 + bet * (value - mean) / (1 + mean))
                for old, bet in zip(wealth, bets, strict=True)
            ]
            most = max(most, sum(wealth) / 3)
        return most >= 1 / level

    low, high = -0.9999, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) else (low, middle)
    return low


def test_clusters_are_units_and_the_largest_sets_the_scale():
    generator = np.random.default_rng(4)
    sizes = [1, 3, 2, 3, 1, 2] * 6
    deltas = np.concatenate([generator.uniform(-0.3, 0.2) * np.ones(size) for size in sizes])
    clusters = {
        f"e{number}": f"c{cluster}"
        for number, cluster in enumerate(np.repeat(np.arange(len(sizes)), sizes))
    }
    (row,) = judged(deltas.round(3), clusters=clusters).rows
    parts = np.split(deltas.round(3), np.cumsum(sizes)[:-1])
    sums = [-part.sum() / 3 for part in parts]
    shares = [size / 3 for size in sizes]
    assert row.units == len(sizes)
    assert row.p_beyond == pytest.approx(reference_p_value(sums, shares, MARGIN, MARGIN))
    old, new = sides(deltas)
    order = Order(ids=ids_of(len(deltas)), largest_cluster=12)
    (wide,) = compare(old, new, POLICY, clusters=clusters, order=order).rows
    assert wide.interval.low < row.interval.low
    torn = Order(ids=[*ids_of(len(deltas))[::2], *ids_of(len(deltas))[1::2]])
    with pytest.raises(UsageError, match="tears a cluster apart"):
        compare(old, new, POLICY, clusters=clusters, order=torn)


# -- what else a verdict looks at ------------------------------------------------------------


def test_which_cohorts_are_tested_does_not_depend_on_what_was_seen():
    """One cohort of many is corrected for all of them, seen or not."""
    deltas = np.full(80, -0.2)
    old, new = sides(deltas)
    tags = {name: {"t": "seen"} for name in ids_of(80)}
    totals = {"t=seen": 100} | {f"t={number}": 100 for number in range(9)}
    names = ids_of(80)

    def of(cohorts):
        order = Order(ids=names, cohorts=cohorts)
        return compare(old, new, POLICY, cohorts=tags, order=order).rows

    alone, among = of({"t=seen": 100}), of(totals)
    assert len(alone) == 2
    assert len(among) == 11
    assert among[-1].p_beyond == pytest.approx(alone[-1].p_beyond)
    cohort = {row.cohort: row for row in among}["t=seen"]
    whole = alone[0]
    # The ten cohorts have half the error, and that of the whole set, which is rejected first.
    assert cohort.p_beyond_adjusted == pytest.approx(10 * whole.p_beyond)
    few = of({"t=seen": 19})[-1]
    assert few.p_beyond is None
    assert "too small to gate" in few.note


def test_a_gated_cohort_that_was_not_seen_yet_stands_in_the_way():
    old, new = sides(np.zeros(200))
    policy = GatePolicy(margin=MARGIN, cohorts="all")
    order = Order(ids=ids_of(200), cohorts={"t=late": 30})
    verdict = compare(old, new, policy, order=order)
    assert verdict.outcome == "undecided"
    assert any("t=late: nothing to compare" in reason for reason in verdict.reasons)


def test_missing_scores_count_at_their_worst():
    policy = GatePolicy(margin=MARGIN, max_missing=0.2)
    old, new = sides(np.zeros(200))
    for name in ids_of(200)[::10]:
        new["f"][name] = None
    verdict = compare(old, new, policy, order=Order(ids=ids_of(200)))
    (row,) = verdict.rows
    assert verdict.outcome == "undecided"
    assert row.interval.low > -MARGIN > row.low_at_worst
    lost = sum(old["f"][name] for name in ids_of(200)[::10])
    assert row.delta_at_worst == pytest.approx(-lost / 200)


@pytest.mark.parametrize(
    ("score", "outcome", "words"),
    [(0.8, "pass", ""), (0.2, "regression", "below its floor"), (0.5, "undecided", "is open")],
)
def test_floors_are_held_to_at_every_moment(score, outcome, words):
    generator = np.random.default_rng(5)
    names = ids_of(300)
    scores = {"f": {name: float(score + generator.uniform(-0.2, 0.2)) for name in names}}
    policy = GatePolicy(margin=MARGIN, floors={"f": 0.5})
    verdict = compare(scores, scores, policy, order=Order(ids=names))
    assert verdict.outcome == outcome
    assert words in verdict.reasons[0]


def test_a_collapse_share_is_bounded_exactly_enough():
    policy = GatePolicy(margin=MARGIN, collapse={"drop": 0.3, "share": 0.02})
    assert judged(np.zeros(140), policy).outcome == "undecided"
    (row,) = judged(np.zeros(200), policy).rows
    assert row.outcome == "pass"
    # No bound that holds at all moments is below that of the last alone.
    assert 1 - math.exp(math.log(0.05) / 200) < row.collapsed_at_most < 0.02


def test_a_lost_score_is_a_collapse_as_it_is_without_an_order():
    ids = ids_of(200)
    before = dict.fromkeys(ids, 0.7)
    after = {name: None if at < 6 else 0.71 for at, name in enumerate(ids)}
    policy = GatePolicy(max_missing=0.1, collapse={})
    rows = [
        compare({"f": before}, {"f": after}, policy, order=order).rows[0]
        for order in (None, Order(ids=ids))
    ]
    assert [row.collapsed for row in rows] == [6, 6]
    assert all(row.collapsed_at_most > 0.03 for row in rows)


def test_a_critical_row_is_no_part_of_the_mean_before_its_turn():
    old, new = sides([0.0] * 100 + [-0.4])
    late = "e100"
    order = Order(ids=ids_of(100))
    verdict = compare(old, new, POLICY, critical=[late], order=order)
    assert verdict.outcome == "regression"
    assert verdict.rows[0].n == 100
    with pytest.raises(UsageError, match="order lacks examples of the candidate: e100"):
        compare(old, new, POLICY, order=order)


def test_the_anchor_is_compared_in_the_same_order():
    old, new = sides(np.zeros(60))
    _, anchor = sides(np.full(60, 0.4))
    verdict = compare(old, new, POLICY, anchor=anchor, order=Order(ids=ids_of(60)))
    assert verdict.outcome == "regression"
    assert {row.method for row in verdict.rows} == {"betting"}


@pytest.mark.parametrize(
    ("ids", "policy", "words"),
    [
        (["e0", "e1", "e9"], POLICY, "order names examples that neither side has: e9"),
        (["e0", "e1", "e1"], POLICY, "names an example twice"),
        (["e0", "e1"], GatePolicy(mode="threshold"), "no error rates"),
    ],
)
def test_an_order_that_cannot_be_is_refused(ids, policy, words):
    old, new = sides(np.zeros(2))
    with pytest.raises(UsageError, match=words):
        compare(old, new, policy, order=Order(ids=ids))


def test_several_seeds_are_refused():
    old, new = sides(np.zeros(30))
    both = {"f": {name: [value, value] for name, value in new["f"].items()}}
    with pytest.raises(UsageError, match="several training seeds"):
        compare(old, both, POLICY, order=Order(ids=ids_of(30)))
