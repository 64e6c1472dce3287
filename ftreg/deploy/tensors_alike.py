"""Whether an artefact's tensors match those of a checkpoint.

A tensor matches if its bytes are those of our own quantization, whatever that rounds away. For
other tensors, the error is compared with the resolution of their type. A projection shows whether
adapters were merged: with D the adapters' update, <found - base, D> / <D, D> is near 0 if they were
not merged, near 1 if they were, and near 2 if they were merged twice. This holds even if D is far
smaller than the quantization error, which averages out.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gguf
import numpy as np

from ftreg.deploy.merging import Merged
from ftreg.errors import shown
from ftreg.records.artefact import ParityFinding

Array = np.ndarray[Any, Any]
_KINDS = gguf.GGMLQuantizationType
_OURS = (_KINDS.F32, _KINDS.F16, _KINDS.BF16, _KINDS.Q8_0, _KINDS.Q4_0)
_WHOLE = _OURS[:3]
"""Types without blocks."""
# Relative errors (L2) above which a tensor differs. Rounding to fp16 gives 3e-4, to bf16 2e-3, and
# to b bits per weight about 2 * 2**-b.
_MOST_ERROR = {_KINDS.F32: 1e-5, _KINDS.F16: 2e-3, _KINDS.BF16: 1e-2}
_QUANTIZED = 4.0
_ROW = 5.0
"""A single row is wrong if its error exceeds the bound by this factor."""
_ROWS_AT_ONCE = 4096
_STALE = 0.5
"""If more than this share of matrices differ, these are other weights altogether."""
_MERGED = 0.3
"""How far from 1 the merged share of the adapters may be."""
_FREQUENCIES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


class Expected(Protocol):
    """The expected contents of a form of a checkpoint."""

    @property
    def weights(self) -> Merged:
        """The checkpoint's."""

    @property
    def tensors(self) -> Mapping[str, str | None]:
        """The form's name of each tensor to the checkpoint's, or None if only the form has it."""

    @property
    def embedding(self) -> str:
        """The form's name of the embedding."""

    @property
    def head(self) -> str:
        """The form's name of the output layer."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, as numpy has it."""

    def value(self, name: str, *, times: int = 1) -> Array:
        """Return a tensor in fp32; `times` as in `Merged.get`."""

    def token(self, row: int) -> str:
        """Return the token of a row of the embedding."""


class Held(Protocol):
    """The actual contents of an artefact."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, as numpy has it."""

    def kind(self, name: str) -> gguf.GGMLQuantizationType:
        """Return the type of a tensor."""

    def stored(self, name: str) -> Array:
        """Return the bytes of a tensor, by rows."""

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Return some rows of a tensor in fp32; for a one-dimensional tensor, all."""


@dataclass(slots=True)
class _Sums:
    """Sums over the tensors."""

    unlike: list[tuple[str, float, float]] = field(default_factory=list)
    rows: list[tuple[int, float]] = field(default_factory=list)
    compared: int = 0
    inside: float = 0.0
    added: float = 0.0
    noise: float = 0.0

    def project(self, merged: Array, base: Array, there: Array, *, rounded: bool) -> None:
        """Accumulate how much of the adapters' update is in some rows.

        Args:
            merged: rows with the adapters, in fp32.
            base: the same rows without.
            there: the artefact's rows.
            rounded: whether they were quantized, usually from an f16 file. In f16, a small change
                to a weight that f16 represents exactly is lost.
        """
        if rounded:
            with np.errstate(over="ignore"):
                merged, base = (
                    side.astype(np.float16).astype(np.float32) for side in (merged, base)
                )
        gap, delta = (side.astype(np.float64) for side in (there - merged, merged - base))
        self.inside += float((gap * delta).sum())
        self.added += float((delta**2).sum())
        # The projection of an error that is independent of D has this variance.
        self.noise += float((gap**2).mean() * (delta**2).sum())


def tensor_differences(
    plan: Expected, file: Held, *, advance: Callable[[int, int], None]
) -> list[ParityFinding]:
    """Compare an artefact's tensors with those of a form of the checkpoint.

    Args:
        plan: the form.
        file: the artefact.
        advance: called with the number of tensors compared and the total.
    """
    sums = _Sums()
    found: list[ParityFinding] = []
    for number, name in enumerate(plan.tensors, start=1):
        if name not in file.names:
            cause = "lost rope settings" if name in _FREQUENCIES else "a missing tensor"
            tied = name == plan.head
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
    if plan.head not in plan.tensors and plan.head in file.names and plan.embedding in plan.tensors:
        found += _untied(plan, file)
    return found + list(_verdicts(plan, file, sums))


def _compare(plan: Expected, file: Held, name: str, sums: _Sums) -> None:
    """Compare a tensor with the expected one, a few rows at a time."""
    value, kind = plan.value(name), file.kind(name)
    source = plan.tensors[name]
    adapted = source in plan.weights.adapted
    if kind in _OURS and _bytes_alike(value, file, name):
        sums.compared += value.ndim > 1
        return
    error = norm = 0.0
    rows: list[Array] = []
    base = plan.value(name, times=0) if adapted else None
    for start, stop in _pieces(value):
        part, there = value[start:stop], file.rows(name, start, stop)
        gap = (there - part).astype(np.float64)
        error += float((gap**2).sum())
        norm += float((part.astype(np.float64) ** 2).sum())
        if name == plan.embedding:
            rows.append(
                np.stack([(gap**2).sum(axis=1), (part.astype(np.float64) ** 2).sum(axis=1)])
            )
        if base is not None:
            sums.project(part, base[start:stop], there, rounded=kind not in _WHOLE)
    relative, bound = math.sqrt(error / norm) if norm else math.sqrt(error), most_error(kind)
    sums.compared += value.ndim > 1
    if rows:
        sums.rows = _wrong_rows(np.concatenate(rows, axis=1), bound)
    if not relative <= bound:
        sums.unlike.append((name, relative, bound))


def _pieces(value: Array) -> Iterator[tuple[int, int]]:
    """Yield start and end of row blocks; a one-dimensional tensor is a single block."""
    step = _ROWS_AT_ONCE if value.ndim > 1 else max(1, len(value))
    for start in range(0, len(value), step):
        yield start, min(start + step, len(value))


def most_error(kind: gguf.GGMLQuantizationType) -> float:
    """Return the relative error (L2) above which a tensor of a type differs."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return _MOST_ERROR.get(kind) or min(0.7, _QUANTIZED * 2 ** (-8 * size / block))


