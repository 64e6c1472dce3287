"""The default backend: a judge of entailment, similarity and wording, and checks of facts. Offline.

The judge sees what is reworded; wording and similarity see names, numbers and copied spans. Support
is a logistic function of both, calibrated by `scripts/fit_scorers.py` so that 0.8 means about 80 %:

    sigmoid(b + w · features) · the fired penalties

with features in [0, 1], the first of which is the judge's log-odds. A point that stands in the text
as a sentence, or a clause of one, has exactly 1.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from ftreg.files.store import digest
from ftreg.scoring.backends import coverage, relevance, support
from ftreg.scoring.backends.encoder import CachedEmbedder, Embedder
from ftreg.scoring.backends.entailment import Entailment, Judge
from ftreg.scoring.backends.evidence import Evidence, Passage, SourceText
from ftreg.scoring.backends.minilm import MiniLM
from ftreg.scoring.backends.vector_store import FloatArray, VectorStore
from ftreg.scoring.backends.wording import Wording, WordingPair
from ftreg.scoring.claims import MAX_WORDS, defined_name, is_code, passages, sentences
from ftreg.scoring.clauses import clauses
from ftreg.scoring.protocol import BackendError, Inquiry, Relation, Support
from ftreg.scoring.values import spelled, values
from ftreg.scoring.words import split_identifiers, words

_VERSION = 5
_CONTRASTS = {"negation": 0.4, "opposite": 0.4, "order": 0.4, "condition": 0.5}
PENALTIES: Mapping[Relation, Mapping[str, float]] = {
    Relation.SUPPORTED: {
        "number": 0.2,
        "elsewhere": 0.6,
        "unit": 0.4,
        "name": 0.5,
        **_CONTRASTS,
    },
    Relation.COVERED: {
        "number": 0.2,
        "elsewhere": 0.6,
        "unit": 0.4,
        "answer": 0.1,
        **_CONTRASTS,
    },
}
"""What each check leaves of the support."""
FEATURES: Mapping[Relation, tuple[str, ...]] = {
    Relation.SUPPORTED: ("judge", *support.SUPPORT_FEATURES),
    Relation.COVERED: ("judge", "wording"),
    Relation.RELEVANT: ("judge", *relevance.RELEVANCE_FEATURES),
}
"""What the coefficients go with, in order."""
_SUREST = 4.0
"""Log-odds beyond which the judge and the wording are not believed."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How the features of one relation make support; `weights` go with them in order."""

    intercept: float
    weights: tuple[float, ...]

    def support(self, features: Sequence[float]) -> float:
        """Return the support that features in [0, 1] give, in (0, 1)."""
        odds = self.intercept + math.fsum(
            weight * value for weight, value in zip(self.weights, features, strict=True)
        )
        return 1 / (1 + math.exp(-odds))


def judged(probability: float) -> float:
    """Return the judge's log-odds, within what is believed, on a scale from 0 to 1."""
    inside = min(max(probability, 1e-9), 1 - 1e-9)
    odds = min(max(math.log(inside / (1 - inside)), -_SUREST), _SUREST)
    return 0.5 + odds / (2 * _SUREST)


CODE = "supported_by_code"
"""The coefficients of claims about source code, which is seldom near its summary in words."""


@cache
def load_weights() -> Mapping[str, Weights]:
    """Read the coefficients that come with the package: of each relation, and `CODE`."""
    text = files("ftreg.scoring.backends").joinpath("embedded_weights.json").read_text("utf-8")
    relations = json.loads(text)["relations"]
    return {
        str(name): Weights(entry["intercept"], tuple(entry["weights"].values()))
        for name, entry in relations.items()
    }


