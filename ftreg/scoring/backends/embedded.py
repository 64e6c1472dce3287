"""The default backend: sentence embeddings, words in common, and checks of facts. Offline.

Support is made of a handful of features in [0, 1], scaled so that a verbatim point has exactly 1:

    sigmoid(b + w · features) / sigmoid(b + sum(w)) · product of the fired penalties

All weights are at least 0, so more evidence never gives less support. They are fitted by
`scripts/fit_scorers.py` on sets labelled by people and kept in `embedded_weights.json`; the
penalties are set by hand, for such sets hold too few altered numbers and names to fit them.
Coverage has one feature, so no weights: it is the support.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from ftreg.files.store import digest
from ftreg.scoring.backends import coverage, relevance, support
from ftreg.scoring.backends.encoder import CachedEmbedder, Embedder
from ftreg.scoring.backends.evidence import Evidence, Passage, SourceText
from ftreg.scoring.backends.vector_store import FloatArray, VectorStore
from ftreg.scoring.backends.wording import Wording, WordingPair
from ftreg.scoring.claims import MAX_WORDS, is_code, passages
from ftreg.scoring.protocol import BackendError, Inquiry, Relation, Support
from ftreg.scoring.words import split_identifiers

__all__ = ["PENALTIES", "EmbeddedBackend", "Embedder", "Weights", "load_weights"]

_VERSION = 3
PENALTIES: Mapping[Relation, Mapping[str, float]] = {
    Relation.SUPPORTED: {"number": 0.3, "unit": 0.4, "name": 0.5, "negation": 0.3},
    # A number or name that an output leaves out is missing from its words already.
    Relation.COVERED: {"unit": 0.6, "negation": 0.5},
    Relation.RELEVANT: {"question": 0.3},
}
"""What each check leaves of the support."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How the features of one relation make support; `weights` go with them in order."""

    intercept: float
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if min(self.weights) < 0 or not sum(self.weights):
            raise ValueError("weights must not be negative, nor all 0")

    def support(self, features: Sequence[float]) -> float:
        """Return the support that features in [0, 1] give, in [0, 1]; 1 where all are 1."""
        most = self.intercept + math.fsum(self.weights)
        mine = self.intercept + math.fsum(
            weight * value for weight, value in zip(self.weights, features, strict=True)
        )
        return min((1 + math.exp(-most)) / (1 + math.exp(-mine)), 1.0)


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
        store: keeps the vectors on disk; None for none.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        weights: Mapping[Relation, Weights] | None = None,
        store: VectorStore | None = None,
    ) -> None:
        self._embedder = CachedEmbedder(embedder, store)
        self._wording = Wording(embedder, store)
        self._weights = load_weights() if weights is None else weights

    def describe(self) -> dict[str, Any]:
        """Return name, version, the model's identity and the digest of the coefficients."""
        weights = {
            str(relation): [entry.intercept, *entry.weights]
            for relation, entry in self._weights.items()
        }
        return {
            "name": "embedded",
            "version": _VERSION,
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
            text
            for inquiry, own in zip(inquiries, units, strict=True)
            for text in (*inquiry.points, *own)
        }
        wanted = {split_identifiers(text) for text in texts}
        vectors = self._embedder.encode(sorted(wanted))
        shares: Mapping[WordingPair, float | None] = {}
        if relation is Relation.COVERED:
            shares = self._wording.shares(
                [
                    _pair(point, own)
                    for inquiry, own in zip(inquiries, units, strict=True)
                    for point in inquiry.points
                    if own
                ]
            )
        return [
            self._evidence_of(relation, inquiry, own, vectors, shares)
            for inquiry, own in zip(inquiries, units, strict=True)
        ]

    def _evidence_of(
        self,
        relation: Relation,
        inquiry: Inquiry,
        units: Sequence[str],
        vectors: Mapping[str, FloatArray],
        shares: Mapping[WordingPair, float | None],
    ) -> list[Evidence] | BackendError:
        if not units:
            return BackendError("the text to judge by is empty")
        if not inquiry.points:
            return []
        points = np.stack([vectors[split_identifiers(point)] for point in inquiry.points])
        source = np.stack([vectors[split_identifiers(unit)] for unit in units])
        # Rounded, so that the last bits, which depend on the batch, do not show in a score.
        similarities = np.round(points @ source.T, 5)
        if not np.isfinite(similarities).all():
            return BackendError("the model returned a number that is not finite")
        held = SourceText(tuple(_passage(unit) for unit in units))
        found = []
        for point, row in zip(inquiry.points, similarities, strict=True):
            match relation:
                case Relation.SUPPORTED:
                    found.append(support.support_evidence(_passage(point), held, row))
                case Relation.COVERED:
                    share = shares[_pair(point, units)]
                    if share is not None and not math.isfinite(share):
                        return BackendError("the model returned a number that is not finite")
                    found.append(coverage.coverage_evidence(_passage(point), held, row, share))
                case Relation.RELEVANT:
                    found.append(relevance.relevance_evidence(point, inquiry.text, units, row))
        return found

    def _support(self, relation: Relation, evidence: Evidence) -> Support:
        if relation is Relation.COVERED:
            (value,) = evidence.features
        else:
            value = self._weights[relation].support(evidence.features)
        penalties = PENALTIES.get(relation, {})
        for check in evidence.checks:
            value *= penalties.get(check, 1.0)
        return Support(round(value, 6), evidence.best, evidence.checks)


@lru_cache(maxsize=1 << 14)
def _passage(text: str) -> Passage:
    """Return a passage, the same one for the same text, with all that it has worked out."""
    return Passage(text)


def _pair(point: str, units: Sequence[str]) -> WordingPair:
    return split_identifiers(point), tuple(map(split_identifiers, units))


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
