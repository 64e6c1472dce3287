"""The chat template and the end tokens that a checkpoint was trained with."""

from typing import Any

from transformers import GenerationConfig

from ftreg.models.chat_template import GENERATION_CONFIG, Chat, stop_tokens
from ftreg.models.pretrained import load_tokenizer
from ftreg.records.checkpoint import Checkpoint


def trained_chat(checkpoint: Checkpoint) -> Chat:
    """Return the chat template that a checkpoint was trained with, and its tokenizer."""
    base = checkpoint.manifest.config.base
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=base.trust_remote_code)
    return Chat(tokenizer, template=base.template, date=base.template_date)


def end_tokens(checkpoint: Checkpoint, tokenizer: Any) -> list[int]:
    """Return the token ids that end an output, the one that answers are trained to end with first.

    Args:
        checkpoint: has the settings of generation.
        tokenizer: its own.
    """
    written = (checkpoint.folder / GENERATION_CONFIG).is_file()
    settings = GenerationConfig.from_pretrained(checkpoint.folder) if written else None
    first = int(tokenizer.eos_token_id)
    return [first, *sorted(stop_tokens(tokenizer, settings) - {first})]
