"""From measured rows to outcomes, and from outcomes to the verdict's reasons.

The reasons speak in points of 100, as the reports do; the numbers of a row are scores in [0, 1].
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from ftreg.config.policy import GatePolicy
from ftreg.gate.interval import UNCHANGED
from ftreg.gate.permutation import holm
from ftreg.gate.spending import LEAST_LEVEL, Looks, pass_level
from ftreg.gate.verdict import BETTING, PRIMARY, CriticalDrop, Grade, Outcome, Row, largest_p_value

# A drop of exactly the margin does not exceed it, regardless of rounding.
_ROUNDING = 1e-12
# Below this a p value has no meaningful digit.
_LEAST_P = 1e-12


def settle(
    rows: Sequence[Row],
    policy: GatePolicy,
    *,
    strict: GatePolicy,
    looks: Looks,
    fixed: Collection[str] = (),
) -> list[Row]:
    """Set every row's outcome, note, and p values adjusted over all tested rows.

    Args:
        rows: as measured.
        policy: its confidence decides regressions.
        strict: the same with the confidence that rows were measured with, which decides passes.
        looks: how many candidates the baseline and the anchor were chosen from. The tests against
            the others belong to the family too, and are assumed not to reject.
        fixed: scorers with a complete set of items; a pass needs no minimum number of them.
    """
    # Rows of the same examples ask one question, and count as one test.
    tests: dict[tuple[object, ...], Row] = {}
    for row in rows:
        if row.p_beyond is not None:
            tests.setdefault(_question(row), row)
    shares = _weights(list(tests.values()))
    counts = looks.drop_levels(1.0)
    weights = [
        share * counts[row.against] for share, row in zip(shares, tests.values(), strict=True)
    ]
    whole = math.fsum(shares) + bool(_limits(policy))
    worse = holm([largest_p_value(row) for row in tests.values()], weights, total=whole)
    beyond = holm([row.p_beyond or 0.0 for row in tests.values()], weights, total=whole)
    adjusted = dict(zip(tests, zip(worse, beyond, strict=True), strict=True))
    any_number = strict.model_copy(update={"min_examples": 1})
    settled = []
    for row in rows:
        if row.p_beyond is not None:
            p_adjusted, p_beyond_adjusted = adjusted[_question(row)]
            row = replace(row, p_adjusted=p_adjusted, p_beyond_adjusted=p_beyond_adjusted)
        needed = any_number if row.scorer in fixed else strict
        outcome, grade, note = _judge(row, policy, needed)
        settled.append(replace(row, outcome=outcome, grade=grade, note=note))
    return settled


def limit_level(rows: Sequence[Row], policy: GatePolicy, *, strict: GatePolicy) -> float:
    """Return the error of each end of the interval of a mean with a floor or a budget.

    A broken one belongs to the family of possible regressions, as a third part beside all
    examples and cohorts. That it is met must be shown for each.

    Args:
        rows: settled.
        policy: see `settle`.
        strict: see `settle`.
    """
    parts = {row.cohort == PRIMARY for row in rows if row.p_beyond is not None}
    share = (1 - policy.confidence) / (len(parts) + 1) / max(1, _limits(policy))
    return min(share, (1 - strict.confidence) / 2)


def _limits(policy: GatePolicy) -> int:
    return len(policy.floors) + (policy.budgets.tokens_per_answer is not None)


def _question(row: Row) -> tuple[object, ...]:
    # That two cohorts have had the same examples so far does not make them one.
    apart = row.cohort if row.method == BETTING else None
    return row.scorer, row.against, row.n, row.units, row.delta, row.standard_error, apart


def _weights(rows: Sequence[Row]) -> list[float]:
    """Return each row's share of the error probability: half for all examples, half for cohorts.

    The number of cohorts therefore does not decide whether a drop over all examples is found.
    """
    whole = sum(row.cohort == PRIMARY for row in rows)
    return [1 / whole if row.cohort == PRIMARY else 1 / (len(rows) - whole) for row in rows]


def _judge(row: Row, policy: GatePolicy, strict: GatePolicy) -> tuple[Outcome, Grade | None, str]:
    if row.p_beyond_adjusted is None or row.delta is None or row.interval is None:
        return "undecided", "few" if row.n else "unknown", row.note
    level = 1 - policy.confidence
    plain = policy.mode == "threshold"
    if (-row.delta > row.margin + _ROUNDING) if plain else row.p_beyond_adjusted <= level:
        return "regression", None, _room(row)
    if obstacle := _obstacle(row, policy):
        return "undecided", "unknown", obstacle
    low = row.interval.low if row.low_at_worst is None else row.low_at_worst
    few = _may_collapse(row, policy)
    if plain:
        return ("undecided", "few", few) if few else ("pass", None, _room(row))
    few = _too_few(row, strict) or few
    if not few and low > -row.margin:
        return "pass", None, _remark(row)
    if row.p_adjusted is not None and row.p_adjusted <= level:
        chance = f"certainly worse (p = {row.p_adjusted:.2g})"
        return (
            "undecided",
            "worse",
            f"{chance}, perhaps by less than the margin of {100 * row.margin:g}",
        )
    if few:
        return "undecided", "few", few
    counted = f" with {missing_scores(row)}" if row.interval.low > -row.margin else ""
    return (
        "undecided",
        "unknown" if counted else "few",
        f"a drop of {_beyond(-low, row.margin)} points cannot be ruled out{counted}; the "
        f"margin is {100 * row.margin:g}",
    )


def missing_scores(row: Row) -> str:
    """Return, in words, how the missing scores of a row are counted."""
    # An example without a score on both sides says nothing about either.
    neither = row.missing_candidate + row.missing_baseline - (row.examples - row.n)
    counts = (
        (row.missing_candidate - neither, "candidate", 0),
        (row.missing_baseline - neither, row.against, 1),
    )
    return ", ".join(
        f"{_count(count, 'missing score')} of the {side} counted as {value}"
        for count, side, value in counts
        if count
    )


def _obstacle(row: Row, policy: GatePolicy) -> str:
    """Return why this row says nothing, whatever its interval."""
    missing = row.examples - row.n
    if missing > policy.max_missing * row.examples + _ROUNDING:
        return (
            f"{missing} of {row.examples} examples cannot be compared, more than max_missing "
            f"{policy.max_missing:g} allows: the {row.against} lacks {row.missing_baseline} "
            f"scores, the candidate {row.missing_candidate}"
            + (
                f", more often than chance explains (p = {row.p_unscored:.2g})"
                if (row.p_unscored or 1.0) <= 1 - policy.confidence
                else ""
            )
        )
    if row.constant and row.scorer not in policy.constant:
        return (
            f"every score of both sides is {row.candidate_mean or 0:g}, so it tells nothing apart; "
            "if that may be, list the scorer in `constant`"
        )
    return ""


def _too_few(row: Row, policy: GatePolicy) -> str:
    """Return why there are too few examples, or clusters, for a pass. Bets need no minimum."""
    if row.method == BETTING:
        return ""
    clustered = row.units != row.n
    least = policy.least_units(row.margin, clustered=clustered)
    counted = row.units if row.effective_units is None else row.effective_units
    if counted >= least - _ROUNDING:
        return ""
    what, key = ("clusters", "min_clusters") if clustered else ("examples", "min_examples")
    asked = f"a margin of {100 * row.margin:g} needs {least}"
    if getattr(policy, key) is not None:
        asked = f"fewer than {key} {least}"
    even = f", as good as {math.floor(counted)} of one size" if counted < row.units else ""
    return f"too few {what} to pass: {row.units}{even}, {asked}"


def _may_collapse(row: Row, policy: GatePolicy) -> str:
    """Return why too many examples may have collapsed, if the policy limits them."""
    most = row.collapsed_at_most
    if policy.collapse is None or most is None or most < policy.collapse.share:
        return ""
    what = "example" if row.units == row.n else "cluster"
    lost = " or lost a score" if row.missing_candidate else ""
    return (
        f"{_count(row.collapsed or 0, what)} fell by {100 * policy.collapse.drop:g} points or "
        f"more{lost}; a share of {100 * most:.1f} % cannot be ruled out, and collapse.share is "
        f"{100 * policy.collapse.share:g} %"
    )


def _remark(row: Row) -> str:
    if row.low_at_worst is not None:
        return f"within the margin even with {missing_scores(row)}"
    if row.method.startswith(UNCHANGED):
        return f"the {row.against} and the candidate have the same score on every example"
    return _room(row)


def _room(row: Row) -> str:
    for side, mean in ((row.against, row.baseline_mean), ("candidate", row.candidate_mean)):
        if mean in (0.0, 1.0):
            return f"the {side} has {mean:g} on every example: there is no room left on that side"
    return ""


def regressions(rows: Iterable[Row], policy: GatePolicy) -> list[str]:
    """Return a sentence for each row that regressed."""
    return [_regression(row, policy) for row in rows if row.outcome == "regression"]


def critical_regressions(drops: Iterable[CriticalDrop]) -> list[str]:
    """Return a sentence for each critical example that got worse."""
    return [
        f"{drop.scorer}: the critical example {drop.id!r} got worse "
        f"({100 * drop.baseline:.1f} to {100 * drop.candidate:.1f} points"
        + (f", more than the {100 * drop.tolerance:.1f} allowed)" if drop.tolerance else ")")
        for drop in drops
    ]


def _regression(row: Row, policy: GatePolicy) -> str:
    change = (
        f"{row.name}: the mean dropped by {-100 * (row.delta or 0):.1f} points "
        f"({100 * (row.baseline_mean or 0):.1f} to {100 * (row.candidate_mean or 0):.1f}, "
        f"{_count(row.n, 'example')}), more than the margin of {100 * row.margin:g}"
    )
    if policy.mode == "threshold":
        return change
    p_value = row.p_beyond_adjusted or 0.0
    said = f"= {p_value:.2g}" if p_value > _LEAST_P else f"< {_LEAST_P:g}"
    return f"{change} (p {said} after Holm's correction)"


def doubts(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each required row that does not pass."""
    found = []
    for row in rows:
        if not row.gated or row.outcome != "undecided":
            continue
        # More of the same examples helps where there are too few, and nowhere else.
        found.append(f"{row.name}: {row.note}{_needed(row) if row.grade == 'few' else ''}")
    return found


