"""A model's configuration as llama.cpp needs it, for the architectures that both sides support.

The keys are those of the GGUF specification (https://github.com/ggml-org/ggml, docs/gguf.md).
Tensors are converted to the layout that llama.cpp expects: adjacent rotary pairs for Llama, and
norms stored as 1 + w for Gemma.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoConfig

from ftreg.errors import UsageError, shown
from ftreg.models.soundness import told_as

_SILU, _GELU = ("silu", "swish"), ("gelu_pytorch_tanh",)
_BIASED = ("llama", "mistral", "qwen2")
"""Architectures whose attention may have biases."""
_PATTERNS = {"gemma2": 2, "gemma3_text": 6}
"""One layer in this many has global attention; llama.cpp supports no other pattern."""


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture: its number in GGUF, its activations, and how its tensors are converted."""

    arch: int
    activations: tuple[str, ...] = _SILU
    paired: bool = False
    """Rotary pairs are adjacent, so the rows of queries and keys are reordered."""
    norm_plus_one: bool = False
    """Norms are stored as an offset from 1."""
    windowed: bool = False
    """llama.cpp supports its sliding windows."""


FAMILIES = {
    "llama": Family(gguf.MODEL_ARCH.LLAMA, paired=True),
    "mistral": Family(gguf.MODEL_ARCH.LLAMA, paired=True),
    "qwen2": Family(gguf.MODEL_ARCH.QWEN2),
    "qwen3": Family(gguf.MODEL_ARCH.QWEN3),
    "gemma": Family(gguf.MODEL_ARCH.GEMMA, _GELU, norm_plus_one=True),
    "gemma2": Family(gguf.MODEL_ARCH.GEMMA2, _GELU, norm_plus_one=True, windowed=True),
    "gemma3_text": Family(gguf.MODEL_ARCH.GEMMA3, _GELU, norm_plus_one=True, windowed=True),
    "phi3": Family(gguf.MODEL_ARCH.PHI3),
}
"""`model_type` of a configuration to its counterpart in llama.cpp."""


