"""The engine that generates the outputs of an evaluation."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ftreg.config.base import Section, by_name
from ftreg.services.chat.endpoint import Endpoint


class EngineConfig(Section):
    """The engine: `transformers` in this process, or a server that speaks OpenAI's chat API."""

    name: Literal["transformers", "openai", "llama.cpp"] = "transformers"
    """transformers; openai for vLLM, `transformers serve` and others; or llama.cpp, which serves
    `artefact`. The other keys are those of openai."""
    artefact: str | None = None
    """A GGUF file of the checkpoint, for the engine llama.cpp."""
    base_url: str | None = None
    """The URL that has /chat/completions below it, such as http://localhost:8000/v1."""
    model: str | None = None
    """The server's name for the checkpoint."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key; null sends none."""
    timeout: Annotated[float, Field(ge=0.001, le=86_400)] = 600.0
    """Maximum seconds for one request."""
    max_retries: Annotated[int, Field(ge=0, le=100)] = 5
    """Attempts after the first, on 408, 429, 5xx, timeouts and dropped connections."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    """Concurrent requests; the server does the batching."""

    @model_validator(mode="after")
    def _keys_of_its_own(self) -> Self:
        if (self.name == "llama.cpp") != (self.artefact is not None):
            raise ValueError("artefact is required with the engine llama.cpp, and only there")
        if self.name == "openai":
            for key in ("base_url", "model"):
                if getattr(self, key) is None:
                    raise ValueError(f"the engine openai needs {key}")
            self.endpoint(max_tokens=1)  # before a password in it is written anywhere
        elif self.base_url is not None or self.model is not None or self.api_key_env is not None:
            raise ValueError("base_url, model and api_key_env belong to the engine openai")
        return self

    def endpoint(self, *, max_tokens: int) -> Endpoint:
        """Return the server of the engine openai, for answers of at most `max_tokens`.

        Raises:
            UsageError: the address contains a password, or api_key_env contains the key itself;
                the message repeats neither.
        """
        return Endpoint(
            base_url=self.base_url or "",
            model=self.model or "",
            api_key_env=self.api_key_env,
            timeout=self.timeout,
            max_retries=self.max_retries,
            concurrency=self.concurrency,
            max_tokens=max_tokens,
            place="eval.engine",
            speaker="server",
        )


AnyEngine = Annotated[EngineConfig, BeforeValidator(by_name)]
