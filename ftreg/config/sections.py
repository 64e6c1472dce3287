"""The other sections of the configuration, and the complete configuration."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from ftreg.config.base import Count, Day, Options, Section, Share, by_name
from ftreg.config.engine import AnyEngine, EngineConfig
from ftreg.config.optimizer import AdagradConfig, AnyOptimizer, ScheduleFreeAdamWConfig
from ftreg.config.policy import GatePolicy
from ftreg.files.names import path_text
from ftreg.services.chat.endpoint import refuse_secrets

PathText = Annotated[str, AfterValidator(path_text)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Kernels = Literal["auto", "off"]
"""Whether ftreg's own code may replace parts of transformers and peft."""
Thoughts = Literal["strip", "keep"]
"""Whether to keep text between `<think>` and `</think>`."""

LossOn = Literal["all_turns", "last_turn"]
"""Which of the assistant's turns in a chat are trained."""


class BaseConfig(Section):
    """The model that training starts from."""

    model: PathText = "smollm2-135m-instruct"
    """A packaged model (`ftreg models list`), a folder, or a Hugging Face hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    trust_remote_code: bool = False
    """Run model code that comes with the weights. Off unless you know the source."""
    quantization: Literal["4bit", "8bit"] | None = None
    """Load the frozen base weights below adapters in 4 bits (NF4) or 8 bits, with bitsandbytes, on
    a GPU; null does not quantize."""
    template: str | None = None
    """Name of the chat template to train and evaluate with, if the tokenizer has several; null uses
    the default one."""
    template_date: Day | None = None
    """The date that a chat template with today's date uses (`2026-11-30`), in training and every
    evaluation; null uses the day the training began."""


class DatasetConfig(Section):
    """Which dataset version, and which of its rows."""

    version: str
    """The dataset version, `name@N`."""
    root: PathText = "sample_datasets"
    """The folder that holds `<name>/v<N>/`."""
    train_split: str = "train"
    """The split to train on."""
    eval_split: str = "eval"
    """The held-out split."""
    validation_split: str | None = None
    """A third split, whose loss is measured during training; null measures none. Never
    `eval_split`: rows that selected a checkpoint cannot judge it."""
    max_train_examples: Count | None = None
    """Train on the first N rows only; null takes all."""
    max_eval_examples: Count | None = None
    """Evaluate the first N rows only; null takes all."""
    max_validation_examples: Count | None = None
    """Validate on the first N rows only; null takes all."""

    @model_validator(mode="after")
    def _validates_on_rows_of_its_own(self) -> Self:
        if self.validation_split is None:
            if self.max_validation_examples is not None:
                raise ValueError("max_validation_examples needs validation_split, which is null")
        elif self.validation_split == self.eval_split:
            raise ValueError(
                f"validation_split and eval_split are both {self.eval_split!r}: rows that select a "
                "checkpoint are biased in its favour and cannot judge it; name a third split"
            )
        elif self.validation_split == self.train_split:
            raise ValueError(
                f"validation_split and train_split are both {self.train_split!r}: the loss on "
                "training rows always falls; name a third split"
            )
        return self


class ScheduleConfig(Section):
    """How the learning rate changes over the optimizer steps."""

    name: Literal[
        "constant", "linear", "cosine", "cosine_with_min_lr", "warmup_stable_decay", "inverse_sqrt"
    ] = "cosine"
    """Shape after the warm-up."""
    warmup: Share = 0.1
    """Share of the steps over which lr rises linearly from 0."""
    decay: Share = 0.2
    """Share of the steps over which warmup_stable_decay falls at the end."""
    min_lr_ratio: Share = 0.0
    """Final lr as a share of the peak (cosine_with_min_lr and warmup_stable_decay)."""


class TrainConfig(Section):
    """The training run."""

    output: PathText | None = None
    """The checkpoint folder to write; null creates one in `checkpoints/`."""
    seed: Seed = 0
    """Seed of data order, dropout and LoRA initialisation."""
    seeds: Annotated[list[Seed], Field(min_length=2)] | None = None
    """Train a replica with each of these seeds instead of one checkpoint with `seed`; the gate then
    covers seed noise."""
    epochs: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Passes over the training rows."""
    max_steps: Count | None = None
    """Stop after this many optimizer steps; null uses `epochs`."""
    batch_size: Count = 8
    """Examples per optimizer step, over all processes. The loss is their mean per token."""
    micro_batch_tokens: Count | None = None
    """Maximum tokens in one forward pass: bounds memory, and does not change the result. null is
    2,048 on a CPU; on a GPU, as many as memory holds, measured when the run begins."""
    packing: bool = True
    """Pack the examples of a micro-batch end to end, without padding, each attending only to
    itself; their common prefix is computed once where that does not change the result."""
    max_length: Count | None = None
    """Maximum tokens of one example; null uses the model's context length."""
    thoughts: Thoughts = "keep"
    """Text between `<think>` and `</think>` (or other models' tags) in references: keep trains it,
    even where the chat template would drop it; strip trains the answer alone."""
    loss_on: LossOn = "all_turns"
    """Which assistant turns of a chat carry loss: all, or only the last, which is the one an
    evaluation asks for. Rows of `input` and `reference` have one."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Clip the global gradient norm to this; null does not clip."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is autocast over fp32 weights and state; auto uses it where this machine is fast at
    it."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; null leaves the choice to torch."""
    compile: bool = False
    """Compile the model's layers with torch.compile: a longer start, and less memory."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input, and recompute the rest in the backward pass: less memory, the
    same result, about a third more time."""
    kernels: Kernels = "auto"
    """auto trains with ftreg's own kernels where they suit model and machine; off uses plain torch,
    transformers and peft: slower, and the last bits differ."""
    deterministic: bool = True
    """On a GPU, make runs bit-identical; false lets it sum in any order, which may be faster, but
    no run can be repeated exactly. CPU runs always can."""
    validate_steps: Count | None = None
    """Measure the loss on `dataset.validation_split` every so many steps, and after the last; null
    is a tenth of the run."""
    keep: Literal["last", "best"] = "last"
    """Which weights become the checkpoint: those of the last step, or the best on
    `dataset.validation_split`."""
    keep_by: str | None = None
    """What `keep: best` means: the highest mean of this scorer of `eval.scorers`; null is the
    lowest validation loss."""
    patience: Count | None = None
    """End the run after this many consecutive validations without a new lowest loss; null never
    does."""
    checkpoint_steps: Count | None = None
    """Write a complete checkpoint, which can be evaluated, every so many steps into
    `<output>.steps/`; null writes none."""
    checkpoint_total_limit: Count | None = None
    """Number of intermediate checkpoints to keep; older ones are removed; null keeps all."""
    save_steps: Count | None = 200
    """Save the training state, for `--resume`, every so many steps; null only when interrupted."""
    save_total_limit: Count = 2
    """Number of training states to keep; older ones are removed. With one there is no fallback."""
    report_to: list[Literal["tensorboard", "mlflow", "trackio", "wandb"]] = Field(
        default_factory=list
    )
    """Experiment trackers that log every step, through accelerate."""

    @model_validator(mode="after")
    def _limits_what_is_written(self) -> Self:
        if self.checkpoint_total_limit is not None and self.checkpoint_steps is None:
            raise ValueError("checkpoint_total_limit needs checkpoint_steps, which is null")
        return self

    @model_validator(mode="after")
    def _keeps_what_can_be_scored(self) -> Self:
        if self.keep_by is None:
            return self
        if self.keep != "best":
            raise ValueError(f"keep_by needs keep: best, which is {self.keep}")
        if self.checkpoint_steps is None:
            raise ValueError(
                "keep_by scores intermediate checkpoints, so it needs checkpoint_steps"
            )
        if self.checkpoint_total_limit is not None:
            raise ValueError(
                "keep_by scores all checkpoints after the run, and checkpoint_total_limit deletes "
                "them earlier; set it to null"
            )
        return self

    @model_validator(mode="after")
    def _seed_or_seeds(self) -> Self:
        if self.seeds is None:
            return self
        if "seed" in self.model_fields_set:
            raise ValueError("seed and seeds exclude each other; keep one of them")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds has a duplicate; the same seed trains the same replica")
        return self

    @model_validator(mode="after")
    def _compiled_or_checkpointed(self) -> Self:
        if self.compile and self.gradient_checkpointing:
            raise ValueError(
                "compile and gradient_checkpointing exclude each other: compiled layers decide "
                "themselves what to recompute; keep one of them"
            )
        return self


