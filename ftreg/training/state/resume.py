"""Which saved state to resume from, and whether a configuration may resume it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.config.sections import BaseConfig, DatasetConfig, EvalConfig, LoraConfig, TrainConfig
from ftreg.errors import NewerRecordError, UsageError, did_you_mean
from ftreg.records.recipe import recipe_differences
from ftreg.training.events import TrainEvents
from ftreg.training.state.saved import TrainingState, list_states, read_state

# Settings of where and how often something is written, or of what happens after training.
_FREE = (
    *("eval.", "gate.", "train.output", "train.save_", "train.checkpoint_"),
    *("train.report_to", "train.threads"),
    "train.gradient_checkpointing",  # same bits, less memory
)
# Those that affect a scorer's choice of checkpoint (train.keep_by).
_CHOOSING = (
    *("train.checkpoint_steps", "eval.scorers", "eval.thoughts", "eval.max_new_tokens"),
    *("eval.batch_size", "eval.precision", "eval.kernels"),
)
# Locations; digests identify the contents.
_PLACES = ("base.model", "dataset.root")
# Saved weights and optimizer state depend on these: after a change they cannot be resumed.
_FIXED = (
    "base",
    "lora",
    "optimizer.name",
    "optimizer.path",
    "optimizer.ams",  # amsgrad, ams_bound
    "optimizer.centered",
    "optimizer.initial_accumulator_value",
    "train.keep",
    "train.checkpoint_steps",  # matters only if one of these checkpoints is kept
)
# With other rows, the validation losses so far are not comparable with later ones.
_VALIDATED = ("dataset.validation_split", "dataset.max_validation_examples")

# Not settings: digests of what base.model names.
_BASE = {
    "base_digest": "weights",
    "base_configuration": "configuration",
    "base_tokenizer": "tokenizer",
}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to `section.key` keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def settings_that_count(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that affect the checkpoint, flattened."""
    chosen = _CHOOSING if recipe["train"]["keep_by"] is not None else ()
    return {
        key: value
        for key, value in flatten(recipe).items()
        if key not in _PLACES and (key.startswith(chosen) or not key.startswith(_FREE))
    }


def newest_state(root: Path, events: TrainEvents) -> TrainingState | None:
    """Return the newest intact state, reporting damaged ones; None if there are no states.

    Call `set_damaged_aside` afterwards, or a damaged state would block a new one.

    Raises:
        UsageError: all states are damaged.
        NewerRecordError: a newer ftreg wrote the newest state.
    """
    folders = list_states(root)
    for folder in reversed(folders):
        try:
            return read_state(folder)
        except NewerRecordError:
            raise  # intact, so no fallback to an older state
        except (UsageError, OSError) as error:
            events.notice(f"{error}; falling back to the state before")
    if folders:
        raise UsageError(
            f"{root}: no training state in it is intact; move the folder away and train again"
        )
    return None


def set_damaged_aside(root: Path, newest: TrainingState) -> None:
    """Rename the states after the newest intact one; no other process may be reading them."""
    for folder in list_states(root):
        if folder.name > newest.folder.name:
            folder.rename(root / f"damaged-{folder.name}")


def recipe_changes(
    state: TrainingState, recipe: Mapping[str, Any], *, allowed: Sequence[str]
) -> list[dict[str, Any]]:
    """Compare a state's recipe with that of this run.

    Args:
        state: the state to resume.
        recipe: this run's recipe, nested: its configuration and digests.
        allowed: settings or sections that may change.

    Returns:
        The allowed changes, each with `key`, `old` and `new`.

    Raises:
        UsageError: something else has changed, a change makes resuming impossible, or `allowed`
            has an unknown setting.
    """
    old, new = (
        settings_that_count(_with_defaults(state.facts["recipe"])),
        settings_that_count(recipe),
    )
    # States of older versions do not have these digests.
    old = {key: new[key] for key in _BASE if key in new} | old
    for key in allowed:
        if not any(_within(setting, key) for setting in (*old, *new)):
            raise UsageError(
                f"--allow-change {key}: there is no such setting{did_you_mean(key, new)}"
            )
    changes = [
        {"key": key, "old": before, "new": after}
        for key, before, after in recipe_differences(old, new)
    ]
    fixed = [
        change
        for change in changes
        if change["key"].startswith(_FIXED)
        or _switches_momentum(change)
        or _moves_the_average(change, optimizer=str(new["optimizer.name"]))
    ]
    if old["dataset.validation_split"] is not None:
        fixed += [c for c in changes if c["key"] in _VALIDATED]
    refused = [c for c in changes if not any(_within(c["key"], key) for key in allowed)]
    if fixed:
        for change in fixed:
            if change["key"] in _BASE:  # not a setting, so explain it
                what = _BASE[change["key"]]
                change["key"] += f" (the {what} of base.model {recipe['base']['model']})"
        raise UsageError(
            f"{state.folder}: this state cannot be continued with\n{_lines(fixed)}\n"
            "Train from the beginning with another --output."
        )
    if refused:
        options = " ".join(f"--allow-change {change['key']}" for change in refused)
        raise UsageError(
            f"{state.folder}: this run was started with another recipe:\n{_lines(refused)}\n"
            f"Continue with the old one ({state.folder / 'config.yaml'}), or let the new one take "
            f"effect from step {state.step + 1} on: {options}"
        )
    return changes


def _with_defaults(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state's recipe with defaults for settings that are newer than the state."""
    dataset = DatasetConfig.model_validate(recipe["dataset"])
    sections = {
        "train": TrainConfig(),
        "base": BaseConfig(),
        "lora": LoraConfig(),
        "eval": EvalConfig(),
    }
    return {
        **recipe,
        "dataset": dataset.model_dump(mode="json"),
        **{
            name: section.model_dump(mode="json") | recipe[name]
            for name, section in sections.items()
            if recipe[name] is not None
        },
    }


def _switches_momentum(change: Mapping[str, Any]) -> bool:
    """Whether momentum is switched on or off, which adds or removes a buffer in the state."""
    return change["key"] == "optimizer.momentum" and not (change["old"] and change["new"])


def _moves_the_average(change: Mapping[str, Any], *, optimizer: str) -> bool:
    """Whether the weights to keep would change: schedule-free ones are computed from beta1."""
    return optimizer == "schedule_free_adamw" and change["key"] == "optimizer.betas"


def environment_changes(state: TrainingState, environment: Mapping[str, Any]) -> list[str]:
    """Describe what else has changed since the state and may affect the last bits."""
    return [
        f"{key} is {new}, and was {old}"
        for key, old, new in recipe_differences(
            flatten(state.facts["environment"]), flatten(environment)
        )
    ]


def _within(setting: str, key: str) -> bool:
    return setting == key or setting.startswith(f"{key}.")


def _lines(changes: list[dict[str, Any]]) -> str:
    def each() -> Iterator[str]:
        for change in changes:
            yield f"  {change['key']}: {change['old']!r} -> {change['new']!r}"

    return "\n".join(each())
