"""A checkpoint's weights, one tensor at a time, with adapters merged in fp32."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ftreg.config.sections import LoraConfig
from ftreg.errors import UsageError
from ftreg.models.pretrained import find_base_of
from ftreg.records.checkpoint import Checkpoint

_ADAPTERS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
# The parts of a low-rank adapter, as peft names them in its file.
_PARTS = (
    *("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"),
    *("lora_embedding_A", "lora_embedding_B"),
)


class Tensors:
    """The tensors of a folder's safetensors, read one at a time.

    Args:
        folder: contains the files.

    Raises:
        UsageError: a file is not safetensors, or there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.kinds: dict[str, torch.dtype] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as tensors:
                    for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                        part = tensors.get_slice(name)
                        self._files[name] = path
                        self.shapes[name] = tuple(part.get_shape())
                        self.kinds[name] = part[:0].dtype  # without reading it
            except SafetensorError as error:
                raise UsageError(f"{path}: these weights are not safetensors: {error}") from error
        if not self._files:
            raise UsageError(f"{folder}: no *.safetensors file")

    def get(self, name: str) -> torch.Tensor:
        """Return a tensor as it is stored."""
        with safe_open(self._files[name], framework="pt") as tensors:
            found: torch.Tensor = tensors.get_tensor(name)
        return found


class Merged:
    """The effective weights of a checkpoint: its own, or its base model's with adapters.

    Tensors are read and merged one at a time, so that the complete model is never in memory.
    Merging is in fp32: W + s B A (LoRA, arXiv 2106.09685), with s = alpha / r or alpha / sqrt(r)
    (arXiv 2312.03732), and with DoRA rows of length m (arXiv 2402.09353).

    Args:
        checkpoint: verified.

    Raises:
        UsageError: the adapters' base model is missing, or was quantized in training.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.lora = checkpoint.manifest.lora
        self._adapters: Mapping[str, Mapping[str, torch.Tensor]] = {}
        folder = checkpoint.folder
        self.base: str | None = None
        """Digest of the base model's weights; None without adapters."""
        if self.lora is not None:
            base = find_base_of(checkpoint)
            if base.quantization is not None:
                raise UsageError(
                    f"{folder}: these adapters were trained on {base.quantization} weights; merged "
                    "into other weights they write other outputs. To export them, train them with "
                    "base.quantization: null"
                )
            folder, self.base = base.folder, base.digest
            self._adapters = _read_adapters(checkpoint.folder / _ADAPTERS)
        self.folder = folder
        """The folder with the configuration and the weights that adapters are added to."""
        self._tensors = Tensors(folder)
        untied = {f"{name}.weight" for name in self._adapters} & {HEAD, EMBEDDING}
        self.shapes = dict(self._tensors.shapes)
        """transformers' name to shape, without a tied output layer."""
        if untied and HEAD not in self.shapes:
            self.shapes[HEAD] = self.shapes[EMBEDDING]
        self.unties = bool(untied)
        """Whether an adapter gives embedding and output layer separate weights."""

    @property
    def adapted(self) -> list[str]:
        """The tensors that adapters change; empty after a full fine-tuning."""
        return [f"{name}.weight" for name in self._adapters]

    def get(self, name: str, *, times: int = 1) -> torch.Tensor:
        """Return a tensor in fp32, with its adapter merged `times` times.

        0 gives the base model's tensor, 2 the result of merging twice.
        """
        known = name in self._tensors.shapes
        weight = self._tensors.get(name if known else EMBEDDING).float()
        parts = self._adapters.get(name.removesuffix(".weight"))
        if parts is None or self.lora is None:
            return weight
        for _ in range(times):
            weight = merge(weight, parts, self.lora)
        return weight

    def kind(self, name: str) -> torch.dtype:
        """Return the precision in which a tensor is stored."""
        return self._tensors.kinds[name if name in self._tensors.kinds else EMBEDDING]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)


def merge(
    weight: torch.Tensor, parts: Mapping[str, torch.Tensor], lora: LoraConfig
) -> torch.Tensor:
    """Return a weight with an adapter merged in fp32.

    Args:
        weight: (out, in); for an embedding (tokens, width).
        parts: peft's names to the adapter's matrices: A is (r, in) and B is (out, r).
        lora: gives the scale.
    """
    scale = lora.alpha / (math.sqrt(lora.r) if lora.rslora else lora.r)
    if "lora_embedding_A" in parts:
        down, up = parts["lora_embedding_A"].float(), parts["lora_embedding_B"].float()
        return torch.add(weight, (up @ down).T, alpha=scale)
    update = parts["lora_B.weight"].float() @ parts["lora_A.weight"].float()
    merged = torch.add(weight, update, alpha=scale)
    magnitude = parts.get("lora_magnitude_vector")
    if magnitude is None:
        return merged
    lengths = torch.linalg.vector_norm(merged, dim=1)
    return torch.mul(merged, (magnitude.float() / lengths)[:, None])


def _read_adapters(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    try:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                part = next((part for part in _PARTS if name.endswith(f".{part}")), None)
                if part is None or not name.startswith(_PREFIX):
                    raise UsageError(f"{path}: {name} is not part of an adapter that can be merged")
                module = name.removeprefix(_PREFIX).removesuffix(f".{part}")
                found[module][part] = tensors.get_tensor(name)
    except SafetensorError as error:
        raise UsageError(f"{path}: these adapters are not safetensors: {error}") from error
    return dict(found)
