"""What is used of the answers of a chat endpoint."""

import json
from typing import Any

from pydantic import BaseModel, Field, field_validator

from ftreg.errors import cut

_SHOWN = 300
"""Characters of a server's message that are passed on."""


class Message(BaseModel):
    """What is used of a chat message.

    `thoughts` is what a server that takes a model's thoughts out of the answer made of them.
    """

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, content: Any) -> Any:
        """Take the text of a content in parts; a thought, or a picture, is none."""
        if not isinstance(content, list):
            return content
        return "".join(map(_text_of_part, content))

    @property
    def calls(self) -> tuple[tuple[str, str], ...]:
        """Name and arguments of each function that is called; what is no call is none."""
        found = (item.get("function") for item in self.tool_calls or () if isinstance(item, dict))
        return tuple(
            (str(call.get("name")), str(call.get("arguments") or "{}"))
            for call in found
            if isinstance(call, dict)
        )

    @property
    def has_thoughts(self) -> bool:
        """Whether the server sent thoughts beside the content."""
        return bool(self.reasoning_content or self.reasoning)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    of_text = isinstance(part, dict) and part.get("type", "text") in ("text", "output_text")
    text = part.get("text") if of_text else None
    return text if isinstance(text, str) else ""


class _Choice(BaseModel):
    """What is used of a choice."""

    message: Message = Field(default_factory=Message)
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens, as the server counts them; 0 where it does not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @field_validator("*", mode="before")
    @classmethod
    def _uncounted(cls, tokens: Any) -> Any:
        return 0 if tokens is None else tokens

    def __add__(self, other: "Usage") -> "Usage":
        """Return the tokens of both."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class Answer(BaseModel):
    """What is used of a chat completion."""

    choices: list[_Choice]
    usage: Usage | None = None
    model: str | None = None


def error_message(text: str) -> str:
    """Return what a server says of an error, on one line."""
    try:
        found = json.loads(text)["error"]
        said = found["message"] if isinstance(found, dict) else found
    except (ValueError, KeyError, TypeError, RecursionError):
        said = text
    return cut(" ".join(str(said).split()) or "nothing more", _SHOWN)
