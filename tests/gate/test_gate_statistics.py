"""The gate's statistics against scipy, published formulas, enumeration and simulated truth."""

import itertools
import math
from dataclasses import replace
from unittest.mock import ANY

import numpy as np
import pytest
from scipy import special, stats

from ftreg.gate import GatePolicy, compare
from ftreg.gate.bootstrap import bca
from ftreg.gate.critical import has_few_levels
from ftreg.gate.guard import Draws, Guard, below, means_above
from ftreg.gate.permutation import holm, sign_flip
from ftreg.gate.stats import share_at_most
from ftreg.gate.units import units_of

SHAPES = {
    "normal": lambda draws, n: draws.normal(-0.01, 0.1, n),
    "skewed": lambda draws, n: 0.03 - draws.exponential(0.05, n),
    "ties": lambda draws, n: draws.choice([-0.5, -0.25, 0.0, 0.25], n, p=[0.1, 0.2, 0.6, 0.1]),
}


def draws(seed=0):
    # scipy takes it as `random_state`: 1.14 has no other name for it.
    return np.random.default_rng(seed)


def sides(baseline, candidate):
    ids = [f"e{position:05d}" for position in range(len(baseline))]
    return [
        {"scorer": dict(zip(ids, np.asarray(side, dtype=float).tolist(), strict=True))}
        for side in (baseline, candidate)
    ]


# -- intervals -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [60, 400])
def test_bca_agrees_with_scipy(shape, n):
    deltas = SHAPES[shape](draws(3), n)
    theirs = stats.bootstrap(
        (deltas,), np.mean, n_resamples=300_000, batch=20_000, method="BCa", random_state=draws(1)
    ).confidence_interval
    # The closed form leaves out what is of third order.
    error = deltas.std() / math.sqrt(n)
    ours = bca(units_of(deltas), level=0.025)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.1 * error)


def test_the_interval_of_a_comparison_is_scipys_for_smooth_scores():
    # Of so many that vary so much an unseen share no longer matters.
    before = draws(5).uniform(0.3, 0.7, 1000)
    deltas = draws(6).normal(-0.01, 0.08, 1000)
    (row,) = compare(*sides(before, before + deltas)).rows
    theirs = stats.bootstrap(
        (deltas,), np.mean, n_resamples=20_000, random_state=draws(1)
    ).confidence_interval
    assert row.interval.low <= theirs.low + 0.02 * row.standard_error
    assert row.interval == pytest.approx((theirs.low, theirs.high), abs=0.25 * row.standard_error)


def dirichlet(values, count=60_000):
    """Means of the values, of which the lowest is there twice, under flat Dirichlet weights."""
    values = np.append(values, values.min())
    weights = draws(8).standard_exponential((count, len(values)), dtype=np.float32)
    return np.sort(weights @ values / weights.sum(axis=1))


def unseen(values, point, worst):
    """The p value of a mean above `point` by its definition: drawn, on a grid of unseen shares."""
    shares = np.linspace(0, 1 - 1e-4 ** (1 / len(values)), 400)
    means = dirichlet(values)
    below_ = np.searchsorted(means, (point + shares * worst) / (1 - shares)) / len(means)
    return float(((1 - shares) ** len(values) * below_).max())


GUARDED = {
    **{name: draw(draws(7), 40) for name, draw in SHAPES.items()},
    "one gain": np.where(np.arange(5) == 2, 0.8, -0.01),
    "one loss": np.where(np.arange(150) == 2, -0.5, 0.001),
    "wide": draws(7).uniform(-0.9, 1.0, 300),
}


@pytest.mark.parametrize("worst", [1.0, 0.95])
def test_the_guard_is_the_largest_over_all_shares_that_may_be_unseen(worst):
    rows = list(GUARDED.values())
    guard = Guard.of(rows, worst=worst)
    lows = guard.lower_bounds(0.05)
    assert guard.p_values(lows) == pytest.approx(np.full(len(rows), 0.05), rel=0.01)
    for row, low in zip(rows, lows.tolist(), strict=True):
        assert unseen(row, low, worst) == pytest.approx(0.05, rel=0.07)