class LoraConfig(Section):
    """Low-rank adapters instead of full fine-tuning (peft)."""

    r: Count = 16
    """Rank."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """Scale numerator: the update is scaled by alpha / r."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead, so that a high rank learns as fast (rsLoRA)."""
    dora: bool = False
    """Train the magnitude of each output's weights separately from the direction (DoRA); slower."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapters."""
    target_modules: str | list[str] = "all-linear"
    """Names of the modules to adapt, or `all-linear`."""


class ScorerConfig(Section):
    """One scorer of the evaluation."""

    name: str
    """faithfulness, answer_relevancy, completeness, equals, rubric, rubric:TITLE,
    evaluate:METRIC, or an import path."""
    backend: str | None = None
    """Which backend judges the claims: embedded, nli, judge, or an import path; null is the
    scorer's default."""
    options: Options = Field(default_factory=dict)
    """The options of the scorer and of its backend."""

    @model_validator(mode="after")
    def _no_secrets_in_options(self) -> Self:
        """Also checked here, since a run records its scorers before creating them."""
        url = self.options.get("base_url", "http://host/v1")
        # A custom backend may use the same option names.
        if self.backend in ("judge", None) and isinstance(url, str):
            refuse_secrets(url, self.options.get("api_key_env"), place=f"judge: {self.name}")
        return self


