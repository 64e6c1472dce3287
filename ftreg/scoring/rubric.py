"""A grade by your own criteria, given by a judge with an explanation."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ftreg.errors import UsageError, did_you_mean
from ftreg.records.samples import Sample, Score
from ftreg.scoring.backends.judge_prompt import Part, Question, Strict
from ftreg.scoring.conversation import request
from ftreg.scoring.protocol import Backend, BackendError

_EXAMPLE_KEYS = ("output", "score", "input", "explanation")


class Grade(Strict):
    """What the judge answers; the explanation comes first, so that the grade follows from it."""

    explanation: str
    score: float


class Rubric:
    """The judge's grade, `(grade - min) / (max - min)`; None if it gives none on the scale.

    The evidence is the judge's explanation, its grade on the scale, and the tokens used. Zheng et
    al. (2023), arXiv 2306.05685, found that a strong model grades open answers much as people do;
    they also name the biases to expect: for length, and for its own style.

    Args:
        title: identifies one of several rubrics of an evaluation, the part after `rubric:`.
        backend: a judge.
        criteria: what a good output is, in words.
        scale: the worst and the best grade.
        examples: outputs with their grades: mappings with `output`, `score`, and optionally `input`
            and `explanation`.

    Raises:
        UsageError: an option's value is invalid, or the backend is not a judge.
    """

    version = 1
    default_backend: ClassVar[str] = "judge"

    def __init__(
        self,
        title: str = "",
        /,
        *,
        backend: Backend,
        criteria: str,
        scale: Sequence[float] = (1, 5),
        examples: Sequence[Any] = (),
    ) -> None:
        self.name = f"rubric:{title}" if title else "rubric"
        if not isinstance(criteria, str) or not criteria.strip():
            raise UsageError(f"{self.name}: criteria must be a string, found {criteria!r}")
        self._criteria = criteria.strip()
        self._low, self._high = self._check_scale(scale)
        if not isinstance(examples, list | tuple):
            raise UsageError(f"{self.name}: examples must be a list, found {examples!r}")
        self._examples = [self._check_example(item, n) for n, item in enumerate(examples, 1)]
        if not hasattr(backend, "ask"):
            raise UsageError(
                f"{self.name}: the backend {backend.describe().get('name')} cannot grade by "
                "criteria; leave backend out, or set it to judge"
            )
        self.backend: Any = backend

    def _check_scale(self, scale: Any) -> tuple[float, float]:
        sound = (
            isinstance(scale, list | tuple)
            and len(scale) == 2
            and all(_is_number(value) for value in scale)
            and scale[0] < scale[1]
        )
        if not sound:
            raise UsageError(
                f"{self.name}: scale must be the worst and the best grade, such as [1, 5]; "
                f"found {scale!r}"
            )
        return scale[0], scale[1]

    def _check_example(self, example: Any, number: int) -> dict[str, Any]:
        place = f"{self.name}: examples, number {number}"
        if not isinstance(example, dict):
            raise UsageError(f"{place}: must be a mapping with output and score")
        for key in example:
            if key not in _EXAMPLE_KEYS:
                raise UsageError(f"{place}: no key {key!r}{did_you_mean(str(key), _EXAMPLE_KEYS)}")
        for key in ("output", "score"):
            if key not in example:
                raise UsageError(f"{place}: {key} is missing")
        score = example["score"]
        if not _is_number(score) or not self._low <= score <= self._high:
            raise UsageError(
                f"{place}: score must be a grade from {self._low:g} to {self._high:g}, "
                f"found {score!r}"
            )
        for key in ("output", "input", "explanation"):
            if not isinstance(example.get(key, ""), str):
                raise UsageError(f"{place}: {key} must be a string, found {example[key]!r}")
        return dict(example)

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity: evaluations are comparable only if it is equal."""
        return {
            "name": self.name,
            "version": self.version,
            "options": {
                "criteria": self._criteria,
                "scale": [self._low, self._high],
                "examples": self._examples,
            },
            "backend": self.backend.describe(),
        }

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Grade each sample, in order."""
        questions = [self._question(sample) for sample in samples]
        found = self.backend.ask(questions, check=self._off_the_scale)
        return [self._score_of(finding) for finding in found]

    def _question(self, sample: Sample) -> Question:
        parts = []
        for number, example in enumerate(self._examples, 1):
            if example.get("input"):
                parts.append(Part(f"INPUT OF EXAMPLE {number}", example["input"]))
            parts.append(Part(f"OUTPUT OF EXAMPLE {number}", example["output"]))
        if sample.input:
            parts.append(Part("INPUT", request(sample)))
        if sample.context:
            parts.append(Part("CONTEXT", sample.context))
        parts.extend(
            Part(f"ACCEPTED ANSWER {number}", text)
            for number, text in enumerate(sample.references, 1)
        )
        parts.append(Part("OUTPUT", sample.output))
        return Question(
            task=self._task(),
            form='{"explanation": "one or two sentences", "score": a number}',
            parts=parts,
            answer=Grade,
            bounds={"score": {"minimum": self._low, "maximum": self._high}},
        )

    def _task(self) -> str:
        lines = [
            "Grade the text labelled OUTPUT, an answer to the input, by these criteria:",
            "",
            self._criteria,
            "",
            f"The grade is a number from {self._low:g} (worst) to {self._high:g} (best). Explain "
            "it first.",
        ]
        for number, example in enumerate(self._examples, 1):
            said = f" ({example['explanation']})" if example.get("explanation") else ""
            lines.append(f"The output of example {number} deserves {example['score']:g}{said}.")
        return "\n".join(lines)

    def _off_the_scale(self, question: Question, answer: Any) -> str | None:
        if self._low <= answer.score <= self._high:  # false for NaN
            return None
        return f"the grade {answer.score:g} is not on the scale {self._low:g} to {self._high:g}"

    def _score_of(self, finding: Any) -> Score:
        if isinstance(finding, BackendError):
            return finding.score()
        grade = finding.answer.score
        evidence = {
            "explanation": finding.answer.explanation,
            "grade": grade,
            "scale": [self._low, self._high],
            "judge": finding.cost(),
        }
        value = (grade - self._low) / (self._high - self._low)
        return Score(round(value, 6), evidence=(evidence,))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
