"""What the manifest and the training state record about a run."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ftreg.files.store import portable_path
from ftreg.records.manifest import BaseRecord, KeptByRecord
from ftreg.training.batching.batches import batch_order, order_digest
from ftreg.training.equal_bits import has_equal_bits
from ftreg.training.events import StepRecord
from ftreg.training.optim.schedule import warmup_steps
from ftreg.training.pass_size import device_peak_gib
from ftreg.training.prepare import PreparedRun
from ftreg.training.validation import best_step, parted_after
from ftreg.training.write import resolved


def order_of(run: PreparedRun) -> Iterator[list[int]]:
    """Yield the row numbers of each step, from the first."""
    return batch_order(
        len(run.split),
        batch_size=run.config.train.batch_size,
        steps=run.total_steps,
        seed=run.config.train.seed,
    )


def recipe_facts(run: PreparedRun) -> dict[str, Any]:
    """Return what must match for a state to be resumed: configuration, data, weights."""
    return resolved(run.config) | {
        "base_digest": run.base.digest,
        "base_configuration": run.base.configuration,
        "base_tokenizer": run.base.tokenizer,
        "dataset_digest": run.dataset.card.digest,
        "precision": _precision(run),
    }


def tracker_facts(run: PreparedRun) -> dict[str, Any]:
    """Return what experiment trackers receive in addition to the configuration."""
    return {
        "dataset.digest": run.dataset.card.digest,
        "base.digest": run.base.digest,
        "optimizer.implementation": run.optimizer_record["implementation"],
        "train.precision_in_force": _precision(run),
        "train.total_steps": run.total_steps,
    }


def environment_facts(run: PreparedRun, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else affects the last bits; `environment` is from `describe_environment`."""
    return {
        "versions": environment["versions"],
        "cpu": environment["hardware"]["cpu"],
        "cpu_model": environment["hardware"]["cpu_model"],
        "accelerators": environment["hardware"]["accelerators"],
        "threads": torch.get_num_threads(),
        "processes": run.accelerator.num_processes,
        "optimizer": run.optimizer_record["implementation"],
    }


def manifest_records(
    run: PreparedRun,
    history: list[StepRecord],
    *,
    seconds: float,
    loss_spikes: list[int],
    resumed: list[dict[str, Any]],
    environment: dict[str, Any],
    kept_step: int,
    kept_by: KeptByRecord | None = None,
    midway: bool,
) -> dict[str, Any]:
    """Return the manifest's records about the run.

    Args:
        run: the prepared run.
        history: all steps.
        seconds: training time over all sessions.
        loss_spikes: the steps whose loss was a spike.
        resumed: for each resumption its step, the changed settings, and changes of the environment.
        environment: from `describe_environment`, when the steps began.
        kept_step: the step whose weights are written.
        kept_by: the scorer's choice of that step, if a scorer chose it.
        midway: whether this is a checkpoint in `<output>.steps`.
    """
    config = run.config
    return {
        "parent": run.base.parent,
        "base": _base_record(run),
        "dataset": _dataset_record(run),
        "optimizer": run.optimizer_record,
        "schedule": {
            **config.schedule.model_dump(),
            "warmup_steps": warmup_steps(config.schedule, total_steps=run.total_steps),
            "total_steps": run.total_steps,
        },
        "lora": config.lora,
        "training": _training_record(run, history)
        | {
            "seconds": max(0.01, round(seconds, 2)),
            "loss_spikes": loss_spikes,
            "resumed": resumed,
            "kept_step": kept_step,
            "kept_by": kept_by,
            "midway": midway,
            "stopped_early": not midway and history[-1].step < run.total_steps,
            "validation": _validation_record(run, history),
        },
        "environment": environment,
    }


def _base_record(run: PreparedRun) -> dict[str, Any]:
    values = dataclasses.asdict(run.base)
    return {key: values[key] for key in BaseRecord.model_fields if key != "model"} | {
        "model": portable_path(run.base.name)
    }


def _dataset_record(run: PreparedRun) -> dict[str, Any]:
    name = run.config.dataset.train_split
    return {
        "version": str(run.dataset.ref),
        "digest": run.dataset.card.digest,
        "split": name,
        "split_sha256": run.dataset.card.splits[name].sha256,
        "rows": len(run.split),
        "order_digest": order_digest(order_of(run)),
    }


def _validation_record(run: PreparedRun, history: Sequence[StepRecord]) -> dict[str, Any] | None:
    if run.validation is None:
        return None
    name, best = run.config.dataset.validation_split, best_step(history)
    losses = [r.validation_loss for r in history if r.validation_loss is not None]
    return {
        "split": name,
        "split_sha256": run.dataset.card.splits[str(name)].sha256,
        "rows": len(run.validation.split),
        "every": run.validation.every,
        "best_loss": best.validation_loss if best else None,
        "best_step": best.step if best else None,
        "last_loss": losses[-1] if losses else None,
        "parted_after": parted_after(history),
    }


def _training_record(run: PreparedRun, history: list[StepRecord]) -> dict[str, Any]:
    settings, last = run.config.train, history[-1]
    return {
        "seed": settings.seed,
        "steps": last.step,
        "epochs": round(last.examples / len(run.examples), 4),
        "batch_size": settings.batch_size,
        "micro_batch_tokens": settings.micro_batch_tokens,
        "halvings": run.pass_size.facts(),
        "deterministic": has_equal_bits(run.config, run.accelerator.device),
        "peak_device_gib": device_peak_gib(run.accelerator.device),
        "packing": run.loss.row_tokens > 0,
        "shared_prefix": run.loss.share_prefix,
        "compile": settings.compile,
        "max_grad_norm": settings.max_grad_norm,
        "precision": _precision(run),
        "processes": run.accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "examples": last.examples,
        "tokens": last.tokens,
        "loss_tokens": last.loss_tokens,
        "first_loss": history[0].loss,
        "last_loss": last.loss,
        "best_loss": min(record.loss for record in history),
        "healthy": True,
    }


def _precision(run: PreparedRun) -> str:
    return "bf16" if run.accelerator.mixed_precision == "bf16" else "fp32"
