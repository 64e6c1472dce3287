"""The header of an evaluation, `evaluation.json`: its keys, types and meaning.

Keys may be added within a schema version, so none of these types is closed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, TypeAdapter
from typing_extensions import TypedDict  # typing's own lacks features before Python 3.12

from ftreg.files.checking import check_record, documented
from ftreg.files.names import plain
from ftreg.records.manifest import TrackerRecord

Name = Annotated[str, AfterValidator(plain)]
"""Used as the name of a file or folder, and must not escape its parent."""


@documented
class CheckpointSummary(TypedDict):
    """The evaluated checkpoint; `ftreg.json` next to its weights has the details."""

    name: str
    """Its folder's name."""
    identity: str
    """Digest of its manifest: recipe, environment and weights."""
    parent: NotRequired[str | None]
    """Identity of the checkpoint that its training started from."""
    weights: NotRequired[str]
    """Digest of the weights."""
    base: NotRequired[str]
    """The base model."""
    optimizer: str
    """`unknown` if ftreg did not train it."""
    lr: float | None
    """Null in the same case."""
    weight_decay: NotRequired[float]
    steps: NotRequired[int]
    seed: NotRequired[int]
    seeds: NotRequired[list[int]]
    """For replicas, instead of `seed`."""
    replicas: NotRequired[list[str]]
    """The identity of each."""
    trackers: NotRequired[dict[str, TrackerRecord]]
    """Experiment tracker to its run of the training, for a single checkpoint."""
    last_loss: float | None
    """Loss per token at the last step; null if ftreg did not train it."""
    recipe: dict[str, Any]
    """The flat recipe: `optimizer.lr` to its value. If ftreg did not train it, `recipe` is
    `unknown`, along with what is known."""


@documented
class DatasetSummary(TypedDict):
    """The evaluated rows."""

    name: Name
    version: str
    """`name@N`."""
    root: NotRequired[str]
    """The folder of datasets from which it was read."""
    digest: str
    """Digest of the dataset version."""
    split: str
    rows: int
    rows_digest: str
    """Digest of the ids, in order."""


@documented
class SequenceSummary(TypedDict):
    """Progress of an evaluation with interim looks by the gate; the verdict allows for these.

    Rows are in the order of `ftreg.gate.sequence.seeded_order`, critical ones first.
    """

    evaluated: int
    """Rows with an output."""
    examples: int
    """The same without critical rows taken from later in the order."""
    cohorts: dict[str, int]
    """Cohort, as `tag=value`, to its total number of rows."""
    largest_cluster: int | None
    """Total rows of the largest cluster; null without clusters."""


@documented
class ServerSummary(TypedDict):
    """The server that generated the outputs, if any."""

    host: str
    model: str
    """The server's name for the checkpoint."""


@documented
class SourceSummary(TypedDict):
    """The file from which outputs were read."""

    file: str
    """Its name, without the folder."""
    form: str
    """Its format: `vLLM`, `inspect`, ..., or `rows` with id and output."""
    sha256: NotRequired[str]
    """Left out if it was a pipe."""


@documented
class ArtefactSummary(TypedDict):
    """The served file, if another form of the checkpoint was evaluated."""

    file: str
    """Its name."""
    digest: str
    """Hex SHA-256 of its bytes."""
    bytes: int
    """Its size."""
    precision: str
    """The type of most of its weights."""
    checkpoint: str
    """Identity of its checkpoint."""
    paired_by: str
    """Source of that identity: `manifest` (the export's record, with its digest), `metadata` (of
    the file), or `said` (by the user)."""
    tokens_per_second: float | None
    """For sequential outputs, including prompts; null if no output had to be generated."""
    library: str
    """The server and its version."""


@documented
class GenerationSummary(TypedDict):
    """How the outputs were made."""

    engine: str
    """`transformers`, `openai`, or `elsewhere` if they were read from a file: the rest is then
    unknown, and does not prevent a comparison."""
    decoding: str
    max_new_tokens: int | None
    """Null if unknown."""
    precision: str
    batch_size: int | None
    """Null if a server batches."""
    kernels: NotRequired[str]
    """`eval.kernels`, for an in-process engine; `auto` if written by an older version."""
    way: NotRequired[str]
    """How an in-process engine decoded: continuously, in batches or one at a time."""
    cut_off: int | None
    """Outputs cut off by `max_new_tokens`; null if unknown."""
    source: NotRequired[SourceSummary]
    """For outputs made elsewhere."""
    taken: NotRequired[int]
    """Outputs reused from an earlier run."""
    device: NotRequired[str | None]
    new_tokens: NotRequired[int | None]
    """Null if a server does not count them."""
    server: NotRequired[ServerSummary]
    seconds_per_token: NotRequired[float | None]
    """Seconds of decoding per new token of the outputs generated in this run, without loading the
    model; null if all were reused from an earlier run."""
    artefact: NotRequired[ArtefactSummary]
    template_date: NotRequired[str]
    """The date in the prompts, if the chat template writes one."""