AnyScorer = Annotated[
    ScorerConfig, BeforeValidator(by_name, json_schema_input_type=str | ScorerConfig)
]


def _default_scorers() -> list[ScorerConfig]:
    names = ("faithfulness", "answer_relevancy", "completeness", "equals")
    return [ScorerConfig(name=name) for name in names]


class EvalConfig(Section):
    """Generation and scoring."""

    scorers: Annotated[list[AnyScorer], Field(min_length=1)] = Field(
        default_factory=_default_scorers
    )
    """Scorers: a name, or a mapping with name, backend and options."""
    thoughts: Thoughts = "strip"
    """strip hides text between `<think>` and `</think>` (or other models' tags) from every scorer;
    keep shows it. Stored outputs contain it either way."""
    max_new_tokens: Count = 64
    """Maximum tokens of one output."""
    batch_size: Count = 32
    """Prompts generated together. In fp32 it does not change outputs on a CPU; on a GPU it may."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the weights while generating; bf16 is faster, but its outputs depend on
    batching."""
    kernels: Kernels = "auto"
    """auto generates with ftreg's own kernels where they suit the model; off uses plain torch and
    transformers: slower, with the same outputs in fp32."""
    engine: AnyEngine = Field(default_factory=EngineConfig)
    """What generates: `transformers` in this process, or a server described by the mapping."""
    repeats: Annotated[int, Field(ge=1, le=8)] | None = None
    """How often to generate the outputs, each time in batches of another size, to measure how much
    batching alone changes the scores; null is 2 in bf16 and with llama.cpp, and 1 otherwise."""
    report_to: list[Literal["mlflow"]] = Field(default_factory=list)
    """Experiment trackers to log the evaluation to, in the run that trained the checkpoint."""

    @property
    def rounds(self) -> int:
        """How often the outputs are generated."""
        bf16 = self.engine.name == "transformers" and self.precision == "bf16"
        return self.repeats or (2 if bf16 or self.engine.name == "llama.cpp" else 1)

    @field_validator("scorers")
    @classmethod
    def _each_once(cls, value: list[ScorerConfig]) -> list[ScorerConfig]:
        names = [scorer.name for scorer in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is a duplicate scorer; names must be unique")
        return value


class RunConfig(Section):
    """Everything about one run: what `ftreg train` and `ftreg eval` read."""

    base: BaseConfig = Field(default_factory=BaseConfig)
    """The base model."""
    dataset: DatasetConfig
    """The dataset version."""
    optimizer: AnyOptimizer
    """The optimizer and its hyperparameters."""
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    """The learning-rate schedule."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """The training run."""
    lora: LoraConfig | None = None
    """Adapters; null fine-tunes every weight."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    """Generation and scoring."""
    gate: GatePolicy = Field(default_factory=GatePolicy)
    """When a candidate passes."""

    @model_validator(mode="after")
    def _one_decay_of_lr(self) -> Self:
        decays = isinstance(self.optimizer, AdagradConfig) and self.optimizer.lr_decay > 0
        if decays and self.schedule.name != "constant":
            raise ValueError(
                "optimizer.lr_decay and schedule.name both lower the learning rate; set "
                "schedule.name: constant, or lr_decay: 0"
            )
        averages = isinstance(self.optimizer, ScheduleFreeAdamWConfig)
        if averages and self.schedule.name != "constant":
            raise ValueError(
                f"schedule.name: {self.schedule.name} lowers the learning rate, but "
                f"{self.optimizer.name} averages its weights instead; set schedule.name: constant, "
                "which keeps schedule.warmup"
            )
        return self

    @model_validator(mode="after")
    def _validation_has_a_split(self) -> Self:
        if self.dataset.validation_split is None:
            defaults = TrainConfig()
            for key in ("validate_steps", "keep", "patience"):
                if getattr(self.train, key) != getattr(defaults, key):
                    raise ValueError(
                        f"train.{key} needs a validation loss: name a separate split in "
                        "dataset.validation_split"
                    )
        return self

    @model_validator(mode="after")
    def _quantized_below_adapters(self) -> Self:
        if self.base.quantization is not None and self.lora is None:
            raise ValueError(
                "base.quantization needs frozen weights, but full fine-tuning trains them; train "
                "adapters (lora: {r: 16}), or set base.quantization: null"
            )
        return self

    @model_validator(mode="after")
    def _margins_of_scorers(self) -> Self:
        names = [scorer.name for scorer in self.eval.scorers]
        for name in self.gate.margins:
            if name not in names:
                raise ValueError(
                    f"gate.margins names the scorer {name}, which is not in eval.scorers "
                    f"({', '.join(names)})"
                )
        return self


def on_day(config: RunConfig, date: str | None) -> RunConfig:
    """Return a configuration with this `base.template_date`, unless it names one."""
    if date is None or config.base.template_date is not None:
        return config
    base = config.base.model_copy(update={"template_date": date})
    return config.model_copy(update={"base": base})
