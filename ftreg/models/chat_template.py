"""A chat as token ids, by the template that the tokenizer brings."""

from typing import Any

import jinja2

from ftreg.errors import UsageError


def chat_ids(tokenizer: Any, messages: list[dict[str, str]], *, answer_next: bool) -> list[int]:
    """Token ids of a chat, with the opening of the assistant's turn if `answer_next`.

    Raises:
        UsageError: the model's chat template is broken, does not take the chat, or reaches for what
            transformers' sandbox keeps from it.
    """
    try:
        return list(
            tokenizer.apply_chat_template(
                messages, add_generation_prompt=answer_next, tokenize=True, return_dict=False
            )
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
        place = getattr(tokenizer, "name_or_path", "") or "the tokenizer"
        line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        roles = ", ".join(message["role"] for message in messages)
        raise UsageError(
            f"{place}: the model's chat template (chat_template.jinja{line}) does not take a chat "
            f"of {roles}: {error}"
        ) from error
