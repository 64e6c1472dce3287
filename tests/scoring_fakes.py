"""Fake backends for scorers: deterministic, small, and without a model."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ftreg.scoring.backends.embedded import EmbeddedBackend
from ftreg.scoring.backends.encoder import Embedder, WordVectors
from ftreg.scoring.backends.vector_store import VectorStore
from ftreg.scoring.protocol import Inquiry
from ftreg.scoring.words import content_words, words

WIDTH = 384


class HashedWords:
    """Embeds a text as the sum of a fixed random direction per content word."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.word_calls: list[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {"name": "hashed-words", "digest": "0"}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        rows = [self._row(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, WIDTH), dtype=np.float32)

    def words(self, texts: Sequence[str]) -> list[WordVectors]:
        self.word_calls.append(list(texts))
        found = [words(text) for text in texts]
        return [
            WordVectors(tuple(own), np.array([self._row(word) for word in own]).reshape(-1, WIDTH))
            for own in found
        ]

    def _row(self, text: str) -> np.ndarray:
        total = np.zeros(WIDTH)
        for word in content_words(text) or ["?"]:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "replace")).digest()[:4])
            total += np.random.default_rng(seed).standard_normal(WIDTH)
        return (total / np.linalg.norm(total)).astype(np.float32)


class NotFinite(HashedWords):
    """An encoder that returns NaN."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.full((len(texts), WIDTH), np.nan, dtype=np.float32)


class NotFiniteWords(HashedWords):
    """An encoder that returns NaN for words only."""

    def words(self, texts: Sequence[str]) -> list[WordVectors]:
        return [WordVectors(one.words, one.vectors * np.nan) for one in super().words(texts)]


class SharedWords:
    """A judge by word overlap: a claim's support is the share of its words in the text."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def describe(self) -> dict[str, Any]:
        return {"name": "shared-words", "digest": "0", "adapters": "0", "precision": "fp32"}

    def support(self, inquiries: Sequence[Inquiry]) -> list[np.ndarray]:
        self.asked += [(each.text, point) for each in inquiries for point in each.points]
        shares = [[_share(point, each.text) for point in each.points] for each in inquiries]
        return [
            np.array([[share, 1 - share, 0.0] for share in own], dtype=np.float32).reshape(-1, 3)
            for own in shares
        ]

    def answers(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        self.asked += pairs
        return [_share(question, answer) for question, answer in pairs]


def _share(wanted: str, there: str) -> float:
    words_wanted = set(content_words(wanted))
    return len(words_wanted & set(content_words(there))) / max(len(words_wanted), 1)


def embedded(
    embedder: Embedder | None = None, *, store: VectorStore | None = None
) -> EmbeddedBackend:
    """The embedded backend without a model."""
    return EmbeddedBackend(SharedWords(), embedder or HashedWords(), store=store)


def plain_factory(*, word: str = "ok") -> "PlainScorer":
    return PlainScorer(word)


class PlainScorer:
    """A custom scorer, found by import path."""

    name, version = "plain", 1

    def __init__(self, word: str) -> None:
        self.word = word

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "options": {"word": self.word}}
