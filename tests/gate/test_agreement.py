"""Agreement with people, against scipy, tables worked out by hand, and simulated truth."""

import math

import numpy as np
import pytest
from scipy import stats

from ftreg.gate import agreement as agreements
from ftreg.gate.agreement import (
    auroc,
    measure_agreement,
    measure_auroc,
    measure_gain,
    measure_kappa,
    measure_spearman,
    newcombe,
    reliability,
    spearman,
    wilson,
)
from ftreg.gate.trust import TrustBars, exit_code_of, hold_to, trust


@pytest.fixture
def few_resamples(monkeypatch):
    """Fewer resamples than a user gets, for tests of many measurements."""
    monkeypatch.setattr(agreements, "RESAMPLES", 300)


def draws(seed=0):
    return np.random.default_rng(seed)


def rows(n=200, gap=1.0, seed=0, digits=None):
    """Scores in [0, 1] of good and bad rows, `gap` standard deviations apart."""
    generator = draws(seed)
    good = generator.random(n) < 0.4
    scores = stats.norm.cdf((gap * good + generator.standard_normal(n)) / 2)
    return (scores if digits is None else scores.round(digits)), good


# -- figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_spearman_are_scipys(digits, seed):
    scores, good = rows(seed=seed, digits=digits)
    wins = stats.mannwhitneyu(scores[good], scores[~good]).statistic
    assert auroc(scores, good) == pytest.approx(wins / (good.sum() * (~good).sum()), abs=1e-12)
    labels = np.clip(scores + draws(9).normal(0, 0.3, len(scores)), 0, 1).round(1)
    expected = stats.spearmanr(scores, labels).statistic
    assert spearman(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_auroc_by_hand():
    good = np.array([True, True, False, False, False])
    assert auroc(np.array([0.9, 0.4, 0.4, 0.2, 0.1]), good) == pytest.approx(5.5 / 6)
    assert auroc(np.full(5, 0.3), good) == 0.5
    assert auroc(np.array([0.1, 0.1, 0.9, 0.9, 0.9]), good) == 0
    assert math.isnan(auroc(np.full(2, 0.3), np.array([True, True])))
    assert math.isnan(spearman(np.full(5, 0.3), good.astype(float)))
    assert measure_spearman(np.full(5, 0.3), good.astype(float), generator=draws()) is None


def test_a_resample_counts_rows_as_often_as_it_draws_them():
    scores, good = rows(30, digits=1)
    labels = good + 0.1 * scores.round(0)
    weights = draws(4).multinomial(30, np.full(30, 1 / 30), size=20).astype(float)
    for weight, area, rho in zip(
        weights,
        agreements._aurocs(scores, good, weights),
        agreements._rhos(scores, labels, weights),
        strict=True,
    ):
        drawn = np.repeat(np.arange(30), weight.astype(int))
        assert area == pytest.approx(auroc(scores[drawn], good[drawn]))
        assert rho == pytest.approx(stats.spearmanr(scores[drawn], labels[drawn]).statistic)


def test_clusters_are_drawn_whole(few_resamples):
    clusters = np.array([7, 7, 2, 2, 2, 9])
    for weights in agreements._resamples(6, clusters, draws()):
        assert weights.shape == (300, 6)
        for cluster in (7, 2, 9):
            assert (np.ptp(weights[:, clusters == cluster], axis=1) == 0).all()
        assert set(weights[:, [0, 2, 5]].sum(axis=1)) == {3}


# -- kappa -----------------------------------------------------------------------------------


def test_kappa_is_that_of_its_table():
    # Cohen's formula by hand: 20 + 15 of 50 are judged alike, 0.5 by chance.
    assert agreements._kappas(np.array([20, 10, 5, 15])) == pytest.approx(0.4)
    assert agreements._kappas(np.array([0, 0, 0, 50])) == 0  # chance is right throughout
    assert agreements._kappas(np.array([5, 0, 0, 5])) == 1
    assert agreements._kappas(np.array([0, 5, 5, 0])) == -1


def test_the_best_threshold_is_found():
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    good = np.array([False, False, False, True, True, True])
    assert measure_kappa(scores, good, generator=draws()).threshold == 0.6
    good[2] = True
    assert measure_kappa(scores, good, generator=draws()).threshold == 0.3


def test_kappa_is_chosen_out_of_fold(few_resamples):
    """Where scores say nothing, the best threshold on all rows seems to say something."""
    apparent, honest = [], []
    for seed in range(60):
        scores, good = rows(40, gap=0.0, seed=seed)
        best = agreements._kappas(agreements._tables(scores, good, np.ones((1, 40)))).max()
        apparent.append(best)
        found = measure_kappa(scores, good, generator=draws(seed))
        honest.append(found.value)
        assert found.interval.low <= found.value <= found.interval.high
    assert np.mean(apparent) > 0.15
    assert abs(np.mean(honest)) < 0.05


def test_a_perfect_kappa_of_few_rows_is_not_certain():
    good = np.arange(20) % 2 == 0
    found = measure_kappa(good.astype(float), good, generator=draws())
    assert (found.value, found.interval.high) == (1, 1)
    # Wilson's lower end for 20 of 20 right is 0.839; half of the rest is chance.
    assert found.interval.low == pytest.approx(1 - 2 * (1 - 0.8389), abs=1e-3)


# -- intervals -------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "count"), [(0, 8), (1, 8), (0.25, 8), (0.5, 100), (0.93, 100)])
def test_wilson_is_scipys(share, count):
    theirs = stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
    assert wilson(share, count) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_newcombe_solves_its_equation():
    """At either end the estimate is 1.96 of the standard errors that hold there away."""
    value, goods, bads = 0.85, 30, 50
    for end in newcombe(value, goods, bads):
        half = (goods + bads) / 2 - 1
        spread = 1 + half * ((1 - end) / (2 - end) + end / (1 + end))
        error = math.sqrt(end * (1 - end) * spread / (goods * bads))
        assert abs(value - end) / error == pytest.approx(1.959964, abs=1e-5)
    assert newcombe(1.0, 20, 20).high == 1
    assert 0.8 < newcombe(1.0, 20, 20).low < 0.95
    assert newcombe(1.0, 3, 3).low < 0.6
    assert newcombe(0.5, 10, 10) == pytest.approx(
        (1 - newcombe(0.5, 10, 10).high, 0.7408), abs=0.05
    )


def test_an_interval_is_as_wide_as_de_longs_where_there_are_many_rows():
    scores, good = rows(1500, gap=1.2)
    found = measure_auroc(scores, good, generator=draws())
    others, mine = np.sort(scores[~good]), np.sort(scores[good])
    wins = np.searchsorted(others, scores[good]) / len(others)
    losses = 1 - np.searchsorted(mine, scores[~good]) / len(mine)
    error = math.sqrt(wins.var(ddof=1) / len(wins) + losses.var(ddof=1) / len(losses))
    expected = (found.value - 1.96 * error, found.value + 1.96 * error)
    assert found.interval == pytest.approx(expected, abs=0.25 * error)


def test_a_perfect_auroc_of_few_rows_is_not_certain():
    good = np.arange(12) % 2 == 0
    assert measure_auroc(good.astype(float), good, generator=draws()).interval.low < 0.8


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("gap", [0.8, 2.0])
def test_a_lower_end_above_the_truth_is_rare(gap, clustered, few_resamples):
    generator = draws(5)
    truth, missed = stats.norm.cdf(gap / math.sqrt(2)), 0
    for _ in range(120):
        good = generator.random(60) < 0.4
        clusters = np.arange(60) // 4 if clustered else None
        common = generator.standard_normal(15).repeat(4) if clustered else 0.0
        spread = math.sqrt(0.5) if clustered else 1.0
        scores = stats.norm.cdf(
            (gap * good + spread * generator.standard_normal(60) + spread * common) / 3
        )
        found = measure_auroc(scores, good, clusters=clusters, generator=generator)
        missed += found.interval.low > truth
    assert missed <= 8  # 2.5 % of 120 are 3; nine or more have a chance of 0.4 %


def test_a_gain_that_is_none_is_rarely_found(few_resamples):
    generator, found = draws(6), 0
    for _ in range(120):
        good = generator.random(80) < 0.5
        common = generator.standard_normal(80)
        one, other = (good + generator.standard_normal(80) + common for _ in range(2))
        found += measure_gain(one, other, good, generator=generator).interval.low > 0
    assert found <= 8


def test_a_gain_is_found_on_the_same_rows():
    scores, good = rows(150, gap=2.0)
    blurred = scores + draws(3).normal(0, 0.5, 150)
    found = measure_gain(scores, blurred, good, generator=draws())
    assert found.value == pytest.approx(auroc(scores, good) - auroc(blurred, good))
    assert found.interval.low > 0
    same = measure_gain(scores, scores, good, generator=draws())
    assert (same.value, same.interval) == (0, (0, 0))


# -- reliability -----------------------------------------------------------------------------


def test_bins_hold_the_rows_of_their_stretch():
    scores = np.array([0.0, 0.05, 0.3, 0.3, 0.1 + 0.2, 0.95, 1.0])
    labels = np.array([0, 1, 0, 1, 1, 1, 0.5])
    found = reliability(scores, labels)
    assert [(item.low, item.rows) for item in found] == [(0.0, 2), (0.3, 3), (0.9, 2)]
    assert found[0].score == pytest.approx(0.025)
    assert [item.label for item in found] == pytest.approx([0.5, 2 / 3, 0.75])
    assert found[0].interval == wilson(0.5, 2)
    # Rows of one cluster are one piece of news.
    clustered = reliability(scores, labels, clusters=np.array([0, 0, 1, 1, 1, 2, 3]))
    assert [item.interval for item in clustered] == [
        wilson(0.5, 1),
        wilson(2 / 3, 1),
        wilson(0.75, 2),
    ]


# -- trust -----------------------------------------------------------------------------------


def held(scores, good, missing=0, overlap=None, **bars):
    found = measure_agreement(scores, good.astype(float), good_from=0.5, overlap=overlap)
    criteria = hold_to(TrustBars(**bars), found, missing=missing)
    return {item.name: item.finding for item in criteria}, trust(criteria), criteria


def test_trust_goes_by_the_ends_of_intervals(few_resamples):
    scores, good = rows(300, gap=2.0)
    noise = draws(2).random(300)
    findings, found, _ = held(scores, good, overlap=noise)
    assert findings == {"auroc": "met", "gain": "met", "missing": "met"}
    assert (found, exit_code_of(found)) == ("trusted", 0)
    assert held(scores, good, overlap=noise, min_auroc=0.97)[1] == "not trusted"
    assert held(scores, good, overlap=scores)[0]["gain"] == "not met"
    assert held(scores, good, overlap=scores, min_gain=-1)[1] == "trusted"
    assert held(scores, good)[0] == {"auroc": "met", "missing": "met"}
    # A point estimate above the bar is not enough.
    few = slice(0, 16)
    findings, found, criteria = held(scores[few], good[few])
    assert criteria[0].value > 0.7
    assert (findings["auroc"], found, exit_code_of(found)) == ("undecided", "undecided", 3)
    needed = criteria[0].rows_needed
    assert needed is not None and 16 < needed < 300
    assert held(scores[:needed], good[:needed])[0]["auroc"] == "met"
    findings, found, criteria = held(noise, good)
    assert (findings["auroc"], found, criteria[0].rows_needed) == ("not met", "not trusted", None)


def test_missing_scores_are_held_to_their_share(few_resamples):
    scores, good = rows(300, gap=2.0)
    for missing, allowed, finding in ((0, 0.0, "met"), (1, 0.0, "not met"), (3, 0.01, "met")):
        findings, found, _ = held(scores, good, missing=missing, max_missing=allowed)
        assert findings["missing"] == finding
        assert (found == "trusted") is (finding == "met")


def test_the_same_rows_give_the_same_record():
    scores, good = rows(50)
    labels = good.astype(float)
    assert measure_agreement(scores, labels, good_from=0.5) == measure_agreement(
        scores, labels, good_from=0.5
    )
