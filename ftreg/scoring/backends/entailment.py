"""The judge that comes with the package: what a text supports, what answers a question.

The network is loaded when the first claim must be judged: where all that is asked is kept on disk
already, neither it nor torch is needed.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ftreg.data.digests import remembered_digest
from ftreg.errors import UsageError, did_you_mean
from ftreg.files.store import digest
from ftreg.models.packaged import packaged_folder
from ftreg.process import cpu_facts, cpu_has_int8
from ftreg.scoring.backends.remembered import Remembered, key_of
from ftreg.scoring.backends.vector_store import FloatArray, VectorStore
from ftreg.scoring.protocol import Inquiry
from ftreg.scoring.words import without_surrogates

if TYPE_CHECKING:
    from ftreg.scoring.backends.entailment_model import EntailmentModel, Reading

_BASE = "all-mpnet-base-v2"
_WEIGHTS = Path(str(files("ftreg.scoring.backends").joinpath("entailment.safetensors")))
_VERSION = 3
"""Raise it when a probability may change though weights and precision stay."""
_LIBRARIES = ("torch", "transformers", "tokenizers")
PRECISIONS = ("int8", "fp32")
_REMEMBERED = 200_000
_WINDOWS = 4
"""How many windows of a long text a point is held against."""
_AT_ONCE = 32
"""How many windows are held in memory beside those that are kept."""
_READINGS = 1 << 30
"""Bytes of readings that are kept as long as the process lives."""


class Judge(Protocol):
    """Tells what texts support and what answers questions; anything that does may stand in."""

    def support(self, inquiries: Sequence[Inquiry]) -> list[FloatArray]:
        """Return, for each inquiry, p(entailment, neutral, contradiction), shape (points, 3)."""
        ...

    def answers(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return, for each question and text, the probability that the text answers it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the model's name, digests and precision, JSON-ready."""
        ...


