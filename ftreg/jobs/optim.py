"""Show a configuration's optimizer, and propose settings for another one (`ftreg optim`)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.config.custom_code import trust_notes
from ftreg.config.load import load_config
from ftreg.errors import UsageError
from ftreg.files.checking import documented
from ftreg.records.manifest import OptimizerRecord
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.training.optim.advice import Advice


@documented
class _Versioned(TypedDict):
    schema_version: int
    """Version of this format; raised when the meaning of a key changes."""


@documented
class OptimizerPlan(_Versioned, OptimizerRecord):
    """What `ftreg optim show --json` prints."""

    steps: int | None
    """Optimizer steps that a run would take; null if the dataset version is not available."""
    advice: list[Advice]
    """Warnings of `ftreg train`; without `steps`, only those that do not depend on them."""


@printed
class ConversionProposal(Printed):
    """What `ftreg optim convert --json` prints: a starting point for a search."""

    from_: str
    """The optimizer of the configuration."""
    to: str
    """The optimizer that settings are proposed for."""
    current: Mapping[str, Any]
    """Setting to its value in the configuration; null if its optimizer has no such setting."""
    proposed: Mapping[str, Any]
    """The proposed section `optimizer`: its name, and setting to value."""
    ranges: Mapping[str, tuple[float, float]]
    """Setting to the lower and upper end of the published range, if it is a range."""
    sources: Mapping[str, str]
    """Setting to its source."""
    dropped: Mapping[str, Any]
    """Non-default settings that the new optimizer does not have, to their value."""
    notes: tuple[str, ...]
    """Further remarks, in sentences."""


def show_optimizer(
    file: Path,
    *,
    overrides: Sequence[str] = (),
    notice: Callable[[str], None] = lambda text: None,
) -> OptimizerPlan:
    """Build a configuration's optimizer, without training.

    Args:
        file: the run's YAML.
        overrides: `KEY=VALUE` each.
        notice: receives messages for the user, such as the advice of `ftreg train`.

    Raises:
        UsageError: the configuration is invalid, its base model is not available, or the optimizer
            refuses its settings.
    """
    config = load_config(file, overrides=overrides)
    for note in trust_notes([config.base.model] if config.base.trust_remote_code else []):
        notice(note)
    from ftreg.training.plan import plan_advice, plan_optimizer, plan_steps

    record, steps = plan_optimizer(config), plan_steps(config)
    if steps is None:
        notice(
            f"{config.dataset.version} could not be read from {config.dataset.root}, so the "
            "number of steps is unknown, and so is any advice that depends on it"
        )
    advice = plan_advice(config, steps=steps)
    for item in advice:
        notice(str(item))
    return {
        "schema_version": PRINTED_SCHEMA,
        **record,
        "steps": steps,
        "advice": advice,
    }


def convert_optimizer(
    file: Path, *, to: str, source: str | None = None, overrides: Sequence[str] = ()
) -> ConversionProposal:
    """Propose another optimizer's settings from a configuration's, by published ratios.

    Args:
        file: the run's YAML.
        to: the optimizer to propose settings for.
        source: the optimizer that the configuration must name; None for any.
        overrides: `KEY=VALUE` each.

    Raises:
        UsageError: the configuration is invalid, it does not use `source`, or no ratio from its
            optimizer to this one is published.
    """
    held = load_config(file, overrides=overrides).optimizer
    if source is not None and source != held.name:
        raise UsageError(
            f"--from {source}: {file} has optimizer.name {held.name}; omit --from, or name a "
            f"configuration that trains with {source}"
        )
    from ftreg.training.optim.convert import convert

    found = convert(held, to=to)
    return ConversionProposal(
        from_=found.source,
        to=found.target,
        current={setting.key: setting.before for setting in found.settings},
        proposed=found.section,
        ranges={item.key: item.ends for item in found.settings if item.ends is not None},
        sources={setting.key: setting.source for setting in found.settings},
        dropped=found.dropped,
        notes=found.notes,
    )
