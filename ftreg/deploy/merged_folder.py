"""Write a checkpoint as an ordinary model folder, with adapters merged into their base."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from ftreg.deploy.merging import HEAD, Merged
from ftreg.files.store import write_text
from ftreg.models.chat_template import GENERATION_CONFIG
from ftreg.models.save import save_pretrained
from ftreg.models.soundness import settings_of, told_as
from ftreg.models.trained_chat import end_tokens, trained_chat

_SHARD = 4 << 30
"""Maximum bytes of a weights file, so that a large model is never in memory twice."""


class Settings:
    """The settings of a merged folder, from the model's configuration.

    Args:
        weights: of the checkpoint.

    Raises:
        UsageError: the configuration is invalid, or the tokenizer cannot be loaded.
    """

    def __init__(self, weights: Merged) -> None:
        path = weights.folder / "config.json"
        self.values = settings_of(path)
        with told_as(f"{path}: cannot interpret it"):
            self.config: Any = AutoConfig.from_pretrained(
                weights.folder,
                local_files_only=True,
                trust_remote_code=weights.checkpoint.manifest.base.trust_remote_code,
            )
        self.context: int | None = getattr(self.config, "max_position_embeddings", None)
        self.tied = bool(getattr(self.config, "tie_word_embeddings", False)) and not weights.unties
        if weights.unties:
            self.values["tie_word_embeddings"] = self.config.tie_word_embeddings = False
        self.chat = trained_chat(weights.checkpoint)
        self.ends = end_tokens(weights.checkpoint, self.chat)
        self.tensors = [name for name in weights if not (self.tied and name == HEAD)]


def write_merged(
    weights: Merged, folder: Path, *, settings: Settings, advance: Callable[[int, int], None]
) -> str:
    """Write weights, configuration and tokenizer into `folder`.

    Args:
        weights: merged in fp32, and written in their stored precision.
        folder: an existing folder.
        settings: of the same checkpoint.
        advance: called with the number of tensors done and the total.

    Returns:
        The precision, as torch names it.
    """
    checkpoint = weights.checkpoint
    write_text(folder / "config.json", json.dumps(settings.values, indent=2, sort_keys=True))
    for source in (weights.folder, checkpoint.folder):  # the checkpoint's own takes precedence
        if (source / GENERATION_CONFIG).is_file():
            shutil.copyfile(source / GENERATION_CONFIG, folder / GENERATION_CONFIG)
    chat = settings.chat
    chat.tokenizer.chat_template = chat.source
    save_pretrained(chat.tokenizer, folder)
    names = settings.tensors
    kinds = {weights.kind(name) for name in names}
    _write_weights(weights, names, folder, advance=advance)
    return ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))


def _write_weights(
    weights: Merged, names: list[str], folder: Path, *, advance: Callable[[int, int], None]
) -> None:
    shards: list[list[str]] = [[]]
    size = 0
    for name in names:
        nbytes = torch.Size(weights.shapes[name]).numel() * weights.kind(name).itemsize
        if size and size + nbytes > _SHARD:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    places: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, start=1):
        tensors = {}
        for name in shard:
            tensors[name] = weights.get(name).to(weights.kind(name)).contiguous()
            total += tensors[name].nbytes
            advance(len(places) + len(tensors), len(names))
        several = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        file = several if len(shards) > 1 else "model.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index: dict[str, Any] = {"metadata": {"total_size": total}, "weight_map": places}
        write_text(
            folder / "model.safetensors.index.json", json.dumps(index, indent=2, sort_keys=True)
        )
