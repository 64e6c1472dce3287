"""What differs between the recipes of two checkpoints."""

from pathlib import Path
from typing import Any

from ftreg.records.printed import Printed, printed
from ftreg.records.recipe import recipe_differences
from ftreg.records.replicas import read_replicas


@printed
class SettingDifference:
    """A setting in which two recipes differ."""

    setting: str
    """As `optimizer.lr`."""
    first: Any
    """Its value in the first checkpoint; null where it has none, a list where replicas differ."""
    second: Any
    """The same of the second."""


@printed
class RecipeDifference(Printed):
    """What `ftreg diff --json` prints."""

    same_weights: bool
    """Whether the two have the same weights, whatever their recipes."""
    differences: tuple[SettingDifference, ...]
    """None where the recipes are the same."""


def diff_recipes(first: Path, second: Path) -> RecipeDifference:
    """Compare the recipes of two checkpoints, or groups of replicas, setting by setting.

    Args:
        first: the folder of one.
        second: the folder of the other.

    Raises:
        UsageError: one of them is no checkpoint, or damaged.
    """
    old, new = read_replicas(first), read_replicas(second)
    return RecipeDifference(
        same_weights=old.weights == new.weights,
        differences=tuple(
            SettingDifference(setting=key, first=before, second=after)
            for key, before, after in recipe_differences(old.recipe(), new.recipe())
        ),
    )
