"""Experiment trackers, which log the run's settings, steps and result.

The trackers are accelerate's. Each is started and called separately, so that a failing one does not
affect the others or the run.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import Accelerator, utils
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from ftreg.config.sections import RunConfig
from ftreg.errors import UsageError, first_line
from ftreg.files.store import canonical_json, write_json
from ftreg.records.manifest import Manifest, TrackerRecord
from ftreg.records.workspace import Workspace
from ftreg.services.tracker_clients import (
    MLFLOW_WAY_OUT,
    PROJECT,
    bound_patience,
    own_output,
    reason,
)
from ftreg.training.events import StepRecord
from ftreg.training.state.resume import flatten
from ftreg.training.state.saved import state_folder
from ftreg.training.write import resolved

_METRICS = ("loss", "lr", "grad_norm", "step_size", "tokens", "tokens_per_second")
_WAY_OUT = {
    "mlflow": MLFLOW_WAY_OUT,
    "tensorboard": "see that the folder can be written",
    "trackio": "see the TRACKIO_ variables of your environment",
    "wandb": "log in with `wandb login`, or set WANDB_MODE=offline",
}


_PACKAGES = {"mlflow": "mlflow-skinny"}
"""Tracker to the package that provides it, if the names differ."""


def tracker_settings(config: RunConfig) -> dict[str, Any]:
    """Return the arguments of `Accelerator(...)` for `train.report_to`; none if it is empty.

    Raises:
        UsageError: a tracker's package is not installed.
    """
    names = list(dict.fromkeys(config.train.report_to))
    for name in names:
        if not getattr(utils, f"is_{name}_available")():
            raise UsageError(
                f"train.report_to: {name} is not installed: pip install {_PACKAGES.get(name, name)}"
            )
    if not names:
        return {}
    return {"log_with": names, "project_dir": str(_local_folder() / "tensorboard")}


def start_trackers(
    accelerator: Accelerator,
    config: RunConfig,
    output: Path,
    facts: Mapping[str, Any],
    *,
    notice: Callable[[str], None],
    done: int = 0,
) -> "Trackers":
    """Start a run named after the checkpoint folder in every tracker, on the main process.

    Args:
        accelerator: created with `tracker_settings`.
        config: the run's configuration; its `eval` and `gate` sections are not logged.
        output: the checkpoint folder.
        facts: values that the configuration lacks (digests, ...), by `section.key`.
        notice: receives a notice if a tracker fails later.
        done: steps of earlier sessions; if the tracker supports it, their run is continued.

    Raises:
        UsageError: a tracker cannot be started; for example, its server does not respond.
    """
    names = [str(name) for name in accelerator.log_with]
    accelerator.trackers = []
    trackers = Trackers(accelerator.trackers, notice=notice)
    if not names or not accelerator.is_main_process:
        return trackers
    bound_patience()
    # trackio reads its folder when it is first imported.
    os.environ.setdefault("TRACKIO_DIR", str((_local_folder() / "trackio").absolute()))
    runs = _Runs(output, continued=done > 0)
    # Settings of later stages may contain services and their keys.
    settings = {k: v for k, v in resolved(config).items() if k not in ("eval", "gate")}
    values = {
        key: value if isinstance(value, bool | int | float | str) else canonical_json(value)
        for key, value in {**flatten(settings), **facts}.items()
    }
    for name in names:
        try:
            with own_output():
                tracker = _make(name, accelerator, config, output, run=runs.id_of(name), done=done)
                tracker.start()
                accelerator.trackers.append(tracker)
                # An MLflow run's parameters can be written only once.
                if name != "mlflow" or runs.id_of(name) is None:
                    tracker.store_init_configuration(values)
                if name != "trackio":  # it already shows the configuration
                    _describe(tracker, _identifying(config, facts), step=done)
                runs.keep(tracker)
                trackers.runs |= _run_of(tracker)
        except Exception as error:  # each tracker raises its own kinds of errors
            trackers.fail("another tracker could not be started")
            raise UsageError(
                f"train.report_to: {name} cannot be started: {reason(error)}\n"
                f"{_WAY_OUT[name][0].upper()}{_WAY_OUT[name][1:]}, or take {name} out of "
                "train.report_to."
            ) from error
    return trackers


class Trackers:
    """The trackers of one run; as a context manager, it marks the run as failed on an exception.

    A tracker that raises is dropped with a notice, and its run is marked as failed if possible,
    since it is incomplete. `runs` has the runs of those trackers that assign an id.
    """

    def __init__(self, trackers: list[GeneralTracker], *, notice: Callable[[str], None]) -> None:
        self.runs: dict[str, TrackerRecord] = {}
        self._trackers = trackers
        self._notice = notice
        self._step = 0

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.fail(first_line(error))

    def step(self, record: StepRecord) -> None:
        """Log an optimizer step."""
        self._step = record.step
        values = {key: getattr(record, key) for key in _METRICS}
        if record.validation_loss is not None:
            values["validation_loss"] = record.validation_loss
        self._each(lambda tracker: tracker.log(values, step=record.step))

    def finish(self, manifest: Manifest) -> None:
        """Log the checkpoint, and end the runs as successful."""
        facts = {
            "checkpoint.identity": manifest.identity,
            "checkpoint.weights": manifest.weights.digest,
        }
        self._end(facts, failed=False)

    def fail(self, reason: str) -> None:
        """End the runs as failed, with the reason."""
        self._end({"failure": reason}, failed=True)

    def _end(self, facts: Mapping[str, str], *, failed: bool) -> None:
        def end(tracker: GeneralTracker) -> None:
            _describe(tracker, facts, step=self._step)
            _close(tracker, failed=failed)

        self._each(end)
        self._trackers.clear()

    def _each(self, tell: Callable[[GeneralTracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                with own_output():
                    tell(tracker)
            except Exception as error:  # no tracker error is worth stopping training
                self._trackers.remove(tracker)
                self._notice(
                    f"train.report_to: {tracker.name} failed at step {self._step} and is "
                    f"not updated any more in this run: {reason(error)}"
                )
                with contextlib.suppress(Exception), own_output():
                    _close(tracker, failed=True)


class _Runs:
    """The trackers' run ids, saved with the training state so that `--resume` continues them."""

    def __init__(self, output: Path, *, continued: bool) -> None:
        self._path = state_folder(output) / "trackers.json"
        self._ids: dict[str, str] = {}
        if continued:
            with contextlib.suppress(OSError, ValueError):
                self._ids = dict(json.loads(self._path.read_text(encoding="utf-8")))

    def id_of(self, name: str) -> str | None:
        return self._ids.get(name)

    def keep(self, tracker: GeneralTracker) -> None:
        found = _run_of(tracker)
        if found:
            self._ids |= {name: record.run for name, record in found.items()}
            write_json(self._path, self._ids)


