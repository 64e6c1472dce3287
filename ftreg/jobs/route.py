"""Decide which checkpoint serves which cohort: routes.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

import ftreg
from ftreg.config.policy import GatePolicy
from ftreg.errors import UsageError, did_you_mean
from ftreg.files.store import write_text
from ftreg.gate.choice import ROUTES_SCHEMA, choose
from ftreg.gate.contest import Contest
from ftreg.records.printed import printed


@printed
class ServedCheckpoint:
    """A checkpoint that requests go to."""

    checkpoint: str
    """Its folder's name."""
    identity: str
    """Digest of its manifest; of replicas, over those of all."""
    evaluation: str
    """Id of its evaluation."""
    optimizer: str
    """`unknown` if ftreg did not train it."""
    lr: float | None
    """Null likewise."""


@printed
class Route(ServedCheckpoint):
    """The checkpoint for one value of the tag."""

    better: bool
    """Whether it is significantly better than the default; false for the default itself."""
    better_by: tuple[str, ...]
    """The scorers by which it is better."""
    examples: int
    """Compared examples of the cohort; the minimum over several scorers."""
    scores: dict[str, float | None]
    """Scorer to the mean score in the cohort, in [0, 1]."""
    default_scores: dict[str, float | None]
    """The same for the default."""


@printed
class Routes:
    """`routes.yaml`: which checkpoint serves which cohort."""

    schema_version: int = ROUTES_SCHEMA
    ftreg: str = ftreg.__version__
    """The version of ftreg that wrote it."""
    dataset: str
    """`name@N`: the dataset version of the comparison."""
    dataset_digest: str
    tag: str
    """The tag by which requests are routed."""
    confidence: float
    """Of the intervals; the level of the tests is 1 minus this."""
    default: ServedCheckpoint
    """Serves requests without the tag, and values without a route."""
    routes: dict[str, Route]
    """The tag's value to its checkpoint."""


def find_routes(
    contests: Sequence[Contest],
    *,
    headers: Mapping[str, Mapping[str, Any]],
    default: str,
    cohorts: Mapping[str, Mapping[str, str]],
    tag: str | None,
    policy: GatePolicy,
) -> Routes:
    """Decide which checkpoint serves each value of a tag.

    Args:
        contests: those of the tournament.
        headers: id of each evaluation to its header.
        default: id of the evaluation whose checkpoint serves values that no other is better at.
        cohorts: example id to its tags.
        tag: the tag to route by; None if there is only one.
        policy: that of the tournament; only its margins are used.

    Raises:
        UsageError: the examples have no such tag, or several and none is named.
    """
    values = _tags(cohorts)
    tag = _only_tag(list(values), tag)
    routes = {}
    for value in values[tag]:
        choice = choose(contests, f"{tag}={value}", default=default, policy=policy)
        routes[value] = Route(
            **_served(headers[choice.evaluation]),
            better=bool(choice.better_by),
            better_by=choice.better_by,
            examples=choice.n,
            scores=_rounded(choice.scores),
            default_scores=_rounded(choice.default_scores),
        )
    dataset = headers[default]["dataset"]
    return Routes(
        dataset=dataset["version"],
        dataset_digest=dataset["digest"],
        tag=tag,
        confidence=policy.confidence,
        default=ServedCheckpoint(**_served(headers[default])),
        routes=routes,
    )


def _tags(cohorts: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the tags that form cohorts, each with its values."""
    found: dict[str, set[str]] = {}
    for tags in cohorts.values():
        for tag, value in tags.items():
            found.setdefault(tag, set()).add(value)
    return {tag: sorted(values) for tag, values in sorted(found.items())}


def _only_tag(known: list[str], tag: str | None) -> str:
    if not known:
        raise UsageError(
            "the examples have no cohorts to route by; name tags under `cohorts` in the card of "
            "the dataset version"
        )
    if tag is None and len(known) > 1:
        raise UsageError(f"routes go by one tag; choose it with --tag ({', '.join(known)})")
    if tag is not None and tag not in known:
        raise UsageError(
            f"--tag {tag}: no such tag{did_you_mean(tag, known)} (known: {', '.join(known)})"
        )
    return known[0] if tag is None else tag


def _served(header: Mapping[str, Any]) -> dict[str, Any]:
    checkpoint = header["checkpoint"]
    return {
        "checkpoint": checkpoint["name"],
        "identity": checkpoint["identity"],
        "evaluation": header["id"],
        "optimizer": checkpoint["optimizer"],
        "lr": checkpoint["lr"],
    }


def _rounded(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if mean is None else round(mean, 6) for name, mean in scores.items()}


def write_routes(path: Path, routes: Routes) -> None:
    """Write routes.yaml, its keys in order.

    Raises:
        UsageError: the file cannot be written.
    """
    write_text(path, yaml.safe_dump(asdict(routes), sort_keys=False, allow_unicode=True))
