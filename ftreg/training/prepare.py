"""Prepare everything that a run needs, before its first step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import nn
from transformers import PreTrainedModel

from ftreg.config.sections import RunConfig, on_day
from ftreg.data import DatasetVersion, Split, load_dataset
from ftreg.data.cohorts import hidden_context_note
from ftreg.data.leakage import find_leaks
from ftreg.errors import UsageError
from ftreg.models.adapters import with_adapters
from ftreg.models.assistant_turn import AssistantTurn
from ftreg.models.chat_template import Chat, stop_at, stop_tokens
from ftreg.models.pretrained import BaseModel, find_base, load_base, load_tokenizer
from ftreg.models.soundness import context_of, refuse_larger_tokenizer
from ftreg.records.manifest import OptimizerRecord
from ftreg.training.batching.batches import steps_of_run
from ftreg.training.batching.examples import TokenisedExamples, keeps_thoughts
from ftreg.training.batching.tokens import prepare_examples
from ftreg.training.compilation import compile_layers, compute_layers_again
from ftreg.training.events import TrainEvents
from ftreg.training.kernel_switch import kernels_for_layers
from ftreg.training.loss import Loss
from ftreg.training.optim.advice import advise
from ftreg.training.optim.construct import build_optimizer, describe_optimizer
from ftreg.training.optim.groups import parameter_groups
from ftreg.training.optim.schedule import build_schedule
from ftreg.training.packing import choose_loss
from ftreg.training.pass_size import PassSize, choose_pass_size, with_pass_size
from ftreg.training.precision import choose_precision
from ftreg.training.state.saved import OptimizerLayout, group_values
from ftreg.training.trackers import tracker_settings
from ftreg.training.validation import Validation, validate_every

# The usual name of a validation split; it is used only if the configuration names it.
_CUSTOMARY = "validation"
# Maximum rows to inspect for notices that do not stop the run.
_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A run before its first step.

    `base_network` is the model as loaded; `trained` is the same, or the adapters around it; `model`
    and `optimizer` are prepared by accelerate. `layout` describes the optimizer before any step,
    and `optimizer_record` is for the manifest. `pass_size` is the current maximum of tokens per
    pass, which is halved if a pass does not fit into memory.
    """

    config: RunConfig
    accelerator: Accelerator
    dataset: DatasetVersion
    split: Split
    base: BaseModel
    tokenizer: Any
    examples: TokenisedExamples
    pass_size: PassSize
    base_network: Any
    trained: nn.Module
    model: nn.Module
    loss: Loss
    optimizer: Any
    optimizer_record: OptimizerRecord
    layout: OptimizerLayout
    schedule: torch.optim.lr_scheduler.LambdaLR
    validation: Validation | None
    total_steps: int


def make_accelerator(config: RunConfig) -> Accelerator:
    """Create the accelerator, whose precision depends on the available device.

    Raises:
        UsageError: a tracker's package is not installed.
    """
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    # Its settings are process-wide and fixed by the first instance; each run needs new ones.
    AcceleratorState._reset_state()
    # accelerate connects processes on CPUs (gloo) only if told to use CPUs.
    cpu = not torch.accelerator.is_available()
    precision = choose_precision(config.train.precision, PartialState(cpu=cpu).device)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if precision == "bf16" else "no",
        **tracker_settings(config),
    )
    _keep_gradients_in_fp32(accelerator)
    return accelerator