def _bytes_alike(value: Array, file: Held, name: str) -> bool:
    kind, stored = file.kind(name), file.stored(name)
    for start, stop in _pieces(value):
        ours = gguf.quants.quantize(np.ascontiguousarray(value[start:stop]), kind)
        if ours.tobytes() != np.ascontiguousarray(stored[start:stop]).tobytes():
            return False
    return True


def _wrong_rows(squares: Array, bound: float) -> list[tuple[int, float]]:
    """Return the rows that are far off: (row, relative error).

    Args:
        squares: (2, rows), squared errors and squared lengths.
        bound: on the relative error of the complete tensor.
    """
    lengths = np.sqrt(squares[1])
    # Rows that are nearly zero have no direction that quantization could preserve.
    floor = 1e-2 * float(np.median(lengths)) or 1.0
    relative = np.sqrt(squares[0]) / np.maximum(lengths, floor)
    wrong = np.flatnonzero(relative > min(0.9, _ROW * bound))
    return [(int(row), float(relative[row])) for row in wrong]


def _untied(plan: Expected, file: Held) -> Iterator[ParityFinding]:
    """Compare an output layer with the embedding that the checkpoint ties it to."""
    value, kind = plan.value(plan.embedding), file.kind(plan.head)
    error = norm = 0.0
    if file.shape(plan.head) == value.shape:
        for start, stop in _pieces(value):
            part = value[start:stop].astype(np.float64)
            error += float(((file.rows(plan.head, start, stop) - part) ** 2).sum())
            norm += float((part**2).sum())
    relative = math.sqrt(error / norm) if norm else math.inf
    if relative > most_error(kind):
        yield ParityFinding(
            cause="an untied output layer",
            where=plan.head,
            trained="the weights of the embedding",
            served=f"others: relative error {relative:.2g}",
        )


def _verdicts(plan: Expected, file: Held, sums: _Sums) -> Iterator[ParityFinding]:
    """Name the causes of the differences between tensors."""
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
    if sums.rows and len(sums.rows) <= _STALE * file.shape(plan.embedding)[0]:
        row, relative = sums.rows[0]
        several = f", and {len(sums.rows) - 1} more" if len(sums.rows) > 1 else ""
        yield ParityFinding(
            cause="a wrong vocabulary row",
            where=f"{plan.embedding}, row {row} ({shown(plan.token(row))}){several}",
            trained="the checkpoint's",
            served=f"another: relative error {relative:.2g}",
        )
        names = [name for name in names if name != plan.embedding]
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
