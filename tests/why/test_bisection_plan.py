"""The plan of a search, tried on responses whose cause is known."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from ftreg.why.causes import BisectQuestion
from ftreg.why.effects import HybridRun, MeasuredRuns, delta_of, part_of
from ftreg.why.hybrid_plan import BisectFinding, next_step, undecided

FACTORS = 5
Response = Callable[[int], float]


def search(
    response: Response,
    *,
    noise: float,
    rng: np.random.Generator,
    question: BisectQuestion | None = None,
) -> tuple[BisectFinding, int]:
    """Answer every hybrid that the plan asks for with the response and noise."""
    question = question or BisectQuestion(FACTORS, resolution=1e-6)
    observed = response(question.every) - response(0) + rng.normal(0, noise * 2**0.5)
    runs: list[HybridRun] = []
    while len(runs) < 60:
        step = next_step(question, runs, observed=observed)
        if isinstance(step, BisectFinding):
            return step, len(runs)
        runs.append(HybridRun(step, len(runs), response(step) + rng.normal(0, noise)))
    return undecided(question, runs, budget="60 runs"), len(runs)


def bit(bad: int, factor: int) -> int:
    return bad >> factor & 1


CAUSES: dict[str, Callable[[int, int], Response]] = {
    "one": lambda a, b: lambda bad: -0.4 * bit(bad, a),
    "most": lambda a, b: lambda bad: -0.3 * bit(bad, a) - 0.1 * bit(bad, b),
    "both": lambda a, b: lambda bad: -0.4 * (bit(bad, a) & bit(bad, b)),
    "either": lambda a, b: lambda bad: -0.4 * (bit(bad, a) | bit(bad, b)),
    "sum": lambda a, b: lambda bad: -0.2 * bit(bad, a) - 0.2 * bit(bad, b),
    "none": lambda a, b: lambda bad: 0.0,
}
RIGHT = {"one": "culprit", "most": "culprit", "none": "noise"}


@pytest.mark.parametrize("kind", CAUSES)
def test_a_planted_cause_is_named_and_an_innocent_factor_is_not(kind: str) -> None:
    rng = np.random.default_rng(7)
    trials, right, innocent, taken = 40, 0, 0, 0
    for _ in range(trials):
        first, second = rng.permutation(FACTORS)[:2].tolist()
        found, runs = search(CAUSES[kind](first, second), noise=0.03, rng=rng)
        guilty = {"one": {first}, "none": set()}.get(kind, {first, second})
        wanted = {first} if RIGHT.get(kind) == "culprit" else guilty
        named = set(found.suspects) if found.answer in ("culprit", "pair") else set()
        right += found.answer == RIGHT.get(kind, "pair") and named == wanted
        innocent += bool(named - guilty)
        taken += runs
        if kind == "one" and found.share is not None and found.share.interval is not None:
            assert found.share.interval.low < found.share.value < found.share.interval.high
    assert right >= 0.95 * trials if kind == "none" else right >= 0.9 * trials
    assert innocent <= 0.05 * trials
    assert taken / trials < 2**FACTORS / 1.5, "a full factorial, each hybrid once, takes 32"


def test_what_all_factors_do_a_little_is_undecided_and_no_number_of_runs_would_tell() -> None:
    rng = np.random.default_rng(1)
    found, _ = search(lambda bad: -0.1 * bad.bit_count(), noise=0.01, rng=rng)
    assert (found.answer, found.suspects, found.more_runs) == ("undecided", (), None)
    assert "spread" in found.why


def test_blocks_that_add_up_are_named_together() -> None:
    rng = np.random.default_rng(2)
    question = BisectQuestion(6, groups=((1, 2, 3, 4),), resolution=1e-6)

    def response(bad: int) -> float:
        return -0.1 * sum(bit(bad, block) for block in (1, 2, 3, 4))

    answers = Counter(
        search(response, noise=0.02, rng=rng, question=question)[0].suspects for _ in range(20)
    )
    assert answers[1, 2, 3, 4] >= 18


def test_two_runs_of_each_end_are_no_answer_but_say_how_many_more() -> None:
    rng = np.random.default_rng(3)
    runs = [HybridRun(bad, seed, float(rng.uniform())) for bad in (0, 31) for seed in (1, 2)]
    found = undecided(BisectQuestion(FACTORS), runs, budget="--max-runs 4 has ended")
    assert found.answer == "undecided"
    assert found.more_runs
    assert found.why == "--max-runs 4 has ended"


def test_a_delta_that_training_again_does_not_show_is_not_called_noise() -> None:
    """What the two checkpoints differ by may lie outside of their recipes."""
    rng = np.random.default_rng(4)
    runs: list[HybridRun] = []
    while not isinstance(step := next_step(BisectQuestion(3), runs, observed=-0.5), BisectFinding):
        runs.append(HybridRun(step, len(runs), float(rng.normal(0.5, 0.01))))
    assert step.answer == "undecided"
    assert "versions" in step.why


def test_the_interval_of_a_share_has_the_ratios_that_the_runs_do_not_refuse() -> None:
    """Fieller's definition, held against every ratio of a grid, with scipy's t."""
    from scipy import stats

    rng = np.random.default_rng(5)
    groups = {0: 3, 1: 2, 6: 4, 7: 3}
    runs = [
        HybridRun(bad, seed, float(rng.normal(0.8 - 0.1 * bad, 0.05)))
        for bad, count in groups.items()
        for seed in range(count)
    ]
    share = MeasuredRuns(runs, resolution=0.0).share(part_of(1, 3), delta_of(3), confidence=0.95)
    assert share.interval is not None
    samples = {bad: [run.mean for run in runs if run.bad == bad] for bad in groups}
    freedom = sum(groups.values()) - len(groups)
    variance = sum(np.var(group) * len(group) for group in samples.values()) / freedom
    weights = {1: (0.5, 0.0), 0: (-0.5, -1.0), 7: (0.5, 1.0), 6: (-0.5, 0.0)}
    for ratio in np.linspace(-0.5, 1.0, 301):
        mixed = {bad: part - ratio * whole for bad, (part, whole) in weights.items()}
        middle = sum(mixed[bad] * np.mean(samples[bad]) for bad in groups)
        error = np.sqrt(variance * sum(mixed[bad] ** 2 / groups[bad] for bad in groups))
        p = 2 * stats.t.sf(abs(middle) / error, freedom)
        inside = share.interval.low <= ratio <= share.interval.high
        assert inside == (p >= 0.05), ratio


def test_the_share_of_one_factor_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(400):
        runs = [
            HybridRun(bad, seed, mean + float(rng.normal(0, 0.1)))
            for bad, mean in {0: 0.9, 1: 0.4, 2: 0.7, 3: 0.2}.items()
            for seed in range(3)
        ]
        share = MeasuredRuns(runs, resolution=0.0).share(part_of(1, 2), delta_of(2), confidence=0.9)
        assert share.interval is not None
        covered += share.interval.low <= 5 / 7 <= share.interval.high
    assert 340 <= covered <= 380, "0.9 of 400, give or take three standard errors"


def test_no_end_of_a_share_is_made_up_where_both_ends_may_be_equal() -> None:
    runs = [
        HybridRun(bad, seed, mean) for bad in (0, 1, 2, 3) for seed, mean in ((1, 0.4), (2, 0.6))
    ]
    runs[0] = runs[0]._replace(mean=0.41)
    share = MeasuredRuns(runs, resolution=0.0).share(part_of(1, 2), delta_of(2), confidence=0.95)
    assert share.interval is None
