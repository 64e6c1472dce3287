"""The header of an evaluation, `evaluation.json`: its keys, types and meaning.

Keys may be added within a schema version, so that none of these is closed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, TypeAdapter
from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.files.checking import check_record, documented
from ftreg.files.names import plain
from ftreg.records.manifest import TrackerRecord

Name = Annotated[str, AfterValidator(plain)]
"""Becomes the name of a file or folder, and must not leave where it belongs."""


@documented
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
    """`unknown` where ftreg did not train it."""
    lr: float | None
    """Null likewise."""
    weight_decay: NotRequired[float]
    steps: NotRequired[int]
    seed: NotRequired[int]
    seeds: NotRequired[list[int]]
    """Of replicas, instead of `seed`."""
    replicas: NotRequired[list[str]]
    """The identity of each."""
    trackers: NotRequired[dict[str, TrackerRecord]]
    """Experiment tracker to its run of the training, of a lone checkpoint."""
    last_loss: float | None
    """Loss per token at the last step; null where ftreg did not train it."""
    recipe: dict[str, Any]
    """What made it, flat: `optimizer.lr` to its value. Of what ftreg did not train, `recipe` is
    `unknown`, beside what is known all the same."""


@documented
class DatasetSummary(TypedDict):
    """The rows that were evaluated."""

    name: Name
    version: str
    """`name@N`."""
    root: NotRequired[str]
    """The folder of datasets that it was read from."""
    digest: str
    """Of the dataset version."""
    split: str
    rows: int
    rows_digest: str
    """Of the ids, in order."""


@documented
class SequenceSummary(TypedDict):
    """How far an evaluation came whose gate looked in between; its verdict allows for that.

    The rows came in the order of `ftreg.gate.sequence.seeded_order`, critical ones first.
    """

    evaluated: int
    """Rows with an output."""
    examples: int
    """Those whose turn has come, in order: all but critical ones from further behind."""
    cohorts: dict[str, int]
    """Cohort, as `tag=value`, to its number of rows among all."""
    largest_cluster: int | None
    """Rows of the largest cluster among all; null without clusters."""


@documented
class ServerSummary(TypedDict):
    """The server that generated, where one did."""

    host: str
    model: str
    """The name that it knows the checkpoint by."""


@documented
class SourceSummary(TypedDict):
    """The file that outputs were read from."""

    file: str
    """Its name, without the folder."""
    form: str
    """What wrote it: `vLLM`, `inspect`, ..., or `rows` with id and output."""
    sha256: NotRequired[str]
    """Left out where it was a pipe."""


@documented
class ArtefactSummary(TypedDict):
    """The file that was served, where another form of the checkpoint was evaluated."""

    file: str
    """Its name."""
    digest: str
    """Hex SHA-256 of its bytes."""
    bytes: int
    """Its size."""
    precision: str
    """The type of most of its weights."""
    checkpoint: str
    """Identity of the checkpoint that it is a form of."""
    paired_by: str
    """How that is known: `manifest` (the export's record, with its digest), `metadata` (what the
    file says of itself), or `said` (by whoever evaluated it)."""
    tokens_per_second: float | None
    """Of one output after the other, prompts included; null where nothing had to be written."""
    library: str
    """What served it, with its version."""


@documented
class GenerationSummary(TypedDict):
    """How the outputs were made."""

    engine: str
    """`transformers`, `openai`, or `elsewhere` where they were read from a file: the rest is then
    unknown, and stands against no comparison."""
    decoding: str
    max_new_tokens: int | None
    """Null where it is not known."""
    precision: str
    batch_size: int | None
    """Null where a server batches."""
    kernels: NotRequired[str]
    """`eval.kernels`, of an engine in process; `auto` where an older version wrote none."""
    way: NotRequired[str]
    """How an engine in process decoded: continuous, batches or one at a time."""
    cut_off: int | None
    """Outputs that `max_new_tokens` ended; null where it is not known."""
    source: NotRequired[SourceSummary]
    """Of outputs that were made elsewhere."""
    taken: NotRequired[int]
    """Outputs that an earlier run had written already, and that were not generated again."""
    device: NotRequired[str | None]
    new_tokens: NotRequired[int | None]
    """Null where a server does not count them."""
    server: NotRequired[ServerSummary]
    seconds_per_token: NotRequired[float | None]
    """Seconds of decoding over the new tokens of outputs that were generated then, without loading
    the model; null where all were taken from an earlier run."""
    artefact: NotRequired[ArtefactSummary]
    template_date: NotRequired[str]
    """The day that stood in the prompts, where the chat template writes one."""


@documented
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


@documented
class ProbeSummary(TypedDict):
    """What a scorer found that asked the model itself, beside the rows of the dataset."""

    identity: dict[str, Any]
    """Its name and version, and what it asked."""
    items: int
    """Its texts or instructions, each with a score in `probes.jsonl`."""
    summary: ScorerSummary


@documented
class ScorerNoise(TypedDict):
    """What generating again did to one scorer's mean."""

    standard_error: float | None


