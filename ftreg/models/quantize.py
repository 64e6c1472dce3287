"""Frozen weights in 4 or 8 bits, with bitsandbytes."""

import importlib.util
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from ftreg.errors import UsageError


def quantized(bits: str) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that quantize a model on the current GPU.

    4 bits: NF4 with double quantization, computing in bf16 (QLoRA,
    https://arxiv.org/abs/2305.14314). 8 bits: LLM.int8() (https://arxiv.org/abs/2208.07339).

    Args:
        bits: `4bit` or `8bit`.

    Raises:
        UsageError: there is no GPU, or bitsandbytes is not installed.
    """
    wanted = f"base.quantization: {bits}"
    if not torch.cuda.is_available():
        raise UsageError(f"{wanted} needs a CUDA GPU, which is not here; set it to null")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(f"{wanted} needs bitsandbytes: pip install bitsandbytes")
    settings: dict[str, Any] = {"load_in_8bit": True}
    if bits == "4bit":
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.bfloat16,
        }
    return {
        "quantization_config": BitsAndBytesConfig(**settings),
        "device_map": {"": torch.cuda.current_device()},
    }