@pytest.mark.parametrize("point", [-0.6, -0.1, -0.03, -0.02, 0.0, 0.01, 0.1, 0.3])
def test_the_guard_of_tied_values_may_count_them(point):
    counts = [[3, 0, 50, 9], [0, 1, 99, 0], [0, 0, 40, 0], [30, 10, 30, 60], [1, 0, 5, 300]]
    values = np.array([-0.5, -0.25, 0.0, 0.25])
    rows = [np.repeat(values, count) for count in counts]
    tied = Draws(np.tile(values, (len(rows), 1)), np.array(counts, dtype=np.float64))
    p_values = Guard.of(rows).p_values([point] * len(rows))
    for factor in (0.98, 1.02):
        levels = np.clip(factor * p_values, 1e-12, 1 - 1e-12)
        found = means_above(tied, np.full(len(rows), point), levels)
        sure = (p_values > 1e-9) & (p_values < 0.9)
        assert (found == (factor > 1))[sure].all()
    assert not means_above(tied, np.full(len(rows), 0.3), np.full(len(rows), 0.99)).any()


def test_chances_are_right_where_one_value_lies_far_off():
    """By hand: the weight of the one value is beta(1, 6)."""
    values = np.array([[0.8, -0.01, -0.01, -0.01, -0.01, -0.01, -0.01]])
    found = below(Draws(values, np.ones((1, 7))), np.array([0.1]))
    assert found == pytest.approx(stats.beta(1, 6).cdf(0.11 / 0.81), rel=0.02)


@pytest.mark.parametrize(("losses", "total"), [(1, 50), (7, 60), (59, 60), (12, 400), (0, 30)])
def test_without_gains_the_guard_of_binary_scores_is_clopper_and_pearsons(losses, total):
    exact = stats.binomtest(losses, total).proportion_ci(0.95, method="exact").high
    deltas = np.repeat([-1.0, 0.0], [losses, total - losses])
    (low,) = Guard.of([deltas]).lower_bounds(0.025)
    assert low == pytest.approx(-exact, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "margin"), [(50, 0.02), (50, 0.1), (60, 0.05)])
def test_binary_scores_never_pass_wrongly_by_enumeration(n, margin):
    """The chance of a pass at a true drop of the margin, exactly, for every discordance."""
    policy = GatePolicy(margin=margin, min_examples=1)

    def passes(losses, gains):
        before = np.repeat([1.0, 0.0, 1.0], [losses, gains, n - losses - gains])
        after = np.repeat([0.0, 1.0, 1.0], [losses, gains, n - losses - gains])
        # Both values on both sides, so that the scores are binary and tell something apart.
        before[-1] = after[-1] = 0.0 if losses + gains < n else after[-1]
        return compare(*sides(before, after), policy, plan=False).outcome == "pass"

    passing = [
        (losses, gains)
        for losses in range(n + 1)
        for gains in range(n + 1 - losses)
        # Far more gains than losses pass anyway, and cannot happen at this drop.
        if gains - losses < 0.4 * n and (gains - losses) / n > -margin and passes(losses, gains)
    ]
    worst = 0.0
    for changed in np.linspace(margin, min(1.0, margin + 0.5), 12):
        lost, gained = (changed + margin) / 2, (changed - margin) / 2
        chance = sum(
            math.exp(
                special.gammaln(n + 1)
                - special.gammaln(losses + 1)
                - special.gammaln(gains + 1)
                - special.gammaln(n - losses - gains + 1)
                + special.xlogy(losses, lost)
                + special.xlogy(gains, gained)
                + special.xlogy(n - losses - gains, 1 - lost - gained)
            )
            for losses, gains in passing
        )
        worst = max(worst, chance)
    assert worst <= 0.05


@pytest.mark.parametrize("n", [50, 148, 149, 400])
def test_unchanged_binary_scores_are_bounded_by_the_rule_of_three(n):
    scores = draws(1).integers(0, 2, n)
    verdict = compare(*sides(scores, scores), GatePolicy(margin=0.02))
    (row,) = verdict.rows
    # At the bound, n unchanged examples have a probability of 5 %.
    assert (1 + row.interval.low) ** n == pytest.approx(0.05)
    assert row.interval.high == -row.interval.low
    assert verdict.outcome == ("pass" if n >= 149 else "undecided")
    assert row.n_needed == 149


