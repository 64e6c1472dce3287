"""What commands print with `--json` about evaluations, scores and baselines."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.files.checking import documented
from ftreg.jobs.schemas.printed.base import Printed
from ftreg.records.baseline import Promotion
from ftreg.records.evaluation.header import EvaluationHeader
from ftreg.records.evaluation.rows import ScoreRow


@documented
class PrintedEvaluation(Printed):
    """What `ftreg eval --json` prints of an evaluation without a verdict.

    The keys beside `evaluation` are those of a verdict, so that a reader can look at `outcome`
    first, whichever it is.
    """

    candidate: str
    """Id of the evaluation."""
    baseline: None
    """Null: it was held against nothing."""
    outcome: None
    """Null: there is no verdict."""
    reasons: list[str]
    """Why there is none, in words; empty with --no-gate."""
    report: None
    """Null: a Markdown report is one of a verdict."""
    html: str | None
    """Path of the HTML report; null with --no-report."""
    exit_code: int
    """What the command ends with: 0 if no verdict was wanted, or with --bootstrap; 3 where there
    is no baseline, or none that it can be compared with; 2 where a file of the gate is wrong."""
    evaluation: EvaluationHeader
    """The record `evaluation.json`; the schema `evaluation` describes it."""


@documented
class PrintedPromotion(Printed):
    """What `ftreg promote --json` prints."""

    baseline: str
    """Id of the evaluation that is the baseline now."""
    anchor: bool
    """Whether it was pinned as the anchor too."""
    forced: bool
    """Whether --force was given."""
    why: str | None
    """The reason that was given."""
    file: str
    """Path of the baseline's file; the schema `baseline` describes it."""


@documented
class PrintedPromotions(Printed):
    """What `ftreg baseline --json` prints."""

    header: EvaluationHeader
    """The evaluation that is the baseline; the schema `evaluation` describes it."""
    history: list[Promotion]
    """What was promoted, oldest first."""


@documented
class JudgeTokens(TypedDict):
    """What a judge cost; answers of the cache cost nothing."""

    read: int
    """Tokens of the prompts."""
    written: int
    """Tokens of the answers."""


@documented
class PrintedScoring(Printed):
    """What `ftreg score --json` prints."""

    file: str | None
    """Path of the file of scores; null without --output."""
    scores: int
    """Rows: one per example and scorer."""
    missing: int
    """Those of them without a score."""
    judge_tokens: JudgeTokens
    """0 where no scorer has a judge."""
    rows: NotRequired[list[ScoreRow]]
    """Without --output, what would be in the file."""


@documented
class NeededExamples(TypedDict):
    """How many examples one scorer needs."""

    scorer: str
    """Its name."""
    have: int
    """Examples that were compared in the evaluation's last gate."""
    spread: float
    """Standard deviation of the paired deltas of these, on the scale of the scores."""
    need: int | None
    """Examples with which a candidate as good as the baseline passes in four of five cases; null
    where the noise of the training seeds alone is more than the margin."""


@documented
class PrintedPower(Printed):
    """What `ftreg power --json` prints."""

    evaluation: str
    """Its id."""
    margin: float
    """The mean drop that is allowed, on the scale of the scores."""
    scorers: list[NeededExamples]
    """Those whose deltas have a spread."""


@documented
class PrintedReport(Printed):
    """What `ftreg report --json` prints."""

    evaluation: str
    """Its id."""
    report: str
    """Path of the HTML report."""


@documented
class PrintedTracking(Printed):
    """What `ftreg track --json` prints."""

    evaluation: str
    """Its id."""
    tracker: Literal["mlflow"]
    """The experiment tracker."""
    run: str
    """The id of the tracker's run."""
    name: str
    """The run's name."""
    new: bool
    """Whether the run was made for it, because the one that trained the checkpoint is not there."""
