"""What the gate decides: the rules, the edges, and the words it gives for them."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats as scipy_stats

from ftreg.config.load import validate
from ftreg.errors import ExitCode, UsageError
from ftreg.files.marked_yaml import read as read_yaml
from ftreg.gate import GatePolicy, Looks, Verdict, compare

IDS = [f"e{number:03d}" for number in range(200)]


def graded(seed=0, n=200):
    """Distinct scores in [0.3, 0.8]."""
    values = np.random.default_rng(seed).uniform(0.3, 0.8, n)
    return dict(zip(IDS, values.tolist(), strict=False))


def moved(scores, by, noise=0.0, seed=1):
    draws = np.random.default_rng(seed).normal(0, noise, len(scores)) if noise else [0.0] * 999
    return {
        name: float(np.clip(value + by + draw, 0, 1))
        for (name, value), draw in zip(scores.items(), draws, strict=False)
    }


def one(scores):
    return {"faithfulness": scores}


def row(verdict, cohort="all", scorer="faithfulness", against="baseline"):
    (found,) = (
        row
        for row in verdict.rows
        if (row.scorer, row.cohort, row.against) == (scorer, cohort, against)
    )
    return found


# -- outcomes --------------------------------------------------------------------------------


def test_a_checkpoint_passes_against_itself():
    verdict = compare(one(graded()), one(graded()), GatePolicy(margin=0.02))
    assert verdict.outcome == "pass"
    assert verdict.exit_code == ExitCode.OK
    # A share of 1.5 % of all examples may lose everything, and none of 200 shows it.
    assert (1 + row(verdict).interval.low) ** 200 == pytest.approx(0.05)
    assert "same score on every example" in row(verdict).note


def test_a_clear_drop_is_a_regression_and_the_reason_names_it():
    verdict = compare(one(graded()), one(moved(graded(), -0.06, 0.05)))
    assert verdict.outcome == "regression"
    assert verdict.exit_code == ExitCode.REGRESSION
    (reason,) = verdict.reasons
    assert "faithfulness" in reason and "margin of 2" in reason and "200 examples" in reason
    assert row(verdict).p_adjusted < row(verdict).p_beyond_adjusted < 1e-3


def test_a_drop_within_the_margin_passes_though_it_is_certain():
    verdict = compare(one(graded()), one(moved(graded(), -0.03, 0.01)), GatePolicy(margin=0.05))
    assert row(verdict).p_adjusted < 5e-3
    assert row(verdict).p_beyond_adjusted > 0.99
    assert verdict.outcome == "pass"


def test_a_certain_drop_that_may_lie_within_the_margin_has_a_grade_of_its_own():
    sides = one(graded()), one(moved(graded(), -0.05, 0.1))
    policies = [
        GatePolicy(margin=0.05, allow_undecided=allowed, allow_worse=worse)
        for allowed, worse in ((False, False), (True, False), (False, True), (True, True))
    ]
    verdicts = [compare(*sides, policy) for policy in policies]
    for verdict in verdicts:
        found = row(verdict)
        assert (verdict.outcome, found.grade) == ("undecided", "worse")
        assert found.p_adjusted < 0.05 < found.p_beyond_adjusted
        assert "certainly worse" in verdict.reasons[0]
    codes = [verdict.exit_code for verdict in verdicts]
    assert codes == [ExitCode.UNDECIDED] * 3 + [ExitCode.OK]


@pytest.mark.parametrize("stuck", [0.0, 0.5, 1.0])
def test_a_scorer_that_is_stuck_tells_nothing(stuck):
    sides = [{"stuck": dict.fromkeys(IDS, stuck), **one(graded())} for _ in range(2)]
    verdict = compare(*sides)
    found = row(verdict, scorer="stuck")
    assert (verdict.outcome, found.grade, found.constant) == ("undecided", "unknown", True)
    assert verdict.reasons[0].startswith(f"stuck: every score of both sides is {stuck:g}")
    assert compare(*sides, GatePolicy(constant=["stuck"])).outcome == "pass"
    assert compare(*sides, GatePolicy(constant=["stukc"])).outcome == "undecided"


def test_a_side_without_room_is_named():
    base = dict.fromkeys(IDS, 0.0)
    found = row(compare(one(base), one(base | {"e000": 1.0})))
    assert "no room left" in found.note


@pytest.mark.parametrize(
    ("floor", "outcome"), [(0.5, "pass"), (0.56, "undecided"), (0.7, "regression")]
)
def test_a_floor_is_kept_open_or_broken(floor, outcome):
    sides = one(graded()), one(moved(graded(), 0.0, 0.01))  # a mean near 0.55
    verdict = compare(*sides, GatePolicy(floors={"faithfulness": floor}))
    assert verdict.outcome == outcome
    assert outcome == "pass" or f"its floor of {100 * floor:g}" in verdict.reasons[0]


def test_a_score_that_is_missing_is_below_any_floor():
    lost = graded() | dict.fromkeys(IDS[:100])
    policy = GatePolicy(floors={"faithfulness": 0.5}, max_missing=0.6)
    verdict = compare(one(graded()), one(lost), policy)
    assert verdict.outcome == "regression"
    assert "100 missing scores counted as 0, below its floor of 50" in verdict.reasons[0]


def test_a_mean_may_not_hide_that_examples_collapse():
    base = graded()
    candidate = {
        name: max(value - 0.6, 0.0) if i % 33 == 0 else min(value + 0.03, 1.0)
        for i, (name, value) in enumerate(base.items())
    }
    fallen = sum(base[name] - candidate[name] >= 0.4 - 1e-12 for name in IDS)
    assert row(compare(one(base), one(candidate))).collapsed is not None
    policy = GatePolicy(margin=0.05, collapse={"drop": 0.4, "share": 0.02})
    verdict = compare(one(base), one(candidate), policy)
    found = row(verdict)
    assert found.collapsed == fallen > 3
    exact = scipy_stats.binomtest(fallen, 200).proportion_ci(0.9, method="exact").high
    assert found.collapsed_at_most == pytest.approx(exact)
    assert (verdict.outcome, found.grade) == ("undecided", "few")
    assert f"{fallen} examples fell by 40 points or more;" in verdict.reasons[0]
    wide = GatePolicy(margin=0.05, collapse={"drop": 0.4, "share": 0.1})
    assert compare(one(base), one(candidate), wide).outcome == "pass"


def test_rows_of_the_same_examples_are_one_test():
    sides = one(graded()), one(moved(graded(), -0.045, 0.05))
    tags = {name: {f"tag{i}": "x" for i in range(10)} for name in IDS}
    alone, copied = compare(*sides), compare(*sides, cohorts=tags)
    assert row(copied).p_beyond_adjusted == row(alone).p_beyond_adjusted
    assert len(copied.rows) == 11


def test_a_large_drop_that_may_be_chance_is_undecided():
    verdict = compare(one(graded(n=60)), one(moved(graded(n=60), -0.03, 0.3)))
    found = row(verdict)
    assert found.delta < -0.02
    assert verdict.outcome == "undecided"
    assert verdict.exit_code == ExitCode.UNDECIDED
    assert found.n_needed > 60
    assert f"about {found.n_needed} examples" in verdict.reasons[0]


def test_the_examples_that_would_decide_are_no_fewer_than_a_pass_needs():
    few = graded(n=40)
    verdict = compare(one(few), one(moved(few, 0.0, 0.002)))
    assert verdict.outcome == "undecided"
    assert row(verdict).n_needed == 149  # of a margin of 2 points; the interval alone wants fewer


@pytest.mark.parametrize(
    ("leaked", "outcome", "said"),
    [
        (None, "undecided", "leakage: how many of the examples were trained on is not known"),
        (0.1, "pass", ""),
        (0.2, "undecided", "leakage: 20.0 % of the examples stand in the candidate's training"),
    ],
)
def test_examples_that_were_trained_on_are_held_to_their_share(leaked, outcome, said):
    sides = one(graded()), one(graded())
    verdict = compare(*sides, GatePolicy(max_leaked=0.1), leaked=leaked)
    assert verdict.outcome == outcome
    assert verdict.reasons[0].startswith(said)
    assert compare(*sides, leaked=leaked).outcome == "pass"


@pytest.mark.parametrize(("side", "worst"), [(0, 1.0), (1, 0.0)])
def test_a_score_that_one_side_lacks_is_counted_at_its_worst(side, worst):
    sides = [graded(), graded()]
    sides[side][IDS[0]] = None
    held = [graded(), graded()]
    held[side][IDS[0]] = worst
    means = [sum(scores.values()) / 200 for scores in held]
    policy = GatePolicy(max_missing=0.1)
    found = row(compare(one(sides[0]), one(sides[1]), policy))
    assert found.delta_at_worst == pytest.approx(means[1] - means[0])


def test_the_clusters_that_would_decide_are_no_fewer_than_a_pass_needs():
    few = graded(n=40)
    clusters = {name: f"c{at // 2}" for at, name in enumerate(few)}
    policy = GatePolicy(margin=0.1, min_clusters=60)
    verdict = compare(one(few), one(moved(few, 0.0, 0.002)), policy, clusters=clusters)
    assert verdict.outcome == "undecided"
    assert row(verdict).n_needed == 120  # two examples each


@pytest.mark.parametrize(
    ("policy", "least"),
    [({"min_examples": 70}, 70), ({"margin": 0.05}, 59), ({"min_clusters": 30}, 30)],
)
def test_as_many_as_a_policy_asks_for_are_enough_and_one_fewer_is_not(policy, least):
    policy = GatePolicy(**{"margin": 0.1, "constant": ["faithfulness"], **policy})
    each = 2 if policy.min_clusters else 1
    outcomes = []
    for count in (least - 1, least):
        scores = graded(n=count * each)
        clusters = {name: f"c{at // 2}" for at, name in enumerate(scores)} if each == 2 else None
        outcomes.append(compare(one(scores), one(scores), policy, clusters=clusters).outcome)
    assert outcomes == ["undecided", "pass"]


def test_allow_undecided_changes_the_exit_code_and_not_the_verdict():
    policy = GatePolicy(allow_undecided=True)
    verdict = compare(one(graded(n=60)), one(moved(graded(n=60), 0.0, 0.3)), policy)
    assert verdict.outcome == "undecided"
    assert verdict.exit_code == ExitCode.OK


def test_every_scorer_must_pass():
    sides = [{"good": graded(), "poor": graded(5)}, {"good": moved(graded(), 0.1)}]
    sides[1]["poor"] = moved(graded(5), 0.01, 0.3)
    verdict = compare(*sides)
    assert row(verdict, scorer="good").outcome == "pass"
    assert verdict.outcome == "undecided"
    assert all(reason.startswith("poor") for reason in verdict.reasons)


def test_a_scorer_may_have_a_margin_of_its_own():
    sides = one(graded()), one(moved(graded(), -0.06, 0.05))
    assert compare(*sides, GatePolicy(margins={"faithfulness": 0.1})).outcome == "pass"
    with pytest.raises(UsageError, match="did you mean faithfulness"):
        compare(*sides, GatePolicy(margins={"faithfullness": 0.1}))


# -- cohorts ---------------------------------------------------------------------------------


def halves():
    return {name: {"difficulty": "hard" if i % 4 == 0 else "easy"} for i, name in enumerate(IDS)}


def test_a_cohort_that_fell_is_a_regression_though_the_average_improved():
    base = moved(graded(), -0.05)
    tags = halves()
    candidate = {
        name: value + (-0.2 if tags[name]["difficulty"] == "hard" else 0.15)
        for name, value in base.items()
    }
    verdict = compare(one(base), one(candidate), cohorts=tags)
    assert row(verdict).delta > 0.04
    assert row(verdict).outcome == "pass"
    assert row(verdict, "difficulty=hard").outcome == "regression"
    assert row(verdict, "difficulty=easy").outcome == "pass"
    assert verdict.outcome == "regression"
    assert "difficulty=hard" in verdict.reasons[0]
    assert compare(one(base), one(candidate)).outcome == "pass"


def test_a_cohort_of_coarse_scores_that_fell_is_found_among_many():
    names = [f"e{i:04d}" for i in range(820)]
    base = {name: (i // 10 % 4 + 1) / 4 for i, name in enumerate(names)}
    tags = {name: {"part": str(i % 10)} for i, name in enumerate(names)}
    candidate = {
        name: value - (0.25 if tags[name]["part"] == "7" else 0) for name, value in base.items()
    }
    verdict = compare(one(base), one(candidate), cohorts=tags)
    assert verdict.outcome == "regression"
    found = [r.cohort for r in verdict.rows if r.outcome == "regression"]
    assert found == ["all", "part=7"]  # over all examples by 2.5 points


def test_a_small_cohort_is_shown_and_not_gated():
    base = graded()
    tags = {name: {"kind": "rare"} for name in IDS[:10]}
    candidate = {name: value - (0.2 if name in tags else 0) for name, value in base.items()}
    verdict = compare(one(base), one(candidate), GatePolicy(margin=0.03), cohorts=tags)
    found = row(verdict, "kind=rare")
    assert found.n == 10 and found.outcome == "undecided" and found.p_value is None
    assert "too small to gate" in found.note
    assert verdict.outcome == "pass"
    required = GatePolicy(margin=0.03, cohorts=["kind"])
    verdict = compare(one(base), one(candidate), required, cohorts=tags)
    assert verdict.outcome == "undecided"
    assert "too small to gate" in verdict.reasons[0]


@pytest.mark.parametrize("cohorts", ["all", ["difficulty"], ["difficulty=hard"]])
def test_a_listed_cohort_must_pass(cohorts):
    base, tags = graded(), halves()
    noise = moved(base, 0.0, 0.1)
    candidate = {
        name: noise[name] if tags[name]["difficulty"] == "hard" else base[name] for name in base
    }
    sides = one(base), one(candidate)
    assert compare(*sides, cohorts=tags).outcome == "pass"
    verdict = compare(*sides, GatePolicy(cohorts=cohorts), cohorts=tags)
    assert verdict.outcome == "undecided"
    assert verdict.reasons[0].startswith("faithfulness, difficulty=hard:")
    assert len(verdict.reasons) == 1


def test_cohorts_and_ids_that_cannot_be_told_apart_are_errors():
    with pytest.raises(UsageError, match="neither side has: e9"):
        compare(one(graded()), one(graded()), cohorts={"e9": {"a": "b"}})
    with pytest.raises(UsageError, match="'a=b' of example 'e001'"):
        compare(one(graded()), one(graded()), cohorts={"e001": {"a=b": "c"}})
    with pytest.raises(UsageError, match="7 is not a string"):
        compare(one(graded() | {7: 0.5}), one(graded()))


def test_a_cohort_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match="did you mean difficulty"):
        compare(one(graded()), one(graded()), GatePolicy(cohorts=["dificulty"]), cohorts=halves())


def test_an_unchanged_cohort_of_a_scorer_that_changed_elsewhere_is_not_a_point():
    base, tags = graded(), halves()
    noise = moved(base, 0.0, 0.1)
    candidate = {
        name: noise[name] if tags[name]["difficulty"] == "easy" else base[name] for name in base
    }
    found = row(compare(one(base), one(candidate), cohorts=tags), "difficulty=hard")
    assert found.delta == 0
    assert found.interval.low < -0.01


# -- missing scores --------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("how", ["null", "absent"])
def test_missing_scores_are_counted_and_never_pass(side, how):
    sides = [graded(), moved(graded(), 0.1)]
    for name in IDS[:4]:
        if how == "null":
            sides[side][name] = None
        else:
            del sides[side][name]
    verdict = compare(one(sides[0]), one(sides[1]))
    found = row(verdict)
    assert found.n == 196
    assert (found.missing_baseline, found.missing_candidate) == ((4, 0), (0, 4))[side]
    assert verdict.outcome == "undecided"
    assert "4 of 200 examples cannot be compared" in verdict.reasons[0]
    assert compare(one(sides[0]), one(sides[1]), GatePolicy(max_missing=0.02)).outcome == "pass"
    strict = GatePolicy(max_missing=0.019)
    assert compare(one(sides[0]), one(sides[1]), strict).outcome == "undecided"


def test_missing_scores_are_counted_at_their_worst():
    base, better = graded(), moved(graded(), 0.0, 0.02)
    lost = better | dict.fromkeys(IDS[:8])
    policy = GatePolicy(max_missing=0.05)
    verdict = compare(one(base), one(lost), policy)
    found = row(verdict)
    worst = sum(base[name] for name in IDS[:8]) / 200
    rest = sum(better[name] - base[name] for name in IDS[8:]) / 200
    assert found.delta_at_worst == pytest.approx(rest - worst)
    assert (verdict.outcome, found.grade) == ("undecided", "unknown")
    assert "8 missing scores of the candidate counted as 0" in verdict.reasons[0]
    assert "would decide" not in verdict.reasons[0]
    wide = compare(one(base), one(lost), GatePolicy(max_missing=0.05, margin=0.08))
    assert wide.outcome == "pass"
    assert "with 8 missing scores of the candidate counted as 0" in wide.reasons[0]
    refused = compare(one(base), one(lost))
    assert "more often than chance explains (p = 0.0039)" in refused.reasons[0]


def test_scores_missing_on_different_sides_add_up():
    base = graded()
    sides = one(base | {"e001": None, "e002": None}), one(base | {"e002": None, "e003": None})
    assert compare(*sides, GatePolicy(max_missing=0.015, margin=0.08)).outcome == "pass"
    verdict = compare(*sides, GatePolicy(max_missing=0.014))
    assert verdict.outcome == "undecided"
    assert "3 of 200 examples" in verdict.reasons[0]
    assert row(verdict).n == 197


def test_an_example_that_only_another_scorer_knows_is_missing():
    full, part = graded(), {name: graded()[name] for name in IDS[:150]}
    verdict = compare({"a": full, "b": part}, {"a": full, "b": part})
    assert row(verdict, scorer="b").missing_candidate == 50
    assert verdict.outcome == "undecided"


def test_a_regression_stands_although_scores_are_missing():
    candidate = moved(graded(), -0.2) | {"e000": None}
    assert compare(one(graded()), one(candidate)).outcome == "regression"


@pytest.mark.parametrize("swap", [False, True])
def test_a_scorer_of_one_side_only_is_named(swap):
    sides = [{"a": graded(), "b": graded(1)}, {"a": graded()}]
    if swap:
        sides.reverse()
    verdict = compare(*sides)
    assert verdict.outcome == "undecided"
    assert "b: the " in verdict.reasons[0] and "no such scorer" in verdict.reasons[0]
    assert row(verdict, scorer="b").n == 0


@pytest.mark.parametrize(
    "sides",
    [
        ({}, {}),
        (one({}), one({})),
        (one({"a": 0.5}), one({"b": 0.5})),
        (one({"a": None}), one({"a": 0.5})),
        (one(graded()), {}),
    ],
)
@pytest.mark.parametrize("mode", ["paired", "threshold"])
def test_nothing_to_compare_is_undecided(sides, mode):
    verdict = compare(*sides, GatePolicy(mode=mode, max_missing=1.0))
    assert verdict.outcome == "undecided"
    assert verdict.reasons
    json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_too_few_examples_do_not_pass(n):
    base = graded(n=n)
    verdict = compare(one(base), one(moved(base, 0.1)), GatePolicy(margin=0.5))
    assert verdict.outcome == "undecided"
    assert "too few" in verdict.reasons[0]


def test_too_few_examples_can_still_regress():
    base = graded(n=20)
    assert compare(one(base), one(moved(base, -0.2, 0.05))).outcome == "regression"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.01, "0.5", [0.5]], ids=repr)
@pytest.mark.parametrize("side", ["baseline", "candidate", "anchor"])
def test_a_score_that_is_none_is_an_error_that_names_it(value, side):
    sides = {"baseline": graded(), "candidate": graded(), "anchor": graded()}
    sides[side]["e007"] = value
    with pytest.raises(UsageError, match=rf"{side}, faithfulness.*'e007'"):
        compare(one(sides["baseline"]), one(sides["candidate"]), anchor=one(sides["anchor"]))


# -- critical, anchor, threshold, clusters ---------------------------------------------------


def test_a_critical_example_may_not_get_worse():
    candidate = moved(graded(), 0.1)
    candidate["e004"] = graded()["e004"] - 0.05
    sides = one(graded()), one(candidate)
    assert compare(*sides, critical=["e005"]).outcome == "pass"
    verdict = compare(*sides, critical=["e004", "e005"])
    assert verdict.outcome == "regression"
    assert "'e004'" in verdict.reasons[0]
    (drop,) = verdict.critical
    assert drop.baseline - drop.candidate == pytest.approx(0.05)
    tolerant = GatePolicy(critical_tolerance=0.06)
    assert compare(*sides, tolerant, critical=["e004"]).outcome == "pass"


def test_a_critical_example_without_a_score_is_undecided():
    policy = GatePolicy(max_missing=0.1)
    base = graded()
    lost = compare(one(base), one(base | {"e004": None}), policy, critical=["e004"])
    assert lost.outcome == "undecided" and "e004" in lost.reasons[-1]
    unknown = compare(one(base), one(base), critical=["e999"])
    assert unknown.outcome == "undecided" and "e999" in unknown.reasons[0]
    blind = compare(one(base | {"e004": None}), one(base), policy, critical=["e004"])
    assert blind.outcome == "undecided" and "e004" in blind.reasons[-1]


def test_a_slow_drift_from_the_anchor_is_a_regression():
    anchor, base = graded(), moved(graded(), -0.045, 0.01)
    candidate = moved(base, -0.002, 0.01, seed=2)
    assert compare(one(base), one(candidate)).outcome == "pass"
    policy = GatePolicy(anchor_margin=0.02)
    verdict = compare(one(base), one(candidate), policy, anchor=one(anchor))
    assert verdict.outcome == "regression"
    assert "anchor" in verdict.reasons[0]
    assert row(verdict, against="anchor").delta == pytest.approx(-0.047, abs=0.005)
    wider = GatePolicy(anchor_margin=0.1)
    assert compare(one(base), one(candidate), wider, anchor=one(anchor)).outcome == "pass"


def test_a_cohort_may_not_drift_from_the_anchor_either():
    tags = {name: {"part": "rare" if i % 4 == 0 else "usual"} for i, name in enumerate(IDS)}
    anchor = graded()
    drifted = {
        name: value - (0.25 if tags[name]["part"] == "rare" else 0.0)
        for name, value in anchor.items()
    }
    verdict = compare(one(drifted), one(drifted), cohorts=tags, anchor=one(anchor))
    assert verdict.outcome == "regression"
    assert row(verdict, "part=rare", against="anchor").outcome == "regression"
    assert "part=rare, against the anchor" in verdict.reasons[-1]


def test_an_anchor_with_nothing_in_common_is_undecided_and_a_new_scorer_is_not():
    base = {"old": graded(), "new": graded(3)}
    assert compare(base, base, anchor={"old": graded()}).outcome == "pass"
    verdict = compare(base, base, anchor={"other": graded()})
    assert verdict.outcome == "undecided"
    assert "anchor" in verdict.reasons[0]


def test_threshold_mode_is_the_plain_rule():
    policy = GatePolicy(mode="threshold", margin=0.1)
    base = {"a": 0.5, "b": 0.7, "c": 0.9}
    assert compare(one(base), one(moved(base, -0.1)), policy).outcome == "pass"
    assert compare(one(base), one(moved(base, -0.11)), policy).outcome == "regression"
    assert compare(one(base), one(base | {"a": None}), policy).outcome == "undecided"


def test_threshold_mode_asks_for_few_collapses_too():
    base = graded() | {"e000": 0.9}
    sides = one(base), one(moved(base, 0.05) | {"e000": 0.1})
    policy = GatePolicy.model_validate({"mode": "threshold", "collapse": {"share": 0.02}})
    verdict = compare(*sides, policy)
    assert (verdict.outcome, row(verdict).grade) == ("undecided", "few")
    assert "1 example fell by 50 points or more" in verdict.reasons[0]
    wide = GatePolicy.model_validate({"mode": "threshold", "collapse": {"share": 0.05}})
    assert compare(*sides, wide).outcome == "pass"


def test_clusters_widen_the_interval():
    base = graded()
    shared = np.random.default_rng(4).normal(0, 0.05, 40)
    candidate = {name: base[name] + float(shared[i // 5]) for i, name in enumerate(IDS)}
    clusters = {name: f"doc{i // 5}" for i, name in enumerate(IDS)}
    plain = row(compare(one(base), one(candidate)))
    found = row(compare(one(base), one(candidate), clusters=clusters))
    assert (plain.units, found.units) == (200, 40)
    assert np.ptp(found.interval) > 1.8 * np.ptp(plain.interval)
    few = {name: f"doc{i // 20}" for i, name in enumerate(IDS)}
    verdict = compare(one(base), one(moved(base, 0.1)), clusters=few)
    assert verdict.outcome == "undecided" and "too few clusters" in verdict.reasons[0]
    with pytest.raises(UsageError, match="'e199' has no cluster"):
        compare(one(base), one(base), clusters=dict.fromkeys(IDS[:-1], "x"))


# -- the verdict as data ---------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["graded", "binary", "clusters"]))
def test_row_order_does_not_matter(shuffler: random.Random, kind):
    draws = np.random.default_rng(7)
    sides = draws.integers(0, 5 if kind != "binary" else 2, (2, 120)) / (
        4.7 if kind != "binary" else 1
    )
    columns = [dict(zip(IDS, side.tolist(), strict=False)) for side in sides]
    tags = {name: {"part": str(i % 3)} for i, name in enumerate(IDS[:120])}
    clusters = {name: str(i % 30) for i, name in enumerate(IDS)} if kind == "clusters" else None

    def shuffled(mapping):
        items = list(mapping.items())
        shuffler.shuffle(items)
        return dict(items)

    straight = compare(
        {"a": columns[0], "b": columns[1]},
        {"a": columns[1], "b": columns[0]},
        GatePolicy(resamples=999),
        cohorts=tags,
        clusters=clusters,
    )
    mixed = compare(
        shuffled({"b": shuffled(columns[1]), "a": shuffled(columns[0])}),
        shuffled({"a": shuffled(columns[1]), "b": shuffled(columns[0])}),
        GatePolicy(resamples=999),
        cohorts=shuffled(tags),
        clusters=clusters and shuffled(clusters),
    )
    assert straight == mixed


def test_another_scorer_changes_no_row():
    alone = compare(one(graded()), one(moved(graded(), 0, 0.1)))
    beside = compare(
        {"aaa": graded(9), **one(graded())}, {"aaa": graded(9), **one(moved(graded(), 0, 0.1))}
    )
    assert row(alone).interval == row(beside).interval


def test_the_verdict_survives_json():
    base = graded()
    verdict = compare(
        {"a": base, "only": base},
        {"a": moved(base, -0.1, 0.1)},
        cohorts=halves(),
        critical=["e001", "e002"],
        anchor={"a": base},
    )
    again = Verdict.from_dict(json.loads(json.dumps(verdict.to_dict(), allow_nan=False)))
    assert again == verdict
    assert again.exit_code == verdict.exit_code


# -- the policy ------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["margin", "anchor_margin"])
def test_a_margin_of_zero_is_refused_with_the_reason(field):
    with pytest.raises(ValidationError, match="can never be passed"):
        GatePolicy(**{field: 0.0})
    with pytest.raises(ValidationError, match="can never be passed"):
        GatePolicy(margins={"equals": 0})


@pytest.mark.parametrize(
    "field",
    [
        {"margin": -0.1},
        {"margin": 1.1},
        {"margin": "0.02"},
        {"confidence": 1.0},
        {"max_missing": 1.5},
        {"mode": "absolute"},
        {"marign": 0.02},
        {"cohorts": "some"},
    ],
)
def test_a_policy_refuses_what_it_does_not_know(field):
    with pytest.raises(ValidationError):
        GatePolicy(**field)


def test_a_policy_file_names_its_mistakes(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("margin: 0\n")
    with pytest.raises(UsageError, match="can never be passed"):
        validate(GatePolicy, read_yaml(path), where=str(path))


def test_every_field_is_documented():
    assert all(field.description for field in GatePolicy.model_fields.values())


def test_a_critical_example_may_move_by_what_scores_of_its_scorer_vary_by():
    generator = np.random.default_rng(7)
    before = {f"e{at:03d}": 0.5 + 0.2 * generator.random() for at in range(200)}
    after = {name: score + generator.uniform(-0.02, 0.02) for name, score in before.items()}
    marked = list(before)[:5]
    assert compare(one(before), one(after), critical=marked).critical == ()
    strict = GatePolicy(critical_tolerance=0.0)
    assert compare(one(before), one(after), strict, critical=marked).critical != ()
    fallen = after | {"e002": before["e002"] - 0.1}
    (drop,) = compare(one(before), one(fallen), critical=marked).critical
    assert drop.id == "e002" and 0.01 < drop.tolerance < 0.08
    # Of right and wrong nothing is noise.
    flips = {name: float(at % 2) for at, name in enumerate(before)}
    one_less = flips | {"e001": 0.0}
    assert [drop.id for drop in compare(one(flips), one(one_less), critical=marked).critical] == [
        "e001"
    ]


def test_a_critical_example_that_fell_far_by_what_may_be_chance_is_undecided():
    generator = np.random.default_rng(8)
    before = {f"e{at:03d}": 0.4 + 0.2 * generator.random() for at in range(400)}
    after = {name: score + generator.normal(0, 0.08) for name, score in before.items()}
    after["e002"] = before["e002"] - 0.115
    verdict = compare(one(before), one(after), GatePolicy(margin=0.05), critical=["e002"])
    assert (verdict.outcome, verdict.critical) == ("undecided", ())
    (reason,) = verdict.reasons
    assert "the critical example 'e002' fell" in reason and "may be chance" in reason
    after["e002"] = before["e002"] - 0.3
    verdict = compare(one(before), one(after), GatePolicy(margin=0.05), critical=["e002"])
    assert verdict.outcome == "regression"


def test_a_critical_example_that_flips_when_generated_again_is_undecided():
    flips = {f"e{at:03d}": float(at % 2) for at in range(200)}
    after = flips | {"e001": 0.0}

    def outcome(noise: dict[str, float]) -> str:
        return compare(one(flips), one(after), critical=["e001"], noise=noise).outcome

    assert outcome({}) == "regression"
    # A change between two generations of one checkpoint, in 8 and in 12 of 100 examples: one
    # falls in half of them.
    assert outcome({"faithfulness": 0.08**0.5}) == "regression"
    assert outcome({"faithfulness": 0.12**0.5}) == "undecided"


def test_floors_together_break_by_chance_as_seldom_as_one():
    """Eight means that lie on their floors: at 2.5 % each it would be in 9 of 50 worlds."""
    generator, broken = np.random.default_rng(9), 0
    floors = dict.fromkeys("abcdefgh", 0.5)
    policy = GatePolicy(margin=0.2, floors=floors)
    for _ in range(50):
        scores = {name: (generator.random(200) < 0.5).astype(float) for name in floors}
        side = {
            name: dict(zip(map(str, range(200)), column.tolist(), strict=True))
            for name, column in scores.items()
        }
        broken += compare(side, side, policy, plan=False).outcome == "regression"
    assert broken <= 4


def test_a_floor_has_to_be_shown_to_hold_over_all_looks_together():
    scores = {f"e{at:03d}": float(at % 5 < 3) for at in range(400)}
    policy = GatePolicy(margin=0.2, floors={"faithfulness": 0.53}, spend_error=True)
    assert compare(one(scores), one(scores), policy).outcome == "pass"
    late = compare(one(scores), one(scores), policy, looks=Looks(number=20))
    assert late.outcome == "undecided" and "its floor of 53" in late.reasons[0]


def test_equal_binary_models_do_not_regress_in_small_cohorts_that_happen_to_be_all_right():
    generator, found = np.random.default_rng(3), 0
    names = [f"e{at:03d}" for at in range(800)]
    tags = {name: {"part": str(at % 40)} for at, name in enumerate(names)}
    for _ in range(40):
        sides = [
            dict(zip(names, (generator.random(800) > 0.05).astype(float).tolist(), strict=True))
            for _ in "ab"
        ]
        verdict = compare(*map(one, sides), cohorts=tags, plan=False)
        found += verdict.outcome == "regression"
    assert found <= 5  # 5 % of 40, and three standard errors
    assert compare(one({"a": 1.0}), one({"a": 0.0})).outcome == "undecided"


def test_scores_that_neither_side_has_count_for_neither():
    before = graded(300)
    after = moved(before, 0.001)
    for name in list(before)[:9]:
        before[name] = after[name] = None
    policy = GatePolicy(max_missing=0.05)
    verdict = compare(one(before), one(after), policy)
    assert verdict.outcome == "pass"
    assert "missing" not in verdict.reasons[0] and row(verdict).low_at_worst is None


def test_a_note_speaks_of_missing_scores_only_where_they_are_within_the_margin():
    before = graded(300)
    after = moved(before, -0.1)
    after["e000"] = None
    verdict = compare(one(before), one(after), GatePolicy(max_missing=0.05))
    assert verdict.outcome == "regression" and row(verdict).note == ""


def test_a_lost_score_is_a_collapse():
    policy = GatePolicy.model_validate({"collapse": {}, "max_missing": 0.1})
    before = {f"e{at:03d}": 0.7 for at in range(600)}
    after = {name: 0.76 if at >= 24 else None for at, name in enumerate(before)}
    before["e599"] = 0.69
    verdict = compare(one(before), one(after), policy)
    assert (row(verdict).collapsed, verdict.outcome) == (24, "undecided")
    assert "24 examples fell by 50 points or more or lost a score" in verdict.reasons[0]


def test_missing_scores_of_one_cluster_are_one():
    before = graded(300)
    after = dict(before)
    clusters = {name: "big" if at < 20 else name for at, name in enumerate(before)}
    for name in list(before)[:20]:
        after[name] = None
    assert row(compare(one(before), one(after))).p_unscored < 1e-5
    assert row(compare(one(before), one(after), clusters=clusters)).p_unscored == 0.5


def test_odd_but_legal_input():
    assert compare(one({"a": 1.0, "b": 0.9}), one({"a": 0.0, "b": 0.9}), GatePolicy(margin=1e-9))
    with pytest.raises(UsageError, match="empty list"):
        compare(one({"a": []}), one({"a": []}))
    plain = GatePolicy(mode="threshold")
    kept = compare(one({"a": 0.5, "b": 0.6}), one({"a": 0.48, "b": 0.58}), plain)
    assert kept.outcome == "pass" and "chance left aside" in kept.reasons[0]