@pytest.mark.parametrize(("margin", "least"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_fewer_examples_than_could_hide_a_collapse_do_not_pass(margin, least):
    policy = GatePolicy(margin=margin)
    assert policy.least_units(margin) == least
    for n, outcome in ((least - 1, "undecided"), (least, "pass")):
        scores = draws(1).uniform(0.2, 0.9, n)
        assert compare(*sides(scores, scores), policy).outcome == outcome
    clusters = {f"e{i:05d}": str(i // 2) for i in range(2 * least)}
    scores = draws(1).uniform(0.2, 0.9, 2 * least)
    assert compare(*sides(scores, scores), policy, clusters=clusters).outcome == "pass"
    fewer = clusters | {f"e{i:05d}": "0" for i in range(4)}
    verdict = compare(*sides(scores, scores), policy, clusters=fewer)
    assert "too few clusters" in verdict.reasons[0] and str(least) in verdict.reasons[0]


def test_a_constant_improvement_passes_and_a_constant_drop_regresses():
    before = draws(1).uniform(0.3, 0.7, 160)
    assert compare(*sides(before, before + 0.05)).outcome == "pass"
    assert compare(*sides(before, before - 0.05)).outcome == "regression"


@pytest.mark.parametrize(
    ("scores", "few"),
    [
        ([0, 1, 1], True),
        ([1, 1], True),
        ([0, 0.5, 1], True),
        ([1 / 3, 2 / 3], True),
        ([0.25, 1], True),
        ([0.8, 0.8], False),
        ([0.2, 0.4], False),
    ],
)
def test_few_levels(scores, few):
    assert has_few_levels(np.array(scores, dtype=float)) is few


# -- tests of a drop -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "gains"), [(8, 2), (1, 0), (3, 9), (40, 20), (5, 5), (0, 30), (700, 600)]
)
def test_sign_flips_of_binary_scores_are_mcnemars_test(losses, gains):
    theirs = stats.binomtest(losses, losses + gains, 0.5, alternative="greater").pvalue
    ours = sign_flip(np.repeat([-1.0, 1.0, 0.0], [losses, gains, 9]))
    assert ours == pytest.approx(theirs, rel=0.01)
    assert sign_flip(np.zeros(4)) == 1.0


def test_the_share_that_collapsed_is_clopper_and_pearsons():
    exact = stats.binomtest(3, 200).proportion_ci(0.9, method="exact").high
    assert share_at_most(3, total=200, level=0.05) == pytest.approx(exact)


def permutation_p(deltas, resamples):
    return stats.permutation_test(
        (deltas, np.zeros(len(deltas))),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        alternative="less",
        n_resamples=resamples,
        vectorized=True,
        random_state=draws(9),
    ).pvalue


@pytest.mark.parametrize("shape", SHAPES)
def test_sign_flips_are_scipys_exact_permutation_test(shape):
    deltas = SHAPES[shape](draws(11), 12)
    ours = sign_flip(deltas)
    assert ours == pytest.approx(permutation_p(deltas, np.inf))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [16, 60, 260])
def test_sign_flips_are_scipys_drawn_permutation_test(shape, n):
    deltas = SHAPES[shape](draws(12), n)
    deltas += (0.6 * deltas.std() / math.sqrt(n)) - deltas.mean()  # p about 0.7
    for shift in (0.0, 2.2):  # and about 0.05
        moved = deltas - shift * deltas.std() / math.sqrt(n)
        ours = sign_flip(moved)
        assert ours == pytest.approx(permutation_p(moved, 20_000), abs=0.015)


@pytest.mark.parametrize("step", [0.25, 0.2])
def test_sign_flips_of_few_values_do_not_err_below_the_exact_test(step):
    """The sums lie on a lattice: without its correction p would be too small by a third."""
    deltas = step * np.repeat([-1.0, 1.0, -2.0, 2.0], [8, 3, 3, 1])
    exact = permutation_p(deltas, np.inf)
    assert exact <= sign_flip(deltas) <= 1.15 * exact


def test_sign_flips_see_far_tails():
    deltas = draws(2).normal(-0.1, 0.1, 80)
    p_value = sign_flip(deltas)
    # Hoeffding's bound lies above the truth (JASA 58, 1963, theorem 2).
    assert 1e-20 < p_value < math.exp(-0.5 * (deltas.sum() ** 2) / (deltas**2).sum())
    assert sign_flip(-deltas) == pytest.approx(1 - p_value)
    assert sign_flip(np.full(60, -0.1)) == pytest.approx(0.5**60)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.01, 0.02, 0.02], [1.0, 0.5, 0.5]) == pytest.approx([0.02, 0.04, 0.04])


# -- clusters --------------------------------------------------------------------------------


def test_the_clustered_standard_error_is_millers():
    """Miller, arXiv 2411.00640: the root of the sum over clusters of all pairs, over n."""
    deltas = draws(1).normal(0, 0.1, 60)
    clusters = draws(2).integers(0, 15, 60)
    mean, total = deltas.mean(), 0.0
    for one, other in itertools.product(range(60), repeat=2):
        if clusters[one] == clusters[other]:
            total += (deltas[one] - mean) * (deltas[other] - mean)
    groups = len(set(clusters.tolist()))
    miller = math.sqrt(total) / 60
    ours = units_of(deltas, clusters).standard_error()
    assert ours == pytest.approx(miller * math.sqrt(groups / (groups - 1)))
    alone = units_of(deltas, np.arange(60)).standard_error()
    assert alone == pytest.approx(stats.sem(deltas))


