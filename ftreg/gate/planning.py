"""What a number of examples can show: the gate's own tests, run on resampled deltas.

A formula uses only the spread of the deltas, and is wrong by a factor of three if scores are
few-valued or skewed. Instead, populations consistent with the observed deltas are drawn (Rubin,
"The Bayesian bootstrap", Annals of Statistics 9, 1981, with one change added on either side, since
a sample may lack the largest). Each is shifted to the planned mean, a sample is drawn from it, and
the tests that decide a row are run on the sample. The promised 80 % therefore includes the
uncertainty of the estimated spread.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ftreg.config.policy import GatePolicy, fewest_to_show
from ftreg.gate.guard import Draws, means_above
from ftreg.gate.seeds import interval_reach, seeds_reach
from ftreg.gate.units import Floats, Units
from ftreg.gate.verdict import Row

POWER = 0.8
"""The probability with which a plan comes true."""
RANGE = 0.9
"""The probability of the range around a number of examples."""
FOUND = 0.95
"""The probability with which a drop of twice the margin is found, of `examples_to_find`."""
# Weight of an unseen change that keeps the promise if only a few changes were seen.
_UNSEEN = 0.75
_TRUTHS = 80
# Deltas of more values are gathered into so many, of which so many at either end stay apart.
_VALUES = 20
_ENDS = 3
# Newton steps and halvings that are enough for shares of any mean, which is off by so much at most.
_STEPS = 40
_TILTED_TO = 1e-6
# The standard error of a number that is found so, relative to it.
_SOLVED_TO = 0.1
_EVALUATIONS = 3
_MOST_EVALUATIONS = 20
_MOST_UNITS = 10**9
# Probabilities this close to `POWER`, on the scale of z, are on a line.
_NEAR = 1.5
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question to the tests: how often they decide on `count` units from some populations."""

    truths: "_Truths"
    count: int
    margin: float
    policy: GatePolicy
    regression: bool
    """Whether the question is about a regression; else about a pass."""


# Asks for chances until it knows its number.
_Course = Generator[_Asked, float, float]


def planned(
    rows: Sequence[tuple[Row, Units]], *, policy: GatePolicy, drop_level: float
) -> list[Row]:
    """Return rows with what their examples can show, and how many would decide.

    All are planned together, and none depends on the others.

    Args:
        rows: measured, each with its paired deltas, of at least two units.
        policy: its confidence and its minimum of examples are read.
        drop_level: of the test of a drop, for a single row.
    """
    tested = policy.model_copy(update={"confidence": 1 - drop_level})
    behind = [_Truths.behind(units, policy=policy) for _, units in rows]
    drops = [
        _detectable_drop(units.count, truths, margin=row.margin, policy=tested)
        for (row, units), truths in zip(rows, behind, strict=True)
    ]
    needs = [
        _units_needed(units, truths, margin=_margin_left(row, policy), policy=policy)
        for (row, units), truths in zip(rows, behind, strict=True)
    ]
    numbers = _run([*drops, *needs])
    return [
        replace(
            _with_needed(row, units, truths, number=number, policy=policy),
            detectable_drop=_with_seeds(row, drop, level=drop_level),
        )
        for (row, units), truths, drop, number in zip(
            rows, behind, numbers[: len(rows)], numbers[len(rows) :], strict=True
        )
    ]


def drop_found(units: Units, *, count: int, margin: float, policy: GatePolicy) -> float | None:
    """Return the true drop that `count` units like these show to be beyond the margin.

    They do so in four of five cases, at the policy's confidence; None if there is no such drop.

    Args:
        units: paired deltas, at least two.
        count: number of units.
        margin: the allowed drop.
        policy: its confidence and its seed are read.
    """
    truths = _Truths.behind(units, policy=policy)
    (drop,) = _run([_detectable_drop(count, truths, margin=margin, policy=policy)])
    return drop if drop <= 1.0 else None


def _seeds(row: Row) -> tuple[tuple[int, int], tuple[float | None, float | None]]:
    counts = row.baseline_seeds, row.candidate_seeds
    return counts, (row.baseline_seed_deviation, row.candidate_seed_deviation)


def _margin_left(row: Row, policy: GatePolicy) -> float:
    """Return what seed noise leaves of a row's margin for the examples, or 0."""
    taken = interval_reach(*_seeds(row), confidence=policy.confidence, power=POWER)
    return math.sqrt(max(row.margin**2 - taken**2, 0.0))


def _with_seeds(row: Row, drop: float, *, level: float) -> float | None:
    """Return a detectable drop including seed noise; None above 1."""
    if drop > 1.0:
        return None
    if not row.seed_error:
        return drop
    reach = seeds_reach(*_seeds(row), level=level, power=POWER)
    return min(1.0, row.margin + math.hypot(drop - row.margin, reach))