@documented
class NoiseSummary(TypedDict):
    """What generating again, and nothing else, did to the scores."""

    repeats: int
    scorers: dict[str, ScorerNoise]


@documented
class EvaluationHeader(TypedDict):
    """`evaluation.json`: what was evaluated and how, and a summary of the scores."""

    schema_version: int
    id: Name
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
    sequence: NotRequired[SequenceSummary]
    """With --until-decided; `dataset` counts all rows, whether they were evaluated or not."""
    noise: NotRequired[NoiseSummary | None]
    """Where the outputs were generated several times."""
    rescored_from: NotRequired[str]
    """Id of the evaluation whose outputs were scored anew."""
    thoughts: NotRequired[str]
    """`eval.thoughts`, whether scorers saw thoughts; `keep` where an older version wrote none."""
    thoughts_in: NotRequired[int]
    """Outputs for which `thoughts` makes a difference: they, or their references, have some."""
    scorers: dict[str, dict[str, Any]]
    """Scorer to its name, version, options and backend."""
    scorer_configs: NotRequired[list[dict[str, Any]]]
    """`eval.scorers`, for scoring the outputs anew."""
    summary: dict[str, ScorerSummary]
    """Scorer to the summary of its column."""
    probes: NotRequired[dict[str, ProbeSummary]]
    """Scorer that asked the model itself to what it found."""
    files: NotRequired[dict[str, str]]
    """The files of outputs and scores, to the hex SHA-256 of each."""
    digest: NotRequired[str]
    """Hex SHA-256 of all the rest, as canonical JSON; a record that differs is refused."""


ELSEWHERE = "elsewhere"
"""The engine of outputs that were read from a file."""
_HEADER = TypeAdapter(EvaluationHeader)


def check_header(header: Mapping[str, Any]) -> None:
    """Look at every part of a header that is relied on later.

    Raises:
        ValueError: a part is missing, of another type, or a name that could leave its folder; names
            it.
    """
    check_record(_HEADER, header)


def recipe_known(checkpoint: Mapping[str, Any]) -> bool:
    """Whether ftreg trained what a header's `checkpoint` tells of, and so knows what made it."""
    return checkpoint["lr"] is not None


def made_elsewhere(header: Mapping[str, Any]) -> bool:
    """Whether the outputs of an evaluation were read from a file."""
    return bool(header["generation"].get("engine") == ELSEWHERE)


def all_summaries(header: Mapping[str, Any]) -> dict[str, ScorerSummary]:
    """Return the summary of every scorer, those last that asked the model itself."""
    asked = {name: probe["summary"] for name, probe in header.get("probes", {}).items()}
    return {**header["summary"], **asked}


def is_partial(header: Mapping[str, Any]) -> bool:
    """Whether the gate decided before all rows were evaluated."""
    record = header.get("sequence")
    return record is not None and record["evaluated"] < header["dataset"]["rows"]


def stopped_after(header: Mapping[str, Any]) -> str:
    """Say how far an evaluation came of which `is_partial`."""
    evaluated, rows = header["sequence"]["evaluated"], header["dataset"]["rows"]
    return f"stopped after {evaluated} of {rows} rows: decided"
