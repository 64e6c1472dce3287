"""Whether a folder of merged weights matches its checkpoint, and how it is read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gguf
import numpy as np
import torch
from transformers import AutoConfig, LogitsProcessor, LogitsProcessorList

from ftreg.deploy.merged_folder import Settings
from ftreg.deploy.merging import EMBEDDING, HEAD, Merged, Tensors
from ftreg.deploy.origin import origin_differences
from ftreg.deploy.tensors_alike import tensor_differences
from ftreg.errors import UsageError, shown
from ftreg.models.chat_template import Chat
from ftreg.models.pretrained import load_model, load_tokenizer
from ftreg.models.soundness import told_as
from ftreg.records.artefact import ArtefactRecord, Cause, ParityFinding
from ftreg.records.turns import from_request

_TYPES = gguf.GGMLQuantizationType
_KINDS = {
    torch.float32: _TYPES.F32,
    torch.float16: _TYPES.F16,
    torch.bfloat16: _TYPES.BF16,
}
# Settings that do not affect the computation. End tokens are tested instead.
_UNTOLD = (
    *("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path"),
    *("use_cache", "bos_token_id", "eos_token_id", "pad_token_id"),
)


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """A checkpoint in the form of a folder of merged weights."""

    weights: Merged
    settings: Settings
    embedding: ClassVar = EMBEDDING
    head: ClassVar = HEAD

    @property
    def tensors(self) -> Mapping[str, str | None]:
        """Each tensor's name, which is the checkpoint's own."""
        return {name: name for name in self.settings.tensors}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, as numpy has it."""
        return self.weights.shapes[name]

    def value(self, name: str, *, times: int = 1) -> np.ndarray[Any, Any]:
        """Return a tensor in fp32; `times` as in `Merged.get`."""
        found: np.ndarray[Any, Any] = self.weights.get(name, times=times).contiguous().numpy()
        return found

    def token(self, row: int) -> str:
        """Return the token of a row of the embedding."""
        return str(self.settings.chat.tokenizer.convert_ids_to_tokens(row))


