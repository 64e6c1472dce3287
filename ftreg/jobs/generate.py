"""Get a checkpoint's outputs: earlier ones from the store, the rest from an engine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from ftreg.config.sections import EvalConfig
from ftreg.data import DatasetVersion
from ftreg.errors import UsageError
from ftreg.generation.outputs import Chats, OutputStore
from ftreg.process import raise_missed_signal
from ftreg.records.checkpoint import ModelFolder, States
from ftreg.records.samples import Example, Output

if TYPE_CHECKING:  # it loads torch
    from ftreg.generation.likelihood import TextLoss


class EvalEvents(Protocol):
    """A listener; every method may do nothing."""

    def phase(self, text: str) -> None:
        """A preparation has begun; `text` describes it."""
        return

    def progress(self, what: str, done: int, total: int) -> None:
        """This many outputs are generated, or scored by one scorer."""
        return

    def notice(self, text: str) -> None:
        """Information for the user that is not an error."""
        return


class SilentEval(EvalEvents):
    """A listener that does nothing."""


@dataclass(frozen=True, slots=True)
class Round:
    """The outputs of all examples, in order, and what an evaluation records about generation."""

    outputs: Sequence[Output]
    record: dict[str, Any]


def generate_rounds(
    checkpoint: ModelFolder,
    dataset: DatasetVersion,
    rows: Iterable[Example],
    config: EvalConfig,
    events: EvalEvents,
) -> list[Round]:
    """Return the outputs for all examples, `config.rounds` times; the first round counts.

    Args:
        checkpoint: whose outputs they are; its files are verified.
        dataset: converts the examples to chats.
        rows: the examples.
        config: engine, limit, precision and batch size.
        events: receives progress.

    Raises:
        UsageError: checkpoint, engine or prompts are invalid; outputs already written are kept.
    """
    return Generator(checkpoint, dataset, config, events).rounds(rows)


class Generator:
    """Generates outputs of a checkpoint, for some of the examples at a time if necessary.

    Args:
        checkpoint: whose outputs they are; its files are verified.
        dataset: converts the examples to chats.
        config: engine, limit, precision and batch size.
        events: receives progress.

    Raises:
        UsageError: checkpoint or engine are invalid.
    """

    def __init__(
        self,
        checkpoint: ModelFolder,
        dataset: DatasetVersion,
        config: EvalConfig,
        events: EvalEvents,
    ) -> None:
        raise_missed_signal()
        verified = checkpoint.verify()
        self._dataset, self._config, self._events = dataset, config, events
        self._engine = _engine(checkpoint, config, events, verified)

    def rounds(self, rows: Iterable[Example]) -> list[Round]:
        """Return the outputs for these examples, `config.rounds` times.

        Raises:
            UsageError: prompts are invalid; outputs already written are kept.
        """
        chats = self.chats(rows)
        return [
            _round(self._engine, chats, number, self._config, self._events)
            for number in range(self._config.rounds)
        ]

    def answers(self, instructions: Mapping[str, str]) -> list[Output]:
        """Return the answers to instructions outside of datasets, by id, each as a separate chat.

        Raises:
            UsageError: one does not fit into the model's context.
        """
        chats = [(name, [{"role": "user", "content": text}]) for name, text in instructions.items()]
        return list(_round(self._engine, chats, 0, self._config, self._events).outputs)

    def losses(self, texts: Sequence[str]) -> "list[TextLoss]":
        """Return the loss of each text; only available from an engine with the weights."""
        total = len(texts)
        found: list[TextLoss] = self._engine.losses(
            texts, advance=lambda done: self._events.progress("reading texts", done, total)
        )
        return found

    def chats(self, rows: Iterable[Example]) -> list[tuple[str, list[dict[str, str]]]]:
        """Return the examples as chats.

        Raises:
            UsageError: an example lacks a field that its prompt needs.
        """
        try:
            return [(row.id, self._dataset.card.prompt.messages(row)) for row in rows]
        except ValueError as error:
            raise UsageError(f"{self._dataset.folder}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """Return what an evaluation records about the engine, before generating anything."""
        return {**self._engine.describe([]), "new_tokens": 0, "cut_off": 0, "taken": 0}


def _round(engine: Any, chats: Chats, number: int, config: EvalConfig, events: EvalEvents) -> Round:
    what = "generating" if number == 0 else f"generating again, {number + 1} of {config.rounds}"
    total = len(chats)
    plan = engine.plan(chats, number)
    store = OutputStore(engine.settings(number), notice=events.notice)
    events.progress(what, 0, total)
    written, found = store.fill(
        plan, engine.write, advance=lambda done: events.progress(what, done, total)
    )
    if found:
        events.notice(
            f"{found} of {total} outputs taken from an earlier run"
            if number == 0
            else f"{found} of {total} outputs of repeat {number + 1} taken from an earlier run"
        )
    outputs = [
        Output(id=name, text=item.text, finish=item.finish, tokens=item.tokens)
        for (name, _), item in zip(chats, written, strict=True)
    ]
    counts = [item.tokens for item in written]
    return Round(
        outputs,
        {
            **engine.describe(written),
            "new_tokens": None if None in counts else sum(filter(None, counts)),
            "cut_off": sum(item.finish == "length" for item in written),
            "taken": found,
        },
    )


def _engine(
    checkpoint: ModelFolder, config: EvalConfig, events: EvalEvents, verified: States
) -> Any:
    if config.engine.name == "openai":
        from ftreg.generation.served import RemoteEngine

        engine = RemoteEngine(checkpoint, config)
        events.notice(
            f"the outputs come from the model {config.engine.model!r} at {engine.host}; whether "
            f"it has the weights of {checkpoint.folder} cannot be checked"
        )
        return engine
    if config.engine.name == "llama.cpp":
        return _artefact(checkpoint, config, events)
    if config.engine.name != "transformers":
        raise NotImplementedError(config.engine.name)
    events.phase("loading the tokenizer")
    from ftreg.generation.in_process import LocalEngine

    return LocalEngine(
        checkpoint, config, verified=verified, phase=events.phase, notice=events.notice
    )


def _artefact(checkpoint: ModelFolder, config: EvalConfig, events: EvalEvents) -> Any:
    if find_spec("xllamacpp") is None:
        raise UsageError("the engine llama.cpp is not installed: pip install 'ftreg[deploy]'")
    from ftreg.generation.served_artefact import ServedArtefact

    events.phase("reading the artefact")
    engine = ServedArtefact(checkpoint, config)
    if engine.pairing == "said":
        events.notice(
            f"{config.engine.artefact} does not say which checkpoint it was made from; "
            f"{checkpoint.folder} is assumed, and `ftreg parity` compares the two"
        )
    return engine
