"""Low-rank adapters, by peft."""

from typing import Any

from torch import nn

from ftreg.config.sections import LoraConfig
from ftreg.errors import UsageError


def with_adapters(model: Any, config: LoraConfig) -> nn.Module:
    """Return the model with adapters on it; only they are trainable.

    Raises:
        UsageError: no module has one of the configured names.
    """
    import peft  # takes as long to import as torch; a full fine-tuning has no use for it

    adapters = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        wrapped: nn.Module = peft.get_peft_model(model, adapters)
    except ValueError as error:
        raise UsageError(f"lora: {error}") from error
    return wrapped
