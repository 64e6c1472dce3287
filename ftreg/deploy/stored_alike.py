"""Whether a GGUF file matches its checkpoint: keys, vocabulary and tensors."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import gguf

from ftreg.deploy.gguf_writing import GgufPlan
from ftreg.deploy.origin import origin_differences
from ftreg.deploy.tensors_alike import tensor_differences
from ftreg.errors import shown
from ftreg.models.gguf_reading import GgufFile
from ftreg.records.artefact import CHECKPOINT_KEY, ArtefactRecord, ParityFinding

_ROPE = re.compile(r"\.rope\.")
# Keys that llama.cpp does not require, and its defaults.
_ABSENT = {"rope.freq_base": 10000.0}
# Keys that do not affect the computation, or that other converters omit.
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
    """Compare a file with the export of a checkpoint.

    Args:
        plan: of the checkpoint.
        file: the artefact.
        record: its manifest, if it has one.
        advance: called with the number of tensors compared and the total.
    """
    found = [
        *origin_differences(
            plan.weights.checkpoint, record, paths=[file.path], said=file.get(CHECKPOINT_KEY)
        ),
        *_keys(plan, file),
        *_precision(file, record),
        *_vocabulary(plan, file),
    ]
    return found + tensor_differences(plan, file, advance=advance)


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