@documented
class ScorerSummary(TypedDict):
    """One scorer's column of scores."""

    n: int
    """Examples with a score."""
    missing: int
    """Examples without."""
    mean: float | None
    """In [0, 1]; null if no example has a score."""
    seed_means: NotRequired[list[float | None]]
    """For replicas, the mean of each seed."""


@documented
class ProbeSummary(TypedDict):
    """Results of a scorer that queried the model itself, apart from the rows of the dataset."""

    identity: dict[str, Any]
    """Its name and version, and its queries."""
    items: int
    """Its texts or instructions, each with a score in `probes.jsonl`."""
    summary: ScorerSummary


@documented
class ScorerNoise(TypedDict):
    """The effect of generating again on one scorer's mean."""

    standard_error: float | None


@documented
class NoiseSummary(TypedDict):
    """The effect on the scores of generating again, with nothing else changed."""

    repeats: int
    scorers: dict[str, ScorerNoise]


@documented
class EvaluationHeader(TypedDict):
    """`evaluation.json`: what was evaluated and how, and a summary of the scores."""

    schema_version: int
    id: Name
    """The evaluation's name, which is also its folder's."""
    created: str
    """When, ISO 8601 in UTC."""
    ftreg: NotRequired[str]
    """The version that wrote it."""
    checkpoint: CheckpointSummary
    dataset: DatasetSummary
    generation: GenerationSummary
    policy: dict[str, Any]
    """The gate's policy at the time; the schema `policy` describes it."""
    leakage: NotRequired[dict[str, Any]]
    """Known overlap of evaluated rows with training rows."""
    sequence: NotRequired[SequenceSummary]
    """With --until-decided; `dataset` counts all rows, evaluated or not."""
    noise: NotRequired[NoiseSummary | None]
    """If the outputs were generated several times."""
    rescored_from: NotRequired[str]
    """Id of the evaluation whose outputs were rescored."""
    thoughts: NotRequired[str]
    """`eval.thoughts`, whether scorers saw thoughts; `keep` if written by an older version."""
    thoughts_in: NotRequired[int]
    """Outputs for which `thoughts` matters: they or their references contain thoughts."""
    scorers: dict[str, dict[str, Any]]
    """Scorer to its name, version, options and backend."""
    scorer_configs: NotRequired[list[dict[str, Any]]]
    """`eval.scorers`, for rescoring the outputs."""
    summary: dict[str, ScorerSummary]
    """Scorer to the summary of its column."""
    probes: NotRequired[dict[str, ProbeSummary]]
    """Scorer that queried the model itself, to its results."""
    files: NotRequired[dict[str, str]]
    """The files of outputs and scores to their hex SHA-256."""
    digest: NotRequired[str]
    """Hex SHA-256 of everything else, as canonical JSON; a record that differs is refused."""


ELSEWHERE = "elsewhere"
"""The engine of outputs read from a file."""
_HEADER = TypeAdapter(EvaluationHeader)


def check_header(header: Mapping[str, Any]) -> None:
    """Check every part of a header that is used later.

    Raises:
        ValueError: a part is missing, has the wrong type, or is a name that could escape its
            folder; names it.
    """
    check_record(_HEADER, header)


def recipe_known(checkpoint: Mapping[str, Any]) -> bool:
    """Whether ftreg trained the `checkpoint` of a header, and so knows its recipe."""
    return checkpoint["lr"] is not None


def made_elsewhere(header: Mapping[str, Any]) -> bool:
    """Whether the outputs of an evaluation were read from a file."""
    return bool(header["generation"].get("engine") == ELSEWHERE)


def all_summaries(header: Mapping[str, Any]) -> dict[str, ScorerSummary]:
    """Return the summary of every scorer; those that queried the model themselves come last."""
    asked = {name: probe["summary"] for name, probe in header.get("probes", {}).items()}
    return {**header["summary"], **asked}


def is_partial(header: Mapping[str, Any]) -> bool:
    """Whether the gate decided before all rows were evaluated."""
    record = header.get("sequence")
    return record is not None and record["evaluated"] < header["dataset"]["rows"]


def stopped_after(header: Mapping[str, Any]) -> str:
    """Describe the progress of an evaluation that `is_partial`."""
    evaluated, rows = header["sequence"]["evaluated"], header["dataset"]["rows"]
    return f"stopped after {evaluated} of {rows} rows: decided"
