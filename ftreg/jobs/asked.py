"""The arguments of `ftreg eval`: what to evaluate, and with which settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftreg.config.evaluating import EVALUATION_SECTIONS, EvaluationConfig, for_scorers
from ftreg.config.load import evaluation_config
from ftreg.config.policy import GatePolicy
from ftreg.data.reference import parse_ref
from ftreg.errors import FtregError, UsageError, did_you_mean
from ftreg.jobs.generate import EvalEvents
from ftreg.jobs.score import chosen_scorers
from ftreg.jobs.subjects import (
    Subject,
    find_subject,
    given_subject,
    is_trained,
    refuse_no_model,
    trained_subject,
)
from ftreg.records.baseline import baseline_path, read_baseline
from ftreg.records.evaluation.header import made_elsewhere
from ftreg.records.evaluation.stored import read_header
from ftreg.records.layout import MANIFEST
from ftreg.records.replicas import read_replicas
from ftreg.records.workspace import Workspace

_BASE = "base.model="
# Settings for a model that ftreg did not train, besides those of the evaluation.
_OF_FOREIGN = ("model", "revision", "template", "template_date", "trust_remote_code")


@dataclass(frozen=True, slots=True)
class OutputsFile:
    """A file of outputs made elsewhere, and the candidate's name."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of an evaluation; see `evaluate_and_gate`."""

    subject: str | Path | OutputsFile
    dataset: str | None
    config: Path | None
    scorers: Sequence[str]
    overrides: Sequence[str]
    against: str | None

    @property
    def changes(self) -> list[str]:
        """The overrides, including the dataset version."""
        version = [f"dataset.version={self.dataset}"] if self.dataset else []
        return [*version, *self.overrides]


def find_asked(
    asked: Asked, *, workspace: Workspace, events: EvalEvents
) -> tuple[Subject, EvaluationConfig]:
    """Find what to evaluate, and how.

    A checkpoint is evaluated with the configuration of its training. Anything that ftreg did not
    train is evaluated in the same way as the evaluation that it is compared with.

    Args:
        asked: the user's arguments.
        workspace: has checkpoints, evaluations and baselines.
        events: receives notices about what was decided.

    Raises:
        UsageError: an argument is invalid, or nothing has that name.
    """
    given = isinstance(asked.subject, OutputsFile)
    if not given and is_trained(folder := workspace.checkpoint(str(asked.subject))):
        subject = trained_subject(read_replicas(folder))
        config = _trained_config(subject, asked)
    else:
        subject, config = _foreign(asked, workspace, events)
    if asked.scorers:
        scorers = chosen_scorers(asked.scorers, known=config.eval.scorers)
        chosen = config.eval.model_copy(update={"scorers": scorers})
        config = config.model_copy(update={"eval": chosen})
    _refuse_misspelt(asked, config)
    gate = policy_for(config.gate, config, events)
    return subject, config.model_copy(update={"gate": gate})


def policy_for(policy: GatePolicy, config: EvaluationConfig, events: EvalEvents) -> GatePolicy:
    """Return a policy for the scorers of an evaluation, and report its settings for others."""
    found, dropped = for_scorers(policy, [scorer.name for scorer in config.eval.scorers])
    for text in dropped:
        events.notice(text)
    return found


def _refuse_misspelt(asked: Asked, config: EvaluationConfig) -> None:
    """Reject an override of a margin or a floor for a missing scorer: it was just written."""
    said = [change for change in asked.overrides if change.startswith("gate.")]
    written = evaluation_config({"dataset": {"version": "any@1"}}, overrides=said).gate
    names = [scorer.name for scorer in config.eval.scorers]
    for key in ("margins", "floors"):
        for name in getattr(written, key):
            if name not in names:
                raise UsageError(
                    f"gate.{key} names the scorer {name}, which is not in eval.scorers"
                    f"{did_you_mean(name, names)} ({', '.join(names)})"
                )


