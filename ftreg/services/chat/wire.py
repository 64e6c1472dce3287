"""What is used of the answers of a chat endpoint."""

from pydantic import BaseModel


class Message(BaseModel):
    """What is used of a chat message."""

    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    """What is used of a choice."""

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens, as the server counts them; 0 where it does not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

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
