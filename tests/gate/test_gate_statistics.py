"""The gate's statistics against scipy, published formulas, enumeration and simulated truth."""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from ftreg.gate import GatePolicy, compare, sample_size
from ftreg.gate.bootstrap import bca, bca_large
from ftreg.gate.guard import bounds, drop_p_value, unseen_bound
from ftreg.gate.interval import Scale, largest_change, scale_of, worst_change
from ftreg.gate.permutation import holm, sign_flip
from ftreg.gate.stats import mcnemar, paired_drop_p_value, paired_lower_bound
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
@pytest.mark.parametrize("n", [20, 60])
def test_bca_agrees_with_scipy(shape, n):
    deltas = SHAPES[shape](draws(3), n)
    # So many resamples that the bias correction, a twentieth of a standard error, shows.
    theirs = stats.bootstrap(
        (deltas,), np.mean, n_resamples=300_000, batch=20_000, method="BCa", random_state=draws(1)
    ).confidence_interval
    ours = bca(units_of(deltas), level=0.025, resamples=300_000, generator=draws(2))
    error = deltas.std() / math.sqrt(n)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * error)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_closed_form_agrees_with_the_resampled_bca(shape):
    units = units_of(SHAPES[shape](draws(4), 400))
    resampled = bca(units, level=0.025, resamples=40_000, generator=draws(2))
    assert bca_large(units, level=0.025) == pytest.approx(
        resampled, abs=0.08 * units.standard_error()
    )


def test_the_interval_of_a_comparison_is_scipys_for_smooth_scores():
    before = draws(5).uniform(0.3, 0.7, 200)
    deltas = draws(6).normal(-0.01, 0.08, 200)
    (row,) = compare(*sides(before, before + deltas)).rows
    theirs = stats.bootstrap(
        (deltas,), np.mean, n_resamples=20_000, random_state=draws(1)
    ).confidence_interval
    assert row.interval.low <= theirs.low + 0.02 * row.standard_error
    assert row.interval == pytest.approx((theirs.low, theirs.high), abs=0.25 * row.standard_error)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_guard_is_the_quantile_of_a_dirichlet_mean(shape):
    deltas = SHAPES[shape](draws(7), 40)
    worst = 1.2 * float(np.abs(deltas).max())
    weights = draws(8).standard_exponential((200_000, 41))
    weights /= weights.sum(axis=1, keepdims=True)
    low = np.quantile(weights @ np.append(deltas, -worst), 0.025)
    above = weights @ np.append(deltas, worst)
    error = deltas.std() / math.sqrt(40)
    assert bounds(deltas, worst=worst, level=0.025) == pytest.approx(
        (low, np.quantile(above, 0.975)), abs=0.05 * error
    )
    for margin in (0.0, 0.4 * error):
        p_value = drop_p_value(deltas, gain=worst, margin=margin)
        assert p_value == pytest.approx((above >= -margin).mean(), rel=0.05)


@pytest.mark.parametrize(("losses", "total"), [(0, 50), (1, 50), (7, 60), (59, 60), (60, 60)])
def test_without_gains_the_binary_bound_is_clopper_and_pearsons(losses, total):
    exact = stats.binomtest(losses, total).proportion_ci(0.95, method="exact").high
    ours = paired_lower_bound(losses, 0, total=total, level=0.025)
    assert ours == pytest.approx(-exact, abs=1e-9)


def test_the_binary_bound_is_the_guard_for_deltas_of_one():
    deltas = np.repeat([-1.0, 1.0, 0.0], [12, 5, 83])
    low, high = bounds(deltas, worst=1.0, level=0.025)
    assert paired_lower_bound(12, 5, total=100, level=0.025) == pytest.approx(low, abs=1e-3)
    assert -paired_lower_bound(5, 12, total=100, level=0.025) == pytest.approx(high, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "margin"), [(50, 0.02), (50, 0.1), (60, 0.05)])
