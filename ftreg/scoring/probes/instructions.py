"""Instructions: how many plain ones a model still follows, each checked by a program."""

from collections.abc import Sequence
from typing import Any, Literal

from ftreg.files.store import digest
from ftreg.records.samples import Score
from ftreg.records.thought_tags import answer_of
from ftreg.scoring.probes.checks import failed_checks
from ftreg.scoring.probes.questions import Answered, packaged_rows


class Instructions:
    """1 where an answer has the form that was asked for, else 0; 64 packaged instructions.

    Only the form is checked (one word, upper case, valid JSON, a list of three), and not whether
    the answer is right. Thoughts before the answer do not count. Each can be followed within 32
    tokens.
    """

    name = "instructions"
    version = 1
    asks: Literal["answer"] = "answer"

    def __init__(self) -> None:
        self._rows = packaged_rows("instructions.jsonl")
        self.items = {row["id"]: row["prompt"] for row in self._rows}

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity that makes two evaluations comparable."""
        return {
            "name": self.name,
            "version": self.version,
            "instructions": len(self._rows),
            "digest": digest([[row["id"], row["prompt"], row["checks"]] for row in self._rows]),
            "levels": 2,
        }

    def judge(self, replies: Sequence[Answered]) -> list[Score]:
        """Return the score of each answer."""
        return [
            self._score(row, found.answer) for row, found in zip(self._rows, replies, strict=True)
        ]

    @staticmethod
    def _score(row: dict[str, Any], answer: str) -> Score:
        failed = failed_checks(answer_of(answer), row["checks"])
        evidence = {"instruction": row["prompt"], "answer": answer, "failed": failed}
        return Score(float(not failed), None, (evidence,))
