"""Check that the embedded scorers measure what they should, on the shipped notices and questions.

    python scripts/bench_meaning.py [--examples N]

No labels are needed: each probe alters a text with a known effect (a sentence of the context, its
negation, another number, another question's answer) and counts how often the score follows. Prints
a table, and the failed cases.
"""

import argparse
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ftreg.data.dataset import load_dataset
from ftreg.scoring import Sample, Scorer, get_scorer
from ftreg.scoring.claims import sentences

ROOT = Path(__file__).parents[1] / "sample_datasets"
GENERAL = (
    "Water boils at 100 degrees Celsius at sea level.",
    "The Earth goes round the Sun once a year.",
    "Paris is the capital of France.",
    "Salt water is denser than fresh water.",
    "A ferry is a ship that carries passengers and vehicles.",
    "Dogs are mammals.",
    "The Titanic sank in April 1912.",
    "Tides are caused by the Moon.",
    "Many people enjoy a crossing by sea.",
    "There are sixty minutes in an hour.",
)
"""True sentences that are in no notice."""
_AUXILIARY = re.compile(r"\b(?:is|are|was|were|can|may|must|will|do|does)\b(?! (?:only|no)\b)")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Desk:
    """The material: each question with its notice and its longest accepted answer."""

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def distinct_notices(self) -> tuple[str, ...]:
        """Each notice once, in order."""
        return tuple(dict.fromkeys(self.notices))


@dataclass(frozen=True, slots=True)
class Change:
    """A text before and after an alteration, and the notice that both are compared with."""

    before: str
    after: str
    notice: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question with its own answer and another question's, and the relevancy of both."""

    question: str
    answer: str
    told: str
    own: float
    other: float

    @property
    def whole(self) -> bool:
        """Whether both answers are sentences rather than fragments."""
        return min(len(self.answer.split()), len(self.told.split())) >= 6


def read_desk() -> Desk:
    """Return both splits of ferry-desk@1."""
    dataset = load_dataset("ferry-desk@1", root=ROOT)
    rows = [example for split in ("train", "eval") for example in dataset.split(split)]
    return Desk(
        tuple(row.input for row in rows),
        tuple(max(row.references, key=len) for row in rows),
        tuple(row.context or "" for row in rows),
    )


def own_sentences(desk: Desk) -> Iterator[Change]:
    """Yield each sentence of each notice, unchanged."""
    for notice in desk.distinct_notices:
        for sentence in sentences(notice):
            yield Change(sentence, sentence, notice)


def negated(desk: Desk) -> Iterator[Change]:
    """Yield each sentence that has an auxiliary verb, with a "not" inserted or removed after it."""
    for change in own_sentences(desk):
        found = _AUXILIARY.search(change.before)
        if found is not None:
            head, tail = change.before[: found.end()], change.before[found.end() :]
            after = head + (
                tail.removeprefix(" not") if tail.startswith(" not ") else f" not{tail}"
            )
            yield Change(change.before, after, change.notice)


def other_numbers(desk: Desk) -> Iterator[Change]:
    """Yield each sentence once per number in it, replaced with one not in the notice."""
    for change in own_sentences(desk):
        there = set(_DIGITS.findall(change.notice))
        for found in _DIGITS.finditer(change.before):
            other = next(
                text
                for step in itertools.count(3)
                if (text := str(int(found[0]) + step)) not in there
            )
            yield _replaced(change, found, other)


def swapped_numbers(desk: Desk) -> Iterator[Change]:
    """Yield each sentence once per number in it, replaced with another number of the notice."""
    for change in own_sentences(desk):
        there = sorted(set(_DIGITS.findall(change.notice)))
        for found in _DIGITS.finditer(change.before):
            other = next((text for text in there if int(text) != int(found[0])), None)
            if other is not None:
                yield _replaced(change, found, other)


def _replaced(change: Change, found: re.Match[str], other: str) -> Change:
    after = change.before[: found.start()] + other + change.before[found.end() :]
    return Change(change.before, after, change.notice)


