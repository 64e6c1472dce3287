"""A user's own scorer: its errors are reported as errors of that scorer, with the row."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ftreg.errors import FtregError, UsageError, first_line, shown
from ftreg.files.store import canonical_json
from ftreg.process import is_out_of_memory, signal_came
from ftreg.records.samples import Sample, Score

_WANTED = "a scorer returns one Score per sample, in order, as in Score(0.85)"


@contextlib.contextmanager
def told_of_scorer(name: str, what: str) -> Iterator[None]:
    """Convert any exception of a scorer into one message, with the exception as its cause.

    Args:
        name: the scorer's.
        what: what failed, for the message: "on the row 'a'".

    Raises:
        UsageError: something was raised in the block, including sys.exit, except an interruption, a
            lack of memory and an error that is already a message.
    """
    try:
        yield
    except FtregError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error) or signal_came():
            raise
        why = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, SystemExit):
            why = f"it called sys.exit({error.code!r})"
        raise UsageError(
            f"the scorer {name} failed {what}: {why} (--debug shows its traceback)"
        ) from error


class OwnScorer:
    """A user's own scorer, unchanged except for how its errors are reported.

    Args:
        name: its name in the configuration.
        scorer: with `score` and `describe`.
    """

    def __init__(self, name: str, scorer: Any) -> None:
        self._name = name
        self._scorer = scorer

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_scorer"], name)

    def describe(self) -> dict[str, Any]:
        """Return the scorer's identity.

        Raises:
            UsageError: it fails, or is not a mapping.
        """
        with told_of_scorer(self._name, "to describe itself"):
            found = self._scorer.describe()
        levels = found.get("levels") if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or not isinstance(levels, int | None):
            raise UsageError(
                f"the scorer {self._name}: describe() must return a dict; its levels, if any, "
                f"must be an integer or None; found {shown(found)}"
            )
        return dict(found)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score each sample, in order.

        Raises:
            UsageError: the scorer fails, or does not return a score for each sample; names the row.
        """
        found = self._scored(samples)
        for sample, score in zip(samples, found, strict=False):
            self._check(sample, score)
        if len(found) != len(samples):
            at = ""
            if len(found) < len(samples):
                at = f"; the first row without one is {shown(samples[len(found)].id)}"
            raise UsageError(
                f"the scorer {self._name} gave {len(found)} scores for {len(samples)} samples{at}; "
                f"{_WANTED}"
            )
        return found

    def _scored(self, samples: Sequence[Sample]) -> list[Any]:
        try:
            with told_of_scorer(self._name, "on all rows"):
                found = self._scorer.score(samples)
                if not isinstance(found, Iterable):
                    raise UsageError(
                        f"the scorer {self._name} gave {shown(found)} for {len(samples)} samples, "
                        f"the first of them the row {shown(samples[0].id)}; {_WANTED}"
                    )
                return list(found)
        except UsageError as error:
            if error.__cause__ is not None:
                self._find_row(samples)
            raise

    def _find_row(self, samples: Sequence[Sample]) -> None:
        """Raise the error of the first row that fails alone; several may fail only together."""
        for sample in samples:
            with told_of_scorer(self._name, f"on the row {shown(sample.id)}"):
                list(self._scorer.score([sample]))

    def _check(self, sample: Sample, score: Any) -> None:
        row = f"the scorer {self._name} gave, for the row {shown(sample.id)}"
        if not isinstance(score, Score):
            raise UsageError(f"{row}, {shown(score)} ({type(score).__name__}); {_WANTED}")
        try:
            canonical_json([score.value, score.reason, list(map(dict, score.evidence))])
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{row}, data that is not JSON ({first_line(error)}); a value is a Python float, "
                "and the evidence contains texts, numbers, lists and dicts"
            ) from error
