"""Fine-tune a base model as a configuration says, and write the checkpoint."""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import nn

from ftreg.checkpoint import Checkpoint
from ftreg.config.sections import RunConfig
from ftreg.data import DatasetVersion, Split, load_dataset
from ftreg.errors import DivergedError, UsageError
from ftreg.models.adapters import with_adapters
from ftreg.models.load import BaseModel, find_base, load_model, load_tokenizer
from ftreg.optim import build_optimizer, describe_optimizer, parameter_groups
from ftreg.optim.advice import StepDecay, advise
from ftreg.optim.schedule import build_schedule, warmup_steps
from ftreg.store import check_writable, digest
from ftreg.training.attention import restore_attention
from ftreg.training.batches import batch_order, steps_of_run
from ftreg.training.environment import describe_environment
from ftreg.training.events import Silent, StepRecord, TrainEvents
from ftreg.training.examples import TokenisedExamples, tokenise
from ftreg.training.loop import Loop
from ftreg.training.packing import prepare_packing
from ftreg.training.precision import choose_precision
from ftreg.training.write import (
    portable_path,
    refuse_broken_weights,
    write_checkpoint,
    write_failure,
)


def train(
    config: RunConfig,
    *,
    output: Path,
    strict: bool = False,
    events: TrainEvents | None = None,
) -> Checkpoint:
    """Train and save a checkpoint.

    Args:
        config: the whole configuration.
        output: the checkpoint folder to write; it must not exist.
        strict: refuse to train where there is advice against it (`ftreg.optim.advice`).
        events: is told of the progress.

    Raises:
        UsageError: configuration, data or model do not fit together; nothing was written.
        DivergedError: a loss or gradient was not finite; the history and what is known of the
            failure are in `<output>.failed/`.
    """
    events = events or Silent()
    check_writable(output)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    accelerator = _accelerator(config)
    set_seed(config.train.seed)

    events.phase("opening the dataset")
    dataset = load_dataset(config.dataset.version, root=Path(config.dataset.root))
    split = _training_rows(dataset, config)
    steps = steps_of_run(
        len(split),
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
    )
    _give_advice(config, steps=steps, strict=strict, events=events)
    events.phase("loading the base model")
    base = find_base(config.base)
    tokenizer = load_tokenizer(base.folder, trust_remote_code=base.trust_remote_code)
    model = load_model(base.folder, trust_remote_code=base.trust_remote_code)
    examples = _tokenise(split, dataset, tokenizer, model=model, config=config, events=events)
    own_attention = False
    if config.train.packing:
        events.phase("checking that packed examples are kept apart")
        own_attention = prepare_packing(model, examples)
    trained: nn.Module = model if config.lora is None else with_adapters(model, config.lora)

    groups = parameter_groups(trained, config.optimizer)
    optimizer = build_optimizer(trained, config.optimizer)
    schedule = build_schedule(optimizer, config.schedule, total_steps=steps)
    optimizer_record = describe_optimizer(optimizer, config.optimizer, groups)
    order = list(
        batch_order(
            len(split), batch_size=config.train.batch_size, steps=steps, seed=config.train.seed
        )
    )
    prepared, prepared_optimizer = accelerator.prepare(trained, optimizer)
    loop = Loop(
        accelerator=accelerator,
        model=prepared,
        optimizer=prepared_optimizer,
        schedule=schedule,
        examples=examples,
        order=order,
        micro_batch_tokens=config.train.micro_batch_tokens,
        packing=config.train.packing,
        own_attention=own_attention,
        max_grad_norm=config.train.max_grad_norm,
        seed=config.train.seed,
    )
    events.start(steps)
    began = time.monotonic()
    history: list[StepRecord] = []
    decay = StepDecay() if config.optimizer.name == "adagrad" else None
    try:
        for record in loop.steps():
            history.append(record)
            events.step(record)
            fallen = decay and decay.notice(
                step=record.step, step_size=record.step_size, lr=record.lr
            )
            if fallen:
                events.notice(fallen)
        refuse_broken_weights(trained)
    except DivergedError as error:
        if accelerator.is_main_process:
            folder = write_failure(output, error, history=history, config=config)
            raise DivergedError(f"{error}\nThe history up to there is in {folder}.") from error
        raise

    records = {
        "parent": base.parent,
        "base": _base_record(base),
        "dataset": _dataset_record(dataset, split, config, order=order),
        "optimizer": optimizer_record,
        "schedule": {
            **config.schedule.model_dump(),
            "warmup_steps": warmup_steps(config.schedule, total_steps=steps),
            "total_steps": steps,
        },
        "lora": config.lora,
        "training": _training_record(
            config, history, examples=examples, order=order, accelerator=accelerator
        )
        | {"seconds": max(0.01, round(time.monotonic() - began, 2))},
        "environment": describe_environment(),
    }
    if own_attention:
        restore_attention(model)
    accelerator.wait_for_everyone()
    events.phase("writing the checkpoint")
    return write_checkpoint(
        output,
        model=accelerator.unwrap_model(prepared),
        tokenizer=tokenizer,
        config=config,
        records=records,
        history=history,
        accelerator=accelerator,
    )