class Entailment:
    """The packaged judge, on the CPU.

    A text is read once for all its claims, and what was read is kept for later ones. The same claim
    has the same probability in any company, to the last bit.

    Args:
        base: folder of all-mpnet-base-v2; the packaged one where None.
        weights: safetensors file of adapters and heads; the package's where None.
        precision: `int8` or `fp32`. The two differ by up to 0.15, and processors with and without
            units for int8 by up to 0.03, so evaluations are not compared across either.
        keep: whether probabilities are kept on disk.

    Raises:
        UsageError: the precision is none of these, or the base is not here.
    """

    def __init__(
        self,
        *,
        base: Path | None = None,
        weights: Path | None = None,
        precision: str = "int8",
        keep: bool = True,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(
                f"embedded: {precision!r} is not a precision{did_you_mean(precision, PRECISIONS)} "
                f"(known: {', '.join(PRECISIONS)})"
            )
        self.precision = precision
        self._how = "" if precision == "fp32" or cpu_has_int8() else ", summed in fp32"
        self._base = packaged_folder(_BASE) if base is None else base
        self._weights = _WEIGHTS if weights is None else weights
        store = VectorStore(self.identity()) if keep else None
        self._supports = Remembered(store, most=_REMEMBERED)
        self._answers = Remembered(store and store.part("answers"), most=_REMEMBERED)
        self._readings: dict[tuple[int, ...], Reading] = {}
        self._room = _READINGS

    def describe(self) -> dict[str, Any]:
        """Return the model's name, the digests of its weights, and the precision."""
        return {
            "name": _BASE,
            "digest": remembered_digest(self._base / "model.safetensors"),
            "adapters": remembered_digest(self._weights),
            "precision": f"{self.precision}{self._how}",
        }

    def identity(self) -> str:
        """Return the digest of all that decides the bits of a probability, but for the texts."""
        return digest(
            {
                "model": self.describe(),
                "tokenizer": remembered_digest(self._base / "tokenizer.json"),
                "version": _VERSION,
                "libraries": {name: version(name) for name in _LIBRARIES},
                "processor": cpu_facts("model name", "flags", "Features"),
            }
        )

    @cached_property
    def _model(self) -> "EntailmentModel":
        from ftreg.scoring.backends.entailment_model import EntailmentModel

        return EntailmentModel(self._base, self._weights, int8=self.precision == "int8")

    def support(self, inquiries: Sequence[Inquiry]) -> list[FloatArray]:
        """Return, for each inquiry, p(entailment, neutral, contradiction), shape (points, 3).

        Of a text longer than the network reads, the window counts that entails a point most, among
        the four that have most of its words.
        """
        keys = [_keys(inquiry) for inquiry in inquiries]
        asked = {
            key: (inquiry, point)
            for inquiry, own in zip(inquiries, keys, strict=True)
            for key, point in zip(own, inquiry.points, strict=True)
        }
        found = self._supports.get(asked, self._judge)
        return [
            np.array([found[key] for key in own], dtype=np.float32).reshape(-1, 3) for own in keys
        ]

    def answers(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return, for each question and text, the probability that the text answers it."""
        asked = {key_of(*pair): pair for pair in pairs}
        found = self._answers.get(asked, self._match)
        return [float(found[key_of(*pair)][0]) for pair in pairs]

    def _judge(self, asked: Sequence[tuple[Inquiry, str]]) -> Iterator[FloatArray]:
        """Yield the probabilities of each point; those about one text are computed together."""
        groups: dict[tuple[str | None, str], list[int]] = {}
        for place, (inquiry, _) in enumerate(asked):
            groups.setdefault((inquiry.question, inquiry.text), []).append(place)
        held: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for (question, text), places in groups.items():
            windows = self._model.windows(*map(_readable, (text, question)))
            claims = [self._model.claim(without_surrogates(asked[place][1])) for place in places]
            for window, own in _nearest(windows, claims).items():
                held.setdefault(tuple(windows[window]), []).extend(
                    (places[number], claims[number]) for number in own
                )
        best: dict[int, FloatArray] = {}
        by_length = sorted(held, key=len)
        for start in range(0, len(held), _AT_ONCE):
            together = by_length[start : start + _AT_ONCE]
            readings = self._read(together)
            some = [(readings[window], *each) for window in together for each in held[window]]
            found = self._model.support([(reading, claim) for reading, _, claim in some]).numpy()
            for (_, place, _), row in zip(some, found, strict=True):
                if place not in best or row[0] > best[place][0]:
                    best[place] = row
        for place in range(len(asked)):
            yield best[place]

    def _match(self, pairs: Sequence[tuple[str, str]]) -> Iterator[FloatArray]:
        readable = [(without_surrogates(ask), without_surrogates(text)) for ask, text in pairs]
        for found in self._model.answers(readable):
            yield np.array([found], dtype=np.float32)

    def _read(self, windows: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], "Reading"]:
        """Read windows, but for those that are kept; once there is no room, no more are."""
        missing = [window for window in windows if window not in self._readings]
        fresh = dict(zip(missing, self._model.read(missing), strict=True))
        found = {window: fresh.get(window) or self._readings[window] for window in windows}
        for window, reading in fresh.items():
            if reading.nbytes <= self._room:
                self._room -= reading.nbytes
                self._readings[window] = reading
        return found


def _nearest(
    windows: Sequence[Sequence[int]], claims: Sequence[Sequence[int]]
) -> dict[int, list[int]]:
    """Return, for each window in order, the claims that are held against it.

    Each claim has the windows that share most of its tokens, a rare one counting more.
    """
    if len(windows) <= _WINDOWS:
        return {place: list(range(len(claims))) for place in range(len(windows))}
    having: dict[int, list[int]] = {}
    for place, window in enumerate(windows):
        for token in set(window):
            having.setdefault(token, []).append(place)
    chosen: dict[int, list[int]] = {place: [] for place in range(len(windows))}
    for number, claim in enumerate(claims):
        shared = [0.0] * len(windows)
        for token in sorted(set(claim)):
            for place in having.get(token, ()):
                shared[place] += 1 / len(having[token])
        for place in sorted(range(len(windows)), key=lambda place: -shared[place])[:_WINDOWS]:
            chosen[place].append(number)
    return chosen


def _keys(inquiry: Inquiry) -> list[str]:
    return [key_of(inquiry.question or "", inquiry.text, point) for point in inquiry.points]


def _readable(text: str | None) -> Any:
    return None if text is None else without_surrogates(text)
