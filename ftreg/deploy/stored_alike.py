"""Whether a GGUF file holds what a checkpoint computes with: keys, vocabulary and tensors.

A tensor whose bytes are those of our own quantization is alike. Of others the error is held against
the resolution of their type. Whether adapters are in the weights is told by a projection: with D
what they add, <found - base, D> / <D, D> is near 0 if they are not in, near 1 if they are, and near
2 if they were added twice, also where D is far smaller than the quantization's own error, which
averages out.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gguf
import numpy as np

from ftreg.deploy.gguf_writing import GgufPlan
from ftreg.errors import shown
from ftreg.models.gguf_reading import GgufFile
from ftreg.records.artefact import CHECKPOINT_KEY, ArtefactRecord, ParityFinding, is_as_recorded

_KINDS = gguf.GGMLQuantizationType
_OURS = (_KINDS.F32, _KINDS.F16, _KINDS.BF16, _KINDS.Q8_0, _KINDS.Q4_0)
# Relative errors (L2) above which a tensor is another one. Rounding to fp16 makes 3e-4, to bf16
# 2e-3, and to b bits per weight about 2 * 2**-b.
_MOST_ERROR = {_KINDS.F32: 1e-5, _KINDS.F16: 2e-3, _KINDS.BF16: 1e-2}
_QUANTIZED = 4.0
_ROW = 5.0
"""By how many times the bound a single row has to be off to be called wrong."""
_ROWS_AT_ONCE = 4096
_STALE = 0.5
"""The share of matrices above which the weights are not these at all."""
_MERGED = 0.3
"""How far from 1 the share of the adapters may be that is in the weights."""
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_ROPE = re.compile(r"\.rope\.")
_FREQUENCIES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
# Keys that llama.cpp does without, and what it takes then.
_ABSENT = {"rope.freq_base": 10000.0}
# Keys that say nothing of what is computed, or that other converters leave out.
_UNTOLD = re.compile(
    r"\.(context_length|vocab_size|attention\.(key|value)_length|rope\.dimension_count)$"
)


def stored_differences(
    plan: GgufPlan,
    file: GgufFile,
    record: ArtefactRecord | None,
    *,
    advance: Callable[[int, int], None],
) -> list[ParityFinding]:
    """Hold a file against what a checkpoint's export would have.

    Args:
        plan: of the checkpoint.
        file: the artefact.
        record: its manifest, if it has one.
        advance: is told how many of how many tensors are compared.
    """
    found = [*_origin(plan, file, record), *_keys(plan, file), *_precision(file, record)]
    found += _vocabulary(plan, file)
    return found + _tensors(plan, file, advance=advance)


def _origin(
    plan: GgufPlan, file: GgufFile, record: ArtefactRecord | None
) -> Iterator[ParityFinding]:
    identity = plan.weights.checkpoint.manifest.identity
    said = {"its manifest": record.checkpoint if record else None}
    said[CHECKPOINT_KEY] = file.get(CHECKPOINT_KEY)
    for place, other in said.items():
        if other is not None and other != identity:
            yield ParityFinding(
                cause="a stale artefact",
                where=f"the checkpoint that {place} names",
                trained=identity[:12],
                served=shown(other[:12]),
            )
    if record is not None and not is_as_recorded(file.path, record):
        yield ParityFinding(
            cause="a stale artefact",
            where="the file's digest",
            trained="that of its manifest",
            served="another: the file has changed since it was exported, or was renamed",
        )


def _precision(file: GgufFile, record: ArtefactRecord | None) -> Iterator[ParityFinding]:
    named = file.named_precisions()
    if record is not None:
        named["its manifest"] = record.precision
    for place, precision in named.items():
        mixture = precision.startswith(("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq", "tq"))
        if precision != file.precision and not (mixture and not file.fills_blocks()):
            yield ParityFinding(
                cause="another quantization than named",
                where=place,
                trained=precision,
                served=f"most weights are {file.precision}",
            )


def _keys(plan: GgufPlan, file: GgufFile) -> Iterator[ParityFinding]:
    writer = gguf.GGUFWriter(None, plan.blueprint.arch)
    plan.blueprint.describe(writer)
    prefix = f"{plan.blueprint.arch}."
    (expected,) = ({key: item.value for key, item in keys.items()} for keys in writer.kv_data)
    for key, value in expected.items():
        found = file.get(key, _ABSENT.get(key.removeprefix(prefix)))
        if _UNTOLD.search(key) and (
            found is None or key.endswith(("context_length", "vocab_size"))
        ):
            continue
        if not _same(value, found):
            yield ParityFinding(
                cause="lost rope settings" if _ROPE.search(key) else "another configuration",
                where=key,
                trained=str(value),
                served="nothing" if found is None else str(found),
            )
    scaling = f"{prefix}rope.scaling.type"
    if scaling not in expected and file.get(scaling, "none") != "none":
        yield ParityFinding(
            cause="lost rope settings", where=scaling, trained="none", served=file.get(scaling)
        )
    context = file.get(f"{prefix}context_length", 0)
    if context < plan.blueprint.context:
        yield ParityFinding(
            cause="a context too short",
            where=f"{prefix}context_length",
            trained=f"{plan.blueprint.context} tokens",
            served=f"{context} tokens",
        )


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(expected, found, rel_tol=1e-5)
    return bool(expected == found)


def _vocabulary(plan: GgufPlan, file: GgufFile) -> Iterator[ParityFinding]:
    expected, found = plan.vocabulary.tokens, file.get("tokenizer.ggml.tokens", [])
    unused = int(gguf.TokenType.UNUSED)
    other = [
        row
        for row, token in enumerate(expected)
        if plan.vocabulary.kinds[row] != unused and (row >= len(found) or found[row] != token)
    ]
    if other:
        row = other[0]
        yield ParityFinding(
            cause="a wrong vocabulary row",
            where=f"token {row}" + (f", and {len(other) - 1} more" if len(other) > 1 else ""),
            trained=shown(expected[row]),
            served=shown(found[row]) if row < len(found) else "no such token",
        )


@dataclass(slots=True)
class _Sums:
    """What is added up over the tensors."""

    unlike: list[tuple[str, float, float]] = field(default_factory=list)
    rows: list[tuple[int, float]] = field(default_factory=list)
    compared: int = 0
    inside: float = 0.0
    added: float = 0.0
    noise: float = 0.0


def _tensors(
    plan: GgufPlan, file: GgufFile, *, advance: Callable[[int, int], None]
) -> list[ParityFinding]:
    sums = _Sums()
    found: list[ParityFinding] = []
    for number, name in enumerate(plan.tensors, start=1):
        if name not in file.names:
            cause = "lost rope settings" if name in _FREQUENCIES else "a missing tensor"
            tied = name == _HEAD
            found.append(
                ParityFinding(
                    cause=cause,  # type: ignore[arg-type]
                    where=name,
                    trained="an output layer of its own" if tied else "a tensor",
                    served="none: it is tied to the embedding" if tied else "none",
                )
            )
        elif file.shape(name) != plan.shape(name):
            found.append(
                ParityFinding(
                    cause="other weights",
                    where=name,
                    trained=f"shape {plan.shape(name)}",
                    served=f"shape {file.shape(name)}",
                )
            )
        else:
            _compare(plan, file, name, sums)
        advance(number, len(plan.tensors))
    if _HEAD not in plan.tensors and _HEAD in file.names and _EMBEDDING in plan.tensors:
        found += _untied(plan, file)
    return found + list(_verdicts(plan, file, sums))


def _compare(plan: GgufPlan, file: GgufFile, name: str, sums: _Sums) -> None:
    """Hold a tensor against what it should be, some rows at a time."""
    value, kind = plan.value(name), file.kind(name)
    source = plan.tensors[name]
    adapted = source in plan.weights.adapted
    if kind in _OURS and _bytes_alike(value, file, name) and not adapted:
        sums.compared += value.ndim > 1
        return
    error = norm = 0.0
    rows: list[np.ndarray[Any, Any]] = []
    base = plan.value(name, times=0) if adapted else None
    for start in range(0, len(value), _ROWS_AT_ONCE) if value.ndim > 1 else (0,):
        stop = start + _ROWS_AT_ONCE if value.ndim > 1 else len(value)
        part, there = value[start:stop], file.rows(name, start, stop)
        gap = (there - part).astype(np.float64)
        error += float((gap**2).sum())
        norm += float((part.astype(np.float64) ** 2).sum())
        if name == _EMBEDDING:
            rows.append(
                np.stack([(gap**2).sum(axis=1), (part.astype(np.float64) ** 2).sum(axis=1)])
            )
        if base is not None:
            delta = (part - base[start:stop]).astype(np.float64)
            sums.inside += float((gap * delta).sum())
            sums.added += float((delta**2).sum())
            # The projection of an error that knows nothing of D has this variance.
            sums.noise += float((gap**2).mean() * (delta**2).sum())
    relative, bound = math.sqrt(error / norm) if norm else math.sqrt(error), most_error(kind)
    sums.compared += value.ndim > 1
    if rows:
        sums.rows = _wrong_rows(np.concatenate(rows, axis=1), bound)
    if not relative <= bound:
        sums.unlike.append((name, relative, bound))


def most_error(kind: gguf.GGMLQuantizationType) -> float:
    """Return the relative error (L2) above which a tensor of a type is another one."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return _MOST_ERROR.get(kind) or min(0.7, _QUANTIZED * 2 ** (-8 * size / block))


