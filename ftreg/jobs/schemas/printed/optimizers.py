"""What the commands of `ftreg optim` print with `--json`."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.files.checking import documented
from ftreg.jobs.schemas.printed.base import Printed
from ftreg.records.manifest import OptimizerRecord


@documented
class PrintedAdvice(TypedDict):
    """A warning about a setting."""

    key: str
    """The setting that it is about."""
    text: str
    """What is known to go wrong, and what to set."""
    source: str
    """Who says so."""


@documented
class PrintedOptimizer(Printed, OptimizerRecord):
    """What `ftreg optim show --json` prints."""

    steps: int | None
    """Optimizer steps that a run would take; null where the dataset version is not here."""
    advice: list[PrintedAdvice]
    """What `ftreg train` would warn of; without `steps`, what does not depend on them."""


# A key that is a word of Python can only be declared so.
_Source = TypedDict(
    "_Source", {"from": Annotated[str, Field(description="The optimizer of the configuration.")]}
)


@documented
class PrintedConversion(Printed, _Source):
    """What `ftreg optim convert --json` prints: a proposal to start a search from."""

    to: str
    """The optimizer that settings are proposed for."""
    current: dict[str, Any]
    """Setting to its value in the configuration, null where its optimizer has no such setting."""
    proposed: dict[str, Any]
    """The section `optimizer` to write: its name, and setting to value."""
    ranges: dict[str, tuple[float, float]]
    """Setting to the lower and upper end of what is published, where that is a range."""
    sources: dict[str, str]
    """Setting to who proposes so."""
    dropped: dict[str, Any]
    """Settings away from their default that the new optimizer does not have, to their value."""
    notes: list[str]
    """What else to know, in sentences."""
