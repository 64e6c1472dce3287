"""The manifest next to an export: its checkpoint, and the versions that made it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ftreg.errors import UsageError
from ftreg.files.checking import first_problem
from ftreg.files.store import read_json
from ftreg.records.printed import DESCRIBED

ARTEFACT_SCHEMA = 1
MERGED_MANIFEST = "ftreg-export.json"
"""The record of a folder of merged weights, in the folder."""
CHECKPOINT_KEY, WEIGHTS_KEY = "ftreg.checkpoint", "ftreg.weights"
"""Metadata of a GGUF file: identity and weights of its checkpoint. Files that llama.cpp quantizes
from it keep them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactRecord:
    """The manifest of an export. It has no time or path: the same export has the same bytes."""

    __pydantic_config__ = DESCRIBED

    schema_version: int = ARTEFACT_SCHEMA
    """Version of this record; it goes up when the meaning of a key does."""
    ftreg: str
    """The version that wrote it."""
    form: Literal["gguf", "merged"]
    """A GGUF file, or a folder for transformers."""
    precision: str
    """`f32`, `f16`, `bf16`, `q8_0` or `q4_0`; for merged weights, as in config.json."""
    checkpoint: str
    """Identity of the checkpoint."""
    weights: str
    """Digest of the checkpoint's weights."""
    base: str | None
    """Digest of the base model's weights that adapters were merged into; null without adapters."""
    files: Mapping[str, str]
    """Name to hex SHA-256 of the files written."""
    bytes: int
    """Their size."""
    context: int | None
    """Maximum tokens of a prompt and its answer for which it computes the same as the checkpoint;
    null if the configuration names none."""
    ends: list[int]
    """Token ids that end an output, first the one that trained answers end with."""
    versions: Mapping[str, str]
    """Library to the version that wrote it: gguf, torch, transformers."""


_RECORD = TypeAdapter(ArtefactRecord)


def manifest_of(artefact: Path) -> Path:
    """Return the path of an artefact's record."""
    if artefact.is_dir():
        return artefact / MERGED_MANIFEST
    return artefact.with_name(f"{artefact.name}.ftreg.json")


def read_artefact(artefact: Path) -> ArtefactRecord | None:
    """Read the record of an artefact; None if there is none.

    Raises:
        UsageError: it is damaged, or written by a newer ftreg.
    """
    path = manifest_of(artefact)
    if not path.is_file():
        return None
    data: dict[str, Any] = read_json(
        path, kind="manifest of an export", schema=ARTEFACT_SCHEMA, sealed=True
    )
    try:
        return _RECORD.validate_python(data, strict=False)
    except ValidationError as error:
        raise UsageError(f"{path}: damaged manifest: {first_problem(error)}") from error


def is_as_recorded(record: ArtefactRecord, digests: Iterable[str]) -> bool:
    """Whether these digests are exactly those of the record; the names may differ."""
    return {*record.files.values()} <= {*digests}


Cause = Literal[
    "a doubled first token",
    "a first token too many",
    "a missing first token",
    "a missing end token",
    "a dropped system turn",
    "another chat template",
    "another tokenizer",
    "another date",
    "lost rope settings",
    "another configuration",
    "an untied output layer",
    "a missing tensor",
    "a wrong vocabulary row",
    "adapters not merged",
    "adapters merged twice",
    "a stale artefact",
    "other weights",
    "another quantization than named",
    "a context too short",
    "other log-probabilities",
]
"""Possible faults of an artefact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityFinding:
    """A difference between a checkpoint and an artefact made from it."""

    __pydantic_config__ = DESCRIBED

    cause: Cause
    """The likely fault."""
    where: str
    """A prompt, a key or a tensor."""
    trained: str
    """What the checkpoint has there."""
    served: str
    """What the artefact has there."""
    prompts: int = 0
    """Number of prompts with this cause; 0 if it does not concern prompts."""
    tokens: tuple[tuple[int, str, str], ...] = ()
    """Starting just before the first difference: position, the checkpoint's token, the artefact's;
    empty if one of them has ended."""