def test_binary_scores_never_pass_wrongly_by_enumeration(n, margin):
    """The chance of a pass at a true drop of the margin, exactly, for every discordance."""
    passing = [
        (losses, gains)
        for losses in range(n + 1)
        for gains in range(n + 1 - losses)
        # Far more gains than losses pass anyway, and cannot happen at this drop.
        if gains - losses < 0.4 * n
        and paired_lower_bound(losses, gains, total=n, level=0.025) > -margin
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
    assert worst <= 0.026


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
    assert unseen_bound(n, worst=0.5, error=0.05) == pytest.approx(row.interval.low / 2)


def test_unseen_drop_bounds_graded_scores_of_which_few_changed():
    scores = draws(1).uniform(0.2, 0.9, 160)
    changed = scores + np.where(np.arange(160) < 5, 0.01, 0.0)
    assert compare(*sides(scores, changed)).outcome == "pass"
    assert compare(*sides(scores, changed), GatePolicy(unseen_drop=1.0)).outcome == "undecided"
    assert compare(*sides(scores, changed), GatePolicy(unseen_drop=0.5)).outcome == "pass"


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
    ("scores", "scale"),
    [
        ([0, 1, 1], Scale.BINARY),
        ([1, 1], Scale.BINARY),
        ([0, 0.5, 1], Scale.COARSE),
        ([1 / 3, 2 / 3], Scale.COARSE),
        ([0.25, 1], Scale.COARSE),
        ([0.8, 0.8], Scale.GRADED),
        ([0.2, 0.4], Scale.GRADED),
    ],
)
def test_scales(scores, scale):
    assert scale_of(np.array(scores, dtype=float)) is scale


def test_the_worst_change_reaches_beyond_what_was_seen():
    seen = largest_change(units_of(np.array([0.0, -0.2, 0.1])))
    assert seen == pytest.approx(0.3)
    assert largest_change(units_of(np.zeros(3))) == 0.0
    assert worst_change(Scale.GRADED, seen=seen, unseen_drop=0.1) == seen
    assert worst_change(Scale.GRADED, seen=seen, unseen_drop=0.4) == 0.4
    assert worst_change(Scale.COARSE, seen=seen, unseen_drop=0.0) == seen
    assert worst_change(Scale.COARSE, seen=0.0, unseen_drop=0.0) == 1.0
    assert worst_change(Scale.BINARY, seen=seen, unseen_drop=0.0) == 1.0


# -- tests of a drop -------------------------------------------------------------------------


@pytest.mark.parametrize(("losses", "gains"), [(8, 2), (1, 0), (3, 9), (40, 20), (5, 5)])
def test_the_p_value_of_a_drop_beyond_the_margin_belongs_to_the_interval(losses, gains):
    """It is the level at which the upper end of the interval is just at -margin."""
    for margin in (0.0, 0.02, 0.1):
        p_value = paired_drop_p_value(losses, gains, total=100, margin=margin)
        if 1e-6 < p_value < 0.5:
            upper = -paired_lower_bound(gains, losses, total=100, level=p_value)
            assert upper == pytest.approx(-margin, abs=1e-6)
        near = drop_p_value(
            np.repeat([-1.0, 1.0, 0.0], [losses, gains, 100 - losses - gains]),
            gain=1.0,
            margin=margin,
        )
        assert p_value == pytest.approx(near, rel=0.1, abs=1e-3)


@pytest.mark.parametrize(("losses", "gains"), [(8, 2), (1, 0), (3, 9), (40, 20), (5, 5)])
def test_mcnemar_is_the_binomial_test(losses, gains):
    theirs = stats.binomtest(losses, losses + gains, 0.5, alternative="greater").pvalue
    assert mcnemar(losses, gains) == pytest.approx(theirs)
    assert mcnemar(0, 0) == 1.0


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
    ours = sign_flip(deltas, resamples=999, generator=draws(0))
    assert ours == pytest.approx(permutation_p(deltas, np.inf))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [60, 260])
def test_sign_flips_are_scipys_drawn_permutation_test(shape, n):
    deltas = SHAPES[shape](draws(12), n)
    deltas += (0.6 * deltas.std() / math.sqrt(n)) - deltas.mean()  # p about 0.7
    for shift in (0.0, 2.2):  # and about 0.05
        moved = deltas - shift * deltas.std() / math.sqrt(n)
        ours = sign_flip(moved, resamples=20_000, generator=draws(0))
        assert ours == pytest.approx(permutation_p(moved, 20_000), abs=0.015)


