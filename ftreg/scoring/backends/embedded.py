"""The default backend: sentence embeddings, words in common, and checks of facts. Offline.

Support is logistic in a handful of features, scaled so that a verbatim point has exactly 1:

    support = sigmoid(b + w · features) / sigmoid(b + sum(w)) · product of the fired penalties

All weights are at least 0, so more evidence never gives less support. They are fitted by
`scripts/fit_scorers.py` on sets labelled by people and kept in `embedded_weights.json`; the
penalties are set by hand, for such sets hold too few altered numbers and names to fit them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ftreg.scoring.backends import relevance
from ftreg.scoring.backends.encoder import CachedEmbedder, Embedder, FloatArray, MiniLM
from ftreg.scoring.backends.evidence import Evidence, Passage, Source, gather
from ftreg.scoring.claims import MAX_WORDS, is_code, passages
from ftreg.scoring.protocol import BackendError, Inquiry, Relation, Support
from ftreg.scoring.words import split_identifiers
from ftreg.store import digest

__all__ = ["EmbeddedBackend", "Embedder", "Weights", "load_weights", "shared"]

VERSION = 1
PENALTIES: Mapping[Relation, Mapping[str, float]] = {
    Relation.SUPPORTED: {"number": 0.3, "unit": 0.4, "name": 0.5, "negation": 0.3},
    # What an output leaves out is missing from its words already; only what it alters counts.
    Relation.COVERED: {"number": 1.0, "unit": 0.6, "name": 1.0, "negation": 0.5},
}
"""What each check leaves of the support."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Intercept and coefficients of one relation; `weights` go with the features in order."""

    intercept: float
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if min(self.weights) < 0:
            raise ValueError("a negative weight would let evidence lower the support")

    def support(self, features: Sequence[float]) -> float:
        """Return the support that features in [0, 1] give, in [0, 1]; 1 where all are 1."""
        score = self.intercept + math.fsum(
            weight * value for weight, value in zip(self.weights, features, strict=True)
        )
        most = self.intercept + math.fsum(self.weights)
        return min((1 + math.exp(-most)) / (1 + math.exp(-score)), 1.0)


@cache
def load_weights() -> Mapping[Relation, Weights]:
    """Read the coefficients that come with the package."""
    text = files("ftreg.scoring.backends").joinpath("embedded_weights.json").read_text("utf-8")
    relations = json.loads(text)["relations"]
    return {
        Relation(name): Weights(entry["intercept"], tuple(entry["weights"].values()))
        for name, entry in relations.items()
    }


class EmbeddedBackend:
    """Judges points by similarity, common words, and checks of numbers, names and negation.

    Args:
        embedder: what turns texts into vectors.
        weights: coefficients per relation; those of the package where None.
    """

    def __init__(
        self, embedder: Embedder, *, weights: Mapping[Relation, Weights] | None = None
    ) -> None:
        self._embedder = CachedEmbedder(embedder)
        self._weights = load_weights() if weights is None else weights

    def describe(self) -> dict[str, Any]:
        """Return name, version, the model's identity and the digest of the coefficients."""
        weights = {
            str(relation): [entry.intercept, *entry.weights]
            for relation, entry in self._weights.items()
        }
        return {
            "name": "embedded",
            "version": VERSION,
            "model": self._embedder.embedder.describe(),
            "weights": digest(weights),
        }

    def judge(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> list[list[Support] | BackendError]:
        """Return a finding for each point of each inquiry, in order."""
        return [
            found
            if isinstance(found, BackendError)
            else [self._support(relation, evidence) for evidence in found]
            for found in self.evidence(relation, inquiries)
        ]

    def evidence(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> list[list[Evidence] | BackendError]:
        """Return the evidence behind `judge`: what the coefficients are fitted on."""
        units = [_units(relation, inquiry.text) for inquiry in inquiries]
        texts = {
            readable(text)
            for inquiry, own in zip(inquiries, units, strict=True)
            for text in (*inquiry.points, *own)
        }
        vectors = self._embedder.encode(sorted(texts))
        return [
            self._evidence_of(relation, inquiry, own, vectors)
            for inquiry, own in zip(inquiries, units, strict=True)
        ]

    def _evidence_of(
        self,
        relation: Relation,
        inquiry: Inquiry,
        units: Sequence[str],
        vectors: Mapping[str, FloatArray],
    ) -> list[Evidence] | BackendError:
        if not units:
            return BackendError("the text to judge by is empty")
        if not inquiry.points:
            return []
        points = np.stack([vectors[readable(point)] for point in inquiry.points])
        source = np.stack([vectors[readable(unit)] for unit in units])
        # Rounded, so that the last bits, which depend on the batch, do not show in a score.
        similarities = np.round(points @ source.T, 5)
        if not np.isfinite(similarities).all():
            return BackendError("the model returned a number that is not finite")
        if relation is Relation.RELEVANT:
            return [
                relevance.gather(point, inquiry.text, units, row)
                for point, row in zip(inquiry.points, similarities, strict=True)
            ]
        held = Source(tuple(_passage(unit) for unit in units))
        return [
            gather(_passage(point), held, row)
            for point, row in zip(inquiry.points, similarities, strict=True)
        ]

    def _support(self, relation: Relation, evidence: Evidence) -> Support:
        value = self._weights[relation].support(evidence.features)
        for check in evidence.checks:
            value *= PENALTIES[relation][check]
        return Support(round(value, 6), evidence.best, evidence.checks)


@lru_cache(maxsize=1 << 14)
def _passage(text: str) -> Passage:
    """Return a passage, the same one for the same text, with all that it has worked out."""
    return Passage(text)


@lru_cache(maxsize=1 << 14)
def readable(text: str) -> str:
    """Return a text as the encoder reads it best: identifiers written as words."""
    return split_identifiers(text)


def _units(relation: Relation, text: str) -> tuple[str, ...]:
    """Cut the text that points are judged by: passages, or a request with its parts."""
    if relation is not Relation.RELEVANT:
        return tuple(passages(text))
    whole = " ".join(text.split())
    if not whole:
        return ()
    asked = passages(text)
    long = is_code(text) or len(whole.split()) > MAX_WORDS
    parts = asked if long else [unit for unit in asked if unit.endswith("?")]
    return tuple(dict.fromkeys((whole, *parts)))


@cache
def shared(folder: Path | None = None) -> EmbeddedBackend:
    """Return this process's backend for a model folder (the packaged model where None)."""
    return EmbeddedBackend(MiniLM(folder))
