"""The turns of a chat as scorers see them: the question, and the evidence for an answer.

Elsewhere the question is the input and the evidence is the context; in a chat both may be in
earlier turns.
"""

from ftreg.records.samples import Sample
from ftreg.records.turns import asked_in, chat_text, said
from ftreg.scoring.pointwise import question_of
from ftreg.scoring.words import words

_LONGEST_REPLY = 8
"""Words of a user's turn that asks nothing and continues an earlier question."""


def question(sample: Sample) -> str:
    """Return what an output answers: the input, and the user's turns that it continues.

    "Molde" and "For three days." make sense only with the question before them. An input that asks
    something is used alone: with the question before it, an answer to that one would count as an
    answer too.
    """
    asked = [sample.input]
    before = asked_in(sample.messages)[:-1]
    while before and not _asks(asked[0]):
        asked.insert(0, before.pop())
    return "\n".join(asked)


def _asks(text: str) -> bool:
    return len(words(text)) > _LONGEST_REPLY or question_of(text) is not None


def evidence(sample: Sample) -> str | None:
    """Return what the claims of an output are compared with: the context, and tool results.

    What the user says is not evidence, nor what the assistant said before.
    """
    found = [said(turn) for turn in sample.messages if turn["role"] == "tool"]
    return "\n\n".join(filter(None, [sample.context, *found])) if found else sample.context


def request(sample: Sample) -> str:
    """Return everything the model was asked: the input, or the turns with their roles."""
    return chat_text(sample.messages) if len(sample.messages) > 1 else sample.input
