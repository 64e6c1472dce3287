"""The recipe of a checkpoint in flat form, so that two can be compared."""

from collections.abc import Mapping
from typing import Any

from ftreg.records.manifest import Manifest

UNKNOWN = "unknown"
"""The recipe and optimizer of models that ftreg did not train."""
_LATER = frozenset({"quantization", "rslora", "dora"})


def recipe_of(manifest: Manifest) -> dict[str, Any]:
    """Return the recipe of a checkpoint as flat `section.key` to value, for comparing two.

    Results (losses, seconds) and the machine are left out; library versions are included.
    """
    training = manifest.training.model_dump(
        include={"seed", "steps", "batch_size", "max_grad_norm", "precision", "processes"}
    )
    kept = manifest.training.kept_step
    if kept not in (None, manifest.training.steps):
        training["kept_step"] = kept
    if manifest.config.train.kernels == "off":
        training["kernels"] = "off"  # the default is left out, as before the key existed
    if manifest.training.deterministic is False:
        training["deterministic"] = False  # left out if true, as before the key existed
    if manifest.config.train.thoughts == "strip":
        training["thoughts"] = "strip"
    if manifest.config.train.loss_on == "last_turn":
        training["loss_on"] = "last_turn"
    sections: dict[str, Any] = {
        "base": _unlike_before(
            manifest.base.model_dump(include={"model", "revision", "digest", "quantization"})
        )
        | manifest.config.base.model_dump(include={"template", "template_date"}, exclude_none=True),
        "dataset": manifest.dataset.model_dump(include={"version", "digest", "split", "rows"}),
        "optimizer": {
            "name": manifest.optimizer["name"],
            "implementation": manifest.optimizer["implementation"],
            "decay_coupling": manifest.optimizer["decay_coupling"],
            **manifest.optimizer["arguments"],
        },
        "schedule": manifest.schedule,
        "training": training | _changed_on_the_way(manifest),
        "lora": _unlike_before(manifest.lora.model_dump()) if manifest.lora else {},
        "versions": manifest.environment["versions"],
    }
    return {
        f"{section}.{key}": value
        for section, values in sections.items()
        for key, value in values.items()
    }


def unknown_recipe(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a model that ftreg did not train: unknown, except for what is known.

    Args:
        known: flat, with the keys of `recipe_of`.
    """
    return {"recipe": UNKNOWN, **known}


def _unlike_before(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out settings with the value that applied before the key existed."""
    return {key: value for key, value in values.items() if value or key not in _LATER}


def _changed_on_the_way(manifest: Manifest) -> dict[str, Any]:
    return {
        f"{change['key']} after step {item.after_step}": change["new"]
        for item in manifest.training.resumed
        for change in item.changed
    }


def recipe_differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Return (key, old value, new value) where two recipes differ; None if a key is absent.

    If one of them is unknown, this is the first difference, followed only by settings that both
    have: whether the unknown one lacks a setting cannot be known.
    """
    sides = (old, new)
    keys = dict.fromkeys([*old, *new])
    found: list[tuple[str, Any, Any]] = []
    if any("recipe" in side for side in sides):
        found.append(("recipe", _in_short(old), _in_short(new)))
        keys = dict.fromkeys(key for key in keys if key != "recipe" and key in old and key in new)
    return found + [
        (key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)
    ]


def _in_short(recipe: Mapping[str, Any]) -> str:
    if "recipe" in recipe:
        return UNKNOWN
    return f"{recipe.get('optimizer.name')}, lr {recipe.get('optimizer.lr')}"