def test_the_interval_of_clusters_is_that_of_a_bootstrap_of_whole_clusters():
    sizes = draws(1).integers(1, 8, 40)
    clusters = np.repeat(np.arange(40), sizes)
    deltas = draws(2).normal(0, 0.1, 40)[clusters] + draws(3).normal(0, 0.02, len(clusters))
    sums = np.bincount(clusters, weights=deltas)
    theirs = stats.bootstrap(
        (sums, sizes),
        lambda x, y, axis=-1: x.sum(axis=axis) / y.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        random_state=draws(4),
    ).confidence_interval
    units = units_of(deltas, clusters)
    ours = bca(units, level=0.025)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.15 * units.standard_error())


def test_a_constant_change_of_unequal_clusters_is_constant():
    units = units_of(np.full(60, -0.07), np.repeat(np.arange(20), [1, 2, 3, 4, 5] * 4))
    assert units.mean == pytest.approx(-0.07)
    assert units.standard_error() == 0.0


# -- power -----------------------------------------------------------------------------------


def quarters(generator, n):
    down = generator.random(n)
    return 0.25 * ((down > 0.95).astype(float) - (down < 0.05))


def wide(generator, n):
    return np.clip(generator.normal(0, 0.1, n), -0.25, 0.25)


@pytest.mark.parametrize(("shape", "least"), [(wide, 190), (quarters, 149)])
def test_the_number_of_examples_that_is_named_decides(shape, least):
    """Of equal candidates with as many examples as `n_needed`, about 80 % pass."""
    generator, asked, passed = draws(21), [], 0
    for _ in range(60):
        before = generator.choice([0.25, 0.5, 0.75], 100)
        (row,) = compare(*sides(before, before + shape(generator, 100))).rows
        asked.append(row.n_needed)
        low, high = row.n_needed_range
        assert low <= row.n_needed <= high
        before = generator.choice([0.25, 0.5, 0.75], row.n_needed)
        after = before + shape(generator, row.n_needed)
        passed += compare(*sides(before, after), plan=False).outcome == "pass"
    # (2.80 * 0.1 / 0.02) ** 2 for the normal one, by the textbook; more for what is not known.
    assert 0.9 * least <= np.median(asked) <= 1.35 * least
    assert 0.68 < passed / 60 <= 0.97


def test_what_a_row_needs_does_not_depend_on_the_rows_beside_it():
    generator = draws(12)
    before = dict(zip(map(str, range(120)), generator.uniform(0.3, 0.7, 120).tolist(), strict=True))
    moves = {
        "fine": generator.normal(0, 0.1, 120),
        "rare": np.where(generator.random(120) < 0.1, 0.25, 0.0),
        "tied": generator.choice([-0.2, 0.0, 0.2], 120),
    }
    after = {
        name: {key: score + move for (key, score), move in zip(before.items(), moved, strict=True)}
        for name, moved in moves.items()
    }
    together = compare(dict.fromkeys(moves, before), after).rows
    for row in together:
        assert row.n_needed and row.detectable_drop
        assert compare({row.scorer: before}, {row.scorer: after[row.scorer]}).rows == (
            replace(row, p_adjusted=ANY, p_beyond_adjusted=ANY),
        )


def test_the_drop_that_is_called_detectable_is_found():
    generator, found = draws(22), 0
    for _ in range(60):
        before = generator.uniform(0.4, 0.6, 200)
        (row,) = compare(*sides(before, before + wide(generator, 200))).rows
        after = before + wide(generator, 200) - row.detectable_drop
        found += compare(*sides(before, after), plan=False).outcome == "regression"
    assert 0.65 < found / 60 <= 0.95
    # Beyond the margin by about 2.5 standard errors, for a test at 5 % with a power of 80 %.
    assert (
        0.02 + 2.3 * 0.1 / math.sqrt(200) < row.detectable_drop < 0.02 + 4.0 * 0.1 / math.sqrt(200)
    )


def test_a_plan_changes_no_outcome():
    before = draws(1).uniform(0.3, 0.7, 100)
    pair = sides(before, before + draws(2).normal(-0.01, 0.1, 100))
    one, other = compare(*pair), compare(*pair, plan=False)
    assert (one.outcome, one.rows[0].interval) == (other.outcome, other.rows[0].interval)
    assert one.rows[0].n_needed and other.rows[0].n_needed is None