def prepare_run(
    config: RunConfig, accelerator: Accelerator, *, strict: bool, events: TrainEvents
) -> PreparedRun:
    """Load data and model, and build optimizer and schedule.

    Args:
        config: the complete configuration.
        accelerator: from `make_accelerator`.
        strict: refuse to train with settings that are advised against.
        events: receives progress.

    Raises:
        UsageError: configuration, data and model do not fit together, or a file is missing.
    """
    _refuse_sharded(config, accelerator)
    set_seed(config.train.seed)
    dataset, split = _open(config, events)
    held_out = _open_validation(dataset, config, events)
    steps = steps_of_run(
        len(split),
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
    )
    _give_advice(config, steps=steps, strict=strict, events=events)
    base, tokenizer, network = _load(config, accelerator, events)
    turn = _assistant_turn(tokenizer, network, split, dataset.card.prompt.system, config)
    tokenise = _Tokenising(dataset, turn, network, config, events)
    examples = tokenise(split, name=config.dataset.train_split)
    validation = _prepare_validation(held_out, tokenise, steps=steps)
    trained: nn.Module = network if config.lora is None else with_adapters(network, config.lora)
    loss = _prepare_loss(
        network, trained, examples, config=config, accelerator=accelerator, events=events
    )
    optimizer = build_optimizer(trained, config.optimizer)
    schedule = build_schedule(optimizer, config.schedule, total_steps=steps)
    record, layout = _describe(optimizer, trained, config)
    _prepare_layers(network, examples, loss, config=config, events=events)
    model, prepared_optimizer = accelerator.prepare(trained, optimizer)
    size = choose_pass_size(model, examples, loss, config=config, accelerator=accelerator)
    return PreparedRun(
        config=with_pass_size(on_day(config, turn.chat.date), size.tokens),
        accelerator=accelerator,
        dataset=dataset,
        split=split,
        base=base,
        tokenizer=tokenizer,
        examples=examples,
        pass_size=size,
        base_network=network,
        trained=trained,
        model=model,
        loss=loss,
        optimizer=prepared_optimizer,
        optimizer_record=record,
        layout=layout,
        schedule=schedule,
        validation=validation,
        total_steps=steps,
    )


def _refuse_sharded(config: RunConfig, accelerator: Accelerator) -> None:
    if accelerator.is_fsdp2 and config.optimizer.name == "adafactor":
        raise UsageError(
            "optimizer.name: torch's Adafactor takes no steps with sharded weights; take adamw, or "
            "train in one process"
        )


def _load(
    config: RunConfig, accelerator: Accelerator, events: TrainEvents
) -> tuple[BaseModel, Any, PreTrainedModel]:
    """Return the base model, its tokenizer, and its network on the training device."""
    events.phase("loading the base model")
    base = find_base(config.base)
    tokenizer = load_tokenizer(base.folder, trust_remote_code=base.trust_remote_code)
    network: Any = load_base(base)
    # The loss is verified on the training device. Quantized models are there already, and sharding
    # starts from the CPU.
    if not (getattr(network, "is_quantized", False) or accelerator.is_fsdp2):
        network = network.to(accelerator.device)
    return base, tokenizer, network


def _open(config: RunConfig, events: TrainEvents) -> tuple[DatasetVersion, Split]:
    """Return the dataset version and the rows to train on."""
    events.phase("opening the dataset")
    dataset = load_dataset(config.dataset.version, root=Path(config.dataset.root))
    split = dataset.split(config.dataset.train_split)[: config.dataset.max_train_examples]
    if not len(split):
        raise UsageError(
            f"dataset.train_split: {dataset.ref} has no rows in its split "
            f"{config.dataset.train_split!r}, so there is nothing to train on"
        )
    if note := hidden_context_note(split[:_LOOKED_AT], dataset.card):
        events.notice(f"of the first {len(split[:_LOOKED_AT])} rows to train on, {note}")
    return dataset, split


def _prepare_loss(
    network: PreTrainedModel,
    trained: nn.Module,
    examples: TokenisedExamples,
    *,
    config: RunConfig,
    accelerator: Accelerator,
    events: TrainEvents,
) -> Loss:
    """Choose the fastest verified way to run the model, and enable its kernels."""
    events.phase("checking that packed examples are kept apart")
    loss = choose_loss(network, examples, config=config, accelerator=accelerator, events=events)
    if config.train.kernels == "auto":
        kernels_for_layers(loss, network, trained, config=config, accelerator=accelerator)
    return loss


def _prepare_layers(
    network: PreTrainedModel,
    examples: TokenisedExamples,
    loss: Loss,
    *,
    config: RunConfig,
    events: TrainEvents,
) -> None:
    if config.train.gradient_checkpointing:
        compute_layers_again(network)
    if config.train.compile:
        compile_layers(network, examples, loss, phase=events.phase)


def _describe(
    optimizer: Any, trained: nn.Module, config: RunConfig
) -> tuple[OptimizerRecord, OptimizerLayout]:
    """Return what the manifest and saved states need to know about a new optimizer."""
    groups = parameter_groups(trained, config.optimizer)
    names = [name for group in groups for name in group.names]
    record = describe_optimizer(optimizer, config.optimizer, groups)
    return record, OptimizerLayout(names=names, built=group_values(optimizer))


