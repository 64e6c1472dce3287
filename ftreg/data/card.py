"""The card of a dataset version: its description, its source and the digests of its files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from ftreg.config.base import Section
from ftreg.config.load import validate
from ftreg.files import marked_yaml
from ftreg.files.names import plain
from ftreg.files.store import digest
from ftreg.records.samples import Example
from ftreg.records.turns import SYSTEM_ROLES, TOOLS, said

_PLACEHOLDER = re.compile(r"\{(input|context)\}")


class Prompt(Section):
    """How an example becomes a chat."""

    user: str
    """The user's turn; `{input}` and `{context}` stand for the example's fields. In a chat,
    `{input}` is the last user turn, and the others are unchanged."""
    system: str | None = None
    """The system turn, for chats without their own; null leaves it to the model's chat template."""

    @field_validator("user")
    @classmethod
    def _needs_input(cls, value: str) -> str:
        if "{input}" not in value:
            raise ValueError("the template must contain {input}")
        return value

    def messages(self, example: Example) -> list[dict[str, Any]]:
        """Return the chat up to the answer, in the format of chat templates.

        If tools may be called, the first turn declares them; see `ftreg.records.turns`.

        Raises:
            ValueError: the template needs a context and the example has none.
        """
        fields = {"input": example.input, "context": example.context}

        def fill(match: re.Match[str]) -> str:
            value = fields[match[1]]
            if value is None:
                raise ValueError(f"example {example.id} has no {match[1]}, which the prompt needs")
            return value

        # One pass, so that braces inside an example's own text stay as they are.
        asked = {"role": "user", "content": _PLACEHOLDER.sub(fill, self.user)}
        turns = [dict(turn) for turn in example.asked]
        last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=0)
        turns[last : last + 1] = [{**turns[last], **asked} if turns else asked]
        if self.system is not None and turns[0]["role"] not in SYSTEM_ROLES:
            turns.insert(0, {"role": "system", "content": self.system})
        return [{"role": TOOLS, "tools": list(example.tools)}, *turns] if example.tools else turns


class SplitCard(Section):
    """One file of rows."""

    file: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.jsonl$"), AfterValidator(plain)
    ]
    """Name of a JSONL file beside the card."""
    rows: Annotated[int, Field(ge=1)]
    """Number of rows."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hex digest of the file's bytes."""


class Card(Section):
    """Everything that describes a dataset version."""

    name: str
    """The dataset's name."""
    version: Annotated[int, Field(ge=1)]
    """The version number; a version never changes once it has been used."""
    license: str
    """SPDX expression."""
    description: str
    """What one row is, and what the dataset is for."""
    source: str
    """Where the rows come from."""
    changes: str = ""
    """What differs from the version before."""
    prompt: Prompt
    """How an example becomes a chat."""
    context_from: Literal["context", "input"] = "context"
    """`input` if outputs must be faithful to the input itself, as for code."""
    cohorts: list[str] = Field(default_factory=list)
    """The tags whose values form cohorts."""
    cluster: str | None = None
    """A tag whose values group dependent examples (by file or document)."""
    splits: Annotated[dict[str, SplitCard], Field(min_length=1)]
    """The files of rows, by split."""
    recipe: Annotated[str, AfterValidator(plain)] | None = None
    """A recipe file beside the card, if `ftreg data build` makes the rows."""

    def scoring_context(self, example: Example) -> str | None:
        """What an output for `example` must be faithful to."""
        return example.input if self.context_from == "input" else example.context

    def hides_context(self, example: Example) -> bool:
        """Whether outputs are compared with a context that the model is not shown."""
        context = (example.context or "").strip()
        if not context or self.context_from == "input" or "{context}" in self.prompt.user:
            return False
        turns = (*example.asked, {"content": f"{example.input}\n{self.prompt.system or ''}"})
        return not any(context in said(turn) for turn in turns)

    def cohort_tags(self, example: Example) -> Mapping[str, str]:
        """The example's tags that form cohorts."""
        return {tag: example.tags[tag] for tag in self.cohorts if tag in example.tags}

    @property
    def digest(self) -> str:
        """Hex digest of what an evaluation depends on: rows, prompt, context and clusters."""
        return digest(
            {
                "name": self.name,
                "version": self.version,
                "prompt": self.prompt.model_dump(),
                "context_from": self.context_from,
                "cluster": self.cluster,
                "splits": {name: split.sha256 for name, split in self.splits.items()},
            }
        )


def read_card(folder: Path) -> Card:
    """Read `dataset.yaml` of a dataset version's folder.

    Raises:
        UsageError: it is missing or invalid; one line per mistake, with its location.
    """
    path = folder / "dataset.yaml"
    return validate(Card, marked_yaml.read(path), where=str(path))