# -- error rates -----------------------------------------------------------------------------


def rates(draw, *, drop, n, trials, outcome, cohorts=0):
    """How often a candidate whose true drop is `drop` ends in `outcome`."""
    generator, hits = draws(31), 0
    policy = GatePolicy(margin=0.02)
    for _ in range(trials):
        before = generator.uniform(0.4, 0.6, n)
        pair = sides(before, before + draw(generator, n) - drop)
        names = pair[0]["scorer"] if cohorts else ()
        tags = {name: {"part": str(int(name[1:]) % cohorts)} for name in names}
        hits += compare(*pair, policy, cohorts=tags, plan=False).outcome == outcome
    return hits / trials


def tail(generator, n):
    return 0.05 - 0.3 * generator.beta(0.5, 2.5, n)


def rarely_changed(generator, n):
    return np.where(generator.random(n) < 0.15, generator.uniform(-0.2, 0.2, n), 0.0)


# 400 trials: at 5 % the standard error is 1.1 points, and 8 % is three of them away.
@pytest.mark.parametrize("draw", [tail, rarely_changed], ids=["tail", "ties"])
def test_false_passes_are_rare(draw):
    assert rates(draw, drop=0.02, n=149, trials=400, outcome="pass") < 0.08


def slips_and_losses(generator, n):
    """Every score slips by 0.015 and 0.55 % lose all: down by more than 0.02."""
    baseline = generator.uniform(0.96, 1.0, n)
    return baseline, np.where(generator.random(n) < 0.0055, 0.0, baseline - 0.015)


def gains_from_nothing(generator, n):
    """2 % go from 0 to 1 and the others lose alike: down by 0.02."""
    baseline, won = generator.uniform(0.4, 0.6, n), generator.random(n) < 0.02
    return np.where(won, 0.0, baseline), np.where(won, 1.0, baseline - 0.04 / 0.98)


@pytest.mark.parametrize(
    ("world", "n", "wrong"),
    [(slips_and_losses, 149, "pass"), (gains_from_nothing, 30, "regression")],
)
def test_what_no_example_shows_is_reckoned_with(world, n, wrong):
    """Two in five of the one, and half of the other, are samples without any such example."""
    generator = draws(31)
    found = [compare(*sides(*world(generator, n)), plan=False).outcome for _ in range(60)]
    assert found.count(wrong) <= 60 * 0.13  # three standard errors above 5 %


@pytest.mark.parametrize(("n", "drop"), [(8, 0.49), (30, 0.13), (60, 0.075)])
def test_a_drop_of_a_few_examples_is_proven_if_no_share_unseen_could_make_up_for_it(n, drop):
    """By hand: (1.02 / (1 + drop)) ** n is at most 5 % if all drop alike."""
    before = draws(3).uniform(0.5, 0.9, n)
    least = 1.02 / 0.05 ** (1 / n) - 1
    assert least == pytest.approx(drop, abs=0.01)
    assert compare(*sides(before, before - least - 0.001), plan=False).outcome == "regression"
    (row,) = compare(*sides(before, before - least + 0.001), plan=False).rows
    assert (row.outcome, row.grade) == ("undecided", "worse")


def test_false_passes_would_be_common_with_the_bootstrap_alone():
    """The guard earns its place: without it the rate is what this measures."""
    generator, hits = draws(31), 0
    for _ in range(400):
        changed = generator.random(50) < 0.15
        deltas = np.where(changed, generator.normal(-0.02 / 0.15, 0.25, 50), 0.0)
        low, _ = bca(units_of(deltas), level=0.025)
        hits += low > -0.02
    assert hits / 400 > 0.05


@pytest.mark.parametrize("sign", [1, -1])
def test_false_regressions_of_a_family_are_rare(sign):
    rate = rates(
        lambda generator, n: sign * tail(generator, n),
        drop=0.0,
        n=500,
        cohorts=20,
        trials=60,
        outcome="regression",
    )
    assert rate < 0.1


def test_large_comparisons_are_fast_and_agree_with_the_normal_interval():
    before = draws(1).uniform(0.3, 0.7, 100_000)
    deltas = draws(2).normal(0.001, 0.05, 100_000)
    (row,) = compare(*sides(before, before + deltas)).rows
    normal = deltas.mean() + np.array([-1, 1]) * 1.95996 * row.standard_error
    assert row.interval == pytest.approx(tuple(normal), abs=0.05 * row.standard_error)