def _accelerator(config: RunConfig) -> Accelerator:
    """Make the accelerator, whose precision depends on the device that it finds."""
    # Its settings are process-wide and fixed by the first instance; each run has its own.
    AcceleratorState._reset_state()
    # accelerate joins processes on CPUs (gloo) only where it is told that there is nothing else.
    cpu = not torch.accelerator.is_available()
    precision = choose_precision(config.train.precision, PartialState(cpu=cpu).device)
    return Accelerator(cpu=cpu, mixed_precision="bf16" if precision == "bf16" else "no")


def _give_advice(config: RunConfig, *, steps: int, strict: bool, events: TrainEvents) -> None:
    advice = advise(config, steps=steps)
    if advice and strict:
        lines = "\n  ".join(map(str, advice))
        raise UsageError(f"--strict: there is advice against these settings:\n  {lines}")
    for item in advice:
        events.notice(str(item))


def _training_rows(dataset: DatasetVersion, config: RunConfig) -> Split:
    split = dataset.split(config.dataset.train_split)
    return split[: config.dataset.max_train_examples]


def _tokenise(
    split: Split,
    dataset: DatasetVersion,
    tokenizer: Any,
    *,
    model: Any,
    config: RunConfig,
    events: TrainEvents,
) -> TokenisedExamples:
    context = getattr(model.config, "max_position_embeddings", None)
    limits = [limit for limit in (config.train.max_length, context) if limit is not None]
    total = len(split)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        events.preparing(done, total)

    return tokenise(
        split,
        tokenizer=tokenizer,
        prompt=dataset.card.prompt,
        max_length=min(limits, default=2**31),
        advance=advance,
    )


def _base_record(base: BaseModel) -> dict[str, Any]:
    values = dataclasses.asdict(base)
    return {key: values[key] for key in ("source", "revision", "digest", "trust_remote_code")} | {
        "model": portable_path(base.name)
    }


def _dataset_record(
    dataset: DatasetVersion, split: Split, config: RunConfig, *, order: Iterable[Iterable[int]]
) -> dict[str, Any]:
    name = config.dataset.train_split
    return {
        "version": str(dataset.ref),
        "digest": dataset.card.digest,
        "split": name,
        "split_sha256": dataset.card.splits[name].sha256,
        "rows": len(split),
        "order_digest": digest([list(rows) for rows in order]),
    }


def _training_record(
    config: RunConfig,
    history: list[StepRecord],
    *,
    examples: TokenisedExamples,
    order: list[list[int]],
    accelerator: Accelerator,
) -> dict[str, Any]:
    seen = [row for rows in order for row in rows]
    losses = [record.loss for record in history]
    return {
        "seed": config.train.seed,
        "steps": len(history),
        "epochs": round(len(seen) / len(examples), 4),
        "batch_size": config.train.batch_size,
        "micro_batch_tokens": config.train.micro_batch_tokens,
        "packing": config.train.packing,
        "max_grad_norm": config.train.max_grad_norm,
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "fp32",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "examples": len(seen),
        "tokens": history[-1].tokens,
        "loss_tokens": sum(examples.answer_length(row) for row in seen),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "best_loss": min(losses),
        "healthy": True,
    }
