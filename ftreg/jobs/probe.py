"""Ask a checkpoint what its probes want to know, beside the rows of a dataset."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ftreg.config.sections import EvalConfig, ScorerConfig
from ftreg.errors import UsageError
from ftreg.files.store import digest
from ftreg.jobs.generate import EvalEvents, Generator
from ftreg.records.evaluation.rows import ProbeColumn, Probed
from ftreg.scoring.factory import PROBES, get_scorer
from ftreg.scoring.probes.questions import Answered, Probe


def divide(configs: Iterable[ScorerConfig]) -> tuple[list[ScorerConfig], list[ScorerConfig]]:
    """Return the scorers of outputs, and the probes."""
    configs = list(configs)
    return (
        [config for config in configs if config.name not in PROBES],
        [config for config in configs if config.name in PROBES],
    )


def make_probes(asked: EvalConfig) -> dict[str, Probe]:
    """Make the probes among the scorers of an evaluation, by name.

    Raises:
        UsageError: an option does not fit, a server generates where a loss is wanted, or nothing
            but probes is configured.
    """
    scorers, configs = divide(asked.scorers)
    if not scorers:
        raise UsageError(
            f"eval.scorers: {', '.join(config.name for config in configs)} look beside the rows "
            "of the dataset; name a scorer of its outputs too, such as equals"
        )
    made: dict[str, Any] = {}
    for config in configs:
        if config.backend is not None:
            raise UsageError(f"eval.scorers: {config.name} has no backend")
        made[config.name] = get_scorer(config.name, **config.options)
    if asked.engine.name != "transformers":
        for name, probe in made.items():
            if probe.asks == "loss":
                raise UsageError(
                    f"eval.scorers: {name} needs the weights, and the server of eval.engine does "
                    "not tell the loss of a text; leave it out, or set eval.engine: transformers"
                )
    return made


def ask(generator: Generator, probes: Mapping[str, Probe], events: EvalEvents) -> Probed:
    """Return what each probe found: its identity and its scores by item.

    Raises:
        UsageError: an item does not fit into the model's context.
    """
    return {name: _asked(name, probe, generator, events) for name, probe in probes.items()}


def _asked(name: str, probe: Probe, generator: Generator, events: EvalEvents) -> ProbeColumn:
    events.phase(f"asking for {name}")
    identity = probe.describe()
    if probe.asks == "loss":
        losses = generator.losses(list(probe.items.values()))
        # A loss per token is another measure where tokens are others.
        identity |= {"tokens": digest([each.ids for each in losses])}
        replies: Sequence[Answered] = [Answered(each.loss, len(each.ids)) for each in losses]
    else:
        replies = [Answered(answer=each.text) for each in generator.answers(probe.items)]
    return ProbeColumn(identity, dict(zip(probe.items, probe.judge(replies), strict=True)))
