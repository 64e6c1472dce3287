"""Write a checkpoint as a GGUF file, tensor by tensor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gguf
import numpy as np

import ftreg
from ftreg.deploy.architectures import Blueprint
from ftreg.deploy.merging import EMBEDDING, HEAD, Merged
from ftreg.deploy.vocabulary import Vocabulary, read_vocabulary
from ftreg.errors import UsageError
from ftreg.models.trained_chat import end_tokens, trained_chat
from ftreg.records.artefact import CHECKPOINT_KEY, WEIGHTS_KEY
from ftreg.records.checkpoint import Checkpoint

_KINDS = gguf.GGMLQuantizationType
FILE_TYPES = {
    "f32": (gguf.LlamaFileType.ALL_F32, _KINDS.F32),
    "f16": (gguf.LlamaFileType.MOSTLY_F16, _KINDS.F16),
    "bf16": (gguf.LlamaFileType.MOSTLY_BF16, _KINDS.BF16),
    "q8_0": (gguf.LlamaFileType.MOSTLY_Q8_0, _KINDS.Q8_0),
    "q4_0": (gguf.LlamaFileType.MOSTLY_Q4_0, _KINDS.Q4_0),
}
"""Precision to the file's type, and to that of a tensor of two dimensions."""
_PIECE = 1 << 22
"""Numbers that are converted at a time."""


@dataclass(frozen=True, slots=True)
class GgufPlan:
    """A model as GGUF has it: configuration, tokenizer, and the tensors in the order of the file.

    `tensors` is GGUF's name to transformers', None of one that only GGUF has.
    """

    weights: Merged
    blueprint: Blueprint
    vocabulary: Vocabulary
    tensors: dict[str, str | None]
    extra: dict[str, np.ndarray[Any, Any]]
    embedding: ClassVar = "token_embd.weight"
    head: ClassVar = "output.weight"

    def token(self, row: int) -> str:
        """Return what stands for a row of the embedding."""
        return self.vocabulary.tokens[row]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, as numpy has it."""
        source = self.tensors[name]
        return self.extra[name].shape if source is None else self.weights.shapes[source]

    def value(self, name: str, *, times: int = 1) -> np.ndarray[Any, Any]:
        """Return a tensor in fp32, as llama.cpp computes with it; `times` as `Merged.get`."""
        source = self.tensors[name]
        if source is None:
            return self.extra[name]
        return self.blueprint.converted(source, self.weights.get(source, times=times))

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write all keys but those of one precision."""
        manifest = self.weights.checkpoint.manifest
        writer.add_type("model")
        writer.add_name(f"ftreg-{manifest.identity[:12]}")
        writer.add_string(CHECKPOINT_KEY, manifest.identity)
        writer.add_string(WEIGHTS_KEY, manifest.weights.digest)
        writer.add_string("ftreg.version", ftreg.__version__)
        self.blueprint.describe(writer)
        self.vocabulary.describe(writer)


def plan_gguf(checkpoint: Checkpoint) -> GgufPlan:
    """Lay out what a GGUF file of a checkpoint holds.

    Args:
        checkpoint: verified.

    Raises:
        UsageError: architecture, tokenizer or a setting are not known to be computed alike by
            llama.cpp, or the base of adapters is not here.
    """
    weights = Merged(checkpoint)
    blueprint = Blueprint(weights.folder)
    tied = blueprint.tied and not weights.unties
    names = [
        name
        for name in weights
        # Old files have what follows from the configuration, too.
        if not (tied and name == HEAD) and not name.endswith(".rotary_emb.inv_freq")
    ]
    if EMBEDDING not in weights.shapes:
        raise UsageError(f"{weights.folder}: the weights have no {EMBEDDING}")
    extra = blueprint.extra_tensors()
    tensors: dict[str, str | None] = dict.fromkeys(extra)
    tensors |= {blueprint.name(name): name for name in names}
    rows = weights.shapes[EMBEDDING][0]
    chat = trained_chat(checkpoint)
    vocabulary = read_vocabulary(
        checkpoint.folder, chat, rows=rows, ends=end_tokens(checkpoint, chat)
    )
    return GgufPlan(weights, blueprint, vocabulary, tensors, extra)


def kind_of(shape: tuple[int, ...], precision: str) -> gguf.GGMLQuantizationType:
    """Return the type that a tensor of this shape has in a file.

    Norms and biases stay in fp32; rows that fill no whole block are kept in f16, as llama.cpp does.
    """
    kind = FILE_TYPES[precision][1]
    if len(shape) == 1:
        return _KINDS.F32
    return kind if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else _KINDS.F16


def encoded(
    value: np.ndarray[Any, Any], kind: gguf.GGMLQuantizationType
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield a tensor's bytes in a type, some rows at a time."""
    if value.ndim == 1:
        yield gguf.quants.quantize(value, kind)
        return
    step = max(1, _PIECE // value.shape[-1])
    for start in range(0, len(value), step):
        with np.errstate(over="ignore"):  # who writes looks at what came of it
            yield gguf.quants.quantize(value[start : start + step], kind)


def write_gguf(
    plan: GgufPlan, path: Path, *, precision: str, advance: Callable[[int, int], None]
) -> None:
    """Write the file. The same checkpoint and versions give the same bytes.

    Args:
        plan: what it holds.
        path: the file, which is made.
        precision: one of `FILE_TYPES`.
        advance: is told how many of how many tensors are written.

    Raises:
        UsageError: a weight is too large for the precision; nothing is lost but the new file.
        OSError: it cannot be written.
    """
    writer = gguf.GGUFWriter(None, plan.blueprint.arch)
    plan.describe(writer)
    writer.add_file_type(FILE_TYPES[precision][0])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name in plan.tensors:
        shape = plan.shape(name)
        kind = kind_of(shape, precision)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        nbytes = int(np.prod(shape)) // block * size
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
    writer.write_header_to_file(path)
    try:
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        stream = writer.fout[0]
        writer.write_padding(stream, stream.tell())
        for number, name in enumerate(plan.tensors, start=1):
            start = stream.tell()
            for piece in encoded(plan.value(name), kind_of(plan.shape(name), precision)):
                _refuse_overflow(piece, name, precision)
                stream.write(piece.tobytes())
            writer.write_padding(stream, stream.tell() - start)
            advance(number, len(plan.tensors))
    finally:
        writer.close()


def _refuse_overflow(piece: np.ndarray[Any, Any], name: str, precision: str) -> None:
    """Refuse what is no number in f16: a value beyond 65504."""
    if piece.dtype == np.float16 and not np.isfinite(piece).all():
        raise UsageError(
            f"--to gguf:{precision}: the tensor {name} has values beyond 65504, the largest of "
            "f16; export to gguf:bf16 or gguf:f32"
        )