def _with_needed(
    row: Row, units: Units, truths: "_Truths", *, number: float, policy: GatePolicy
) -> Row:
    """Return a row with the number of examples that it needs, and its range."""
    if math.isinf(number):
        return replace(row, n_needed=None, n_needed_range=None)
    factor = 1.0
    if units.sums.any():
        # The number grows with the variance, and each population has its own.
        scatter = float(2 * np.log(np.maximum(truths.spreads(), 1e-9)).std())
        factor = math.exp(_NORMAL.inv_cdf(0.5 + RANGE / 2) * math.hypot(scatter, _SOLVED_TO))
    least = _least(units, policy, margin=_margin_left(row, policy))
    size = float(units.sizes.mean())
    needed, low, high = (
        math.ceil(size * each) for each in (number, max(least, number / factor), number * factor)
    )
    return replace(row, n_needed=needed, n_needed_range=(low, high))


def _least(units: Units, policy: GatePolicy, *, margin: float) -> int:
    """Return the fewest units for a pass; unequal clusters count as fewer, so it takes more."""
    least = policy.least_units(margin, clustered=units.clustered)
    if policy.collapse is not None:
        least = max(least, fewest_to_show(policy.collapse.share, confidence=policy.confidence))
    least = math.ceil(least * units.count / units.effective)
    if not units.sums.any():  # equal scores promise no change
        least = max(least, fewest_to_show(margin, confidence=policy.confidence))
    return least


def _units_needed(units: Units, truths: "_Truths", *, margin: float, policy: GatePolicy) -> _Course:
    """Find with how many units a candidate as good as the baseline passes in four of five.

    Args:
        units: the paired deltas of a comparison; at least two.
        truths: populations consistent with them.
        margin: the allowed drop; if seeds leave nothing of it, no number is enough.
        policy: its confidence and its minimum of examples are read.
    """
    if not margin:
        return math.inf
    least = _least(units, policy, margin=margin)
    if not units.sums.any():
        return least
    truths = truths.with_mean(0.0)

    def asked(count: float) -> _Asked:
        return _Asked(truths, min(round(count), _MOST_UNITS), margin, policy, regression=False)

    share = yield asked(least)
    if share >= POWER:
        return least
    first = max(least, ((2.8 * float(truths.spreads().mean())) / margin) ** 2)
    start = 0.0, _NORMAL.inv_cdf((1 - policy.confidence) / 2)
    known = [(least, share)]
    found = yield from _solve(asked, first, power=0.5, start=start, known=known)
    return max(least, found)


def examples_to_find(units: Units, *, margin: float, policy: GatePolicy) -> int | None:
    """Return the number of examples that show a drop of twice the margin to be beyond it.

    They do so in 19 of 20 cases, by the test of this row alone. The drop is assumed to come from a
    few units that fall by the midpoint between the furthest observed change and everything, in
    addition to changes like those observed: a loss widens the deltas, and those of two equal models
    do not show by how much.

    Args:
        units: paired deltas, at least two.
        margin: the allowed drop.
        policy: its confidence, its minimum of examples and its seed are read.

    Returns:
        The number; None if scores in [0, 1] cannot drop by so much.
    """
    drop = 2 * margin
    if drop > 1:
        return None
    truths = _Truths.behind(units, policy=policy)
    furthest = float(np.abs(truths.values).max())
    truths = truths.with_drops(drop, each=max(drop, (1 + furthest) / 2))

    least = policy.least_units(margin, clustered=units.clustered)
    (number,) = _run([_units_to_find(truths, least=least, margin=margin, policy=policy)])
    return math.ceil(math.ceil(number) * float(units.sizes.mean()))


def _units_to_find(truths: "_Truths", *, least: int, margin: float, policy: GatePolicy) -> _Course:
    """Find with how many units, `least` or more, the drop of `truths` is a regression."""

    def asked(count: float) -> _Asked:
        return _Asked(truths, min(round(count), _MOST_UNITS), margin, policy, regression=True)

    share = yield asked(least)
    if share >= FOUND:
        return least
    first = max(least, (3.3 * float(truths.spreads().mean()) / margin) ** 2)
    start = 0.0, _NORMAL.inv_cdf(1 - policy.confidence)
    known = [(float(least), share)]
    found = yield from _solve(
        asked, first, power=0.5, start=start, known=known, goal=FOUND, evaluations=_MOST_EVALUATIONS
    )
    return max(least, found)


