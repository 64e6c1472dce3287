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
"""Precision to the type of the file, and to that of a two-dimensional tensor."""
_PIECE = 1 << 22
"""Numbers converted at a time."""


@dataclass(frozen=True, slots=True)
class GgufPlan:
    """A model in GGUF's terms: configuration, tokenizer, and tensors in file order.

    `tensors` maps GGUF's name to transformers', or to None if only GGUF has the tensor.
    """

    weights: Merged
    blueprint: Blueprint
    vocabulary: Vocabulary
    tensors: dict[str, str | None]
    extra: dict[str, np.ndarray[Any, Any]]
    embedding: ClassVar = "token_embd.weight"
    head: ClassVar = "output.weight"

    def token(self, row: int) -> str:
        """Return the token of a row of the embedding."""
        return self.vocabulary.tokens[row]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape in numpy's order."""
        source = self.tensors[name]
        return self.extra[name].shape if source is None else self.weights.shapes[source]

    def value(self, name: str, *, times: int = 1) -> np.ndarray[Any, Any]:
        """Return a tensor in fp32, as llama.cpp uses it; `times` as in `Merged.get`."""
        source = self.tensors[name]
        if source is None:
            return self.extra[name]
        return self.blueprint.converted(source, self.weights.get(source, times=times))

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write all keys that do not depend on the precision."""
        manifest = self.weights.checkpoint.manifest
        writer.add_type("model")
        writer.add_name(f"ftreg-{manifest.identity[:12]}")
        writer.add_string(CHECKPOINT_KEY, manifest.identity)
        writer.add_string(WEIGHTS_KEY, manifest.weights.digest)
        writer.add_string("ftreg.version", ftreg.__version__)
        self.blueprint.describe(writer)
        self.vocabulary.describe(writer)


def plan_gguf(checkpoint: Checkpoint) -> GgufPlan:
    """Plan the GGUF file of a checkpoint.

    Args:
        checkpoint: verified.

    Raises:
        UsageError: llama.cpp is not known to compute the architecture, tokenizer or a setting in
            the same way, or the adapters' base model is missing.
    """
    weights = Merged(checkpoint)
    blueprint = Blueprint(weights.folder)
    tied = blueprint.tied and not weights.unties
    names = [
        name
        for name in weights
        # Old files also contain what follows from the configuration.
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
    """Return the type of a tensor of this shape in a file.

    Norms and biases stay in fp32. Rows that do not divide into blocks are f16, as in llama.cpp.
    """
    kind = FILE_TYPES[precision][1]
    if len(shape) == 1:
        return _KINDS.F32
    return kind if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else _KINDS.F16


def encoded(
    value: np.ndarray[Any, Any], kind: gguf.GGMLQuantizationType
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield a tensor's bytes in a type, a few rows at a time."""
    if value.ndim == 1:
        yield gguf.quants.quantize(value, kind)
        return
    step = max(1, _PIECE // value.shape[-1])
    for start in range(0, len(value), step):
        with np.errstate(over="ignore"):  # the writer checks the result
            yield gguf.quants.quantize(value[start : start + step], kind)


def write_gguf(
    plan: GgufPlan, path: Path, *, precision: str, advance: Callable[[int, int], None]
) -> None:
    """Write the file. The same checkpoint and versions give the same bytes.

    Args:
        plan: the contents.
        path: the file to create.
        precision: one of `FILE_TYPES`.
        advance: called with the number of tensors written and the total.

    Raises:
        UsageError: a weight is too large for the precision; only the new file is lost.
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
    """Refuse values that overflow in f16, beyond 65504."""
    if piece.dtype == np.float16 and not np.isfinite(piece).all():
        raise UsageError(
            f"--to gguf:{precision}: the tensor {name} has values beyond 65504, the maximum of "
            "f16; export to gguf:bf16 or gguf:f32"
        )
