"""What an answer costs. A policy may set budgets; less is better."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from pydantic import ConfigDict

from ftreg.config.policy import GatePolicy
from ftreg.gate.aligned import cluster_numbers
from ftreg.gate.interval import Interval
from ftreg.gate.mean import mean_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What answers cost, on both sides.

    `tokens` are the candidate's new tokens by example id, None if they were not counted, and at
    most `most_tokens`. `baseline_tokens` is the baseline's mean. The seconds are decoding time over
    all new tokens. Unknown values are None.
    """

    tokens: Mapping[str, float | None] = field(default_factory=dict)
    most_tokens: int = 1
    baseline_tokens: float | None = None
    seconds_per_token: float | None = None
    baseline_seconds_per_token: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """A cost with a budget in the policy."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    name: Literal["tokens_per_answer", "seconds_per_token"]
    baseline: float | None
    """The baseline's cost; None if unknown."""
    candidate: float | None
    interval: Interval | None = None
    """Of the candidate's mean, over examples; None for seconds."""
    budget: float
    outcome: Literal["pass", "regression", "undecided"]
    note: str = ""


def hold_to_budgets(
    costs: Costs | None, policy: GatePolicy, *, level: float, clusters: Mapping[str, str] | None
) -> list[CostRow]:
    """Return a row for each budget of a policy.

    A token budget is broken if the interval of the mean is entirely above it, and met if it is
    entirely at or below it. Seconds are one number, which is compared with its budget directly.

    Args:
        costs: None if unknown.
        policy: its `budgets`.
        level: error probability of each end of an interval.
        clusters: example id to its cluster, where examples are not independent.
    """
    found = costs or Costs()
    rows = []
    if (budget := policy.budgets.tokens_per_answer) is not None:
        rows.append(_tokens(found, budget, level, clusters))
    if (budget := policy.budgets.seconds_per_token) is not None:
        rows.append(_seconds(found, budget))
    return rows


def _tokens(
    costs: Costs, budget: float, level: float, clusters: Mapping[str, str] | None
) -> CostRow:
    row = CostRow(
        name="tokens_per_answer",
        baseline=costs.baseline_tokens,
        candidate=None,
        budget=budget,
        outcome="undecided",
        note="how many tokens the candidate's answers have is not known",
    )
    known = {name: count for name, count in costs.tokens.items() if count is not None}
    if not known or len(known) < len(costs.tokens):
        return row
    scale = float(max(costs.most_tokens, *known.values()))
    shares = np.array(list(known.values()), dtype=np.float64) / scale
    # An example without a cluster is its own cluster.
    groups = clusters and {name: clusters.get(name, f"\0{name}") for name in known}
    numbers = cluster_numbers(list(known), groups or None)
    low, high = mean_interval(shares, confidence=1 - 2 * level, clusters=numbers)
    interval = Interval(scale * low, scale * high)
    outcome, note = _outcome(interval, budget)
    mean = scale * float(shares.mean())
    return replace(row, candidate=mean, interval=interval, outcome=outcome, note=note)


def _outcome(
    interval: Interval, budget: float
) -> tuple[Literal["pass", "regression", "undecided"], str]:
    if interval.low > budget:
        return "regression", ""
    if interval.high <= budget:
        return "pass", ""
    return "undecided", "whether the budget is kept is open"


def _seconds(costs: Costs, budget: float) -> CostRow:
    found = costs.seconds_per_token
    broken = found is not None and found > budget
    return CostRow(
        name="seconds_per_token",
        baseline=costs.baseline_seconds_per_token,
        candidate=found,
        budget=budget,
        outcome="undecided" if found is None else "regression" if broken else "pass",
        note="the time was not measured: no output was generated anew" if found is None else "",
    )


def over_budget(rows: list[CostRow]) -> tuple[list[str], list[str]]:
    """Return a sentence for each budget that is, or may be, broken."""
    broken = [_sentence(row) for row in rows if row.outcome == "regression"]
    doubtful = [_sentence(row) for row in rows if row.outcome == "undecided"]
    return broken, doubtful


def _sentence(row: CostRow) -> str:
    if row.candidate is None:
        return f"{row.name}: {row.note}, so whether its budget of {row.budget:g} is kept is open"
    found = f"{row.name}: the candidate takes {row.candidate:.4g}"
    if row.interval is not None:
        found += f" [{row.interval.low:.4g}, {row.interval.high:.4g}]"
    if row.outcome == "regression":
        return f"{found}, above its budget of {row.budget:g}"
    return f"{found}; whether it keeps its budget of {row.budget:g} is open"