class EmbeddedBackend:
    """Judges points by entailment, similarity and common words, and checks of facts.

    Args:
        judge: tells what texts support and what answers questions.
        embedder: what turns texts into vectors.
        weights: coefficients per relation; those of the package where None.
        store: keeps the vectors on disk; None for none.
    """

    def __init__(
        self,
        judge: Judge,
        embedder: Embedder,
        *,
        weights: Mapping[str, Weights] | None = None,
        store: VectorStore | None = None,
    ) -> None:
        self._judge = judge
        self._embedder = CachedEmbedder(embedder, store)
        self._wording = Wording(embedder, store)
        self._weights = load_weights() if weights is None else weights

    def describe(self) -> dict[str, Any]:
        """Return name, version, the models' identities and the digest of the coefficients."""
        weights = {
            str(relation): [entry.intercept, *entry.weights]
            for relation, entry in self._weights.items()
        }
        return {
            "name": "embedded",
            "version": _VERSION,
            "judge": self._judge.describe(),
            "model": self._embedder.embedder.describe(),
            "weights": digest(weights),
        }

    def judge(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> list[list[Support] | BackendError]:
        """Return a finding for each point of each inquiry, in order."""
        return [
            found if isinstance(found, BackendError) else self._supports(relation, found)
            for inquiry, found in zip(inquiries, self.evidence(relation, inquiries), strict=True)
        ]

    def evidence(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> list[list[Evidence] | BackendError]:
        """Return the evidence behind `judge`: what the coefficients are fitted on."""
        units = [_units(relation, inquiry.text) for inquiry in inquiries]
        texts = {
            text
            for inquiry, own in zip(inquiries, units, strict=True)
            for text in (*_compared(relation, inquiry), *own, *_whole_code(relation, inquiry.text))
        }
        vectors = self._embedder.encode(sorted({split_identifiers(text) for text in texts}))
        shares = self._shares(relation, inquiries, units)
        judged = self._judged(relation, inquiries)
        return [
            self._evidence_of(relation, inquiry, own, vectors, told, chances)
            for inquiry, own, told, chances in zip(inquiries, units, shares, judged, strict=True)
        ]

    def _judged(
        self, relation: Relation, inquiries: Sequence[Inquiry]
    ) -> Iterable[Sequence[float]]:
        """Return the judge's probability for each point of each inquiry."""
        if relation is not Relation.RELEVANT:
            read = [_as_read(inquiry) for inquiry in inquiries]
            contrary = [
                _as_read(other) if (other := _contrary(inquiry)).points else other
                for inquiry in inquiries
            ]
            found = [each[:, 0].tolist() for each in self._judge.support([*read, *contrary])]
            others = [iter(each) for each in found[len(read) :]]
            return [
                [
                    # Yes and no exclude each other: what speaks for one is held against both.
                    chance / max(chance + next(other), 0.5) if _said(point) in _OTHER else chance
                    for point, chance in zip(inquiry.points, mine, strict=True)
                ]
                for inquiry, mine, other in zip(inquiries, found, others, strict=False)
            ]
        pairs = [
            (split_identifiers(inquiry.text), split_identifiers(point))
            for inquiry in inquiries
            for point in inquiry.points
        ]
        answers = iter(self._judge.answers(pairs))
        return [[next(answers) for _ in inquiry.points] for inquiry in inquiries]

    def _shares(
        self, relation: Relation, inquiries: Sequence[Inquiry], units: Sequence[Sequence[str]]
    ) -> list[list[float | None]]:
        """Return how far the wording of each point of each inquiry is there; None if not asked."""
        if relation is not Relation.COVERED:
            return [[None] * len(inquiry.points) for inquiry in inquiries]
        pairs = [
            _pairs(inquiry.points, own) if own else []
            for inquiry, own in zip(inquiries, units, strict=True)
        ]
        found = self._wording.shares([pair for some in pairs for pair in some])
        return [[found[pair] for pair in some] for some in pairs]

    def _evidence_of(
        self,
        relation: Relation,
        inquiry: Inquiry,
        units: Sequence[str],
        vectors: Mapping[str, FloatArray],
        shares: Sequence[float | None],
        probabilities: Sequence[float],
    ) -> list[Evidence] | BackendError:
        if not units:
            return BackendError("the text to judge by is empty")
        if not inquiry.points:
            return []
        compared = _compared(relation, inquiry)
        points = np.stack([vectors[split_identifiers(point)] for point in compared])
        source = np.stack([vectors[split_identifiers(unit)] for unit in units])
        # Rounded, so that the last bits, which depend on the batch, do not show in a score.
        similarities = np.round(points @ source.T, 5)
        if not (np.isfinite(similarities).all() and np.isfinite(probabilities).all()):
            return BackendError("the model returned a number that is not finite")
        held = SourceText(tuple(_passage(unit) for unit in units))
        of_code = is_code(inquiry.text)
        asked = _passage(inquiry.question) if inquiry.question else None
        verbatim = frozenset() if relation is Relation.RELEVANT else _sentences_of(units)
        found = []
        for point, claim, share, row, probability in zip(
            inquiry.points, compared, shares, similarities, probabilities, strict=True
        ):
            match relation:
                case Relation.SUPPORTED if of_code and not is_code(point):
                    nearest = units[int(np.argmax(row))]
                    evidence = _code_evidence(claim, inquiry.text, vectors, best=nearest)
                case Relation.SUPPORTED:
                    evidence = support.support_evidence(
                        _passage(claim),
                        held,
                        row,
                        point=_passage(point),
                        question=asked,
                    )
                case Relation.COVERED:
                    evidence = coverage.coverage_evidence(_passage(point), held, row, share)
                case Relation.RELEVANT:
                    evidence = relevance.relevance_evidence(units, row)
            chance = judged(probability)
            features = evidence.features
            if _said(point) in _OTHER:  # it has no words to compare
                features = (chance,) * len(features)
            found.append(
                replace(
                    evidence,
                    features=(chance, *features),
                    verbatim=bool(verbatim) and _plain(point) in verbatim,
                )
            )
        if not all(math.isfinite(value) for each in found for value in each.features):
            return BackendError("the model returned a number that is not finite")
        return found

    def _supports(self, relation: Relation, found: Sequence[Evidence]) -> list[Support]:
        penalties = PENALTIES.get(relation, {})
        return [
            _support(self._weights[CODE if evidence.of_code else relation], evidence, penalties)
            for evidence in found
        ]


def _support(weights: Weights, evidence: Evidence, penalties: Mapping[str, float]) -> Support:
    if evidence.verbatim:
        return Support(1.0, evidence.best)
    fired = tuple(check for check in evidence.checks if check in penalties)
    value = weights.support(evidence.features) * math.prod(penalties[check] for check in fired)
    return Support(round(value, 6), evidence.best, fired)


@lru_cache(maxsize=1 << 14)
def _passage(text: str) -> Passage:
    """Return a passage, the same one for the same text, with all that it has worked out."""
    return Passage(text)


@lru_cache(maxsize=1 << 14)
def _plain(text: str) -> tuple[object, ...]:
    """Return what two spellings of a sentence share: its words, and its values' amounts."""
    return (*words(spelled(text)), *(value.amount for value in values(text)))


def _sentences_of(units: Sequence[str]) -> frozenset[tuple[object, ...]]:
    """Return what stands in a text as a sentence, or a clause of one."""
    return frozenset(_plain(part) for unit in units for part in (unit, *clauses(unit)))


def _compared(relation: Relation, inquiry: Inquiry) -> Sequence[str]:
    """Return what is compared with the text by similarity and words."""
    return inquiry.statements if relation is Relation.SUPPORTED else inquiry.points


def _code_evidence(
    claim: str, code: str, vectors: Mapping[str, FloatArray], *, best: str
) -> Evidence:
    said, name = split_identifiers(claim), defined_name(code)
    (whole,) = (split_identifiers(text) for text in _whole_code(Relation.SUPPORTED, code))
    return support.code_evidence(
        _passage(said),
        _passage(split_identifiers(name)) if name else None,
        whole=round(float(vectors[said] @ vectors[whole]), 5),
        best=best,
    )


def _pairs(points: Sequence[str], units: Sequence[str]) -> list[WordingPair]:
    source = tuple(map(split_identifiers, units))
    return [(split_identifiers(point), source) for point in points]


_OTHER = {"yes": "No", "no": "Yes"}


def _said(point: str) -> str:
    """Return what a point says if that is one word."""
    return point.strip(" .!").casefold()


def _contrary(inquiry: Inquiry) -> Inquiry:
    """Return an inquiry with "No" for "Yes" and "Yes" for "No", and no other point."""
    points = [_OTHER[said] for point in inquiry.points if (said := _said(point)) in _OTHER]
    return replace(inquiry, points=points)


def _as_read(inquiry: Inquiry) -> Inquiry:
    """Return an inquiry as the judge reads it: values spelled one way, identifiers as words."""
    if is_code(inquiry.text):
        points = [split_identifiers(point) for point in inquiry.points]
        return Inquiry(points, split_identifiers(inquiry.text))
    points = [spelled(point, like=inquiry.text) for point in inquiry.statements]
    return Inquiry(points, spelled(inquiry.text), inquiry.question and spelled(inquiry.question))


def _whole_code(relation: Relation, text: str) -> tuple[str, ...]:
    """Return source code as it is compared as a whole; nothing where that is not asked."""
    return (" ".join(text.split()),) if relation is Relation.SUPPORTED and is_code(text) else ()


def _units(relation: Relation, text: str) -> tuple[str, ...]:
    """Cut the text that points are judged by: passages, or a request with its parts."""
    if relation is not Relation.RELEVANT:
        return tuple(passages(text))
    whole = " ".join(text.split())
    if not whole:
        return ()
    asked = passages(text) if is_code(text) else sentences(text)
    long = is_code(text) or len(whole.split()) > MAX_WORDS
    parts = asked if long else [unit for unit in asked if unit.endswith("?")]
    return tuple(dict.fromkeys((whole, *parts)))


@cache
def shared(*, precision: str = "int8") -> EmbeddedBackend:
    """Return this process's backend with the packaged models.

    All scorers share it, so each text is read once; what was computed is kept on disk.

    Args:
        precision: of the judge; see `Entailment`.
    """
    embedder = MiniLM()
    judge = Entailment(precision=precision)
    return EmbeddedBackend(judge, embedder, store=VectorStore(embedder.identity()))