def _detectable_drop(
    count: int, truths: "_Truths", *, margin: float, policy: GatePolicy
) -> _Course:
    """Find the true drop that so many units show to be beyond the margin in four of five cases.

    It is for this row alone: if many rows are tested, Holm's correction needs more.

    Args:
        count: number of units.
        truths: the populations that they may come from.
        margin: the allowed drop.
        policy: its confidence is read.

    Returns:
        The drop, above the margin; above 1 if none can be shown.
    """

    def asked(drop: float) -> _Asked:
        return _Asked(truths.with_mean(-drop), count, margin, policy, regression=True)

    first = margin + 2.5 * max(float(truths.spreads().mean()) / math.sqrt(count), 1.2 / count)
    start = margin, _NORMAL.inv_cdf(1 - policy.confidence)
    return max(margin, (yield from _solve(asked, min(first, 1.0), power=1.0, start=start)))


def _run(courses: Sequence[_Course]) -> list[float]:
    """Return what the courses find, answering the questions of all of them at once."""
    found = [0.0] * len(courses)
    waiting: dict[int, _Asked] = {}
    answers: dict[int, float | None] = dict.fromkeys(range(len(courses)))
    asked = 0
    while answers:
        waiting = {}
        for place, answer in answers.items():
            course = courses[place]
            try:
                waiting[place] = next(course) if answer is None else course.send(answer)
            except StopIteration as stop:
                found[place] = stop.value
        # Every question has its own samples, so that their errors average out.
        answers = dict(zip(waiting, _chances(list(waiting.values()), stream=asked), strict=True))
        asked += 1
    return found


def _chances(asked: Sequence[_Asked], *, stream: int) -> list[float]:
    """Return how often each question is decided, with one sample per population."""
    if not asked:
        return []
    samples = [each.truths.sample(each.count, seed=(each.policy.seed, stream)) for each in asked]
    values = [-each.truths.values if each.regression else each.truths.values for each in asked]
    points = [each.margin if each.regression else -each.margin for each in asked]
    decided = means_above(
        Draws(np.concatenate(values), np.concatenate(samples)),
        np.repeat(points, _TRUTHS),
        np.repeat([1 - each.policy.confidence for each in asked], _TRUTHS),
    ).reshape(len(asked), _TRUTHS)
    for place, (each, counts) in enumerate(zip(asked, samples, strict=True)):
        if not each.regression:
            decided[place] &= each.truths.clears(counts, margin=each.margin, policy=each.policy)
    return [float(share) for share in decided.mean(axis=1)]


def _solve(
    ask: Callable[[float], _Asked],
    first: float,
    *,
    power: float,
    start: tuple[float, float],
    known: Sequence[tuple[float, float]] = (),
    goal: float = POWER,
    evaluations: int = _EVALUATIONS,
) -> _Course:
    """Find where an increasing probability reaches a goal.

    Args:
        ask: for the probability, which is estimated from `_TRUTHS` samples, so not quite monotone.
        first: a guess.
        power: z is nearly linear in this power of the argument.
        start: an argument and its z, where the line begins.
        known: arguments and their probabilities.
        goal: a probability.
        evaluations: how many chances to ask for at least; more of them for a goal near 1.
    """
    goal = _NORMAL.inv_cdf(goal)
    begin = start[0] ** power, min(start[1], goal - _NEAR - 0.5)
    found = [(x, _z(share)) for x, share in known]
    at = first
    for number in range(1, _MOST_EVALUATIONS + 1):
        found.append((at, _z((yield ask(at)))))
        near = [(x**power, z) for x, z in found if abs(z - goal) < _NEAR]
        low = max((x for x, z in found if z < goal), default=0.0)
        high = min((x for x, z in found if z >= goal and x > low), default=math.inf)
        if near:
            at = _line_at(goal, begin, near) ** (1 / power)
            if number >= evaluations:
                break
        else:  # by steps: 1.7 holds for numbers and drops
            at = math.sqrt(max(low, high / 3) * high) if math.isfinite(high) else 1.7 * low
    return at


def _z(share: float) -> float:
    """Return an estimated probability as a normal quantile, always finite."""
    return _NORMAL.inv_cdf(min(max(share, 0.5 / _TRUTHS), 1 - 0.5 / _TRUTHS))


def _line_at(
    goal: float, begin: tuple[float, float], points: Sequence[tuple[float, float]]
) -> float:
    """Return where the line from its start through the mean of points (x, z) has z = `goal`."""
    x, z = (math.fsum(column) / len(points) for column in zip(*points, strict=True))
    return begin[0] + (x - begin[0]) * (goal - begin[1]) / (z - begin[1])


