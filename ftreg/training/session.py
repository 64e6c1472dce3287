"""One session of a run: start or resume it, monitor it, and save its states."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from ftreg.errors import UsageError
from ftreg.files import marked_yaml
from ftreg.files.durable import make_folder
from ftreg.files.store import canonical_json, sweep_temporaries, write_jsonl
from ftreg.records.checkpoint import list_midway
from ftreg.training.describe import environment_facts, recipe_facts
from ftreg.training.environment import describe_environment
from ftreg.training.equal_bits import has_equal_bits
from ftreg.training.events import StepRecord, TrainEvents
from ftreg.training.health import Watch, refuse_broken
from ftreg.training.loop import Progress
from ftreg.training.midway import refuse_other_midway, take_over_midway
from ftreg.training.optim.modes import evaluation_weights
from ftreg.training.optim.schedule import continue_schedule
from ftreg.training.prepare import PreparedRun
from ftreg.training.state.best import check_best, drop_best_after, restore_best, save_best
from ftreg.training.state.resume import (
    environment_changes,
    newest_state,
    recipe_changes,
    set_damaged_aside,
)
from ftreg.training.state.saved import (
    TrainingState,
    list_states,
    save_state,
    state_folder,
    state_of_step,
    step_of,
    sweep,
    whole_weights,
)
from ftreg.training.validation import best_step
from ftreg.training.write import resolved

_HISTORY = "history.jsonl"
_LOCK = ".lock"


def refuse_together(accelerator: Accelerator, check: Callable[[], None]) -> None:
    """Run a check on the main process; if it fails, all processes raise its error.

    Raises:
        UsageError: the check raised it.
    """
    refusal: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            check()
        except UsageError as error:
            refusal = [str(error)]
    if accelerator.num_processes > 1:
        # All end with the message, so that none waits for one that has exited.
        broadcast_object_list(refusal)
    if refusal[0] is not None:
        raise UsageError(refusal[0])


class Session:
    """The states and the history of a running run; create it with `Session.open`."""

    def __init__(
        self,
        output: Path,
        *,
        accelerator: Accelerator,
        state: TrainingState | None,
        events: TrainEvents,
    ) -> None:
        self.output = output
        self.history: list[StepRecord] = list(state.history) if state else []
        self.resumed: list[dict[str, Any]] = list(state.facts["resumed"]) if state else []
        self._root = state_folder(output)
        self._accelerator = accelerator
        self._state = state
        self._events = events
        self._run: PreparedRun | None = None
        self.environment: dict[str, Any] = {}
        self.midway: list[int] = []
        """Steps whose checkpoints earlier sessions have written."""
        self._watch: Watch | None = None
        self._live: TextIO | None = None
        self._seconds_before: float = state.facts["seconds"] if state else 0.0
        self._began = time.monotonic()

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, output: Path, *, accelerator: Accelerator, resume: bool, events: TrainEvents
    ) -> Iterator["Session"]:
        """Lock the run's folder of states, and find the state to resume.

        If the folder has no state at the end, it is removed.

        Raises:
            UsageError: another process trains this run; there are states, but `resume` is off; or
                all of them are damaged.
            NewerRecordError: a newer ftreg wrote the newest state.
        """
        root = state_folder(output)
        with contextlib.ExitStack() as stack:

            def take() -> None:
                stack.enter_context(_locked(root))
                stack.callback(_remove_if_empty, root)
                _take_over(root, output, resume=resume)

            refuse_together(accelerator, take)
            state = newest_state(root, events) if resume else None
            accelerator.wait_for_everyone()
            if state is not None and accelerator.is_main_process:
                set_damaged_aside(root, state)
            session = cls(output, accelerator=accelerator, state=state, events=events)
            stack.callback(session._close)
            if resume and state is None:
                events.notice("there is no training state yet; starting at the first step")
            yield session

    def begin(self, run: PreparedRun, *, allowed: Sequence[str]) -> Progress:
        """Load the resumed state, if any, into the run, and return its progress so far.

        Raises:
            UsageError: the state or an intermediate checkpoint has another recipe, and the change
                is not in `allowed`; `allowed` has settings, but there is no state; or the run has
                already taken all steps.
        """
        self._run = run
        # Only once: it runs git, and later commits do not change the code that is running.
        self.environment = describe_environment()
        self._watch = Watch(run.config.optimizer)
        self._began = time.monotonic()
        done = Progress()
        if self._state is not None:
            done = self._restore(self._state, run, allowed)
        elif allowed:
            raise UsageError("--allow-change: there is no training state, so nothing to change")
        refuse_other_midway(self.output, run, done=done.steps)
        self.midway = [step_of(folder) for folder in list_midway(self.output)]
        if self._accelerator.is_main_process:
            drop_best_after(self._root, done.steps)
            path = self._root / _HISTORY
            write_jsonl(path, (record.to_dict() for record in self.history))
            self._live = path.open("a", encoding="utf-8")
        return done

    def _restore(self, state: TrainingState, run: PreparedRun, allowed: Sequence[str]) -> Progress:
        changes = recipe_changes(state, recipe_facts(run), allowed=allowed)
        # If a scorer chooses, a state after the last step still awaits that choice.
        if state.step >= run.total_steps + (run.config.train.keep_by is not None):
            raise UsageError(
                f"{state.folder}: the run has taken {state.step} steps, and this configuration "
                f"wants {run.total_steps} in all"
            )
        environment = environment_changes(state, environment_facts(run, self.environment))
        self._events.notice(f"resuming after step {state.step} of {run.total_steps}")
        for change in changes:
            self._events.notice(f"from here on {change['key']} is {change['new']!r}")
        for text in environment:
            self._events.notice(f"the last bits may differ from an uninterrupted run: {text}")
        best = best_step(self.history)
        if _keeps_lowest(run) and best is not None:
            check_best(self._root, best.step)  # the run may keep these
            self._accelerator.wait_for_everyone()
        state.restore(run.trained, run.optimizer, run.layout.names)
        continue_schedule(run.schedule, done=state.step)
        run.pass_size.take_over(state.facts.get("halvings", []))
        if not has_equal_bits(run.config, self._accelerator.device):
            self._events.notice(
                "the last bits will differ from an uninterrupted run: train.deterministic is false"
            )
        assert self._watch is not None
        for record in self.history:
            self._watch.notices(record)
        self.resumed.append(
            {"after_step": state.step, "changed": changes, "environment": environment}
        )
        last = self.history[-1]
        return Progress(
            steps=state.step,
            examples=last.examples,
            tokens=last.tokens,
            loss_tokens=last.loss_tokens,
        )

    def step(self, record: StepRecord) -> None:
        """Record a completed step, and save its weights if they are to be kept as the best so far.

        Raises:
            UsageError: these weights cannot be written.
            DivergedError: these weights, or the optimizer's state, are not finite.
        """
        self.history.append(record)
        if self._live is not None:
            self._live.write(canonical_json(record.to_dict()) + "\n")
            self._live.flush()
        self._events.step(record)
        assert self._watch is not None
        for text in self._watch.notices(record):
            self._events.notice(text)
        assert self._run is not None
        measured = record.validation_loss is not None
        if measured and _keeps_lowest(self._run) and best_step(self.history) is record:
            self._save_best(record.step)

    def _save_best(self, step: int) -> None:
        run = self._run
        assert run is not None
        main = self._accelerator.is_main_process
        with evaluation_weights(run.optimizer):
            refuse_broken(run.trained, run.optimizer)
            if main or self._accelerator.is_fsdp2:
                weights = whole_weights(run.trained)
                if main:
                    save_best(self._root, step, weights)
        self._accelerator.wait_for_everyone()

    def restore_kept(self) -> int:
        """Load the weights to keep, as configured; return their step."""
        run, last = self._run, self.history[-1]
        assert run is not None
        best = best_step(self.history)
        if not _keeps_lowest(run) or best is None or best is last:
            return last.step
        restore_best(self._root, best.step, run.trained)
        return best.step

    def agree(self, stopping: str | None) -> str | None:
        """Return why to stop if any process received a signal: all stop after the same step."""
        if self._accelerator.num_processes == 1:
            return stopping
        asked = torch.tensor([float(stopping is not None)], device=self._accelerator.device)
        if not float(self._accelerator.reduce(asked, reduction="sum")):
            return None
        return stopping or "another process was told to stop"

    def save(self) -> Path:
        """Save the state after the last step, and return its folder.

        Raises:
            DivergedError: weights or optimizer state are not finite.
            UsageError: it cannot be written; earlier states are kept.
        """
        run = self._run
        assert run is not None
        refuse_broken(run.trained, run.optimizer)
        main = self._accelerator.is_main_process
        if main or self._accelerator.is_fsdp2:
            save_state(
                self._root,
                model=run.trained,
                optimizer=run.optimizer,
                layout=run.layout,
                history=self.history,
                facts={
                    "recipe": recipe_facts(run),
                    "environment": environment_facts(run, self.environment),
                    "seconds": self.seconds,
                    "resumed": self.resumed,
                    "halvings": run.pass_size.facts(),
                },
                config=marked_yaml.dump(resolved(run.config)),
                keep=run.config.train.save_total_limit,
                write=main,
            )
        self._accelerator.wait_for_everyone()
        return state_of_step(self._root, self.history[-1].step)

    def states(self) -> list[Path]:
        """Return the folders of the saved states, oldest first."""
        return list_states(self._root)

    @property
    def template_date(self) -> str | None:
        """The date that the chat template used when the run began, if recorded."""
        if self._state is None:
            return None
        date: str | None = self._state.facts["recipe"]["base"].get("template_date")
        return date

    @property
    def pass_tokens(self) -> int | None:
        """The maximum tokens of a pass that an earlier session began with, if any."""
        if self._state is None:
            return None
        tokens: int | None = self._state.facts["recipe"]["train"]["micro_batch_tokens"]
        return tokens

    @property
    def seconds(self) -> float:
        """Training time in seconds, over all sessions."""
        return self._seconds_before + time.monotonic() - self._began

    @property
    def loss_spikes(self) -> list[int]:
        """The steps whose loss was a spike."""
        return self._watch.loss_spikes if self._watch else []

    def remove(self) -> None:
        """Delete the states, once the checkpoint is written."""
        if self._accelerator.is_main_process:
            self._close()
            shutil.rmtree(self._root, ignore_errors=True)

    def _close(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None


def _keeps_lowest(run: PreparedRun) -> bool:
    settings = run.config.train
    return settings.keep == "best" and settings.keep_by is None


def _take_over(root: Path, output: Path, *, resume: bool) -> None:
    if not resume and list_states(root):
        raise UsageError(
            f"{root} holds the state of a run that has not ended; continue it with --resume, or "
            "move it away, or choose another --output"
        )
    take_over_midway(output, resume=resume)
    sweep(root)
    sweep_temporaries(output)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    try:
        make_folder(root)  # durably, or a power cut could lose the states in it
        with FileLock(root / _LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UsageError(
            f"{root}: another process is training this run; wait for it, or choose another --output"
        ) from error


def _remove_if_empty(root: Path) -> None:
    if not list_states(root):
        shutil.rmtree(root, ignore_errors=True)