def _bytes_alike(value: np.ndarray[Any, Any], file: GgufFile, name: str) -> bool:
    kind, stored = file.kind(name), file.stored(name)
    for start in range(0, len(value), _ROWS_AT_ONCE) if value.ndim > 1 else (0,):
        part = slice(start, start + _ROWS_AT_ONCE if value.ndim > 1 else None)
        ours = gguf.quants.quantize(np.ascontiguousarray(value[part]), kind)
        if ours.tobytes() != np.ascontiguousarray(stored[part]).tobytes():
            return False
    return True


def _wrong_rows(squares: np.ndarray[Any, Any], bound: float) -> list[tuple[int, float]]:
    """Return the rows that are far off: (row, relative error).

    Args:
        squares: (2, rows), squared errors and squared lengths.
        bound: of the relative error of a whole tensor.
    """
    lengths = np.sqrt(squares[1])
    # Rows that are nearly zero have no direction that a quantization could keep.
    floor = 1e-2 * float(np.median(lengths)) or 1.0
    relative = np.sqrt(squares[0]) / np.maximum(lengths, floor)
    wrong = np.flatnonzero(relative > min(0.9, _ROW * bound))
    return [(int(row), float(relative[row])) for row in wrong]


def _untied(plan: GgufPlan, file: GgufFile) -> Iterator[ParityFinding]:
    """Hold an output layer that the checkpoint ties to its embedding against that."""
    value, kind = plan.value(_EMBEDDING), file.kind(_HEAD)
    error = norm = 0.0
    if file.shape(_HEAD) == value.shape:
        for start in range(0, len(value), _ROWS_AT_ONCE):
            part = value[start : start + _ROWS_AT_ONCE].astype(np.float64)
            error += float(((file.rows(_HEAD, start, start + _ROWS_AT_ONCE) - part) ** 2).sum())
            norm += float((part**2).sum())
    relative = math.sqrt(error / norm) if norm else math.inf
    if relative > most_error(kind):
        yield ParityFinding(
            cause="an untied output layer",
            where=_HEAD,
            trained="the weights of the embedding",
            served=f"others: relative error {relative:.2g}",
        )