class Blueprint:
    """A model's configuration in GGUF's terms.

    Args:
        folder: contains `config.json`.

    Raises:
        UsageError: the architecture cannot be exported, or llama.cpp would compute a setting
            differently; names it.
    """

    def __init__(self, folder: Path) -> None:
        self.place = folder / "config.json"
        with told_as(f"{self.place}: cannot interpret it"):
            self.config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = self.config.model_type
        if kind not in FAMILIES:
            raise UsageError(
                f"{self.place}: GGUF export does not support the architecture {kind}, only "
                f"{', '.join(FAMILIES)}. `--to merged` writes a folder for llama.cpp's own "
                "converter"
            )
        self.kind, self.family = kind, FAMILIES[kind]
        self.arch: str = gguf.MODEL_ARCH_NAMES[self.family.arch]
        self.layers = int(self.config.num_hidden_layers)
        self.heads = int(self.config.num_attention_heads)
        self.shared_heads = int(self.config.num_key_value_heads or self.heads)
        width = getattr(self.config, "head_dim", None)
        self.head_size = int(width or self.config.hidden_size // self.heads)
        self.tied = bool(self.config.tie_word_embeddings)
        self._names = gguf.get_tensor_name_map(self.family.arch, self.layers)
        self._refuse_what_would_differ()

    @property
    def context(self) -> int:
        """The longest context for which llama.cpp computes the same as transformers."""
        longest = int(self.config.max_position_embeddings)
        window = self._window()
        return longest if window is None or self.family.windowed else min(longest, window)

    def notes(self) -> list[str]:
        """Return notes on the export for the user."""
        longest = self.config.max_position_embeddings
        if self.context == longest:
            return []
        return [
            f"the GGUF is limited to {self.context} tokens of context, not {longest}: llama.cpp "
            f"has no sliding windows for {self.kind}, and would write other outputs beyond that"
        ]

    def name(self, tensor: str) -> str:
        """Return GGUF's name of a tensor.

        Raises:
            UsageError: it has no such tensor.
        """
        found = self._names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UsageError(
                f"{self.place}: GGUF has no place for the tensor {tensor} of {self.kind}"
            )
        return str(found)

    def converted(self, tensor: str, value: torch.Tensor) -> np.ndarray[Any, Any]:
        """Return a tensor as llama.cpp uses it, in fp32.

        Args:
            tensor: its name in transformers.
            value: in fp32.
        """
        array = value.contiguous().numpy()
        if self.family.norm_plus_one and tensor.endswith("norm.weight"):
            return np.asarray(array + np.float32(1))
        layer = tensor.rpartition(".self_attn.")[2]
        if self.family.paired and layer.startswith(("q_proj.", "k_proj.")):
            heads = self.heads if layer.startswith("q") else self.shared_heads
            halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
            return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
        return array

    def extra_tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the tensors that only GGUF has: the scales of single rotary frequencies."""
        rope = self._rope()
        kind = rope.get("rope_type", "default")
        if kind == "llama3":
            return {"rope_freqs.weight": _llama3_factors(rope, self.head_size)}
        if kind == "longrope":
            return {
                f"rope_factors_{key}.weight": np.asarray(rope[f"{key}_factor"], dtype=np.float32)
                for key in ("long", "short")
            }
        return {}

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write the configuration's keys."""
        config = self.config
        writer.add_context_length(self.context)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.shared_heads)
        writer.add_key_length(self.head_size)
        writer.add_value_length(self.head_size)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        self._describe_rope(writer)
        if self.family.windowed:
            writer.add_sliding_window(config.sliding_window)
        elif self.kind == "phi3":
            writer.add_sliding_window(config.sliding_window or 0)
        if self.kind == "gemma2":
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
            writer.add_final_logit_softcapping(config.final_logit_softcapping)

    def _describe_rope(self, writer: gguf.GGUFWriter) -> None:
        rope = self._rope()
        share = rope.get("partial_rotary_factor") or 1.0
        writer.add_rope_dimension_count(int(self.head_size * share))
        writer.add_rope_freq_base(float(rope["rope_theta"]))
        kind = rope.get("rope_type", "default")
        if kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rope["factor"]))
        elif kind == "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(float(rope["factor"]))
            writer.add_rope_scaling_orig_ctx_len(self._original_context(rope))
        elif kind == "longrope":
            original = self._original_context(rope)
            ratio = self.config.max_position_embeddings / original
            longer = math.sqrt(1 + math.log(ratio) / math.log(original)) if ratio > 1 else 1.0
            writer.add_rope_scaling_orig_ctx_len(original)
            writer.add_rope_scaling_attn_factors(float(rope.get("attention_factor") or longer))

    def _original_context(self, rope: dict[str, Any]) -> int:
        found = rope.get("original_max_position_embeddings")
        found = found or getattr(self.config, "original_max_position_embeddings", None)
        return int(found or self.config.max_position_embeddings)

    def _rope(self) -> dict[str, Any]:
        """The rotary settings of the layers with global attention."""
        found = dict(self.config.rope_parameters)
        return dict(found.get("full_attention") or found)

    def _window(self) -> int | None:
        """The sliding window, if any layer has one."""
        kinds = getattr(self.config, "layer_types", None)
        windowed = "sliding_attention" in kinds if kinds else self.kind in ("mistral", "phi3")
        return getattr(self.config, "sliding_window", None) if windowed else None

    def _refuse_what_would_differ(self) -> None:
        config = self.config
        activation = getattr(config, "hidden_activation", None) or config.hidden_act
        self._require("hidden_act", activation, self.family.activations)
        rope = self._rope()
        self._require(
            "rope_type",
            rope.get("rope_type", "default"),
            ("default", "linear", "yarn", "llama3", "longrope"),
        )
        if rope.get("rope_type") == "yarn":
            for key, usual in (("beta_fast", 32), ("beta_slow", 1)):
                self._require(f"rope_parameters.{key}", rope.get(key) or usual, (usual,))
            for key in ("attention_factor", "mscale", "mscale_all_dim"):
                self._require(f"rope_parameters.{key}", rope.get(key), (None,))
        if self.kind in _PATTERNS:
            self._require("query_pre_attn_scalar", config.query_pre_attn_scalar, (self.head_size,))
            every = _PATTERNS[self.kind]
            pattern = [
                "sliding_attention" if (layer + 1) % every else "full_attention"
                for layer in range(self.layers)
            ]
            self._require("layer_types", list(config.layer_types), (pattern,))
        if self.kind not in _BIASED:
            self._require("attention_bias", getattr(config, "attention_bias", False), (False,))
        if self.kind == "gemma2":
            for key in ("attn_logit_softcapping", "final_logit_softcapping"):
                if getattr(config, key) is None:
                    raise UsageError(
                        f"{self.place}: {key} is null, but llama.cpp always caps gemma2; a GGUF of "
                        "this model would write other outputs"
                    )
        if self.kind == "gemma3_text":
            for key in ("attn_logit_softcapping", "final_logit_softcapping"):
                self._require(key, getattr(config, key, None), (None,))
            local = dict(config.rope_parameters).get("sliding_attention") or {}
            self._require("the local rope_theta", float(local.get("rope_theta", 1e4)), (1e4,))

    def _require(self, key: str, value: Any, allowed: tuple[Any, ...]) -> None:
        if value not in allowed:
            raise UsageError(
                f"{self.place}: {key} is {shown(value)}, but llama.cpp computes {self.kind} "
                f"only with {' or '.join(shown(each) for each in allowed)}; a GGUF of this model "
                "would write other outputs"
            )


def _llama3_factors(rope: dict[str, Any], width: int) -> np.ndarray[Any, Any]:
    """Return the divisors of the rotary frequencies, (width / 2,), as Llama 3.1 defines them.

    Low frequencies are divided by `factor`, high ones by 1, and those in between by a mixture.
    """
    factor, low, high = (rope[key] for key in ("factor", "low_freq_factor", "high_freq_factor"))
    original = rope["original_max_position_embeddings"]
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float64) / width)
    wavelengths = 2 * np.pi / frequencies
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return np.asarray(1 / ((1 - smooth) / factor + smooth), dtype=np.float32)
