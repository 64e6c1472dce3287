"""The result of a search for the cause of a regression: `bisect.json` and the printed record."""

import contextlib
from pathlib import Path
from typing import Any, Literal

from ftreg.errors import UsageError
from ftreg.files.finding import found_below
from ftreg.files.store import read_json
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import PRINTED_SCHEMA

BISECTION = "bisect.json"
"""The result of a search, in the folder of its hybrids."""

Answer = Literal["culprit", "pair", "noise", "undecided"]


@printed
class TriedFactor:
    """A difference between the two recipes."""

    key: str
    """Such as `optimizer.lr`, or `dataset.rows.changed.2` for training rows."""
    good: Any
    """Its value in the good recipe; for rows, which they are."""
    bad: Any
    """The same in the bad one."""
    rows: tuple[str, ...]
    """Ids of the training rows that it changes; empty for a setting."""
    probability: float | None
    """The probability that it is part of the cause, in [0, 1]; null without a search."""


@printed
class TriedHybrid:
    """A trained mixture of the two recipes."""

    bad: tuple[str, ...]
    """Keys of the factors set as in the bad recipe."""
    seeds: tuple[int, ...]
    """Its training seeds."""
    means: tuple[float, ...]
    """The mean score of each, in [0, 1]."""
    folder: Path
    """The folder of its checkpoints."""


@printed
class Bisection(Printed):
    """The output of `ftreg bisect --json`."""

    good: Path
    """Folder of the good checkpoint."""
    bad: Path
    """Folder of the bad one."""
    identities: tuple[str, str]
    """Of the good and the bad checkpoint."""
    headline: str
    """The answer in one sentence."""
    scorers: tuple[str, ...]
    """The scorer whose mean is explained."""
    dataset: str
    """The dataset version of all evaluations, `name@N`."""
    answer: Answer | None
    """`culprit`, `pair`, `noise` (seeds alone), or `undecided`; null with --plan."""
    culprit: str | tuple[str, ...] | None
    """Key of the responsible factor; a list of two if they act together; null otherwise."""
    share: float | None
    """The share of the delta due to the culprit, about 1; null without one."""
    interval: tuple[float, float] | None
    """Of the share."""
    confidence: float
    """Of every interval."""
    runs: int
    """Number of hybrids trained, counting each seed."""
    more_runs: int | None
    """If undecided, about how many more runs would decide; null if no number would."""
    why: str
    """The basis of the answer, in words."""
    observed: float | None
    """Delta between the two checkpoints themselves; null with --plan."""
    delta: float | None
    """Delta between their recipes, trained with other seeds; null if they were not."""
    delta_interval: tuple[float, float] | None
    """Of it."""
    seed_deviation: float | None
    """Standard deviation of a mean score across seeds."""
    factors: tuple[TriedFactor, ...]
    """All differences that were varied."""
    hybrids: tuple[TriedHybrid, ...]
    """Sorted by mean, best first, including both ends."""
    notes: tuple[str, ...]
    """Differences that the search could not try."""
    minutes: float | None
    """How long this run took; with --plan, an estimate."""
    folder: Path
    """The folder of the hybrids' checkpoints."""
    exit_code: int
    """The exit code: 3 if undecided, otherwise 0."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record in JSON-ready form."""
        from pydantic import TypeAdapter

        dumped: dict[str, Any] = TypeAdapter(Bisection).dump_python(self, mode="json")
        return dumped


def newest_bisection(checkpoints: Path, good: str, bad: str) -> str | None:
    """Return the headline of the latest completed search between two identities, if any.

    Unreadable records are skipped: no report depends on them.
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