@dataclass(frozen=True, slots=True)
class _Truths:
    """Distributions of a unit's delta: their values and probabilities, shape (truths, values)."""

    values: Floats
    shares: Floats
    tied: bool
    """Whether most changes are tied with others, or zero."""

    @classmethod
    def behind(cls, units: Units, *, policy: GatePolicy) -> "_Truths":
        """Draw distributions consistent with `units`."""
        values, counts, distinct = _gathered(units.values())
        furthest = float(np.abs(values).max())
        # Always the same number, so that rows planned together do not change the last bit.
        empty = [0.0] * (_VALUES - len(values))
        values = np.concatenate([empty, values, [-furthest, furthest]])
        counts = np.concatenate([empty, counts, [_UNSEEN, _UNSEEN]])
        generator = np.random.default_rng(policy.seed)
        shares = generator.standard_gamma(np.tile(counts, (_TRUTHS, 1)))
        shares /= shares.sum(axis=1, keepdims=True)
        return cls(np.tile(values, (_TRUTHS, 1)), shares, distinct <= 0.5 * units.count)

    def with_mean(self, mean: float) -> "_Truths":
        """Return each with another mean, by shifting all changes.

        If most changes are tied, or the shifted ones would exceed what scores allow, the same
        changes get other shares instead.
        """
        shift = mean - (self.shares * self.values).sum(axis=1, keepdims=True)
        moved = self.values + shift
        tied = self.tied or float(np.abs(moved).max()) > 1.0
        if tied and abs(mean) < float(self.values[0].max()):
            return replace(self, shares=_tilted(self.values[0], self.shares, mean))
        return replace(self, values=np.clip(moved, -1.0, 1.0))

    def with_drops(self, drop: float, *, each: float) -> "_Truths":
        """Return each with the mean -`drop`, by letting a share of units fall by `each`."""
        still, share = self.with_mean(0.0), drop / each
        column = np.ones((len(self.values), 1))
        return replace(
            still,
            values=np.hstack([still.values, -each * column]),
            shares=np.hstack([(1 - share) * still.shares, share * column]),
        )

    def spreads(self) -> Floats:
        """Return the standard deviation of each."""
        means = (self.shares * self.values).sum(axis=1)
        squares = (self.shares * self.values**2).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(squares - means**2, 0.0)))

    def clears(self, counts: Floats, *, margin: float, policy: GatePolicy) -> NDArray[np.bool_]:
        """Return for samples of each whether their BCa intervals lie above -margin."""
        return self._bca(counts, (1 - policy.confidence) / 2) > -margin

    def sample(self, count: int, *, seed: tuple[int, int]) -> Floats:
        """Draw a sample of `count` units from each; returns the count of each value."""
        generator = np.random.default_rng(seed)
        return np.asarray(generator.multinomial(count, self.shares), dtype=np.float64)

    def _bca(self, counts: Floats, level: float) -> Floats:
        """The lower end of each sample's BCa interval, the same as `ftreg.gate.bootstrap.bca`."""
        total = counts.sum(axis=1)
        means = (counts * self.values).sum(axis=1) / total
        centred = self.values - means[:, None]
        second = (counts * centred**2).sum(axis=1)
        third = (counts * centred**3).sum(axis=1)
        acceleration = third / np.maximum(6 * second**1.5, 1e-300)
        shifted = acceleration + _NORMAL.inv_cdf(level)
        error = np.sqrt(second) / total
        return np.asarray(means + error * shifted / (1 - acceleration * shifted) ** 2)


def _gathered(values: Floats) -> tuple[Floats, Floats, int]:
    """Return the distinct values, the count of each, and their number.

    If there are very many, neighbours are averaged, except the lowest and the highest few.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _VALUES:
        return distinct, counts.astype(np.float64), len(distinct)
    total = len(values)
    groups = _VALUES - 2 * _ENDS
    inner = _ENDS + np.arange(groups) * (total - 2 * _ENDS) // groups
    starts = np.concatenate([np.arange(_ENDS), inner, np.arange(total - _ENDS, total)])
    sizes = np.diff(starts, append=total).astype(np.float64)
    means = np.add.reduceat(np.sort(values), starts) / sizes
    # Restore the spread that grouping loses.
    centre = values.mean()
    spread = math.sqrt(float((sizes * (means - centre) ** 2).sum() / total))
    moved = centre + (means - centre) * float(values.std()) / spread
    return np.clip(moved, -1.0, 1.0), sizes, len(distinct)


def _tilted(values: Floats, shares: Floats, mean: float) -> Floats:
    """Return the shares nearest to `shares`, in relative entropy, with the mean `mean`."""
    low = np.full((len(shares), 1), -200.0)
    high = -low
    at = np.zeros_like(low)
    for _ in range(_STEPS):
        exponents = at * values
        tilted = shares * np.exp(exponents - exponents.max(axis=1, keepdims=True))
        tilted /= tilted.sum(axis=1, keepdims=True)
        off = tilted @ values[:, None] - mean
        if np.abs(off).max() < _TILTED_TO:
            break
        low, high = np.where(off > 0, low, at), np.where(off > 0, at, high)
        # The derivative of the mean is the variance.
        variance = tilted @ values[:, None] ** 2 - (off + mean) ** 2
        step = at - off / np.maximum(variance, 1e-300)
        at = np.where((low < step) & (step < high), step, (low + high) / 2)
    return np.asarray(tilted)
