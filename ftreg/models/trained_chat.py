"""The chat template and end tokens that a checkpoint was trained with."""

from transformers import GenerationConfig

from ftreg.models.chat_template import GENERATION_CONFIG, Chat, stop_tokens
from ftreg.models.pretrained import load_tokenizer
from ftreg.records.checkpoint import ModelFolder


def trained_chat(checkpoint: ModelFolder) -> Chat:
    """Return a checkpoint's tokenizer with the chat template and date that it was trained with.

    Raises:
        UsageError: there is no such template, or no tokenizer with a chat template.
    """
    manifest = checkpoint.manifest
    tokenizer = load_tokenizer(
        checkpoint.tokenizer_folder, trust_remote_code=manifest.base.trust_remote_code
    )
    base = manifest.base_config
    return Chat(tokenizer, template=base.template, date=base.template_date)


def end_tokens(checkpoint: ModelFolder, chat: Chat) -> list[int]:
    """Return the token ids that end an output, first the one that trained answers end with.

    Args:
        checkpoint: its generation settings are read.
        chat: its `trained_chat`.
    """
    written = (checkpoint.folder / GENERATION_CONFIG).is_file()
    settings = GenerationConfig.from_pretrained(checkpoint.folder) if written else None
    first = int(chat.tokenizer.eos_token_id)
    return [first, *sorted(stop_tokens(chat.tokenizer, settings) - {first})]
