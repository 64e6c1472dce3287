"""The chat template and the end tokens that a checkpoint was trained with."""

from transformers import GenerationConfig

from ftreg.models.chat_template import GENERATION_CONFIG, Chat, stop_tokens
from ftreg.models.pretrained import load_tokenizer
from ftreg.records.checkpoint import ModelFolder


def trained_chat(checkpoint: ModelFolder) -> Chat:
    """Return the chat template that a checkpoint was trained with, its day, and its tokenizer.

    Raises:
        UsageError: there is no such template, or no tokenizer that can write chats.
    """
    manifest = checkpoint.manifest
    tokenizer = load_tokenizer(
        checkpoint.tokenizer_folder, trust_remote_code=manifest.base.trust_remote_code
    )
    base = manifest.base_config
    return Chat(tokenizer, template=base.template, date=base.template_date)


def end_tokens(checkpoint: ModelFolder, chat: Chat) -> list[int]:
    """Return the token ids that end an output, the one that answers are trained to end with first.

    Args:
        checkpoint: has the generation settings.
        chat: its `trained_chat`.
    """
    written = (checkpoint.folder / GENERATION_CONFIG).is_file()
    settings = GenerationConfig.from_pretrained(checkpoint.folder) if written else None
    first = int(chat.tokenizer.eos_token_id)
    return [first, *sorted(stop_tokens(chat.tokenizer, settings) - {first})]
