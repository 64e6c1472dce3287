"""The evidence that one text gives for a point: features in [0, 1], 1 speaking for it.

A verbatim point has 1 everywhere, which `embedded` relies on when it scales support.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ftreg.scoring import facts
from ftreg.scoring.facts import Facts
from ftreg.scoring.words import content_words, stem, words

FloatArray = npt.NDArray[np.float32]

FEATURES = ("similarity", "recall", "best_recall", "bigrams", "order")
"""What `features` returns, in order; the coefficients are fitted for these."""


def _pairs(sequence: Sequence[str]) -> frozenset[tuple[str, str]]:
    return frozenset(zip(sequence, sequence[1:], strict=False))


def _share(wanted: frozenset[str] | frozenset[tuple[str, str]], there: Iterable[object]) -> float:
    return len(wanted.intersection(there)) / len(wanted) if wanted else 1.0


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, in O(len(left) · len(right) / 64).

    Bit-parallel (Hyyrö 2004): a Python integer holds one row of the table.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(left)) - 1
    row = full
    for word in right:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(left) - row.bit_count()


@dataclass(frozen=True)
class Passage:
    """One passage of a source, or one point, with what is compared of it."""

    text: str

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The stems of all words, in order."""
        return tuple(stem(word) for word in words(self.text))

    @cached_property
    def content(self) -> tuple[str, ...]:
        """The stems of the content words, in order; of all words where there are no others."""
        return tuple(content_words(self.text)) or self.stems

    @cached_property
    def content_set(self) -> frozenset[str]:
        """`content` as a set."""
        return frozenset(self.content)

    @cached_property
    def facts(self) -> Facts:
        """What the checks compare."""
        return Facts(self.text)


@dataclass(frozen=True)
class Source:
    """A text that points are held against, cut into passages; never empty."""

    passages: tuple[Passage, ...]

    @cached_property
    def content(self) -> frozenset[str]:
        """The content words of all passages."""
        return frozenset().union(*(passage.content_set for passage in self.passages))

    @cached_property
    def bigrams(self) -> frozenset[tuple[str, str]]:
        """The pairs of neighbouring content words in a passage."""
        return frozenset().union(*(_pairs(passage.content) for passage in self.passages))


@dataclass(frozen=True, slots=True)
class Evidence:
    """The features of one point against one source, the nearest passage, and the checks."""

    features: tuple[float, ...]
    best: str
    checks: tuple[str, ...]


def gather(point: Passage, source: Source, similarities: FloatArray) -> Evidence:
    """Collect the evidence for a point.

    Args:
        point: the claim or key point.
        source: the text to hold it against, of n passages.
        similarities: cosine of the point and each passage, shape (n,).

    Returns:
        The features (see `FEATURES`): cosine of the nearest passage; share of the point's content
        words in the whole source; the same in the passage with most of them; share of the point's
        neighbouring content words that are neighbours in the source; longest common subsequence
        of words with one passage, as a share of the point (ROUGE-L recall, Lin 2004).
    """
    passages = source.passages
    recalls = [_share(point.content_set, passage.content_set) for passage in passages]
    nearness = np.asarray(recalls) + similarities
    ranked = [int(place) for place in np.argsort(-nearness, kind="stable")[:_NEAR]]
    best = ranked[0]
    # The sentence before and after often carries what a pronoun of the best one stands for.
    near = [*ranked, *(place for place in (best - 1, best + 1) if 0 <= place < len(passages))]
    order = max(
        common_subsequence(point.stems, passages[place].stems) / max(len(point.stems), 1)
        for place in ranked
    )
    features = (
        min(max(float(np.max(similarities)), 0.0), 1.0),
        _share(point.content_set, source.content),
        max(recalls),
        _share(_pairs(point.content), source.bigrams),
        order,
    )
    checks = facts.fired(
        point.facts,
        [passages[place].facts for place in dict.fromkeys(near)],
        source_words=source.content,
    )
    return Evidence(features, passages[best].text, checks)


_NEAR = 3
"""How many of the nearest passages the costlier comparisons look at."""