def _needed(row: Row) -> str:
    if row.n_needed is None:
        few = "; no number of examples would show otherwise with so few seeds, more seeds may"
        return few if row.seed_error and row.detectable_drop is not None else ""
    if row.n_needed <= row.n or row.n_needed_range is None:
        return ""
    low, high = row.n_needed_range
    sure = f" ({low} to {high}, as far as these can tell)" if low < high else ""
    return (
        f"; if it is as good as the {row.against}, about {row.n_needed} examples would show it "
        f"in four of five cases{sure}"
    )


def nothing_compared(rows: Sequence[Row], *, anchored: bool) -> list[str]:
    """Return a sentence if nothing could be compared with the baseline, or with an anchor."""
    found = []
    if anchored and not any(row.n for row in rows if row.against == "anchor"):
        found.append("the anchor: it has no score in common with the candidate")
    if not any(row.gated for row in rows):
        found.append("nothing to compare: neither side has a scorer")
    return found


def exhaustion(policy: GatePolicy, looks: Looks) -> list[str]:
    """Return why nothing can pass on these rows any more, if earlier looks spent all the error."""
    level = pass_level(policy, looks)
    if level >= LEAST_LEVEL:
        return []
    return [
        "spend_error: the looks at these rows have spent their error budget "
        f"({level:.1g} is left for this one); freeze a dataset version with fresh rows"
    ]