def _give_advice(config: RunConfig, *, steps: int, strict: bool, events: TrainEvents) -> None:
    advice = advise(config, steps=steps)
    if advice and strict:
        lines = "\n  ".join(map(str, advice))
        raise UsageError(f"--strict: these settings are advised against:\n  {lines}")
    for item in advice:
        events.notice(str(item))


def _assistant_turn(
    tokenizer: Any, network: PreTrainedModel, split: Split, system: str | None, config: RunConfig
) -> AssistantTurn:
    """Find how the template renders an answer; its end also becomes the model's stop token."""
    turn = AssistantTurn(
        Chat(tokenizer, template=config.base.template, date=config.base.template_date),
        system=system,
        stops=stop_tokens(tokenizer, network.generation_config),
        thoughts=lambda: keeps_thoughts(split, config.train.thoughts),
    )
    stop_at(network, turn.end, stops=turn.stops)
    return turn


def _prepare_validation(
    split: Split | None, tokenise: "_Tokenising", *, steps: int
) -> Validation | None:
    if split is None:
        return None
    config = tokenise.config
    return Validation(
        split=split,
        examples=tokenise(split, name=str(config.dataset.validation_split)),
        batch_size=config.train.batch_size,
        every=validate_every(config.train.validate_steps, total_steps=steps),
        total_steps=steps,
    )


def _open_validation(
    dataset: DatasetVersion, config: RunConfig, events: TrainEvents
) -> Split | None:
    """Return the rows to validate on, if configured; they must not be another split's rows."""
    settings, known = config.dataset, dataset.card.splits
    name = settings.validation_split
    if name is None:
        if _CUSTOMARY in known and _CUSTOMARY not in (settings.train_split, settings.eval_split):
            events.notice(
                f"{dataset.ref} has a split {_CUSTOMARY!r}, which this run does not look at; "
                f"dataset.validation_split: {_CUSTOMARY} measures its loss"
            )
        return None
    split = dataset.split(name)[: settings.max_validation_examples]
    for other in (settings.train_split, settings.eval_split):
        if other in known and known[other].sha256 == known[name].sha256:
            raise UsageError(
                f"dataset.validation_split: the rows of {name!r} are those of {other!r}; hold out "
                "others in a new dataset version"
            )
    _tell_of_evaluated_rows(split, dataset, config, events)
    return split


def _tell_of_evaluated_rows(
    split: Split, dataset: DatasetVersion, config: RunConfig, events: TrainEvents
) -> None:
    name, evaluated = config.dataset.validation_split, config.dataset.eval_split
    events.phase("looking for evaluated rows among those to validate on")
    try:
        found = find_leaks(split, dataset.split(evaluated))
    except UsageError:
        return  # training needs no split to evaluate on
    if found.leaks:
        events.notice(
            f"of the split {evaluated!r}, {found.summary()} of {name!r}, on which this run "
            f"validates: {found.first_ids()}; on these the gate sees what has chosen the checkpoint"
        )


@dataclass(frozen=True, slots=True)
class _Tokenising:
    """Tokenises the rows of a split, reporting progress."""

    dataset: DatasetVersion
    turn: AssistantTurn
    model: Any
    config: RunConfig
    events: TrainEvents

    def __call__(self, split: Split, *, name: str) -> TokenisedExamples:
        limits = [self.config.train.max_length, context_of(self.model)]
        total = len(split)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            self.events.preparing(done, total)

        examples = prepare_examples(
            split,
            dataset=self.dataset,
            split=name,
            turn=self.turn,
            max_length=min((limit for limit in limits if limit is not None), default=2**31),
            thoughts=self.config.train.thoughts,
            loss_on=self.config.train.loss_on,
            advance=advance,
        )
        tokenizer = self.turn.chat.tokenizer
        refuse_larger_tokenizer(self.model, tokenizer, largest=examples.largest_id())
        return examples


def _keep_gradients_in_fp32(accelerator: Accelerator) -> None:
    """Make sharded bf16 training reduce gradients in fp32; accelerate's default is bf16."""
    if accelerator.is_fsdp2 and accelerator.mixed_precision == "bf16":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
