"""Find rows of a held-out split that are also among the training rows, exactly or nearly.

Two rows are equal if their normalised words are (Unicode NFKC, case folded, without punctuation),
and near if the sets of their five-word sequences in input and first reference have a Jaccard index
of at least 0.8, and those of their contexts too if both have one. Candidates come from MinHash with
locality-sensitive hashing (Broder 1997; Indyk and Motwani 1998) by datasketch, and each is then
verified exactly. At an index of 0.8 the probability of missing a pair is 0.0004, and it drops
steeply above.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ftreg.config.base import Share
from ftreg.data.dataset import Split
from ftreg.data.row_checks import fingerprint
from ftreg.records.printed import DESCRIBED, printed
from ftreg.records.samples import Example
from ftreg.records.turns import SYSTEM_ROLES, chat_text

THRESHOLD = 0.8
"""The Jaccard index from which two rows are near."""
_WORDS = 5
_BANDS, _BAND_SIZE = 20, 5
_SHOWN = 5
_EVERY = 1000
# Scripts without spaces: each character counts as a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")

Hashes = npt.NDArray[np.int64]
Kind = Literal["exact", "near"]


@printed
class Leak:
    """A held-out row, and the training row that it repeats."""

    id: str
    """Of the held-out row."""
    train_id: str
    """Of the training row."""
    kind: Kind
    """Word for word, or nearly."""
    jaccard: Share
    """Jaccard index of the two; 1 if exact."""


@dataclass(frozen=True, kw_only=True)  # no slots, so that a printed record can be one too
class Leakage:
    """How many held-out rows are also among the training rows, and which."""

    __pydantic_config__ = DESCRIBED

    rows: int
    """Held-out rows."""
    train_rows: int
    """Training rows."""
    exact: int
    """Held-out rows that stand among the training rows word for word."""
    near: int
    """Held-out rows that stand there nearly."""
    share: Share
    """Of the held-out rows, those that leaked either way."""
    threshold: Share
    """The Jaccard index from which two rows are near."""
    leaks: tuple[Leak, ...]
    """The rows that leaked; in a stored evaluation, the first of them."""

    def summary(self) -> str:
        """Return the counts in words."""
        return (
            f"{len(self.leaks)} of {self.rows} rows ({100 * self.share:.1f} %) repeat one "
            f"({self.exact} exactly, {self.near} nearly)"
        )

    def first_ids(self) -> str:
        """Return the first ids in words."""
        more = len(self.leaks) - _SHOWN
        shown = [leak.id for leak in self.leaks[:_SHOWN]]
        return ", ".join(shown) + (f" and {more} more" if more > 0 else "")

    def to_dict(self, *, most: int | None = None) -> dict[str, Any]:
        """Return it as JSON-ready data, with the first `most` leaks (None: all)."""
        return vars(self) | {"leaks": [asdict(leak) for leak in self.leaks[:most]]}


def find_leaks(
    train: Split, held_out: Split, *, advance: Callable[[int, int], None] = lambda done, total: None
) -> Leakage:
    """Search for each held-out row among the training rows.

    Memory grows with the held-out rows only; the training rows are streamed.

    Args:
        train: the training rows.
        held_out: the rows for evaluation.
        advance: called with the number of training rows done, and their total.
    """
    index = _Index(held_out)
    found: dict[int, Leak] = {}
    total = len(train)
    for number, example in enumerate(train):
        if number % _EVERY == 0:
            advance(number, total)
        for position, leak in index.leaks(example):
            if position not in found or leak.jaccard > found[position].jaccard:
                found[position] = leak
    advance(total, total)
    leaks = tuple(found[key] for key in sorted(found))
    exact = sum(leak.kind == "exact" for leak in leaks)
    return Leakage(
        rows=len(held_out),
        train_rows=total,
        exact=exact,
        near=len(leaks) - exact,
        share=len(leaks) / len(held_out) if len(held_out) else 0.0,
        threshold=THRESHOLD,
        leaks=leaks,
    )


class _Index:
    """The held-out rows, queried with one training row at a time."""

    def __init__(self, held_out: Split) -> None:
        from datasketch import MinHash, MinHashLSH

        self._rows = held_out
        self._exact: dict[bytes, list[int]] = {}
        self._empty = MinHash(num_perm=_BANDS * _BAND_SIZE, hashfunc=int)
        self._near = MinHashLSH(num_perm=_BANDS * _BAND_SIZE, params=(_BANDS, _BAND_SIZE))
        parts = []
        for position, example in enumerate(held_out):
            words, key = _words_and_key(example)
            self._exact.setdefault(key, []).append(position)
            sequences = _sequences(words)
            if len(sequences):
                self._near.insert(position, self._sketch(sequences), check_duplication=False)
                parts.append(sequences)
        self._all = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
        # Several training rows often query the same held-out row. (Not `self._rows`: a reference
        # cycle waits for the garbage collector.)
        self._sequences_at = lru_cache(4096)(lambda at: _sequences(_words_and_key(held_out[at])[0]))

    def leaks(self, train: Example) -> Iterable[tuple[int, Leak]]:
        """Yield the positions of the held-out rows that a training row repeats, and how."""
        words, key = _words_and_key(train)
        same = self._exact.get(key, ())
        for position in same:
            yield position, self._leak(position, train, kind="exact", jaccard=1.0)
        # A pair can only reach the threshold if that share of the row's sequences occurs among the
        # held-out rows, so at least one of its first few sequences must. This saves the sketch of
        # nearly every training row, and most of its hashes.
        enough = int((1 - THRESHOLD) * len(words)) + 1
        if len(words) > _WORDS * 4 and not self._known(_sequences(words, most=enough)):
            return
        sequences = _sequences(words)
        if not len(sequences) or self._known(sequences) < THRESHOLD * len(sequences):
            return
        for position in sorted(self._near.query(self._sketch(sequences))):
            if position in same:
                continue
            index = _jaccard(sequences, self._sequences_at(position))
            near = index >= THRESHOLD
            if near and _near_contexts(train.context, self._rows[position].context):
                yield position, self._leak(position, train, kind="near", jaccard=index)

    def _leak(self, position: int, train: Example, *, kind: Kind, jaccard: float) -> Leak:
        held_out = self._rows[position]
        return Leak(id=held_out.id, train_id=train.id, kind=kind, jaccard=jaccard)

    def _known(self, sequences: Hashes) -> int:
        if not len(self._all):
            return 0
        places = np.searchsorted(self._all, sequences).clip(max=len(self._all) - 1)
        return int((self._all[places] == sequences).sum())

    def _sketch(self, sequences: Hashes) -> Any:
        sketch = self._empty.copy()
        sketch.update_batch((sequences & 0xFFFFFFFF).tolist())
        return sketch


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _words_and_key(example: Example) -> tuple[list[str], bytes]:
    """Return the words of input and first reference, and a key that is equal for equal rows."""
    # All turns of a chat, since many end the same ("Yes, please"); not the system turn, which many
    # chats share.
    turns = [turn for turn in example.asked if turn["role"] not in SYSTEM_ROLES]
    asked = chat_text(turns) if turns else example.input
    parts = [asked, *example.references[:1]]
    words = [_words(part) for part in parts]
    context = example.context or ""
    # A text without words (":-)") is its own key.
    told = [" ".join(found) or part.strip() for found, part in zip(words, parts, strict=True)]
    told.append(" ".join(_words(context)) or context.strip())
    return [word for found in words for word in found], fingerprint("\0".join(told))


def _sequences(words: list[str], *, most: int | None = None) -> Hashes:
    """Return hashes of the first `most` distinct five-word sequences, or of a shorter text."""
    if not words:
        return np.empty(0, np.int64)
    found: set[str] = set()
    for start in range(max(1, len(words) - _WORDS + 1)):
        found.add(" ".join(words[start : start + _WORDS]))
        if len(found) == most:
            break
    # Not Python's own hash, which differs between processes.
    hashes = b"".join(hashlib.blake2b(item.encode(), digest_size=8).digest() for item in found)
    return np.unique(np.frombuffer(hashes, np.int64))


def _jaccard(one: Hashes, other: Hashes) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def _near_contexts(one: str | None, other: str | None) -> bool:
    """Whether the contexts are near: equal questions about two documents are not a leak."""
    if one is None or other is None:
        return True
    left, right = _sequences(_words(one)), _sequences(_words(other))
    return _jaccard(left, right) >= THRESHOLD if len(left) and len(right) else True
