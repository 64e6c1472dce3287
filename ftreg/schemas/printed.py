"""What commands print with `--json` and no file holds: keys, types and meaning.

Keys may be added within a schema version, so that none of these is closed.
"""

from typing import Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.evaluation_rows import ScoreRow

_documented = with_config(ConfigDict(use_attribute_docstrings=True))


@_documented
class PrintedPromotion(TypedDict):
    """What `ftreg promote --json` prints."""

    schema_version: int
    baseline: str
    """Id of the evaluation that is the baseline now."""
    anchor: bool
    """Whether it was pinned as the anchor too."""
    forced: bool
    """Whether --force was given."""
    why: str | None
    file: str
    """Path of the baseline's file; the schema `baseline` describes it."""


@_documented
class JudgeTokens(TypedDict):
    """What a judge cost; answers of the cache cost nothing."""

    read: int
    written: int


@_documented
class PrintedScoring(TypedDict):
    """What `ftreg score --json` prints."""

    schema_version: int
    file: str | None
    """Path of the file of scores; null without --output."""
    scores: int
    """Rows: one per example and scorer."""
    missing: int
    """Those of them without a score."""
    judge_tokens: JudgeTokens
    rows: NotRequired[list[ScoreRow]]
    """Without --output, what would be in the file."""


@_documented
class VerifiedSplit(TypedDict):
    """What was found of one split of a dataset version."""

    version: str
    """`name@N`."""
    split: str
    rows: int
    """As the card says."""
    problem: str | None
    """What is wrong; null where all is well."""


@_documented
class PrintedVerification(TypedDict):
    """What `ftreg data verify --json` prints, whether it ends with 0 or 2."""

    schema_version: int
    ok: bool
    splits: list[VerifiedSplit]


@_documented
class PrintedTracking(TypedDict):
    """What `ftreg track --json` prints."""

    schema_version: int
    evaluation: str
    """Its id."""
    tracker: Literal["mlflow"]
    run: str
    """The id of the tracker's run."""
    name: str
    """The run's name."""
    new: bool
    """Whether the run was made for it, because the one that trained the checkpoint is not there."""
