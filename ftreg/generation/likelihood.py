"""The loss of texts under a model: how well it predicts them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

MOST_TOKENS = 512
"""Of a longer text only its beginning counts, which bounds the memory that logits take."""


@dataclass(frozen=True, slots=True)
class TextLoss:
    """`loss` is the mean per token in nats, over all `tokens` but the first; None if fewer than 2.

    `ids` are the tokens given to the model.
    """

    loss: float | None
    ids: tuple[int, ...]


@torch.inference_mode()
def text_loss(text: str, *, model: PreTrainedModel, tokenizer: Any) -> TextLoss:
    """Return the loss of one text, computed alone so that no other text changes its last bits.

    Each token is predicted from the tokens before it; special tokens that the tokenizer adds before
    a text are given and not predicted.

    Args:
        text: plain text, not wrapped in a chat.
        model: in evaluation mode, on its device and in its precision; the loss is computed in fp32.
        tokenizer: the model's.
    """
    plain = list(tokenizer.encode(text, add_special_tokens=False))
    whole = list(tokenizer.encode(text))
    # What it puts behind a text is left out: an end is nothing to foretell here.
    given = whole[: whole.index(plain[0])] if plain and plain[0] in whole else []
    ids = [*given, *plain][:MOST_TOKENS]
    first = max(len(given), 1)
    if len(ids) <= first:
        return TextLoss(None, tuple(ids))
    inputs = torch.tensor([ids], device=model.device)
    logits = model(input_ids=inputs, use_cache=False).logits[0, first - 1 : -1]
    loss = functional.cross_entropy(logits.float(), inputs[0, first:])
    return TextLoss(float(loss), tuple(ids))
