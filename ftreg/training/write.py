"""Write a trained model as a checkpoint folder with its manifest, atomically."""

import datetime
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ftreg.config.sections import RunConfig
from ftreg.files import marked_yaml
from ftreg.files.store import (
    file_digest,
    portable_path,
    staged_folder,
    write_json,
    write_jsonl,
    write_text,
)
from ftreg.models.save import save_pretrained
from ftreg.records.checkpoint import UNHASHED, Checkpoint, read_checkpoint
from ftreg.records.layout import MANIFEST
from ftreg.records.manifest import digest_over, seal
from ftreg.training.events import StepRecord


def write_checkpoint(
    output: Path,
    *,
    model: Any,
    tokenizer: Any,
    config: RunConfig,
    records: dict[str, Any],
    history: list[StepRecord],
    accelerator: Accelerator,
) -> Checkpoint:
    """Write the folder from the main process, the manifest last.

    Raises:
        UsageError: the folder exists or cannot be written.
    """
    # Sharded weights are gathered by all processes; others are saved directly.
    given: dict[str, Any] = {}
    if accelerator.is_fsdp2:
        given["state_dict"] = _gathered(model, accelerator)
    if getattr(model, "peft_config", None):
        # peft would also save the base's embedding if it has an adapter.
        given["save_embedding_layers"] = False
    if accelerator.is_main_process:
        with staged_folder(output) as folder:
            _name_base(model, config, revision=records["base"]["revision"])
            save_pretrained(model, folder, **given)
            # peft adds an empty model card that contains the base's absolute path.
            (folder / "README.md").unlink(missing_ok=True)
            if getattr(model, "peft_config", None):
                # It has the stop tokens; for a full model it is saved with the weights.
                model.get_base_model().generation_config.save_pretrained(folder)
            save_pretrained(tokenizer, folder)
            _complete(folder, config=config, records=records, history=history)
    accelerator.wait_for_everyone()
    return read_checkpoint(output)


def write_kept(
    output: Path,
    kept: Checkpoint,
    *,
    config: RunConfig,
    records: dict[str, Any],
    history: list[StepRecord],
) -> Checkpoint:
    """Write the folder with the files of one of the run's checkpoints and a new manifest.

    Raises:
        UsageError: the folder exists or cannot be written.
    """
    with staged_folder(output) as folder:
        for name in [*kept.manifest.weights.files, *kept.manifest.files]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept.folder / name, folder / name)
        _complete(folder, config=config, records=records, history=history)
    return read_checkpoint(output)


def _complete(
    folder: Path, *, config: RunConfig, records: dict[str, Any], history: list[StepRecord]
) -> None:
    """Write everything except weights and tokenizer, the manifest last."""
    write_text(folder / "config.yaml", marked_yaml.dump(resolved(config)))
    write_jsonl(folder / "history.jsonl", (record.to_dict() for record in history))
    digests = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in UNHASHED
    }
    weights = {name: value for name, value in digests.items() if name.endswith(".safetensors")}
    manifest = seal(
        records
        | {
            "config": _portable(config),
            "weights": {"files": weights, "digest": digest_over(weights)},
            "files": {name: digests[name] for name in digests if name not in weights},
        },
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def _gathered(model: Any, accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Return the gathered weights on the main process; a shared weight counts once."""
    own = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    return {
        name: tensor for name, tensor in accelerator.get_state_dict(model).items() if name in own
    }


def resolved(config: RunConfig) -> dict[str, Any]:
    """Return the configuration with all defaults, as YAML data that `ftreg train` accepts.

    `train.output` is null, so that training from it writes another folder.
    """
    return _portable(config).model_dump(mode="json")


def _portable(config: RunConfig) -> RunConfig:
    """Remove the output's name, and absolute paths, which would identify the user."""
    return config.model_copy(
        update={
            "train": config.train.model_copy(update={"output": None}),
            "base": config.base.model_copy(update={"model": portable_path(config.base.model)}),
            "dataset": config.dataset.model_copy(
                update={"root": portable_path(config.dataset.root)}
            ),
        }
    )


def _name_base(model: Any, config: RunConfig, *, revision: str | None) -> None:
    """Make the adapters' file name the base as configured, and the hub's commit.

    peft would write the local folder that it was loaded from.
    """
    for adapters in getattr(model, "peft_config", {}).values():
        adapters.base_model_name_or_path = portable_path(config.base.model)
        adapters.revision = revision
        if isinstance(adapters.target_modules, set):
            # The set's order, and so the file, would differ between processes.
            adapters.target_modules = sorted(adapters.target_modules)
