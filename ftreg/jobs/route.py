"""Which checkpoint serves which cohort: routes.yaml.

Part of the thin layer that puts the rooms together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import ftreg
from ftreg.errors import UsageError, did_you_mean
from ftreg.files.store import write_text
from ftreg.gate.choice import ROUTES_SCHEMA, choose
from ftreg.jobs.compare import Comparison


def find_routes(comparison: Comparison, *, tag: str | None = None) -> dict[str, Any]:
    """Decide which checkpoint serves each value of a tag; `ftreg schema routes` describes it.

    Args:
        comparison: its `against` is the default, which serves whatever none is better at.
        tag: default: the only one that there is.

    Raises:
        UsageError: the examples have no such tag, or several and none is named.
    """
    tag = _only_tag(comparison, tag)
    routes = {}
    for value in comparison.tags[tag]:
        choice = choose(
            comparison.contests,
            f"{tag}={value}",
            default=comparison.against,
            policy=comparison.policy,
        )
        routes[value] = {
            **_served(comparison.headers[choice.evaluation]),
            "better": bool(choice.better_by),
            "better_by": list(choice.better_by),
            "examples": choice.n,
            "scores": _rounded(choice.scores),
            "default_scores": _rounded(choice.default_scores),
        }
    return {
        "schema_version": ROUTES_SCHEMA,
        "ftreg": ftreg.__version__,
        "dataset": comparison.dataset["version"],
        "dataset_digest": comparison.dataset["digest"],
        "tag": tag,
        "confidence": comparison.policy.confidence,
        "default": _served(comparison.headers[comparison.against]),
        "routes": routes,
    }


def _only_tag(comparison: Comparison, tag: str | None) -> str:
    known = list(comparison.tags)
    if not known:
        raise UsageError(
            "the examples have no cohorts to route by; `cohorts` in the card of the dataset "
            "version names tags that form some"
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


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Write a record as YAML, its keys in order.

    Raises:
        UsageError: the file cannot be written.
    """
    write_text(path, yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))
