"""The engine `transformers`: a checkpoint in this process, and all that its outputs depend on."""

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from ftreg.config.sections import EvalConfig
from ftreg.files.cache.table import Table
from ftreg.files.store import digest
from ftreg.generation.greedy import generate, refuse_too_long
from ftreg.generation.likelihood import TextLoss, text_loss
from ftreg.generation.outputs import Chats, Keep, Plan, Written, files_read
from ftreg.generation.ways import VERSION, ProvenWay, choose_way
from ftreg.models.pretrained import (
    configuration_digest,
    load_checkpoint_model,
    places_of_base,
)
from ftreg.models.soundness import refuse_larger_tokenizer
from ftreg.models.trained_chat import trained_chat
from ftreg.records.checkpoint import ModelFolder, States, refuse_changed_since
from ftreg.records.samples import Output

_GROUP = 4
"""Batches that are generated together if an output depends on its neighbours."""


class LocalEngine:
    """Generates with transformers; the model is loaded when the first missing output is needed.

    Args:
        checkpoint: verified.
        config: precision, batch size and limit.
        verified: the states of the checkpoint's files from before they were verified.
        phase: called with the name of each preparation step.
        notice: called with messages for the user.

    Raises:
        UsageError: there is no tokenizer, or the base of adapters has changed.
    """

    def __init__(
        self,
        checkpoint: ModelFolder,
        config: EvalConfig,
        *,
        verified: States,
        phase: Callable[[str], None],
        notice: Callable[[str], None],
    ) -> None:
        self._checkpoint = checkpoint
        self._config = config
        self._verified = verified
        self._phase = phase
        self._notice = notice
        self._chat = trained_chat(checkpoint)
        self._device = device_here()
        self._base_configuration = _configuration_of_base(checkpoint)
        self._model: PreTrainedModel | None = None
        self._choice: ProvenWay | None = None
        self._prompts: list[tuple[str, list[int]]] = []
        self._batch_size = config.batch_size
        self._seconds, self._new_tokens = 0.0, 0

    def settings(self, repeat: int) -> dict[str, Any]:
        """Return everything that determines an output except its prompt and its batch (in the key).

        Call `plan` first: how the model is decoded is tried on the first prompts.

        Raises:
            UsageError: the model cannot be loaded, transformers cannot generate with it, or a
                prompt does not fit into its context.
        """
        settings = self._decides() | {
            "decoding": "greedy",
            "max_new_tokens": self._config.max_new_tokens,
            "way": self._chosen().way,
        }
        if self._depends_on_batch:
            settings |= {"batch_size": self._config.batch_size, "threads": torch.get_num_threads()}
        if repeat:
            settings |= {"repeat": repeat, "batch_size": self.batch_size(repeat)}
        return settings

    def _decides(self) -> dict[str, Any]:
        """Return everything that determines how the model answers, and so how it is decoded."""
        manifest = self._checkpoint.manifest
        libraries = ["torch", "transformers", *(["peft"] if manifest.lora else [])]
        settings: dict[str, Any] = {
            "engine": "transformers",
            "version": VERSION,
            "libraries": {name: importlib.metadata.version(name) for name in libraries},
            "device": _device_name(self._device),
            "weights": manifest.weights.digest,
            "adapted": manifest.base.digest if manifest.lora else None,
            "files": files_read(manifest.files),
            "precision": self._config.precision,
        }
        if self._config.kernels == "off":
            # In fp32 too, although the outputs are the same: switching kernels off is visible.
            settings["kernels"] = "off"
        if self._base_configuration is not None:
            settings["base_configuration"] = self._base_configuration
        if manifest.base.quantization:
            settings["quantization"] = manifest.base.quantization
        return settings

    def _chosen(self) -> ProvenWay:
        """Return how the model is decoded; the choice is kept for its weights."""
        if self._choice is None:
            table = Table("ways", digest(self._decides()))
            kept = table.get_many(["model"])
            if kept:
                self._choice = ProvenWay.from_json(kept["model"])
            else:
                model, most = self._loaded(), self._config.max_new_tokens
                refuse_too_long(self._prompts, model=model, max_new_tokens=most)
                self._phase("checking how to decode it")
                self._choice = choose_way(
                    model,
                    [prompt for _, prompt in self._prompts],
                    max_new_tokens=most,
                    kernels=self._config.kernels == "auto",
                )
                table.put_many({"model": self._choice.to_json()})
            if self._choice.why:
                self._notice(self._choice.why)
        return self._choice

    def plan(self, chats: Chats, repeat: int) -> Plan:
        """Tokenise the prompts and group those that belong together."""
        self._batch_size = self.batch_size(repeat)
        self._prompts = [(name, self._chat.prompt(messages)) for name, messages in chats]
        ids = [prompt for _, prompt in self._prompts]
        if not self._depends_on_batch:
            return Plan([digest(prompt) for prompt in ids], [range(len(ids))], together=False)
        # In the order of `generate`; each group is decoded by itself.
        order = sorted(range(len(ids)), key=lambda index: (-len(ids[index]), index))
        size = _GROUP * self._batch_size
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        keys = [""] * len(ids)
        for group in groups:
            batches = digest([ids[index] for index in group])
            for place, index in enumerate(group):
                keys[index] = digest({"batches": batches, "place": place})
        return Plan(keys, groups, together=True)

    def write(
        self, positions: Sequence[int], *, keep: Keep, advance: Callable[[int], None]
    ) -> None:
        """Generate the outputs of some prompts of the plan.

        Raises:
            UsageError: the model cannot be loaded, or a prompt does not fit into its context.
        """
        chosen = [self._prompts[position] for position in positions]
        place = {name: position for (name, _), position in zip(chosen, positions, strict=True)}

        def hand_over(outputs: Sequence[Output]) -> None:
            self._new_tokens += sum(output.tokens or 0 for output in outputs)
            keep(
                (place[output.id], Written(output.text, output.finish, output.tokens))
                for output in outputs
            )

        model, way = self._loaded(), self._chosen().way
        began = time.perf_counter()
        generate(
            chosen,
            model=model,
            chat=self._chat,
            max_new_tokens=self._config.max_new_tokens,
            batch_size=self._batch_size,
            way=way,
            advance=advance,
            keep=hand_over,
        )
        self._seconds += time.perf_counter() - began

    def losses(self, texts: Sequence[str], *, advance: Callable[[int], None]) -> list[TextLoss]:
        """Return the loss of each text under the checkpoint.

        Raises:
            UsageError: the model cannot be loaded.
        """
        model, found = self._loaded(), []
        for text in texts:
            found.append(text_loss(text, model=model, tokenizer=self._chat.tokenizer))
            advance(len(found))
        return found

    def describe(self, written: Sequence[Written]) -> dict[str, Any]:
        """Return what an evaluation records of the engine."""
        return {
            "engine": "transformers",
            "decoding": "greedy",
            "max_new_tokens": self._config.max_new_tokens,
            "precision": self._config.precision,
            "batch_size": self._batch_size,
            "kernels": self._config.kernels,
            "device": self._device,
            "seconds_per_token": self._seconds / self._new_tokens if self._new_tokens else None,
            **({"template_date": self._chat.date} if self._chat.date else {}),
            **({"way": str(self._choice.way)} if self._choice else {}),
        }

    def batch_size(self, repeat: int) -> int:
        """Return the batch size of a repeat, different for each: halved down to 1, then doubled."""
        sizes = [self._config.batch_size]
        while sizes[-1] > 1:
            sizes.append(sizes[-1] // 2)
        if repeat < len(sizes):
            return sizes[repeat]
        return sizes[0] << (repeat - len(sizes) + 1)

    @property
    def _depends_on_batch(self) -> bool:
        # On a GPU the kernels depend on the batch size, in fp32 too.
        return self._config.precision != "fp32" or self._device != "cpu"

    def _loaded(self) -> PreTrainedModel:
        if self._model is None:
            self._phase("loading the checkpoint")
            dtype = torch.bfloat16 if self._config.precision == "bf16" else torch.float32
            model: Any = load_checkpoint_model(self._checkpoint, dtype=dtype)
            refuse_changed_since(self._checkpoint.folder, self._verified)
            largest = max(max(ids) for _, ids in self._prompts)
            refuse_larger_tokenizer(model, self._chat.tokenizer, largest=largest)
            # Quantized weights are already on their device and cannot be moved.
            quantized = self._checkpoint.manifest.base.quantization is not None
            self._model = model if quantized else model.to(self._device)
        return self._model


def _configuration_of_base(checkpoint: ModelFolder) -> str | None:
    """Return the digest of the base's configuration; None if the weights alone are enough.

    Cached outputs remain available without the base. An older manifest has no digest.

    Raises:
        UsageError: it has changed since the adapters were trained.
    """
    manifest = checkpoint.manifest
    if manifest.lora is None or manifest.base.source != "folder":
        return None
    places = places_of_base(checkpoint)
    return manifest.base.configuration or (configuration_digest(places[0]) if places else None)


def device_here() -> str:
    """Return the kind of device that generates."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device_name(device: str) -> str:
    if device == "cuda":
        return f"cuda {torch.cuda.get_device_name()}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"
