"""The differences between two recipes, as factors with two levels, and their hybrids.

A factor is the smallest difference that can be changed independently: a setting; an optimizer of
another class with all its hyperparameters, which have a different meaning there; a base model; or a
block of training rows that were added, removed or changed. Settings that are only valid together
become one factor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from pydantic import ValidationError

from ftreg.config.sections import RunConfig
from ftreg.records.recipe import recipe_differences

_SECTIONS = ("base", "dataset", "optimizer", "schedule", "train", "lora")
# Settings for where, how often and by what something is written, or for what follows training.
_NO_FACTORS = (
    *("dataset.root", "dataset.eval_split", "dataset.max_eval_examples"),
    *("train.output", "train.seed", "train.save_", "train.checkpoint_", "train.report_to"),
    *("train.threads", "train.gradient_checkpointing"),
)
# Several keys for the same thing: the first one names the factor.
_TOGETHER = (
    ("base.model", "base.revision", "base.trust_remote_code"),
    ("dataset.version", "dataset.root"),
)
_AND = " + "


@dataclass(frozen=True, slots=True)
class Factor:
    """A difference between two recipes that is changed as a unit.

    `good` and `bad` are its values for display. `settings` are the configuration keys that it sets;
    none for training rows, whose ids are in `rows`.
    """

    key: str
    good: Any
    bad: Any
    settings: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


def setting_factors(
    good: RunConfig, bad: RunConfig, *, same_base: bool, same_dataset: bool
) -> list[Factor]:
    """Return the settings in which two configurations differ, as factors.

    Args:
        good: the complete resolved configuration of one side.
        bad: the other's.
        same_base: whether both have the same base model, wherever it is stored.
        same_dataset: whether dataset versions are not a factor: they are equal, or split into rows.
    """
    first, second = _settings(good, bad), _settings(bad, good)
    found: dict[str, Factor] = {}
    for key, _, _ in recipe_differences(first, second):
        keys = next((keys for keys in _TOGETHER if key in keys), (key,))
        alike = {"base.model": same_base, "dataset.version": same_dataset}.get(keys[0], False)
        if not alike and not key.startswith(_NO_FACTORS):
            found[keys[0]] = Factor(keys[0], first[keys[0]], second[keys[0]], keys)
    return _tied(list(found.values()), good, bad)


def _settings(config: RunConfig, other: RunConfig) -> dict[str, Any]:
    """Return the settings that affect the weights, as `section.key` to value.

    A section that has different keys on the other side, or is missing there, is one value.
    """
    mine, theirs = (
        side.model_dump(mode="json", include=set(_SECTIONS)) for side in (config, other)
    )
    found: dict[str, Any] = {}
    for section in _SECTIONS:
        content = mine[section]
        if content is None or content.keys() != (theirs[section] or {}).keys():
            found[section] = content
        else:
            found |= {f"{section}.{key}": value for key, value in content.items()}
    return found


def factor_groups(factors: Sequence[Factor]) -> dict[str, tuple[int, ...]]:
    """Return the groups that may be a joint cause, by key: an optimizer, all rows, rows of a kind.

    Each has three or more factors; a group with the same factors as another is left out.
    """
    found: dict[str, tuple[int, ...]] = {}
    kinds = (f"dataset.rows.{kind}" for kind in ("added", "removed", "changed"))
    for key in (*kinds, "dataset.rows", "optimizer"):
        members = tuple(
            place for place, factor in enumerate(factors) if factor.key.startswith(f"{key}.")
        )
        if len(members) > 2 and members not in found.values():
            found[key] = members
    return found


def hybrid_config(
    good: RunConfig, bad: RunConfig, factors: Sequence[Factor], *, chosen: int
) -> RunConfig:
    """Return the good configuration with some factors set to their bad level.

    Args:
        good: one side.
        bad: the other.
        factors: all of them.
        chosen: a bit for each factor at its bad level.

    Raises:
        pydantic.ValidationError: the combination is invalid.
    """
    values, other = good.model_dump(mode="json"), bad.model_dump(mode="json")
    for number, factor in enumerate(factors):
        if chosen >> number & 1:
            for setting in factor.settings:
                _move(values, other, setting)
    return RunConfig.model_validate(values)


def _move(values: dict[str, Any], other: Mapping[str, Any], setting: str) -> None:
    section, _, key = setting.partition(".")
    if key:
        values[section][key] = other[section][key]
    else:
        values[section] = other[section]


def _tied(factors: list[Factor], good: RunConfig, bad: RunConfig) -> list[Factor]:
    """Merge factors that cannot be at different levels in any configuration."""

    def allowed(chosen: int) -> bool:
        try:
            hybrid_config(good, bad, factors, chosen=chosen)
        except ValidationError:
            return False
        return True

    return _merged(factors, _forbidden(len(factors), allowed))


def _forbidden(count: int, allowed: Callable[[int], bool]) -> list[tuple[int, int]]:
    """Return the pairs of factors that cannot be at different levels in some configuration."""
    every = (1 << count) - 1
    found = []
    for first, second in combinations(range(count), 2):
        both = 1 << first | 1 << second
        unlike = product((0, every & ~both), (1 << first, 1 << second))
        if not all(allowed(ground | one) for ground, one in unlike):
            found.append((first, second))
    return found


def _merged(factors: list[Factor], pairs: Sequence[tuple[int, int]]) -> list[Factor]:
    groups = [{number} for number in range(len(factors))]
    for first, second in pairs:
        one, other = (next(g for g in groups if number in g) for number in (first, second))
        if one is not other:
            groups.remove(other)
            one |= other
    return [_one_of([factors[number] for number in sorted(group)]) for group in groups]


def _one_of(factors: Sequence[Factor]) -> Factor:
    if len(factors) == 1:
        return factors[0]
    return Factor(
        _AND.join(factor.key for factor in factors),
        {factor.key: factor.good for factor in factors},
        {factor.key: factor.bad for factor in factors},
        tuple(setting for factor in factors for setting in factor.settings),
    )
