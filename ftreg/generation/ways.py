"""The ways to decode, and the check that a way writes the model's own output.

From fast to slow: paged (if a GPU captures graphs), continuously, in padded batches, one prompt at
a time. The last is transformers' own `generate()` alone, the reference for the others. They are
compared with it first on a twin of the model (`ftreg.models.twin`), once, since the result is kept;
then on the model itself, in its own precision and on prompts of the evaluation. The fastest way
without a difference on either is used.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import torch
from transformers import PreTrainedModel

from ftreg.errors import UsageError, first_line
from ftreg.generation.kernels.continuous import can_decode_continuously, decode_continuously
from ftreg.generation.padded import decode_padded, generate_alone, until_stop
from ftreg.generation.paged import decode_paged, pages_fast
from ftreg.models.twin import NoTwinError, proven_on_twin, twin_of

VERSION = 4
"""Goes up when the outputs may change: what an older version wrote or proved is made again."""
_NONE: frozenset[int] = frozenset()
# Prompts of the twin, in tokens: beyond its windows and within, and more of them than slots.
_LENGTHS = (23, 12, 9, 5, 1)
_SLOTS = 3
_TWIN_TOKENS = 12
_MODEL_TOKENS = 4
# Shares of the logits' standard deviation within which two tokens count as equally likely.
_TIE = {torch.float32: 1e-3, torch.bfloat16: 0.25}


class Way(StrEnum):
    """How prompts are decoded."""

    PAGED = "paged"
    CONTINUOUS = "continuous"
    BATCHES = "batches"
    ALONE = "one at a time"


@dataclass(frozen=True, slots=True)
class ProvenWay:
    """The way that a model is decoded, and why a faster one was rejected, if one was."""

    way: Way
    why: str | None = None

    def to_json(self) -> bytes:
        """Return it as it is stored."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, kept: bytes) -> "ProvenWay":
        """Read what `to_json` wrote."""
        found = json.loads(kept)
        return cls(Way(found["way"]), found["why"])


def decoder_of(way: Way) -> Callable[..., None]:
    """Return the decoder of a way; its arguments are those of `decode_continuously`."""
    return {
        Way.PAGED: decode_paged,
        Way.CONTINUOUS: decode_continuously,
        Way.BATCHES: decode_padded,
        Way.ALONE: _decode_alone,
    }[way]


def _decode_alone(prompts: Sequence[Sequence[int]], *, batch_size: int, **settings: Any) -> None:
    decode_padded(prompts, batch_size=1, **settings)


def choose_way(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = _MODEL_TOKENS,
    kernels: bool = True,
) -> ProvenWay:
    """Return the fastest way in which a model writes the tokens of `generate()` alone.

    Args:
        model: in evaluation mode.
        prompts: token ids of its prompts; the shortest and the median one are tried.
        max_new_tokens: maximum number of tokens of an answer that fits into the model's context.
        kernels: whether ftreg's own loop may be used.

    Raises:
        UsageError: transformers cannot generate with this model.
    """
    few = _unlike(prompts)
    most = min(max_new_tokens, _MODEL_TOKENS)
    try:
        expected = [
            generate_alone(prompt, model=model, stops=_NONE, max_new_tokens=most) for prompt in few
        ]
    except Exception as error:  # each architecture fails differently
        raise UsageError(
            f"transformers cannot generate with a model of the type {model.config.model_type!r}: "
            f"{type(error).__name__}: {first_line(error)}\nTo evaluate it, use a server "
            "that can: eval.engine."
        ) from error
    why: str | None = None
    for way in _faster_ways(model, kernels=kernels):
        fault = departs_on_twin(model, way)
        place = "a small model of its configuration"
        if fault is None:
            fault = _departs(model, way, few, expected, stops=_NONE, slots=2)
            place = "this model"
        if fault is None:
            return ProvenWay(way, why and f"{why}; it is decoded in {way}")
        why = why or f"decoding {way.value!r} is not used, because on {place} {fault}"
    return ProvenWay(Way.ALONE, f"{why}; it is decoded one prompt at a time")


def _faster_ways(model: PreTrainedModel, *, kernels: bool) -> Iterator[Way]:
    """Yield the ways to try on a model on its current device, fastest first."""
    if kernels and can_decode_continuously(model):
        if pages_fast(model):
            yield Way.PAGED
        yield Way.CONTINUOUS
    yield Way.BATCHES


def departs_on_twin(model: PreTrainedModel, way: Way) -> str | None:
    """Return how a way differs from `generate()` alone on a model's twin; None if it does not."""
    question = {"decodes": way, "version": VERSION}
    fault = proven_on_twin(model, question, lambda: json.dumps(_try_on_twin(model, way)))
    found: str | None = json.loads(fault)
    return found


def _try_on_twin(model: PreTrainedModel, way: Way) -> str | None:
    try:
        twin = twin_of(model.config, kind=type(model)).to(model.device)
        vocabulary = twin.get_input_embeddings().weight.shape[0]
        generator = torch.Generator().manual_seed(0)
        prompts = [
            torch.randint(min(3, vocabulary - 1), vocabulary, (size,), generator=generator).tolist()
            for size in _LENGTHS
        ]
        free = [
            generate_alone(prompt, model=twin, stops=_NONE, max_new_tokens=_TWIN_TOKENS)
            for prompt in prompts
        ]
    except NoTwinError as error:
        return f"it could not be tried: {error}"
    except Exception as error:  # what fails on the twin may do on the model, alone
        return f"generate() fails: {type(error).__name__}: {first_line(error)}"
    if len({tuple(tokens) for tokens, _ in free}) == 1:
        return "the check is impossible: all prompts have the same answer"
    # A token that ends some answers early, so that rows come and go.
    stops = frozenset([free[0][0][_TWIN_TOKENS // 2]])
    expected = [(until_stop(tokens, stops), logits) for tokens, logits in free]
    return _departs(twin, way, prompts, expected, stops=stops, slots=_SLOTS)


def _departs(
    model: PreTrainedModel,
    way: Way,
    prompts: Sequence[Sequence[int]],
    expected: Sequence[tuple[list[int], torch.Tensor]],
    *,
    stops: frozenset[int],
    slots: int,
) -> str | None:
    """Decode in a way, and return how it differs from the expected tokens and their logits."""
    written: dict[int, list[int]] = {}
    try:
        decoder_of(way)(
            prompts,
            model=model,
            stops=stops,
            max_new_tokens=max(len(logits) for _, logits in expected),
            batch_size=slots,
            ended=written.__setitem__,
        )
    except Exception as error:  # each architecture fails in its own way
        return f"it fails: {type(error).__name__}: {first_line(error)}"
    unlike = sum(
        not _agree(written[place], tokens, logits, tie=_TIE.get(model.dtype, 0.25))
        for place, (tokens, logits) in enumerate(expected)
    )
    return f"{unlike} of {len(expected)} answers differ from generate()" if unlike else None


def _agree(found: list[int], tokens: list[int], logits: torch.Tensor, *, tie: float) -> bool:
    """Whether answers are equal up to a tie between two tokens; logits (tokens, ids)."""
    if found == tokens:
        return True
    for mine, other, row in zip(found, tokens, logits, strict=False):
        if mine != other:
            return bool(row[other] - row[mine] <= tie * row.std())
    return False


def _unlike(prompts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return the shortest prompt and the median one."""
    ordered = sorted(prompts, key=len)
    return [ordered[0], ordered[len(ordered) // 2]]
