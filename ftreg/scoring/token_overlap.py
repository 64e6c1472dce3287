"""The overlap of words: a baseline that every scorer must beat, and not itself a scorer."""

from collections import Counter
from collections.abc import Sequence

from ftreg.records.samples import Sample
from ftreg.scoring.conversation import evidence, question

_PARTS = {"faithfulness": ("context",), "answer_relevancy": ("input",)}
"""What an output is compared with, by scorer; for others, the first of `_ANY` that rows have."""
_ANY = ("reference", "context", "input")


def tokens(text: str) -> list[str]:
    """Return the lower-case runs of letters and digits."""
    return "".join(char if char.isalnum() else " " for char in text.lower()).split()


def token_overlap(wanted: str, there: str) -> float:
    """Return the share of the wanted words that are present; repeated words count repeatedly."""
    mine, theirs = Counter(tokens(wanted)), Counter(tokens(there))
    return sum((mine & theirs).values()) / max(sum(mine.values()), 1)


def plain_overlap(
    samples: Sequence[Sample], *, scorer: str, source: str | None = None
) -> tuple[str, list[float]] | None:
    """Return the overlap that a scorer must beat: the part of the example used, and the values.

    It is the share of the output's words that are in the context, or of the words of the reference
    (the best of several) or input that are in the output. None if any row lacks the text.

    Args:
        samples: the rows.
        scorer: its name.
        source: the part of the example that the scorer reads, if it has the choice.
    """
    for part in (source,) if source else _PARTS.get(scorer, _ANY):
        texts = [_texts(sample, part) for sample in samples]
        if not all(texts):
            continue
        claimed = scorer == "faithfulness" or (part == "context" and scorer != "completeness")
        return part, [
            max(
                token_overlap(*((sample.output, text) if claimed else (text, sample.output)))
                for text in known
            )
            for sample, known in zip(samples, texts, strict=True)
        ]
    return None


def _texts(sample: Sample, part: str) -> Sequence[str]:
    if part == "reference":
        return sample.references
    text = evidence(sample) if part == "context" else question(sample)
    return (text,) if text else ()
