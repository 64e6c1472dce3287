"""Score the outputs of a checkpoint, including repeats that measure noise."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftreg.config.sections import ScorerConfig, Thoughts
from ftreg.data import DatasetVersion
from ftreg.errors import FtregError, UsageError
from ftreg.files.store import digest
from ftreg.jobs.generate import EvalEvents, Round
from ftreg.records.evaluation.rows import Run
from ftreg.records.samples import Example, Output, Sample, Score
from ftreg.scoring.factory import get_scorer
from ftreg.scoring.noise import noise_floor
from ftreg.scoring.probes.questions import refuse_probe
from ftreg.scoring.thoughts import answer_only

_OWN_KEYS = frozenset({"name", "backend", "thoughts"})
"""Keys that identify a scorer or its input, and so cannot be options."""
# Samples per call of a scorer: enough to batch well, few enough to show progress.
_BATCH = 64


def make_scorer(
    config: ScorerConfig, *, thoughts: Thoughts, place: str, backend: str | None = None
) -> Any:
    """Create a scorer from its configuration.

    Args:
        config: its name, backend and options.
        thoughts: whether it sees thoughts.
        place: what messages name: `eval.scorers`.
        backend: for one that names none itself.

    Raises:
        UsageError: it is not a scorer, or an option is invalid.
    """
    for key in sorted(_OWN_KEYS & config.options.keys()):
        raise UsageError(f"{place}: {config.name}: {key} does not belong into options")
    chosen = config.backend or backend
    made = get_scorer(config.name, backend=chosen, thoughts=thoughts, **config.options)
    refuse_probe(made, place=place)
    return made


def make_scorers(configs: Iterable[ScorerConfig], *, thoughts: Thoughts) -> dict[str, Any]:
    """Create the scorers of an evaluation, by name.

    Raises:
        UsageError: one is not a scorer, cannot describe itself, or an option is invalid.
    """
    place = "eval.scorers"
    made = {item.name: make_scorer(item, thoughts=thoughts, place=place) for item in configs}
    for name, scorer in made.items():
        if not (hasattr(scorer, "score") and hasattr(scorer, "describe")):
            raise UsageError(f"{place}: {name} has no score() and describe()")
    _described(made)  # what cannot be recorded costs no minutes
    return made


def _described(scorers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    described = {name: scorer.describe() for name, scorer in scorers.items()}
    try:
        digest(described)
    except (TypeError, ValueError) as error:
        raise UsageError(f"eval.scorers: a describe() is not JSON: {error}") from error
    return described


@dataclass(frozen=True, slots=True)
class Scoring:
    """Examples of a dataset version, and the scorers of their outputs."""

    dataset: DatasetVersion
    rows: Sequence[Example]
    scorers: Mapping[str, Any]

    def score(
        self, rounds: Sequence[Round], events: EvalEvents
    ) -> tuple[Run, dict[str, Any] | None]:
        """Return the first round with its scores, and how much scores vary between rounds.

        The second is the evaluation's record, or None if nothing was generated twice.

        Raises:
            UsageError: the number of a scorer's scores is not the number of its samples.
        """
        outputs = rounds[0].outputs
        samples = [self._sample(*pair) for pair in zip(self.rows, outputs, strict=True)]
        scores = {
            name: _score(name, scorer, samples, events) for name, scorer in self.scorers.items()
        }
        run = Run(outputs, scores)
        return run, self._noise(rounds, samples, scores, events) if len(rounds) > 1 else None

    def record(
        self, runs: Iterable[Run], *, configs: Iterable[ScorerConfig], thoughts: Thoughts
    ) -> dict[str, Any]:
        """Return the part of an evaluation's header that describes scoring.

        Args:
            runs: outputs and scores.
            configs: the configurations of the scorers.
            thoughts: whether they saw thoughts.
        """
        samples = (one for run in runs for one in map(self._sample, self.rows, run.outputs))
        return {
            "thoughts": thoughts,
            "thoughts_in": sum(answer_only(sample) is not sample for sample in samples),
            "scorer_configs": [config.model_dump(mode="json") for config in configs],
            "scorers": _described(self.scorers),
        }

    def _sample(self, example: Example, output: Output) -> Sample:
        return Sample(
            id=example.id,
            input=example.input,
            output=output.text,
            reference=example.references or None,
            context=self.dataset.card.scoring_context(example),
            messages=example.asked,
        )

    def _noise(
        self,
        rounds: Sequence[Round],
        samples: Sequence[Sample],
        scores: Mapping[str, Sequence[Score]],
        events: EvalEvents,
    ) -> dict[str, Any]:
        repeats = [dict(scores)]
        differing = []
        for number, again in enumerate(rounds[1:], start=2):
            # An unchanged output keeps its score; only changed ones are scored.
            fresh = [
                index
                for index, output in enumerate(again.outputs)
                if output.text != samples[index].output
            ]
            differing.append(len(fresh))
            changed = [self._sample(self.rows[index], again.outputs[index]) for index in fresh]
            repeats.append({})
            for name, scorer in self.scorers.items():
                column = list(scores[name])
                found = _score(name, scorer, changed, events, suffix=f", repeat {number}")
                for index, score in zip(fresh, found, strict=True):
                    column[index] = score
                repeats[-1][name] = column
        return {
            "repeats": len(rounds),
            "batch_sizes": [item.record["batch_size"] for item in rounds],
            "differing_outputs": differing,
            "scorers": noise_floor(repeats),
        }


def _score(
    name: str, scorer: Any, samples: Sequence[Sample], events: EvalEvents, *, suffix: str = ""
) -> list[Score]:
    scores: list[Score] = []
    for start in range(0, len(samples), _BATCH):
        events.progress(f"scoring {name}{suffix}", start, len(samples))
        batch = samples[start : start + _BATCH]
        try:
            scores.extend(scorer.score(batch))
        except FtregError:
            raise
        except Exception as error:  # the outputs are worth more than one scorer's fault
            scores.extend([Score(None, f"the scorer failed: {error!r}")] * len(batch))
    events.progress(f"scoring {name}{suffix}", len(samples), len(samples))
    if len(scores) != len(samples):
        raise UsageError(
            f"the scorer {name} gave {len(scores)} scores for {len(samples)} samples; "
            "a scorer returns one score per sample, in order"
        )
    return scores


def generation_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum what replicas generated; their settings are the same.

    A count that one of them does not know (a server may not report tokens) is None.
    """
    found = dict(records[0])
    if "seconds_per_token" in found:
        times = [record["seconds_per_token"] for record in records]
        known = [each for each in times if each is not None]
        found["seconds_per_token"] = sum(known) / len(known) if known else None
    for key in ("new_tokens", "cut_off", "taken"):
        counts = [record[key] for record in records]
        found[key] = None if None in counts else sum(counts)
    return found


def noise_of(records: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Combine the independent noise of replicas into that of their mean."""
    first = records[0]
    if first is None:
        return None
    if len(records) == 1:
        return dict(first)
    known = [record for record in records if record is not None]
    scorers = {}
    for name in first["scorers"]:
        errors = [record["scorers"][name]["standard_error"] for record in known]
        squares = [error**2 for error in errors if error is not None]
        whole = len(squares) == len(records)
        scorers[name] = {
            "n": sum(record["scorers"][name]["n"] for record in known),
            "means": None,
            "standard_error": math.sqrt(sum(squares)) / len(records) if whole else None,
        }
    differing = zip(*(record["differing_outputs"] for record in known), strict=True)
    return {**first, "differing_outputs": [sum(counts) for counts in differing], "scorers": scorers}