def unsupported(desk: Desk) -> Iterator[Change]:
    """Yield outputs, and the same with an extra sentence that their notice does not support.

    The outputs are answers, sentences of the notice, and answers that already say too much; the
    extra sentence is from another notice, or from `GENERAL`.
    """
    strange = {
        notice: [s for other in desk.distinct_notices if other != notice for s in sentences(other)]
        for notice in desk.distinct_notices
    }
    answered = list(zip(map(_ended, desk.answers), desk.notices, strict=True))
    outputs = [
        *answered,
        *((" ".join(sentences(notice)[:2]), notice) for notice in desk.distinct_notices),
        *(
            (f"{answer} {GENERAL[place % len(GENERAL)]}", notice)
            for place, (answer, notice) in enumerate(answered)
        ),
    ]
    for place, (output, notice) in enumerate(outputs):
        others = strange[notice]
        for more in (
            *GENERAL,
            *(others[(place * 7 + step * 29) % len(others)] for step in range(6)),
        ):
            yield Change(output, f"{output} {more}", notice)


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def faithfulness(scorer: Scorer, changes: Sequence[Change]) -> list[tuple[float, float]]:
    """Return the scores before and after each change; 0 if the text makes no claim."""
    samples = [
        Sample(id=str(place), input="", output=text, context=change.notice)
        for place, change in enumerate(changes)
        for text in (change.before, change.after)
    ]
    found = [score.value or 0.0 for score in scorer.score(samples)]
    return list(zip(found[::2], found[1::2], strict=True))


def relevancy(scorer: Scorer, desk: Desk) -> list[Comparison]:
    """Return each question's answer with each answer to a question of another notice."""
    places = range(len(desk.questions))
    samples = [
        Sample(id=f"{asked}-{told}", input=desk.questions[asked], output=desk.answers[told])
        for asked in places
        for told in places
    ]
    found = iter(scorer.score(samples))
    table = [[next(found).value or 0.0 for _ in places] for _ in places]
    return [
        Comparison(
            desk.questions[asked], desk.answers[asked], desk.answers[told],
            table[asked][asked], table[asked][told],
        )
        for asked in places
        for told in places
        if desk.notices[asked] != desk.notices[told] and desk.answers[asked] != desk.answers[told]
    ]  # fmt: skip


def halved(before: float, after: float) -> bool:
    """Whether a score dropped markedly: to half of its value, or less."""
    return after <= before / 2


def _print(console: Console, shown: int) -> None:
    desk = read_desk()
    faithful, relevant = get_scorer("faithfulness"), get_scorer("answer_relevancy")
    table = Table(title="ferry-desk@1, backend embedded")
    for heading in ("probe", "holds where", "cases", "holds"):
        table.add_column(heading, justify="right" if heading in ("cases", "holds") else "left")
    wrong: dict[str, list[str]] = {}
    probes = (
        ("a sentence of the context", own_sentences, "the score is 1", lambda _, after: after == 1),
        ("... another number", other_numbers, "it halves", halved),
        ("... a number from elsewhere in the context", swapped_numbers, "it halves", halved),
        ("... negated", negated, "it halves", halved),
        ("an unsupported sentence more", unsupported, "it does not rise",
         lambda before, after: after <= before),
    )  # fmt: skip
    for name, make, where, holds in probes:
        changes = list(make(desk))
        scores = faithfulness(faithful, changes)
        failed = [
            f"{before:.3f} > {after:.3f}  {change.after}"
            for change, (before, after) in zip(changes, scores, strict=True)
            if not holds(before, after)
        ]
        wrong[name] = failed
        table.add_row(
            name, where, str(len(changes)), _share(len(changes) - len(failed), len(changes))
        )
    pairs = relevancy(relevant, desk)
    for name, kept in (
        ("another question's answer", pairs),
        ("... both of six words or more", [pair for pair in pairs if pair.whole]),
    ):
        lost = sorted(
            (pair for pair in kept if pair.other >= pair.own),
            key=lambda pair: pair.other - pair.own,
        )
        wrong[name] = [
            f"{pair.own:.3f} ≤ {pair.other:.3f}  {pair.question} | {pair.answer} | {pair.told}"
            for pair in reversed(lost)
        ]
        table.add_row(
            name,
            "it has less than the own",
            str(len(kept)),
            _share(len(kept) - len(lost), len(kept)),
        )
    console.print(table)
    for name, lines in wrong.items():
        for line in lines[:shown]:
            console.print(f"{name}: {line}", markup=False, highlight=False)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}"


def main() -> None:
    """Run the probes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=5, help="failed cases shown per probe")
    _print(Console(), parser.parse_args().examples)


if __name__ == "__main__":
    main()
