"""What `ftreg doctor`, `ftreg clean` and `ftreg models list` print with `--json`."""

from typing import Literal

from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.files.checking import documented
from ftreg.jobs.schemas.printed.base import Printed


@documented
class PrintedFinding(TypedDict):
    """What one look at the machine found."""

    name: str
    """What was looked at: a library, `memory`, a folder, ..."""
    state: Literal["ok", "note", "problem"]
    """A problem stops a run, a note does not."""
    found: str
    """In words."""
    fix: str | None
    """The way out in words, often a command to type; null where nothing is to be done."""


@documented
class PrintedFindings(Printed):
    """What `ftreg doctor --json` prints, whether it ends with 0 or 2."""

    ok: bool
    """Whether none of the findings is a problem."""
    findings: list[PrintedFinding]
    """In the order in which they were looked at."""


@documented
class PrintedModel(TypedDict):
    """A packaged model."""

    name: str
    """What `base.model` and `ftreg models pull` take."""
    kind: str
    """`base model` or `embedder`."""
    here: bool
    """Whether it is on this machine."""
    license: str
    """SPDX expression."""
    about: str
    """What it is, in words."""


@documented
class PrintedModels(Printed):
    """What `ftreg models list --json` prints."""

    models: list[PrintedModel]
    """All that ftreg can fetch, here or not."""
