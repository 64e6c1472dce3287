"""What evidence is made of: points and passages with their words, and the nearest passages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ftreg.scoring import facts
from ftreg.scoring.backends.vector_store import FloatArray
from ftreg.scoring.facts import Facts
from ftreg.scoring.words import content_words, stem, words


def neighbours(sequence: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Return the pairs of words that follow each other."""
    return frozenset(pairwise(sequence))


def share(wanted: frozenset[str] | frozenset[tuple[str, str]], there: Iterable[object]) -> float:
    """Return the share of what is wanted that is there; 1 where nothing is wanted."""
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
    def words(self) -> tuple[str, ...]:
        """All words, in order."""
        return tuple(words(self.text))

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The stems of all words, in order."""
        return tuple(map(stem, self.words))

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
class SourceText:
    """A text that points are held against, cut into passages; never empty."""

    passages: tuple[Passage, ...]

    @cached_property
    def text(self) -> str:
        """All passages, a line each."""
        return "\n".join(passage.text for passage in self.passages)

    @cached_property
    def content(self) -> frozenset[str]:
        """The content words of all passages."""
        return frozenset().union(*(passage.content_set for passage in self.passages))

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all words of all passages."""
        return frozenset().union(*(passage.stems for passage in self.passages))

    @cached_property
    def bigrams(self) -> frozenset[tuple[str, str]]:
        """The pairs of neighbouring content words in a passage."""
        return frozenset().union(*(neighbours(passage.content) for passage in self.passages))


@dataclass(frozen=True, slots=True)
class Evidence:
    """The features of one point against one source, the nearest passage, and the checks.

    `verbatim` where the point is one of the passages, `of_code` where it is a claim about source
    code, with features of its own.
    """

    features: tuple[float, ...]
    best: str
    checks: tuple[str, ...]
    verbatim: bool = False
    of_code: bool = False


def nearest(point: Passage, source: SourceText, similarities: FloatArray) -> tuple[int, ...]:
    """Return the places of the passages that speak for a point most, the first one most of all.

    Judged by cosine and common words together, for either alone is misled.
    """
    recalls = [share(point.content_set, passage.content_set) for passage in source.passages]
    nearness = np.asarray(recalls) + similarities
    return tuple(int(place) for place in np.argsort(-nearness, kind="stable")[:_NEAR])


_NEAR = 3
"""How many of the nearest passages the costlier comparisons look at."""


def checks(
    point: Passage, source: SourceText, ranked: Sequence[int], question: Passage | None = None
) -> tuple[str, ...]:
    """Return what speaks against a point in the passages `ranked`, and beside the first of them.

    The sentence before or after often carries what a pronoun of the nearest one stands for.
    """
    beside = (place for place in (ranked[0] - 1, ranked[0] + 1))
    near = [*ranked, *(place for place in beside if 0 <= place < len(source.passages))]
    return facts.fired(
        point.facts,
        [source.passages[place].facts for place in dict.fromkeys(near)],
        source_words=source.content,
        source=source.text,
        question=question.facts if question else None,
    )
