"""The differences between the recipes of two checkpoints, as far as they are known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftreg.jobs.subjects import Subject, trained_subject
from ftreg.records.checkpoint import ModelFolder
from ftreg.records.printed import Printed, printed
from ftreg.records.recipe import recipe_differences
from ftreg.records.replicas import read_replicas

_SETTINGS = ("config.json", "generation_config.json")
_TOKENIZERS = ("tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges")
_SHOWN_DIGITS = 12


@printed
class SettingDifference:
    """A setting in which two recipes differ."""

    setting: str
    """As `optimizer.lr`; of a model that ftreg did not train also `config.json: vocab_size`."""
    first: Any
    """Its value in the first checkpoint; null where it has none, a list where replicas differ."""
    second: Any
    """The same of the second."""


@printed
class RecipeDifference(Printed):
    """What `ftreg diff --json` prints."""

    same_weights: bool
    """Whether the two have the same weights, whatever their recipes."""
    base: str | None
    """Which of the two, `first` or `second`, is the base model of the other: told where ftreg did
    not train it, null otherwise."""
    differences: tuple[SettingDifference, ...]
    """None where the recipes are the same. Where ftreg did not train one of them, its `recipe` is
    `unknown`, and the rest is what is known of both."""


def diff_recipes(first: Path | Subject, second: Path | Subject) -> RecipeDifference:
    """Compare the recipes of two checkpoints, or groups of replicas, setting by setting.

    For a model that ftreg did not train, its files are compared instead of its recipe.

    Args:
        first: the folder of a checkpoint, or what `find_subject` returns.
        second: the same of the other.

    Raises:
        UsageError: one of them is not a checkpoint, or is damaged.
    """
    old, new = (
        trained_subject(read_replicas(side)) if isinstance(side, Path) else side
        for side in (first, second)
    )
    found = recipe_differences(old.summary["recipe"], new.summary["recipe"])
    if old.replicas is None or new.replicas is None:
        found += _file_differences(_first(old), _first(new))
    return RecipeDifference(
        same_weights=old.summary["weights"] == new.summary["weights"],
        base="first" if _is_base(old, new) else "second" if _is_base(new, old) else None,
        differences=tuple(SettingDifference(setting=k, first=a, second=b) for k, a, b in found),
    )


def _first(subject: Subject) -> ModelFolder:
    return next(iter(subject.members.values()))


def _is_base(base: Subject, other: Subject) -> bool:
    """Whether a model that ftreg did not train is the base model of the other."""
    mine, theirs = _first(base).manifest, _first(other).manifest
    whole = base.replicas is None and mine.lora is None
    made_of_one = other.replicas is not None or theirs.lora is not None
    return whole and made_of_one and mine.base.digest == theirs.base.digest


def _file_differences(old: ModelFolder, new: ModelFolder) -> Iterator[tuple[str, Any, Any]]:
    """Yield the differences between the settings and the tokenizers of two models."""
    from ftreg.models.soundness import OF_THE_WRITER, settings_of

    for name in _SETTINGS:
        before, after = (settings_of(side.folder / name) for side in (old, new))
        for key in sorted({*before, *after} - {*OF_THE_WRITER}) if before and after else ():
            if before.get(key) != after.get(key):
                yield f"{name}: {key}", before.get(key), after.get(key)
    digests = [side.manifest.files for side in (old, new)]
    for name in sorted({*digests[0], *digests[1]}):
        told = [files[name][:_SHOWN_DIGITS] if name in files else None for files in digests]
        if Path(name).name.startswith(_TOKENIZERS) and told[0] != told[1]:
            yield name, told[0], told[1]