def leakage(leaked: float | None, policy: GatePolicy) -> list[str]:
    """Return why the share of leaked examples prevents a pass, if it does.

    Args:
        leaked: share of the examples that the candidate was trained on; None if unknown.
        policy: `max_leaked` is read.
    """
    if policy.max_leaked is None:
        return []
    if leaked is None:
        return ["leakage: how many of the examples were trained on is not known; evaluate again"]
    if leaked <= policy.max_leaked + _ROUNDING:
        return []
    return [
        f"leakage: {100 * leaked:.1f} % of the examples stand in the candidate's training rows "
        f"too, more than max_leaked {policy.max_leaked:g} allows"
    ]


def what_passed(mode: str) -> str:
    """Return, in words, what a pass shows about the drops, by the policy's mode."""
    if mode == "threshold":
        return "no mean dropped by more than its margin, chance left aside"
    return "every drop is smaller than its margin"


def summary(rows: Sequence[Row], policy: GatePolicy) -> str:
    """Return the reason of a passing verdict: what was shown, and for which rows."""
    gated = [row for row in rows if row.gated and row.against == "baseline"]
    scorers = sum(row.cohort == PRIMARY for row in gated)
    cohorts = len(gated) - scorers
    with_cohorts = f" and {_count(cohorts, 'gated cohort row')}" if cohorts else ""
    said = f"{what_passed(policy.mode)}, for {_count(scorers, 'scorer')}{with_cohorts}"
    if any(row.gated and row.against == "anchor" for row in rows):
        said += ", and so is every drop from the anchor"
    others = [row for row in rows if row.cohort != PRIMARY and not row.gated]
    if open_rows := sum(row.outcome != "pass" for row in others):
        said += f"; not shown for {_count(open_rows, 'cohort row')} that need not pass"
    if not any(row.baseline_seeds > 1 or row.candidate_seeds > 1 for row in gated):
        said += "; of one training seed a side, and another may differ by more"
    missing = [row for row in rows if row.gated and row.low_at_worst is not None]
    if missing:
        said += "; " + ", ".join(f"{row.name} with {missing_scores(row)}" for row in missing)
    return said


def _beyond(drop: float, margin: float) -> str:
    """A drop of at least the margin, in points, with enough digits to show it."""
    for digits in (1, 2, 3):
        text = f"{100 * drop:.{digits}f}"
        if float(text) > 100 * margin:
            return text
    return f"{100 * margin:g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
