"""Choices based on a tournament: the Pareto front, and the checkpoint that serves each cohort."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ConfigDict

from ftreg.config.policy import GatePolicy
from ftreg.gate.contest import Contest
from ftreg.gate.verdict import PRIMARY

ROUTES_SCHEMA = 1
"""Version of routes.yaml."""

# A drop of exactly the margin does not exceed it, regardless of rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Choice:
    """The evaluation whose checkpoint serves a cohort.

    `better_by` names the scorers by which it is distinguishable from the default, and better; it is
    empty for the default itself. `n` is the smallest number of examples of any scorer.
    """

    evaluation: str
    n: int
    better_by: tuple[str, ...] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)
    default_scores: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dominated:
    """An evaluation, and another with means that are nowhere lower and somewhere higher."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    evaluation: str
    """Its id."""
    by: str
    """Id of the other."""
    told_apart: tuple[str, ...]
    """The scorers that distinguish the two; empty if it may be chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pareto:
    """Which evaluations no other dominates, by their means over all examples."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    scorers: tuple[str, ...]
    """The scorers considered: those for which every evaluation has a mean."""
    front: tuple[str, ...]
    """Ids of those that no other dominates."""
    dominated: tuple[Dominated, ...]
    """The rest."""


def pareto_front(contests: Iterable[Contest]) -> Pareto:
    """Return which evaluations no other dominates, by their means over all examples.

    One dominates another if none of its means is lower and one is higher. Only scorers for which
    every evaluation has a mean are considered.
    """
    primary = [item for item in contests if item.cohort == PRIMARY]
    names = sorted({mean.evaluation for contest in primary for mean in contest.means})
    counted = [
        contest for contest in primary if all(contest.mean(name) is not None for name in names)
    ]
    dominated = []
    for name in names:
        for other in names:
            pairs = [(contest.mean(name), contest.mean(other)) for contest in counted]
            known = [(own, its) for own, its in pairs if own is not None and its is not None]
            # The last bit of a mean depends on the order of its sum.
            gaps = [round(its - own, 12) for own, its in known]
            if not gaps or min(gaps) < 0 or max(gaps) <= 0:
                continue
            apart = tuple(
                contest.scorer
                for contest in counted
                if (pair := contest.pair(name, other)) is not None and pair.told_apart
            )
            dominated.append(Dominated(evaluation=name, by=other, told_apart=apart))
    beaten = {item.evaluation for item in dominated}
    return Pareto(
        scorers=tuple(contest.scorer for contest in counted),
        front=tuple(name for name in names if counted and name not in beaten),
        dominated=tuple(dominated),
    )


def choose(contests: Sequence[Contest], cohort: str, *, default: str, policy: GatePolicy) -> Choice:
    """Return whose checkpoint should serve a cohort: the default's, unless another is better.

    Better means: on at least one scorer it is distinguishable from the default and higher; on none
    is it distinguishable and lower, or lower by more than the scorer's margin; and every scorer
    could be compared. Of several, the one with the highest mean over the scorers is chosen.

    Args:
        contests: of the tournament.
        cohort: as `tag=value`.
        default: id of the evaluation whose checkpoint serves every cohort where no other is better.
        policy: its margins are read.
    """
    held = [contest for contest in contests if contest.cohort == cohort]
    found = []
    for name in sorted({mean.evaluation for contest in held for mean in contest.means}):
        pairs = {contest.scorer: contest.pair(default, name) for contest in held}
        known = {scorer: pair for scorer, pair in pairs.items() if pair is not None}
        if name == default or len(known) < len(pairs):
            continue
        lost = [
            scorer
            for scorer, pair in known.items()
            if (pair.told_apart and pair.delta < 0)
            or -pair.delta > policy.margin_for(scorer) + _ROUNDING
        ]
        better = tuple(
            scorer for scorer, pair in known.items() if pair.told_apart and pair.delta > 0
        )
        if better and not lost:
            found.append((-sum(pair.delta for pair in known.values()), name, better))
    _, chosen, better = min(found, default=(0.0, default, ()))
    return Choice(
        chosen,
        min((contest.n for contest in held), default=0),
        better,
        {contest.scorer: contest.mean(chosen) for contest in held},
        {contest.scorer: contest.mean(default) for contest in held},
    )