class StoredFolder:
    """The tensors of a folder of merged weights.

    Args:
        folder: contains `config.json` and safetensors.

    Raises:
        UsageError: it has no safetensors, or its weights are not all f32, f16 or bf16.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tensors = Tensors(folder)
        for name, kind in self._tensors.kinds.items():
            if kind not in _KINDS:
                raise UsageError(
                    f"{folder}: the tensor {name} is in {kind}; parity compares folders in "
                    "float32, float16 and bfloat16"
                )

    @property
    def names(self) -> list[str]:
        """The names of the tensors."""
        return list(self._tensors.shapes)

    @property
    def precision(self) -> str:
        """The type that most of the weights have, as GGUF names it."""
        numbers: dict[torch.dtype, int] = {}
        for name, kind in self._tensors.kinds.items():
            numbers[kind] = numbers.get(kind, 0) + torch.Size(self._tensors.shapes[name]).numel()
        most = max(numbers, key=lambda kind: numbers[kind])
        return str(most).removeprefix("torch.").replace("float", "f")

    @property
    def kinds(self) -> set[str]:
        """The types, as torch names them."""
        return {str(kind).removeprefix("torch.") for kind in self._tensors.kinds.values()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, as numpy has it."""
        return self._tensors.shapes[name]

    def kind(self, name: str) -> gguf.GGMLQuantizationType:
        """Return the type of a tensor."""
        return _KINDS[self._tensors.kinds[name]]

    def stored(self, name: str) -> np.ndarray[Any, Any]:
        """Return the bytes of a tensor, by rows."""
        value = self._tensors.get(name)
        value = value.view(torch.int16) if value.dtype == torch.bfloat16 else value
        return np.asarray(value.numpy())

    def rows(self, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return some rows of a tensor in fp32; for a one-dimensional tensor, all."""
        value = self._tensors.get(name)
        return np.asarray((value if value.ndim == 1 else value[start:stop]).float().numpy())


def folder_differences(
    plan: FolderPlan,
    file: StoredFolder,
    record: ArtefactRecord | None,
    *,
    advance: Callable[[int, int], None],
) -> list[ParityFinding]:
    """Compare a folder with the export of a checkpoint.

    Args:
        plan: of the checkpoint.
        file: the artefact.
        record: its manifest, if it has one.
        advance: called with the number of tensors compared and the total.
    """
    names = record.files if record else ()
    paths = [path for name in names if (path := file.folder / name).is_file()]
    found = [
        *origin_differences(plan.weights.checkpoint, record, paths=paths),
        *_settings(plan.settings, file.folder),
        *_vocabulary(plan.settings.chat.tokenizer, file.folder),
    ]
    if record is not None and {*record.precision.split(", ")} != file.kinds:
        found.append(
            ParityFinding(
                cause="another quantization than named",
                where="its manifest",
                trained=record.precision,
                served=", ".join(sorted(file.kinds)),
            )
        )
    return found + tensor_differences(plan, file, advance=advance)


def _settings(settings: Settings, folder: Path) -> Iterator[ParityFinding]:
    place = folder / "config.json"
    with told_as(f"{place}: cannot interpret it"):
        found = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    expected = settings.config.to_dict()
    for key in sorted({*expected, *found} - {*_UNTOLD}):
        if expected.get(key) != found.get(key):
            cause: Cause = "another configuration"
            if "rope" in key:
                cause = "lost rope settings"
            elif key == "tie_word_embeddings":
                cause = "an untied output layer"
            yield ParityFinding(
                cause=cause,
                where=f"{place}: {key}",
                trained=shown(expected.get(key)),
                served=shown(found.get(key)),
            )


def _vocabulary(tokenizer: Any, folder: Path) -> Iterator[ParityFinding]:
    found = load_tokenizer(folder).get_vocab()
    other = sorted(row for token, row in tokenizer.get_vocab().items() if found.get(token) != row)
    if other:
        token = tokenizer.convert_ids_to_tokens(other[0])
        yield ParityFinding(
            cause="a wrong vocabulary row",
            where=f"token {other[0]}" + (f", and {len(other) - 1} more" if other[1:] else ""),
            trained=shown(token),
            served=f"row {found[token]}" if token in found else "no such token",
        )


class LoadedFolder:
    """A folder as transformers reads it, with the same queries as a server.

    Args:
        folder: contains model and tokenizer.
        date: ISO date that its template uses as today; None is today.

    Raises:
        UsageError: model or tokenizer cannot be loaded.
    """

    def __init__(self, folder: Path, *, date: str | None) -> None:
        self._chat = Chat(load_tokenizer(folder), date=date)
        self._model: Any = load_model(folder)

    def context(self) -> int | None:
        """Return the maximum number of tokens of a prompt and its answer."""
        return getattr(self._model.config, "max_position_embeddings", None)

    def render(self, request: Mapping[str, Any]) -> str | None:
        """Return a chat as text."""
        return self._chat.render(from_request(request), answer_next=True)

    def tokens(self, request: Mapping[str, Any]) -> list[int] | None:
        """Return the token ids of a chat."""
        return self._chat.encode(self._chat.render(from_request(request), answer_next=True))

    def prompt_tokens(self, request: Mapping[str, Any]) -> int:
        """Return the number of tokens in a chat."""
        return len(self.tokens(request) or ())

    def ends_at(self, token: int, *, after: list[int]) -> bool | None:
        """Whether an output ends when the model is forced to write a token."""
        written = self._model.generate(
            torch.tensor([after]),
            attention_mask=torch.ones(1, len(after), dtype=torch.long),
            max_new_tokens=2,
            do_sample=False,
            logits_processor=LogitsProcessorList([_Forced(token)]),
        )
        return bool(written.shape[1] == len(after) + 1)

    def likeliest(self, prompt: list[int], *, most: int, letter: int) -> dict[int, float] | None:
        """Return the likeliest next tokens, with their log-probabilities."""
        with torch.inference_mode():
            found = self._model(torch.tensor([prompt])).logits[0, -1].float().log_softmax(-1)
        values, tokens = found.topk(min(most, len(found)))
        return dict(zip(tokens.tolist(), values.tolist(), strict=True))


class _Forced(LogitsProcessor):  # type: ignore[misc]
    """Forces a model to write one token."""

    def __init__(self, token: int) -> None:
        self._token = token

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self._token] = 0
        return forced
