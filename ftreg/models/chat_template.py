"""A chat as token ids, by the template that the tokenizer brings."""

from typing import Any

import jinja2

from ftreg.errors import UsageError
from ftreg.models.soundness import told_as


def chat_ids(tokenizer: Any, messages: list[dict[str, str]], *, answer_next: bool) -> list[int]:
    """Token ids of a chat, with the opening of the assistant's turn if `answer_next`.

    Raises:
        UsageError: the model's chat template is broken, does not take the chat, writes nothing, or
            reaches for what transformers' sandbox keeps from it; or the tokenizer fails.
    """
    place = getattr(tokenizer, "name_or_path", "") or "the tokenizer"
    roles = ", ".join(message["role"] for message in messages)
    taken = f"does not take a chat of {roles}"
    with told_as(f"{place}: the model's chat template (chat_template.jinja) {taken}"):
        try:
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=answer_next, tokenize=True, return_dict=False
            )
        except jinja2.TemplateSyntaxError as error:
            raise UsageError(
                f"{place}: the model's chat template (chat_template.jinja, line {error.lineno}) "
                f"{taken}: {error}"
            ) from error
    if not ids:
        raise UsageError(
            f"{place}: the model's chat template (chat_template.jinja) writes nothing for a chat "
            f"of {roles}; put in the template that the model was made with"
        )
    return list(ids)
