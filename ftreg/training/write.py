"""Write a trained model as a checkpoint folder: whole, with its manifest, or not at all."""

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
    """Write the folder from the main process; the manifest goes in last.

    Raises:
        UsageError: the folder exists or cannot be written.
    """
    # Sharded weights are gathered by all processes; others are saved as they are.
    given: dict[str, Any] = {}
    if accelerator.is_fsdp2:
        given["state_dict"] = _gathered(model, accelerator)
    if getattr(model, "peft_config", None):
        # The base's embedding is the base's, also where it has an adapter; peft would add it.
        given["save_embedding_layers"] = False
    if accelerator.is_main_process:
        with staged_folder(output) as folder:
            _name_base(model, config, revision=records["base"]["revision"])
            save_pretrained(model, folder, **given)
            # peft adds a model card of blanks, with the base's absolute path in it.
            (folder / "README.md").unlink(missing_ok=True)
            if getattr(model, "peft_config", None):
                # What ends an output; a whole model has it with its weights.
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
    """Write the folder with the files of a checkpoint of its run, and a manifest of its own.

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
    """Write what is beside weights and tokenizer, the manifest last."""
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
    """The whole weights on the main process; a weight that is shared counts once."""
    own = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    return {
        name: tensor for name, tensor in accelerator.get_state_dict(model).items() if name in own
    }


def resolved(config: RunConfig) -> dict[str, Any]:
    """Return the configuration with every default in it; `ftreg train` accepts it.

    `train.output` is left open, so that training from it again makes a folder of its own.
    """
    return _portable(config).model_dump(mode="json")


def _portable(config: RunConfig) -> RunConfig:
    """Without the output's name, and without absolute paths: they say whose machine this was."""
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
    """Have the adapters' file name the base as the configuration does, at the hub's commit.

    peft would name the folder that it was loaded from, which is of this machine.
    """
    for adapters in getattr(model, "peft_config", {}).values():
        adapters.base_model_name_or_path = portable_path(config.base.model)
        adapters.revision = revision
        if isinstance(adapters.target_modules, set):
            # Written in the set's order, the file would be another one in each process.
            adapters.target_modules = sorted(adapters.target_modules)
