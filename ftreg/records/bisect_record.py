"""What a search for the cause of a regression found: `bisect.json`, and what is printed of it."""

import contextlib
from pathlib import Path
from typing import Any, Literal

from ftreg.errors import UsageError
from ftreg.files.finding import found_below
from ftreg.files.store import read_json
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import PRINTED_SCHEMA

BISECTION = "bisect.json"
"""What a search found, in the folder of its hybrids."""

Answer = Literal["culprit", "pair", "noise", "undecided"]


@printed
class TriedFactor:
    """A difference of the two recipes."""

    key: str
    """As `optimizer.lr`; of training rows `dataset.rows.changed.2`."""
    good: Any
    """Its value in the good recipe; of rows, which they are."""
    bad: Any
    """The same of the bad one."""
    rows: tuple[str, ...]
    """Ids of the training rows that it moves; empty for a setting."""
    probability: float | None
    """How probable it is that the cause has it, in [0, 1]; null where nothing was searched."""


@printed
class TriedHybrid:
    """A mixture of the two recipes that was trained."""

    bad: tuple[str, ...]
    """Keys of the factors that were as the bad recipe has them."""
    seeds: tuple[int, ...]
    """The seeds that it was trained with."""
    means: tuple[float, ...]
    """The mean score of each, in [0, 1]."""
    folder: Path
    """Its checkpoints lie below."""


@printed
class Bisection(Printed):
    """What `ftreg bisect --json` prints."""

    good: Path
    """Folder of the good checkpoint."""
    bad: Path
    """Folder of the bad one."""
    identities: tuple[str, str]
    """Of the good and the bad checkpoint."""
    headline: str
    """The answer in a sentence."""
    scorers: tuple[str, ...]
    """Whose mean score is explained."""
    dataset: str
    """`name@N` that all were evaluated on."""
    answer: Answer | None
    """`culprit`, `pair`, `noise` (seeds alone), or `undecided`; null with --plan."""
    culprit: str | tuple[str, ...] | None
    """Key of the factor that did it; a list of two that did it together; null otherwise."""
    share: float | None
    """The part of the delta that comes with the culprit, about 1; null without one."""
    interval: tuple[float, float] | None
    """Of the share."""
    confidence: float
    """Of every interval."""
    runs: int
    """Hybrids that were trained, each seed counted."""
    more_runs: int | None
    """Of an undecided search, about how many runs more would tell; null where no number would."""
    why: str
    """What the answer rests on, in words."""
    observed: float | None
    """Delta of the two checkpoints themselves; null with --plan."""
    delta: float | None
    """Delta of their recipes, trained with other seeds; null where they were not."""
    delta_interval: tuple[float, float] | None
    """Of it."""
    seed_deviation: float | None
    """Standard deviation of a mean score from seed to seed."""
    factors: tuple[TriedFactor, ...]
    """All differences that were moved."""
    hybrids: tuple[TriedHybrid, ...]
    """In the order of their mean, the best first; both ends are among them."""
    notes: tuple[str, ...]
    """What the search could not try."""
    minutes: float | None
    """How long it took this time; with --plan, about how long it will."""
    folder: Path
    """Where the checkpoints of the hybrids are kept."""
    exit_code: int
    """What the command ends with: 3 if undecided, otherwise 0."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record JSON-ready."""
        from pydantic import TypeAdapter

        dumped: dict[str, Any] = TypeAdapter(Bisection).dump_python(self, mode="json")
        return dumped


def newest_bisection(checkpoints: Path, good: str, bad: str) -> str | None:
    """Return the headline of the search between two identities that ended last, if one has.

    One that cannot be read is none: nobody's report depends on it.
    """
    records = sorted(
        found_below(checkpoints, f"bisect-*/{BISECTION}"), key=lambda path: path.stat().st_mtime
    )
    for path in reversed(records):
        with contextlib.suppress(UsageError):
            record = read_json(path, kind="record of a bisection", schema=PRINTED_SCHEMA)
            if record.get("identities") == [good, bad]:
                return str(record.get("headline"))
    return None