def _run_of(tracker: GeneralTracker) -> dict[str, TrackerRecord]:
    """Return the tracker's run, by the tracker's name; empty if it assigns no id."""
    if tracker.name == "mlflow":
        record = TrackerRecord(run=tracker.tracker.info.run_id, experiment=tracker.experiment_name)
    elif tracker.name == "wandb":
        record = TrackerRecord(run=tracker.tracker.id, experiment=tracker.tracker.project)
    else:
        return {}
    return {tracker.name: record}


def _make(
    name: str,
    accelerator: Accelerator,
    config: RunConfig,
    output: Path,
    *,
    run: str | None,
    done: int,
) -> GeneralTracker:
    cls, title = LOGGER_TYPE_TO_CLASS[name], output.name
    if name == "tensorboard":
        # Steps that an earlier session logged after its last saved state are repeated.
        return cls(title, accelerator.logging_dir, purge_step=done + 1)
    if name == "mlflow":
        return cls(PROJECT, run_id=run, run_name=title)
    if name == "wandb":
        labels = [config.dataset.version[:64], config.optimizer.name]
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return cls(project, name=title, tags=labels, id=run, resume="allow" if run else None)
    return cls(PROJECT, name=title, resume="allow" if done else "never")


def _describe(tracker: GeneralTracker, facts: Mapping[str, str], *, step: int) -> None:
    """Attach facts to a tracker's run, as tags, summary or logged values."""
    if tracker.name == "mlflow":
        import mlflow

        mlflow.set_tags(dict(facts))
    elif tracker.name == "tensorboard":
        tracker.log({f"run/{key}": value for key, value in facts.items()}, step=step)
    elif tracker.name == "wandb":
        tracker.tracker.summary.update(dict(facts))
    else:
        # trackio sends a run's configuration with its first step, so these are logged as values.
        tracker.log(dict(facts), step=step)


def _close(tracker: GeneralTracker, *, failed: bool) -> None:
    if failed and tracker.name == "mlflow":
        import mlflow

        mlflow.end_run("FAILED")
    elif failed and tracker.name == "wandb":
        tracker.tracker.finish(exit_code=1)
    elif tracker.name == "trackio":
        import trackio

        # Unlike the run's own method, this leaves nothing to do or print at exit.
        trackio.finish()
    else:
        tracker.finish()


def _identifying(config: RunConfig, facts: Mapping[str, Any]) -> dict[str, str]:
    named = {"dataset": config.dataset.version, "optimizer": config.optimizer.name}
    return named | {key: str(value) for key, value in facts.items() if value is not None}


def _local_folder() -> Path:
    return Workspace.current().root / "trackers"