def _verdicts(plan: GgufPlan, file: GgufFile, sums: _Sums) -> Iterator[ParityFinding]:
    """Name the cause of what differs in the tensors."""
    if sums.added:
        share = 1 + sums.inside / sums.added
        spread = math.sqrt(sums.noise) / sums.added
        if abs(share - 1) > max(_MERGED, 5 * spread):
            twice = share > 1
            yield ParityFinding(
                cause="adapters merged twice" if twice else "adapters not merged",
                where=f"{len(plan.weights.adapted)} tensors with adapters",
                trained="what the adapters add, once",
                served=f"{share:.2f} times",
            )
            adapted = {name for name, own in plan.tensors.items() if own in plan.weights.adapted}
            sums.unlike = [item for item in sums.unlike if item[0] not in adapted]
    names = [name for name, _, _ in sums.unlike]
    matrices = [name for name in names if len(plan.shape(name)) > 1]
    if len(matrices) > _STALE * sums.compared and sums.compared > 1:
        yield ParityFinding(
            cause="a stale artefact",
            where=f"{len(matrices)} of {sums.compared} matrices",
            trained="the checkpoint's",
            served="other weights",
        )
        return
    if sums.rows and len(sums.rows) <= _STALE * file.shape(_EMBEDDING)[0]:
        row, relative = sums.rows[0]
        several = f", and {len(sums.rows) - 1} more" if len(sums.rows) > 1 else ""
        yield ParityFinding(
            cause="a wrong vocabulary row",
            where=f"{_EMBEDDING}, row {row} ({shown(plan.vocabulary.tokens[row])}){several}",
            trained="the checkpoint's",
            served=f"another: relative error {relative:.2g}",
        )
        names = [name for name in names if name != _EMBEDDING]
    for name, relative, bound in sums.unlike:
        if name in names:
            rope = name in _FREQUENCIES
            yield ParityFinding(
                cause="lost rope settings" if rope else "other weights",
                where=name,
                trained="the checkpoint's",
                served=f"relative error {relative:.2g}, and {bound:.2g} is what "
                f"{file.kind(name).name} may have",
            )
