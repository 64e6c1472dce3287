"""The parts of a chat endpoint's answers that ftreg uses."""

import json
from typing import Any

from pydantic import BaseModel, Field, field_validator

from ftreg.errors import cut

_SHOWN = 300
"""Maximum characters of a server's message that are passed on."""


class Message(BaseModel):
    """The used parts of a chat message.

    `thoughts` are the model's thoughts, if the server separates them from the answer.
    """

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, content: Any) -> Any:
        """Join the texts of a content in parts; thoughts and pictures are skipped."""
        if not isinstance(content, list):
            return content
        return "".join(map(_text_of_part, content))

    @property
    def calls(self) -> tuple[tuple[str, str], ...]:
        """Name and arguments of each called function; anything else is skipped."""
        found = (item.get("function") for item in self.tool_calls or () if isinstance(item, dict))
        return tuple(
            (str(call.get("name")), str(call.get("arguments") or "{}"))
            for call in found
            if isinstance(call, dict)
        )

    @property
    def has_thoughts(self) -> bool:
        """Whether the server sent thoughts along with the content."""
        return bool(self.reasoning_content or self.reasoning)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    of_text = isinstance(part, dict) and part.get("type", "text") in ("text", "output_text")
    text = part.get("text") if of_text else None
    return text if isinstance(text, str) else ""


class _Choice(BaseModel):
    """The used parts of a choice."""

    message: Message = Field(default_factory=Message)
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens as counted by the server; 0 if it does not count them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @field_validator("*", mode="before")
    @classmethod
    def _uncounted(cls, tokens: Any) -> Any:
        return 0 if tokens is None else tokens

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum of both."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class Answer(BaseModel):
    """The used parts of a chat completion."""

    choices: list[_Choice]
    usage: Usage | None = None
    model: str | None = None


def error_message(text: str) -> str:
    """Return a server's error message on one line."""
    try:
        found = json.loads(text)["error"]
        said = found["message"] if isinstance(found, dict) else found
    except (ValueError, KeyError, TypeError, RecursionError):
        said = text
    return cut(" ".join(str(said).split()) or "nothing more", _SHOWN)
