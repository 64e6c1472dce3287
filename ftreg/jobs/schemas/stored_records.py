"""The JSON records that no class of their own describes: their keys, types and meaning.

Keys may be added within a schema version, so that none of these is closed.
"""

from typing import NotRequired

from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.config.policy import GatePolicy
from ftreg.files.checking import documented
from ftreg.gate import Verdict
from ftreg.gate.verdict import CriticalDrop, Outcome, Row
from ftreg.records.baseline import Promotion, ScoreColumns
from ftreg.records.evaluation.header import EvaluationHeader


@documented
class GateRecord(TypedDict):
    """`gate.json`: the last verdict over an evaluation, kept beside it."""

    schema_version: int
    ftreg: NotRequired[str]
    created: str
    baseline: str
    """Id of the evaluation that it was held against."""
    anchor: str | None
    candidate: str
    scores: str
    """Digest of the scores that were gated."""
    verdict: Verdict
    digest: NotRequired[str]
    """Hex SHA-256 of all the rest, as canonical JSON; a record that differs is refused."""


@documented
class PrintedVerdict(TypedDict):
    """What `ftreg gate --json` and a gating `ftreg eval --json` print."""

    schema_version: int
    """Version of this form; it goes up when the meaning of a key does."""
    ftreg: str
    """The version that gated."""
    baseline: str
    """Id of the evaluation that it was held against."""
    candidate: str
    """Id of the evaluation that was judged."""
    report: str | None
    """Path of the Markdown report; null where two files of scores were gated."""
    html: str | None
    """Path of the HTML report; null likewise, and with --no-report."""
    exit_code: int
    """What the command ends with: 0, 1 or 3."""
    outcome: Outcome
    """Undecided where too little can be said either way."""
    reasons: list[str]
    """Plain sentences: what got worse, or what stands in the way of a pass."""
    rows: list[Row]
    """One per scorer and cohort."""
    critical: list[CriticalDrop]
    """Examples tagged as critical that got worse."""
    policy: GatePolicy
    """What was decided by; the schema `policy` describes it."""


@documented
class Promoted(TypedDict):
    """An evaluation as a baseline's file keeps it."""

    header: EvaluationHeader
    scores: ScoreColumns
    """Scorer to example id to score in [0, 1] or null; of replicas, to one for each seed."""


@documented
class BaselineFile(TypedDict):
    """`baselines/<dataset>.json`: what candidates are held against, kept in git."""

    schema_version: int
    ftreg: NotRequired[str]
    """The version that wrote it."""
    baseline: Promoted
    anchor: Promoted | None
    history: list[Promotion]
    """What was promoted, oldest first."""
    digest: NotRequired[str]
    """Hex SHA-256 of all the rest, as canonical JSON; a record that differs is refused."""
