"""Whether a saved state may be continued by a configuration, and from which state."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.config.sections import BaseConfig, DatasetConfig, EvalConfig, LoraConfig, TrainConfig
from ftreg.errors import NewerRecordError, UsageError, did_you_mean
from ftreg.records.recipe import recipe_differences
from ftreg.training.events import TrainEvents
from ftreg.training.state.saved import TrainingState, list_states, read_state

# Settings that say where and how often something is written, or what comes after training.
_FREE = (
    *("eval.", "gate.", "train.output", "train.save_", "train.checkpoint_"),
    *("train.report_to", "train.threads"),
    "train.gradient_checkpointing",  # the same bits for less memory
)
# Of these, what a scorer's choice of a checkpoint (train.keep_by) depends on.
_CHOOSING = (
    *("train.checkpoint_steps", "eval.scorers", "eval.thoughts", "eval.max_new_tokens"),
    *("eval.batch_size", "eval.precision", "eval.kernels"),
)
# Where something lies: what it is, its digest says.
_PLACES = ("base.model", "dataset.root")
# What the saved weights and optimizer state are made of: with another, there is nothing to go on.
_FIXED = (
    "base",
    "lora",
    "optimizer.name",
    "optimizer.path",
    "optimizer.ams",  # amsgrad, ams_bound
    "optimizer.centered",
    "optimizer.initial_accumulator_value",
    "train.keep",
    "train.checkpoint_steps",  # counts only where one of these checkpoints is kept
)
# On other rows the losses so far, of which one is the lowest, are those of something else.
_VALIDATED = ("dataset.validation_split", "dataset.max_validation_examples")

# No settings, but digests of what one of them names.
_BASE = {
    "base_digest": "weights",
    "base_configuration": "configuration",
    "base_tokenizer": "tokenizer",
}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as `section.key` to value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def settings_that_count(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return, flat, the settings by which a checkpoint comes out as it does."""
    chosen = _CHOOSING if recipe["train"]["keep_by"] is not None else ()
    return {
        key: value
        for key, value in flatten(recipe).items()
        if key not in _PLACES and (key.startswith(chosen) or not key.startswith(_FREE))
    }


def newest_state(root: Path, events: TrainEvents) -> TrainingState | None:
    """Return the newest state that is whole, saying which ones are not; None if there is none.

    Call `set_damaged_aside` behind it, or a damaged state would stand in the way of a new one.

    Raises:
        UsageError: there are states, and every one is damaged.
        NewerRecordError: a newer ftreg wrote the newest.
    """
    folders = list_states(root)
    for folder in reversed(folders):
        try:
            return read_state(folder)
        except NewerRecordError:
            raise  # whole, and more recent than anything that is older
        except (UsageError, OSError) as error:
            events.notice(f"{error}; falling back to the state before")
    if folders:
        raise UsageError(
            f"{root}: no training state in it is intact; move the folder away and train again"
        )
    return None


def set_damaged_aside(root: Path, newest: TrainingState) -> None:
    """Rename the states after the newest whole one; no other process may be reading them."""
    for folder in list_states(root):
        if folder.name > newest.folder.name:
            folder.rename(root / f"damaged-{folder.name}")


def recipe_changes(
    state: TrainingState, recipe: Mapping[str, Any], *, allowed: Sequence[str]
) -> list[dict[str, Any]]:
    """Compare a state's recipe with that of this run.

    Args:
        state: what is to be continued.
        recipe: this run's, nested: its configuration and the digests of what it names.
        allowed: keys, or sections, whose change is wanted.

    Returns:
        The allowed changes, each with key, old and new value.

    Raises:
        UsageError: something else has changed, or a change can never be continued; or `allowed`
            names no setting.
    """
    old, new = (
        settings_that_count(_with_defaults(state.facts["recipe"])),
        settings_that_count(recipe),
    )
    # A state that was written before there were these says nothing of them.
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
            if change["key"] in _BASE:  # no setting, so it says whose it is
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
    """Return a state's recipe with the settings that came after it was written."""
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
    """Whether momentum goes on or off: with it comes a buffer that the saved state has not."""
    return change["key"] == "optimizer.momentum" and not (change["old"] and change["new"])


def _moves_the_average(change: Mapping[str, Any], *, optimizer: str) -> bool:
    """Whether the saved weights would stand for other ones: by beta1 the average is found again."""
    return optimizer == "schedule_free_adamw" and change["key"] == "optimizer.betas"


def environment_changes(state: TrainingState, environment: Mapping[str, Any]) -> list[str]:
    """Say what else is not as it was, by which the last bits may differ."""
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