def _trained_config(subject: Subject, asked: Asked) -> EvaluationConfig:
    """Return the configuration that a checkpoint was trained with, with allowed overrides."""
    assert subject.replicas is not None
    first = subject.replicas.first
    for change in asked.overrides:
        if change.startswith(_BASE) and first.manifest.lora is not None:
            if not Path(change.removeprefix(_BASE)).is_dir():
                raise UsageError(
                    f"-s {change}: there is no such folder; give the folder of the base model of "
                    f"these adapters, {first.manifest.base.model}"
                )
            continue  # only its location; its digests identify it
        _refuse_other_sections(change, "made the checkpoint and cannot be changed after training")
    return evaluation_config(
        first.manifest.config.model_dump(mode="json"),
        file=asked.config,
        overrides=asked.changes,
        manifest=first.folder / MANIFEST,
    )


def _refuse_other_sections(change: str, why: str) -> None:
    if change.partition(".")[0].partition("=")[0] not in EVALUATION_SECTIONS:
        raise UsageError(
            f"-s {change}: an evaluation reads the sections dataset, eval and gate; the others "
            f"{why}"
        )


def _foreign(
    asked: Asked, workspace: Workspace, events: EvalEvents
) -> tuple[Subject, EvaluationConfig]:
    """Return the configuration for something that ftreg did not train."""
    given = asked.subject if isinstance(asked.subject, OutputsFile) else None
    if given is None:
        refuse_no_model(str(asked.subject), workspace)
    for change in asked.overrides:
        key = change.partition("=")[0].strip()
        if given is None and key in [f"base.{each}" for each in _OF_FOREIGN]:
            continue
        _refuse_other_sections(change, "are for training, and this was not trained by ftreg")
    said = any(change.startswith("dataset.version=") for change in asked.changes)
    if not said and asked.config is None:
        raise UsageError(
            "name the dataset version to evaluate on, with --dataset NAME@N: only checkpoints "
            "trained by ftreg record what they were trained on"
        )
    first = evaluation_config({}, file=asked.config, overrides=asked.changes)
    known = _as_evaluated(asked, first, workspace, events)
    config = evaluation_config(known, file=asked.config, overrides=asked.changes)
    if given is not None:
        return given_subject(given.path, given.name), config
    base = [change for change in asked.overrides if change.startswith(_BASE)]
    subject = find_subject(
        str(asked.subject),
        workspace=workspace,
        settings=config.base,
        base=config.base.model if base else None,
    )
    (model,) = subject.members.values()
    if base and model.manifest.lora is None:
        raise UsageError(f"-s {base[-1]}: {asked.subject} is a complete model and has no base")
    return subject, config


def _as_evaluated(
    asked: Asked, config: EvaluationConfig, workspace: Workspace, events: EvalEvents
) -> dict[str, Any]:
    """Return the settings that a baseline was evaluated with, as sections of a configuration.

    Also without a gate, since one may follow. Empty if there is no baseline, which the gate
    reports, or if it is for another dataset version.
    """
    against = asked.against or "baseline"
    dataset = parse_ref(config.dataset.version)
    try:
        if against in ("baseline", "anchor"):
            path = baseline_path(workspace.baselines, dataset.name)
            header = read_baseline(path, anchor=against == "anchor").header
        else:
            header = read_header(workspace.evaluation(against))
    except FtregError:
        return {}
    if header["dataset"]["version"] != config.dataset.version:
        return {}
    events.notice(f"evaluated like {header['id']}, except for what is given here")
    return _sections_of(header)


def _sections_of(header: Mapping[str, Any]) -> dict[str, Any]:
    dataset, how = header["dataset"], header["generation"]
    found: dict[str, dict[str, Any]] = {
        "base": {},
        "dataset": {"eval_split": dataset["split"], "max_eval_examples": dataset["rows"]},
        "eval": {"thoughts": header.get("thoughts", "keep")},
        "gate": dict(header["policy"]),
    }
    if "root" in dataset:
        found["dataset"]["root"] = dataset["root"]
    if "scorer_configs" in header:
        found["eval"]["scorers"] = header["scorer_configs"]
    if not made_elsewhere(header):
        found["eval"]["max_new_tokens"] = how["max_new_tokens"]
        if how["precision"] in ("fp32", "bf16"):
            keys = ("precision", "batch_size", "kernels")
            found["eval"] |= {key: how[key] for key in keys if how.get(key) is not None}
        if "template_date" in how:
            found["base"]["template_date"] = how["template_date"]
    return found
