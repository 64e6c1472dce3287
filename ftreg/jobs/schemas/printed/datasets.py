"""What the commands of `ftreg data` print with `--json`."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.data.card import Card
from ftreg.data.differences import SplitDifference
from ftreg.data.leakage import LeakageRecord
from ftreg.files.checking import documented
from ftreg.jobs.schemas.printed.base import ALL_PRINTED, Printed


@documented
class ListedDataset(TypedDict):
    """A dataset version."""

    version: str
    """`name@N`."""
    rows: dict[str, int]
    """Split to its number of rows, as the card says."""
    license: str
    """SPDX expression."""
    cohorts: list[str]
    """The tags whose values form cohorts."""


@documented
class PrintedDatasets(Printed):
    """What `ftreg data list --json` prints."""

    datasets: list[ListedDataset]
    """By name, then by version."""


class PrintedDataset(Card):
    """What `ftreg data show --json` prints: the card, and what is in the splits."""

    model_config = ALL_PRINTED

    schema_version: int
    """Version of this form; it goes up when the meaning of a key does."""
    # The card computes a property of that name, which no field may replace.
    card_digest: Annotated[str, Field(serialization_alias="digest")]
    """Hex digest of what an evaluation depends on: rows, prompt, context and clusters."""
    cohort_sizes: dict[str, dict[str, int]]
    """Split to cohort, `tag=value`, to its number of rows."""
    lengths: dict[str, dict[str, dict[str, int]]]
    """Split to field (`input`, `reference`, `context`) to a histogram: length in characters, as
    `64-127`, to the number of texts. A row has as many texts of `reference` as accepted answers."""


@documented
class PrintedFreezing(Printed):
    """What `ftreg data freeze --json` prints."""

    version: str
    """`name@N`, the version that was made."""
    folder: str
    """Path of its folder."""
    rows: dict[str, int]
    """Split to its number of rows."""


@documented
class PrintedImporting(Printed):
    """What `ftreg data import --json` prints."""

    version: str
    """`name@N`, the version that was made."""
    folder: str
    """Path of its folder."""
    rows: dict[str, int]
    """Split to its number of rows."""
    dropped: int
    """Rows that stood twice and were left out, with --drop-duplicates."""
    ignored_columns: dict[str, list[str]]
    """Split to the columns of its source that were not taken."""


@documented
class PrintedDatasetDifference(Printed):
    """What `ftreg data diff --json` prints."""

    old: str
    """`name@N`."""
    new: str
    """`name@N`."""
    card: dict[str, tuple[Any, Any]]
    """Key of the card to its old and its new value, where they differ."""
    splits: dict[str, SplitDifference]
    """By the name of the split, whether or not both versions have it."""


@documented
class PrintedLeaks(Printed, LeakageRecord):
    """What `ftreg data leaks --json` prints."""

    version: str
    """`name@N`."""
    train_split: str
    """The split to train on."""
    eval_split: str
    """The held-out split."""


@documented
class VerifiedSplit(TypedDict):
    """What was found of one split of a dataset version."""

    version: str
    """`name@N`."""
    split: str
    """The split's name."""
    rows: int
    """As the card says."""
    problem: str | None
    """What is wrong; null where all is well."""


@documented
class PrintedVerification(Printed):
    """What `ftreg data verify --json` prints, whether it ends with 0 or 2."""

    ok: bool
    """Whether no split has a problem."""
    splits: list[VerifiedSplit]
    """In the order of the versions that were asked for."""
