"""The JSON records that no class of their own describes: their keys, types and meaning.

Keys may be added within a schema version, so that none of these is closed.
"""

from typing import Any, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.config.policy import GatePolicy
from ftreg.gate import Verdict
from ftreg.gate.verdict import CriticalDrop, Outcome, Row

_documented = with_config(ConfigDict(use_attribute_docstrings=True))

ScoreColumns = dict[str, dict[str, float | list[float | None] | None]]


@_documented
class CheckpointSummary(TypedDict):
    """The checkpoint that was evaluated; `ftreg.json` beside its weights has all of it."""

    name: str
    """Its folder's name."""
    identity: str
    """Digest of its manifest: recipe, environment and weights."""
    parent: NotRequired[str | None]
    """Identity of the checkpoint that it was trained from."""
    weights: NotRequired[str]
    """Digest of the weights."""
    base: NotRequired[str]
    """The base model."""
    optimizer: str
    lr: float
    weight_decay: NotRequired[float]
    steps: NotRequired[int]
    seed: NotRequired[int]
    seeds: NotRequired[list[int]]
    """Of replicas, instead of `seed`."""
    replicas: NotRequired[list[str]]
    """The identity of each."""
    last_loss: float
    """Loss per token at the last step."""
    recipe: dict[str, Any]
    """What made it, flat: `optimizer.lr` to its value."""


@_documented
class DatasetSummary(TypedDict):
    """The rows that were evaluated."""

    name: str
    version: str
    """`name@N`."""
    digest: str
    """Of the dataset version."""
    split: str
    rows: int
    rows_digest: str
    """Of the ids, in order."""


@_documented
class GenerationSummary(TypedDict):
    """How the outputs were made."""

    engine: str
    decoding: str
    max_new_tokens: int
    precision: str
    batch_size: int
    cut_off: int
    """Outputs that `max_new_tokens` ended."""
    device: NotRequired[str]
    new_tokens: NotRequired[int]


@_documented
class ScorerSummary(TypedDict):
    """One scorer's column of scores."""

    n: int
    """Examples with a score."""
    missing: int
    """Examples without."""
    mean: float | None
    """In [0, 1]; null where no example has a score."""
    seed_means: NotRequired[list[float | None]]
    """Of replicas, the mean of each seed."""


@_documented
class EvaluationHeader(TypedDict):
    """`evaluation.json`: what was evaluated and how, and a summary of the scores."""

    schema_version: int
    id: str
    """The evaluation's name, that of its folder."""
    created: str
    """When, ISO 8601 in UTC."""
    ftreg: NotRequired[str]
    """The version that wrote it."""
    checkpoint: CheckpointSummary
    dataset: DatasetSummary
    generation: GenerationSummary
    policy: dict[str, Any]
    """The gate's policy that was in force; the schema `policy` describes it."""
    leakage: NotRequired[dict[str, Any]]
    """What is known of evaluated rows among the training rows."""
    scorers: dict[str, dict[str, Any]]
    """Scorer to its name, version, options and backend."""
    summary: dict[str, ScorerSummary]
    """Scorer to the summary of its column."""
    files: NotRequired[dict[str, str]]
    """The files of outputs and scores, to the hex SHA-256 of each."""
    digest: NotRequired[str]
    """Hex SHA-256 of all the rest, as canonical JSON; a record that differs is refused."""


@_documented
class OutputRow(TypedDict):
    """A line of `outputs.jsonl`."""

    id: str
    seed: NotRequired[int]
    """Of replicas, which one wrote it."""
    input: NotRequired[str]
    reference: NotRequired[list[str]]
    """The accepted answers."""
    output: str
    finish: str
    """`stop`, or `length` where `max_new_tokens` cut it."""
    tokens: int
    """New tokens."""
    cohorts: dict[str, str]
    """Tag to value."""
    cluster: str | None
    critical: bool


@_documented
class ScoreRow(TypedDict):
    """A line of `scores.jsonl`."""

    id: str
    seed: NotRequired[int]
    """Of replicas, whose output it is of."""
    scorer: str
    score: float | None
    """In [0, 1], 1 is good; null where it could not be computed."""
    reason: str | None
    """Why there is no score."""
    evidence: list[dict[str, Any]]
    """A mapping per claim, statement or key point."""


@_documented
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


@_documented
class PrintedVerdict(TypedDict):
    """What `ftreg gate --json` and a gating `ftreg eval --json` print."""

    schema_version: int
    ftreg: str
    baseline: str
    """Id of the evaluation that it was held against."""
    candidate: str
    """Id of the evaluation that was judged."""
    report: str
    """Path of the Markdown report."""
    html: str
    """Path of the HTML report."""
    exit_code: int
    """What the command ends with: 0, 1 or 3."""
    outcome: Outcome
    reasons: list[str]
    """Plain sentences: what got worse, or what stands in the way of a pass."""
    rows: list[Row]
    """One per scorer and cohort."""
    critical: list[CriticalDrop]
    policy: GatePolicy


@_documented
class Promoted(TypedDict):
    """An evaluation as a baseline's file keeps it."""

    header: EvaluationHeader
    scores: ScoreColumns
    """Scorer to example id to score in [0, 1] or null; of replicas, to one for each seed."""


@_documented
class Promotion(TypedDict):
    """One entry of a baseline's history."""

    evaluation: str
    checkpoint: dict[str, Any]
    promoted: str
    """When, ISO 8601 in UTC."""
    forced: bool
    """Whether the gate had not passed."""
    anchor: bool
    """Whether it was pinned as the anchor."""
    why: str | None


@_documented
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
