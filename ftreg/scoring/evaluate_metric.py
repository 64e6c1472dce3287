"""Any metric of the `evaluate` library as a scorer, one example at a time."""

import contextlib
import inspect
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.config import custom_code
from ftreg.errors import UsageError, did_you_mean, first_line
from ftreg.files.store import file_digest
from ftreg.records.samples import Sample, Score

_INPUTS = ("predictions", "references")


class EvaluateMetric:
    """One value of a metric's result, divided by `scale`; None if that is outside [0, 1].

    With several references the one with the best value counts, unless the metric takes them
    together.

    Args:
        metric: an id on the hub (`exact_match`), or the path of a script or its folder. It is code
            that runs on this machine.
        key: which value of the result; None if it has only one number.
        scale: the metric's best value, 100 for one in percent.
        config_name: the metric's configuration, if it has several.
        **arguments: for the metric's `compute`.

    Raises:
        UsageError: there is no such metric, it does not compare outputs with references, it does
            not accept the options, or custom code is forbidden.
    """

    version = 1

    def __init__(
        self,
        metric: str = "",
        /,
        *,
        key: str | None = None,
        scale: float = 1.0,
        config_name: str | None = None,
        **arguments: Any,
    ) -> None:
        if not metric:
            raise UsageError(
                "evaluate needs a metric; write evaluate:exact_match, or evaluate:path/to/metric"
            )
        self.name = f"evaluate:{metric}"
        custom_code.refuse(self.name, place="scorer")
        if (
            isinstance(scale, bool)
            or not isinstance(scale, int | float)
            or not 0 < scale < math.inf
        ):
            raise UsageError(f"{self.name}: scale must be a number above 0, found {scale!r}")
        self._metric = _load(self.name, metric, config_name)
        self._check_inputs()
        self._scale = scale
        self._arguments = self._check_arguments(arguments)
        self._options = {"scale": scale, "config_name": config_name, **arguments}
        self._key = self._find_key(key)

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity: evaluations are comparable only if it is equal."""
        import evaluate

        return {
            "name": self.name,
            "version": self.version,
            "options": {**self._options, "key": self._key},
            "evaluate": evaluate.__version__,
            "script": file_digest(Path(inspect.getfile(type(self._metric)))),
        }

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Score each sample, in order and separately."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> Score:
        if not sample.references:
            return Score(None, "no reference")
        together = self._takes_several()
        trials = [list(sample.references)] if together else list(sample.references)
        scores = [self._value(sample.output, reference) for reference in trials]
        return max(scores, key=lambda score: -1.0 if score.value is None else score.value)

    def _value(self, output: str, reference: str | list[str]) -> Score:
        try:
            result = self._compute(output, reference)
        except UsageError:
            raise
        except Exception as error:  # a metric may raise anything; the other scores are kept
            return Score(None, f"the metric failed: {type(error).__name__}: {first_line(error)}")
        evidence = ({"reference": reference, "result": _json_ready(result)},)
        value = _number(result.get(self._key))
        if value is None:
            return Score(None, f"{self._key} is not a finite number", evidence)
        if not 0 <= value / self._scale <= 1:
            return Score(
                None,
                f"{self._key} is {value:g}, outside 0 to {self._scale:g}; set the option scale to "
                "its best value",
                evidence,
            )
        return Score(round(value / self._scale, 6), evidence=evidence)

    def _compute(self, output: str, reference: str | list[str]) -> Mapping[str, Any]:
        features = self._features()
        with _silent():
            result = self._metric.compute(
                predictions=[_as(features["predictions"], output)],
                references=[_as(features["references"], reference)],
                **self._arguments,
            )
        if not isinstance(result, Mapping):
            raise UsageError(f"{self.name}: the metric does not return a mapping of values")
        return result

    def _features(self) -> Mapping[str, Any]:
        """Return the metric's inputs; the first if it accepts several formats."""
        features = self._metric.features
        return dict(features[0] if isinstance(features, list) else features)

    def _takes_several(self) -> bool:
        from datasets import Value

        return not isinstance(self._features()["references"], Value)

    def _check_inputs(self) -> None:
        found = list(self._features())
        if set(found) != set(_INPUTS):
            raise UsageError(
                f"{self.name}: compares {', '.join(found)}; only metrics that compare predictions "
                "with references can be scorers"
            )

    def _check_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        parameters = inspect.signature(self._metric._compute).parameters
        known = [
            name
            for name, entry in parameters.items()
            if entry.kind is not entry.VAR_KEYWORD and name not in _INPUTS
        ]
        takes_any = any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values())
        known = ["key", "scale", "config_name", *known]
        for name in arguments:
            if name not in known and not takes_any:
                raise UsageError(
                    f"{self.name} has no option {name!r}{did_you_mean(name, known)} "
                    f"(options: {', '.join(known)})"
                )
        return dict(arguments)

    def _find_key(self, key: str | None) -> str:
        """Try the metric on one pair, so that errors show before anything runs."""
        try:
            result = self._compute("1", ["1"] if self._takes_several() else "1")
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"{self.name}: the metric fails on the output '1' and the reference '1': "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        numbers = [name for name, value in result.items() if _number(value) is not None]
        if key is None and len(numbers) == 1:
            return numbers[0]
        if key is None:
            raise UsageError(
                f"{self.name}: needs the option key: which value of the result is the score "
                f"({', '.join(numbers) or 'the result has no number'})?"
            )
        if key not in result:
            raise UsageError(
                f"{self.name}: key {key!r} is not in the result{did_you_mean(str(key), result)} "
                f"(there: {', '.join(map(str, result))})"
            )
        return key


def _load(name: str, metric: str, config_name: str | None) -> Any:
    import evaluate
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        return evaluate.load(metric, config_name, keep_in_memory=True)
    except Exception as error:  # the script may raise anything, and the hub client much besides
        raise UsageError(
            f"{name}: cannot load this metric: {type(error).__name__}: {first_line(error)}\n"
            "  Without a network, give the folder of its script: evaluate:path/to/metric, where "
            "the script is named as the folder is."
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what a metric prints away from the scores on stdout."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _as(feature: Any, value: str | list[str]) -> Any:
    """Return a text in the metric's input type: a text, or a number if it compares numbers.

    Raises:
        ValueError: the metric needs a number, and the text is not one.
    """
    if isinstance(value, list):
        return [_as(getattr(feature, "feature", None), item) for item in value]
    dtype = str(getattr(feature, "dtype", "string"))
    if dtype.startswith(("int", "uint")):
        return int(value.strip())
    return float(value.strip()) if dtype.startswith("float") else value


def _number(value: Any) -> float | None:
    """Return a finite number as a float; None for anything else. NumPy's scalars are numbers."""
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _json_ready(result: Mapping[str, Any]) -> dict[str, float]:
    numbers = {str(name): _number(value) for name, value in result.items()}
    return {name: number for name, number in numbers.items() if number is not None}
