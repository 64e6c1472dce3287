"""Log an evaluation to an experiment tracker, in the run that trained its checkpoint."""

import contextlib
import importlib.util
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ftreg.errors import UsageError, cut
from ftreg.jobs.gate import LastGate, last_gate
from ftreg.jobs.report import REPORT
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.layout import GATE, HEADER
from ftreg.records.printed import Printed, printed
from ftreg.report.metrics import metrics_of
from ftreg.services.tracker_clients import (
    MLFLOW_WAY_OUT,
    PROJECT,
    bound_patience,
    own_output,
    reason,
)

# MLflow's limits per request and per value.
_METRICS_AT_ONCE = 1000
_LONGEST_DIGEST = 36
_LONGEST_TAG = 5000


@printed
class TrackedRun(Printed):
    """What `ftreg track --json` prints."""

    evaluation: str
    """Its id."""
    tracker: Literal["mlflow"] = "mlflow"
    """The experiment tracker."""
    run: str
    """The id of the run in the tracker."""
    name: str
    """The run's name."""
    where: str
    """Where the tracker stores it: a server, or a local database or folder."""
    new: bool
    """Whether the run is new, because the run that trained the checkpoint was not found."""

    def __str__(self) -> str:
        made = " (a new one: the run that trained the checkpoint was not found)" if self.new else ""
        return f"{self.tracker}: run {self.name}, {self.run}{made}, in {self.where}"


def check_mlflow(asked_by: str) -> None:
    """Check that an evaluation can be logged, before spending minutes on it.

    Args:
        asked_by: the setting or command that requests it, for messages.

    Raises:
        UsageError: the package is not installed, or the server does not answer.
    """
    with _told(asked_by):
        _experiment_id(_client())


def log_evaluation(evaluation: Evaluation, *, asked_by: str) -> TrackedRun:
    """Log an evaluation to MLflow, with the verdict of its last gate.

    It goes to the run that trained the checkpoint. If that is unknown or not on this server, it
    goes to the experiment's newest run tagged with the checkpoint's identity, or to a new run with
    that tag. Means, counts and deltas become metrics at the checkpoint's last step, see
    `metrics_of`; the subject and the verdict become tags, the dataset version an input, and report,
    header and verdict files below `evaluations/<id>/`.

    Args:
        evaluation: as stored.
        asked_by: the setting or command that requests it, for messages.

    Raises:
        UsageError: the package is not installed, or the server does not answer or refuses it.
    """
    gate = last_gate(evaluation)
    if gate is not None and not gate.of_these_scores:
        gate = None
    with _told(asked_by):
        client = _client()
        run = _run_of(client, evaluation.header["checkpoint"])
        new = run is None
        if run is None:
            run = _new_run(client, evaluation.header["checkpoint"])
        _log(client, run.info.run_id, evaluation, gate)
        if new:
            client.set_terminated(run.info.run_id)
    return TrackedRun(
        evaluation=evaluation.id,
        run=run.info.run_id,
        name=run.info.run_name,
        where=_place(client.tracking_uri),
        new=new,
    )


def _place(uri: str) -> str:
    """Return a tracking URI without any password."""
    scheme, separator, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


@contextlib.contextmanager
def _told(asked_by: str) -> Iterator[None]:
    """Turn any exception of MLflow into one message, and keep standard output clean."""
    if importlib.util.find_spec("mlflow") is None:
        raise UsageError(f"{asked_by}: mlflow is not installed: pip install mlflow-skinny")
    bound_patience()
    try:
        with own_output():
            yield
    except Exception as error:  # it has a family of errors of its own, and those of requests
        raise UsageError(
            f"{asked_by}: mlflow cannot log the evaluation: {reason(error)}\n"
            f"{MLFLOW_WAY_OUT[0].upper()}{MLFLOW_WAY_OUT[1:]}."
        ) from error


def _client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()


def _experiment_id(client: Any) -> str | None:
    """Return the experiment of new runs, the same as for training; None if it does not exist."""
    found = client.get_experiment_by_name(_experiment())
    return None if found is None else str(found.experiment_id)


def _experiment() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)


def _run_of(client: Any, checkpoint: Mapping[str, Any]) -> Any | None:
    """Return the run that trained a checkpoint, or an existing run for it."""
    from mlflow.exceptions import MlflowException

    known = checkpoint.get("trackers", {}).get("mlflow")
    if known is not None:
        try:
            run = client.get_run(known["run"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            if run.info.lifecycle_stage == "active":
                return run
    experiment = _experiment_id(client)
    if experiment is None:
        return None
    found = client.search_runs(
        [experiment],
        filter_string=f"tags.`checkpoint.identity` = '{checkpoint['identity']}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return found[0] if found else None


def _new_run(client: Any, checkpoint: Mapping[str, Any]) -> Any:
    tags = {
        "checkpoint.identity": checkpoint["identity"],
        "checkpoint.weights": checkpoint.get("weights"),
        "checkpoint.replicas": ", ".join(checkpoint.get("replicas", ())) or None,
        "optimizer": checkpoint["optimizer"],
    }
    experiment = _experiment_id(client) or client.create_experiment(_experiment())
    return client.create_run(
        experiment,
        run_name=checkpoint["name"],
        tags={key: cut(value, _LONGEST_TAG) for key, value in tags.items() if value is not None},
    )


def _log(client: Any, run: str, evaluation: Evaluation, gate: LastGate | None) -> None:
    from mlflow.entities import Metric, RunTag

    step = int(evaluation.header["checkpoint"].get("steps", 0))
    now = int(time.time() * 1000)
    numbers = metrics_of(evaluation, gate.verdict if gate else None)
    metrics = [Metric(key, value, now, step) for key, value in numbers.items()]
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run, metrics=metrics[start : start + _METRICS_AT_ONCE], synchronous=True)
    tags = [RunTag(key, cut(value, _LONGEST_TAG)) for key, value in _tags(evaluation, gate).items()]
    client.log_batch(run, tags=tags, synchronous=True)
    _log_dataset(client, run, evaluation.header["dataset"])
    for name in (REPORT, HEADER, GATE):
        path = evaluation.folder / name
        if path.is_file():
            client.log_artifact(run, str(path), f"evaluations/{evaluation.id}")


def _tags(evaluation: Evaluation, gate: LastGate | None) -> dict[str, str]:
    dataset = evaluation.header["dataset"]
    tags = {
        "eval.id": evaluation.id,
        "eval.dataset": dataset["version"],
        "eval.dataset.digest": dataset["digest"],
        "eval.dataset.split": dataset["split"],
        "eval.gate": "none",
        # The baseline of an earlier evaluation in this run does not apply to this one.
        "eval.gate.baseline": "",
        "eval.gate.reasons": "",
    }
    if gate is not None:
        tags |= {
            "eval.gate": gate.verdict.outcome,
            "eval.gate.baseline": gate.baseline,
            "eval.gate.reasons": "\n".join(gate.verdict.reasons),
        }
    return tags


def _log_dataset(client: Any, run: str, dataset: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name, _, number = str(dataset["version"]).partition("@")
    folder = Path(dataset.get("root", ""), name, f"v{number}")
    described = Dataset(
        name=dataset["version"],
        digest=dataset["digest"][:_LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"uri": folder.as_posix()}),
        profile=json.dumps({"split": dataset["split"], "rows": dataset["rows"]}),
    )
    context = InputTag("mlflow.data.context", "evaluation")
    client.log_inputs(run, datasets=[DatasetInput(described, [context])])