def test_sign_flips_see_beyond_their_number_of_draws():
    deltas = draws(2).normal(-0.1, 0.1, 80)
    p_value = sign_flip(deltas, resamples=999, generator=draws(0))
    assert 0 < p_value < 1e-6
    # Hoeffding's bound lies above the truth, which the t test is near to.
    assert p_value > stats.ttest_1samp(deltas, 0, alternative="less").pvalue
    assert sign_flip(-deltas, resamples=999, generator=draws(0)) > 0.99


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


def test_the_cluster_bootstrap_draws_whole_clusters():
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
    ours = bca(units, level=0.025, resamples=20_000, generator=draws(5))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.1 * units.standard_error())


def test_a_constant_change_of_unequal_clusters_is_constant():
    units = units_of(np.full(60, -0.07), np.repeat(np.arange(20), [1, 2, 3, 4, 5] * 4))
    assert units.mean == pytest.approx(-0.07)
    assert units.standard_error() == 0.0
    assert largest_change(units) == pytest.approx(0.07 * 1.05)


# -- power -----------------------------------------------------------------------------------


def test_power_and_number_of_examples_are_inverse():
    needed = sample_size.examples_for_pass(0.2, margin=0.02)
    assert needed == math.ceil((2.80158 * 0.2 / 0.02) ** 2)
    assert sample_size.pass_probability(0.2, examples=needed, margin=0.02) == pytest.approx(
        0.8, abs=0.001
    )
    error = 0.2 / math.sqrt(sample_size.examples_for_regression(0.2, delta=-0.03))
    assert sample_size.detectable_drop(error) == pytest.approx(0.03, rel=0.01)
    assert sample_size.examples_for_pass(0.2, margin=0.02, delta=-0.02) is None
    assert sample_size.examples_for_regression(0.2, delta=0.0) is None
    # One pseudo-observation of -1 costs about 1 / margin examples.
    assert needed + 40 < sample_size.examples_for_pass(0.2, margin=0.02, worst=1.0) < needed + 110


def test_the_number_of_examples_that_is_named_decides():
    """Of equal candidates with as many examples as `n_needed`, about 80 % pass."""
    generator = draws(21)
    needed = sample_size.examples_for_pass(0.1, margin=0.03, worst=0.3)
    passed = 0
    for _ in range(200):
        before = generator.uniform(0.4, 0.6, needed)
        after = before + generator.normal(0, 0.1, needed)
        passed += compare(*sides(before, after), GatePolicy(margin=0.03)).outcome == "pass"
    assert 0.7 < passed / 200 < 0.92


# -- error rates -----------------------------------------------------------------------------


def rates(draw, *, drop, n, trials, outcome, cohorts=0):
    """How often a candidate whose true drop is `drop` ends in `outcome`."""
    generator, hits = draws(31), 0
    policy = GatePolicy(margin=0.02, resamples=999)
    for _ in range(trials):
        before = generator.uniform(0.4, 0.6, n)
        pair = sides(before, before + draw(generator, n) - drop)
        names = pair[0]["scorer"] if cohorts else ()
        tags = {name: {"part": str(int(name[1:]) % cohorts)} for name in names}
        hits += compare(*pair, policy, cohorts=tags).outcome == outcome
    return hits / trials


def tail(generator, n):
    return 0.05 - 0.3 * generator.beta(0.5, 2.5, n)


def rarely_changed(generator, n):
    return np.where(generator.random(n) < 0.15, generator.uniform(-0.2, 0.2, n), 0.0)


# 400 trials: at 5 % the standard error is 1.1 points, and 8 % is three of them away.
@pytest.mark.parametrize("draw", [tail, rarely_changed], ids=["tail", "ties"])
def test_false_passes_are_rare(draw):
    assert rates(draw, drop=0.02, n=50, trials=400, outcome="pass") < 0.08


def test_false_passes_would_be_common_with_the_bootstrap_alone():
    """The guard earns its place: without it the rate is what this measures."""
    generator, hits = draws(31), 0
    for _ in range(400):
        changed = generator.random(50) < 0.15
        deltas = np.where(changed, generator.normal(-0.02 / 0.15, 0.25, 50), 0.0)
        low, _ = bca(units_of(deltas), level=0.025, resamples=999, generator=generator)
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
