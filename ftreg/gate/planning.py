"""What a number of examples can show: the gate's own tests, run on resampled deltas.

A formula knows the spread of the deltas alone, and is wrong by a factor of three where scores are
few-valued or skewed. So truths are drawn that may lie behind the deltas seen (Rubin, "The Bayesian
bootstrap", Annals of Statistics 9, 1981, with a change to either side beside them, for a sample may
lack the largest), each is given the mean that is planned for, a sample is drawn from it, and the
tests that decide a row are made of that. So the promise of 80 % covers that the spread is
estimated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from ftreg.config.policy import GatePolicy, fewest_to_show
from ftreg.gate.guard import Draws, mean_p_values
from ftreg.gate.seeds import interval_reach, seeds_reach
from ftreg.gate.units import Floats, Units
from ftreg.gate.verdict import Row

POWER = 0.8
"""The probability with which a plan comes true."""
RANGE = 0.9
"""The probability of the range around a number of examples."""
FOUND = 0.95
"""The probability with which a drop of twice the margin is found, of `examples_to_find`."""
# How much of a change beside those seen keeps the promise where a few were seen.
_UNSEEN = 0.75
_TRUTHS = 80
# Deltas of more values are gathered into so many.
_VALUES = 32
_STEPS = 40
# The standard error of a number that is found so, relative to it.
_SOLVED_TO = 0.1
_EVALUATIONS = 4
_MOST_EVALUATIONS = 20
_MOST_UNITS = 10**9
# Chances so near to `POWER`, on the scale of z, lie on a line.
_NEAR = 1.5
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Needed:
    """A number of examples, and the range that it lies in with a probability of 90 %."""

    examples: int
    low: int
    high: int


def _examples_needed(
    units: Units, truths: "_Truths", *, margin: float, policy: GatePolicy
) -> Needed:
    """Return with how many examples a candidate as good as the baseline passes in four of five.

    Args:
        units: the paired deltas of a comparison; at least two.
        truths: what may lie behind them.
        margin: the drop that is allowed.
        policy: its confidence and its fewest examples are read.
    """
    least = policy.least_units(margin, clustered=units.clustered)
    if policy.collapse is not None:
        least = max(least, fewest_to_show(policy.collapse.share, confidence=policy.confidence))
    size = float(units.sizes.mean())
    # Unequal clusters count as fewer, so that it takes more of them.
    least = math.ceil(least * units.count / units.effective)
    if not units.sums.any():  # equal scores promise no change
        least = max(least, fewest_to_show(margin, confidence=policy.confidence))
        return Needed(*[math.ceil(least * size)] * 3)
    truths = truths.with_mean(0.0)

    def passes(count: float) -> float:
        number = min(round(count), _MOST_UNITS)
        return float(truths.passes(number, margin=margin, policy=policy).mean())

    spreads = truths.spreads()
    first = max(least, ((2.8 * float(spreads.mean())) / margin) ** 2)
    found = least if passes(least) >= POWER else max(least, _solve(passes, first, power=0.5))
    # The number grows with the variance, of which there is one to each truth.
    scatter = 2 * np.log(np.maximum(spreads, 1e-9)).std()
    factor = math.exp(_NORMAL.inv_cdf(0.5 + RANGE / 2) * math.hypot(float(scatter), _SOLVED_TO))
    numbers = found, max(least, found / factor), found * factor
    return Needed(*(math.ceil(number * size) for number in numbers))


def planned(row: Row, units: Units, *, policy: GatePolicy, drop_level: float) -> Row:
    """Return a row with what its examples can show, and how many would decide.

    Args:
        row: measured, of at least two units.
        units: its paired deltas.
        policy: its confidence and its fewest examples are read.
        drop_level: of the test of a drop, for this row alone.
    """
    tested = policy.model_copy(update={"confidence": 1 - drop_level})
    truths = _Truths.behind(units, policy=policy)
    drop = _detectable_drop(units.count, truths, margin=row.margin, policy=tested)
    if drop is not None and row.seed_error:
        reach = seeds_reach(*_seeds(row), level=drop_level, power=POWER)
        drop = min(1.0, row.margin + math.hypot(drop - row.margin, reach))
    needed = None
    taken = interval_reach(*_seeds(row), confidence=policy.confidence, power=POWER)
    left = row.margin**2 - taken**2
    if left > 0:
        needed = _examples_needed(units, truths, margin=math.sqrt(left), policy=policy)
    return replace(
        row,
        detectable_drop=drop,
        n_needed=None if needed is None else needed.examples,
        n_needed_range=None if needed is None else (needed.low, needed.high),
    )


def _seeds(row: Row) -> tuple[tuple[int, int], tuple[float | None, float | None]]:
    counts = row.baseline_seeds, row.candidate_seeds
    return counts, (row.baseline_seed_deviation, row.candidate_seed_deviation)


def drop_found(units: Units, *, count: int, margin: float, policy: GatePolicy) -> float | None:
    """Return the true drop that `count` units like these prove to be beyond the margin.

    They do in four of five cases, at the policy's confidence; None where no drop is proven so.

    Args:
        units: paired deltas, at least two.
        count: how many units there would be.
        margin: the drop that is allowed.
        policy: its confidence and its seed are read.
    """
    truths = _Truths.behind(units, policy=policy)
    return _detectable_drop(count, truths, margin=margin, policy=policy)


def examples_to_find(units: Units, *, margin: float, policy: GatePolicy) -> int | None:
    """Return with how many examples a drop of twice the margin is proven to be beyond it.

    It is in 19 of 20 cases, by the test of this row alone. The drop is taken to be made by few
    units, which fall by halfway from the furthest change seen to all, beside changes like those
    seen: a loss widens the deltas, and those of two equal models do not show how much.

    Args:
        units: paired deltas, at least two.
        margin: the drop that is allowed.
        policy: its confidence, its fewest examples and its seed are read.

    Returns:
        The number; None where scores in [0, 1] cannot drop by so much.
    """
    drop = 2 * margin
    if drop > 1:
        return None
    truths = _Truths.behind(units, policy=policy)
    furthest = float(np.abs(truths.values).max())
    truths = truths.with_drops(drop, each=max(drop, (1 + furthest) / 2))

    def found(count: float) -> float:
        number = min(round(count), _MOST_UNITS)
        return float(truths.regresses(number, margin=margin, policy=policy).mean())

    least = policy.least_units(margin, clustered=units.clustered)
    first = max(least, (3.3 * float(truths.spreads().mean()) / margin) ** 2)
    if found(least) < FOUND:
        least = max(least, math.ceil(_solve(found, first, power=0.5, goal=FOUND)))
    return math.ceil(least * float(units.sizes.mean()))


def _detectable_drop(
    count: int, truths: "_Truths", *, margin: float, policy: GatePolicy
) -> float | None:
    """Return the true drop that as many examples prove to be beyond the margin in four of five.

    It is that of this row alone: where many rows are tested, Holm's correction asks for more.

    Args:
        count: of the units.
        truths: what may lie behind them.
        margin: the drop that is allowed.
        policy: its confidence is read.

    Returns:
        The drop, above the margin and at most 1; None where none can be proven.
    """

    def found(drop: float) -> float:
        fallen = truths.with_mean(-drop)
        return float(fallen.regresses(count, margin=margin, policy=policy).mean())

    first = margin + 2.5 * max(float(truths.spreads().mean()) / math.sqrt(count), 1.2 / count)
    drop = max(margin, _solve(found, min(first, 1.0), power=1.0))
    return drop if drop <= 1.0 else None


def _solve(
    chance: Callable[[float], float], first: float, *, power: float, goal: float = POWER
) -> float:
    """Return where a rising chance reaches a goal.

    Args:
        chance: estimated from `_TRUTHS` samples, so not quite rising.
        first: a guess.
        power: z is nearly linear in this power of the argument.
        goal: a probability.
    """
    goal = _NORMAL.inv_cdf(goal)
    found: list[tuple[float, float]] = []
    at = first
    low, high = 0.0, math.inf
    while len(found) < _EVALUATIONS or not (low and math.isfinite(high)):
        if len(found) == _MOST_EVALUATIONS:
            break
        share = min(max(chance(at), 0.5 / _TRUTHS), 1 - 0.5 / _TRUTHS)
        found.append((at, _NORMAL.inv_cdf(share)))
        low = max((x for x, z in found if z < goal), default=0.0)
        high = min((x for x, z in found if z >= goal and x > low), default=math.inf)
        at = _line_at(goal, [(x**power, z) for x, z in found if abs(z - goal) < _NEAR])
        at = max(at, 0.0) ** (1 / power)
        # Within what is known, and by steps where nothing is: 1.7 holds for numbers and drops.
        least = low if low else min(x for x, _ in found) / 1.7
        most = high if math.isfinite(high) else 1.7 * low
        if not least <= at <= most:
            at = (
                math.sqrt(least * most) if low and math.isfinite(high) else (most if low else least)
            )
    return at


def _line_at(goal: float, points: list[tuple[float, float]]) -> float:
    """Return where the line through points (x, z) has z = `goal`; NaN if they make no line."""
    if len(points) < 2:
        return math.nan
    x, z = (np.array(column) for column in zip(*points, strict=True))
    slope = float(np.polyfit(x, z, 1)[0]) if np.ptp(x) > 0 else 0.0
    return float(x.mean() + (goal - z.mean()) / slope) if slope > 0 else math.nan


@dataclass(frozen=True, slots=True)
class _Truths:
    """Distributions of a unit's delta: their values and probabilities, shape (truths, values)."""

    values: Floats
    shares: Floats
    tied: bool
    """Whether most scores change by what others do too, or not at all."""

    @classmethod
    def behind(cls, units: Units, *, policy: GatePolicy) -> "_Truths":
        """Draw distributions that may lie behind `units`."""
        values, counts, distinct = _gathered(units.values())
        if furthest := float(np.abs(values).max()):
            values = np.concatenate([values, [-furthest, furthest]])
            counts = np.concatenate([counts, [_UNSEEN, _UNSEEN]])
        generator = np.random.default_rng(policy.seed)
        shares = generator.standard_gamma(np.tile(counts, (_TRUTHS, 1)))
        shares /= shares.sum(axis=1, keepdims=True)
        return cls(np.tile(values, (_TRUTHS, 1)), shares, distinct <= 0.5 * units.count)

    def with_mean(self, mean: float) -> "_Truths":
        """Return each with another mean: other shares of the same changes where most are tied.

        Else all change by more, where no change would then be beyond what scores allow.
        """
        shift = mean - (self.shares * self.values).sum(axis=1, keepdims=True)
        moved = self.values + shift
        tied = self.tied or float(np.abs(moved).max()) > 1.0
        if tied and abs(mean) < float(self.values[0].max()):
            return replace(self, shares=_tilted(self.values[0], self.shares, mean))
        return replace(self, values=np.clip(moved, -1.0, 1.0))

    def with_drops(self, drop: float, *, each: float) -> "_Truths":
        """Return each with the mean -`drop`, made by a share of units that fall by `each`."""
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

    def passes(self, count: int, *, margin: float, policy: GatePolicy) -> Floats:
        """Return for a sample of `count` units of each whether it would pass."""
        counts = self._sample(count, policy)
        error = 1 - policy.confidence
        clear = self._bca(counts, error / 2) > -margin
        found = mean_p_values(Draws(self.values, counts), -margin) < error
        return (found & clear).astype(np.float64)

    def regresses(self, count: int, *, margin: float, policy: GatePolicy) -> Floats:
        """Return for a sample of `count` units of each whether it would be a regression."""
        drops = Draws(-self.values, self._sample(count, policy))
        return (mean_p_values(drops, margin) <= 1 - policy.confidence).astype(np.float64)

    def _sample(self, count: int, policy: GatePolicy) -> Floats:
        generator = np.random.default_rng(policy.seed)
        return np.asarray(generator.multinomial(count, self.shares), dtype=np.float64)

    def _bca(self, counts: Floats, level: float) -> Floats:
        """The lower end of each sample's BCa interval, as `ftreg.gate.bootstrap.bca` has it."""
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
    """Return the distinct values, how often each is there, and how many they are.

    Of very many, means of neighbours are taken.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _VALUES:
        return distinct, counts.astype(np.float64), len(distinct)
    starts = np.arange(_VALUES) * len(values) // _VALUES
    sizes = np.diff(starts, append=len(values)).astype(np.float64)
    means = np.add.reduceat(np.sort(values), starts) / sizes
    # What the groups lose of the spread is given back.
    centre = values.mean()
    spread = math.sqrt(float((sizes * (means - centre) ** 2).sum() / len(values)))
    return centre + (means - centre) * float(values.std()) / spread, sizes, len(distinct)


def _tilted(values: Floats, shares: Floats, mean: float) -> Floats:
    """Return the shares nearest to `shares`, in relative entropy, with the mean `mean`."""
    low = np.full(len(shares), -200.0)
    high = -low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        exponents = middle[:, None] * values
        tilted = shares * np.exp(exponents - exponents.max(axis=1, keepdims=True))
        tilted /= tilted.sum(axis=1, keepdims=True)
        above = tilted @ values > mean
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray(tilted)
