"""Data, training, evaluation and gate from a notebook: one call each, which displays its result.

A thin layer over `ftreg.jobs`. Each function takes paths as `str` or `Path`, finds the workspace
like the command line, and raises an error of `ftreg.errors` with the command line's message.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ftreg.cli.shared.progress import Bars
from ftreg.config.load import build_config, load_config, validate
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import RunConfig
from ftreg.data import DatasetVersion, list_refs, load_dataset, parse_ref
from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files.marked_yaml import Document
from ftreg.jobs.evaluate_and_gate import Evaluated, evaluate_and_gate
from ftreg.jobs.evaluation_table import evaluation_rows
from ftreg.jobs.gate_and_report import gate_and_report
from ftreg.jobs.gate_result import GateResult, Reports
from ftreg.jobs.promote import PrintedPromotion
from ftreg.jobs.promote import promote as promote_evaluation
from ftreg.jobs.report import write_html
from ftreg.jobs.track import TrackedRun
from ftreg.jobs.train import train_config
from ftreg.records.evaluation.stored import Evaluation, read_evaluation
from ftreg.records.manifest import Manifest
from ftreg.records.replicas import Replicas, read_replicas
from ftreg.records.workspace import Workspace
from ftreg.report import notebook_cells
from ftreg.report.history import read_steps
from ftreg.scoring.factory import SCORERS

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "Dataset",
    "Judgement",
    "NewBaseline",
    "ReportPage",
    "StoredEvaluation",
    "TrainingRun",
    "evaluate",
    "gate",
    "open_evaluation",
    "open_run",
    "promote",
    "report",
    "train",
]

Place = str | Path
Overrides = Mapping[str, Any] | Sequence[str]
"""Settings that override those of a configuration: `{"optimizer.lr": 1e-5}`, or
`["optimizer.lr=1e-5"]`."""

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ROWS_SHOWN = 5


class Dataset:
    """A dataset version, and the scorers that evaluations on it use.

    Args:
        name: the dataset, `"code-summary"`; or with its version, `"code-summary@2"`.
        version: its version; default: the newest.
        root: the folder of datasets.

    Raises:
        UsageError: there is no such version, or its card is invalid.
    """

    def __init__(
        self, name: str, version: int | None = None, *, root: Place = "sample_datasets"
    ) -> None:
        self.root = Path(root)
        self._opened = load_dataset(_reference(name, version, self.root), root=self.root)
        self._scorers: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """`name@N`."""
        return str(self._opened.ref)

    @property
    def opened(self) -> DatasetVersion:
        """The dataset version: card, folder and splits."""
        return self._opened

    @property
    def evaluations(self) -> tuple[dict[str, Any], ...]:
        """The scorers that were added, in the form of `eval.scorers` in a configuration."""
        return tuple(self._scorers)

    def add_evaluation(self, name: str, *, backend: str | None = None, **options: Any) -> Self:
        """Add a scorer; if none is added, the scorers of the run are used.

        Args:
            name: a scorer, `"Faithfulness"` or `"faithfulness"`; or an import path.
            backend: the backend that it uses; default: the scorer's own.
            **options: options of the scorer and of its backend, as in a configuration.

        Raises:
            UsageError: there is no such scorer, or it has already been added.
        """
        scorer = _scorer_name(name)
        if any(item["name"] == scorer for item in self._scorers):
            raise UsageError(f"{scorer} is a duplicate scorer; names must be unique")
        self._scorers.append({"name": scorer, "backend": backend, "options": options})
        return self

    def to_pandas(self, split: str = "eval") -> "DataFrame":
        """Return the rows of a split: id, input, references, context, critical, and each tag.

        Chats have a column `messages` with their turns.

        Raises:
            UsageError: there is no such split, or its file does not match the card.
        """
        rows = [
            {
                "id": row.id,
                "input": row.input,
                **({"messages": list(row.messages)} if row.messages else {}),
                "references": list(row.references),
                "context": row.context,
                "critical": row.critical,
                **row.tags,
            }
            for row in self._opened.split(split)
        ]
        return _frame(rows)

    def __repr__(self) -> str:
        added = ", ".join(item["name"] for item in self._scorers)
        return f"Dataset({self.name!r}" + (f", evaluations=[{added}])" if added else ")")

    def _repr_html_(self) -> str:
        split = (
            "eval" if "eval" in self._opened.card.splits else next(iter(self._opened.card.splits))
        )
        first = self._opened.split(split)[:_ROWS_SHOWN]
        added = [item["name"] for item in self._scorers]
        return notebook_cells.dataset_cell(self._opened, split, first, scorers=added)


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A trained checkpoint, or a group of replicas."""

    folder: Path
    replicas: Replicas

    @property
    def manifest(self) -> Manifest:
        """How the checkpoint was made; for replicas, the manifest of the first."""
        return self.replicas.first.manifest

    def to_pandas(self) -> "DataFrame":
        """Return the history, a row per step: loss, lr, grad_norm, ...; for replicas also `seed`.

        Raises:
            UsageError: the history no longer exists.
        """
        rows: list[Mapping[str, Any]] = []
        for member in self.replicas.members:
            steps = read_steps(member.folder)
            seed = member.manifest.training.seed
            several = len(self.replicas.members) > 1
            rows += [{"seed": seed, **step} for step in steps] if several else steps
        return _frame(rows)

    def __repr__(self) -> str:
        return f"TrainingRun({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        return notebook_cells.run_cell(self.folder, self.replicas)


@dataclass(frozen=True, slots=True)
class StoredEvaluation(Evaluation):
    """An evaluation: the mean of each scorer, and a row per example."""

    @property
    def means(self) -> dict[str, float | None]:
        """Mean score in [0, 1] by scorer; None if no example has a score."""
        return {name: column["mean"] for name, column in self.header["summary"].items()}

    def to_pandas(self) -> "DataFrame":
        """Return a row per example; for replicas, per example and seed.

        The columns are id, input, references, output and tags, each scorer's score (None if it
        could not be computed), and the reason for it in `<scorer>_reason`.
        """
        return _frame(list(evaluation_rows(self)))

    def __repr__(self) -> str:
        means = ", ".join(
            f"{name} {'null' if mean is None else f'{mean:.3f}'}"
            for name, mean in self.means.items()
        )
        return f"StoredEvaluation({self.id!r}: {means})"

    def _repr_html_(self) -> str:
        return notebook_cells.evaluation_cell(self.header)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(GateResult):
    """The gate's verdict; true if the candidate passed."""

    @property
    def outcome(self) -> str:
        """`pass`, `regression` or `undecided`."""
        return self.verdict.outcome

    @property
    def reasons(self) -> tuple[str, ...]:
        """Plain sentences: what got worse, or what prevents a pass."""
        return tuple(self.verdict.reasons)

    def to_pandas(self) -> "DataFrame":
        """Return a row per scorer and cohort: delta, interval, margin, outcome and more."""
        return _frame(
            [
                {item.name: getattr(row, item.name) for item in fields(row)}
                for row in self.verdict.rows
            ]
        )

    def __bool__(self) -> bool:
        return self.exit_code == 0

    def __repr__(self) -> str:
        return f"Judgement({self.outcome!r}, candidate={self.candidate['id']!r})"

    def _repr_html_(self) -> str:
        return notebook_cells.verdict_cell(
            self.verdict, baseline=self.baseline, candidate=self.candidate
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBaseline(PrintedPromotion):
    """The evaluation that later candidates are compared with."""

    def _repr_html_(self) -> str:
        also = " and the anchor" if self.anchor else ""
        name, file = escape(self.baseline), escape(str(self.file))
        return f"<p><b>{name}</b> is now the baseline{also}: {file}</p>"


@dataclass(frozen=True, slots=True)
class ReportPage:
    """An HTML report on disk; a notebook displays it in a frame."""

    path: Path

    def _repr_html_(self) -> str:
        return notebook_cells.report_cell(self.path)


def train(
    config: Place | Mapping[str, Any] | RunConfig,
    *,
    dataset: Dataset | str | None = None,
    overrides: Overrides = (),
    output: Place | None = None,
    strict: bool = False,
    resume: bool = False,
    workspace: Place | None = None,
    progress: bool = True,
) -> TrainingRun:
    """Fine-tune according to a configuration: one checkpoint, or a replica for each of its seeds.

    Args:
        config: a YAML file, a mapping of its sections, or what `load_config` returns.
        dataset: the version to train on; default: the configuration's.
        overrides: settings that override those of the configuration.
        output: the checkpoint folder to write; default: a new one in the workspace.
        strict: refuse settings that ftreg advises against.
        resume: continue from the saved state of an interrupted run.
        workspace: default: `$FTREG_WORKSPACE`, or the working folder.
        progress: whether to say how far it is, on stderr.

    Raises:
        UsageError: the configuration or the data are invalid, or `output` cannot be written.
        DivergedError: a loss, gradient or weight was not finite.
        InterruptedRunError: SIGINT, SIGTERM or SIGHUP arrived; the state is kept for `resume`.
    """
    chosen = _config(config, [*_version(dataset), *_texts(overrides)])
    name = Path(config).stem if isinstance(config, Place) else "run"
    with _Progress(quiet=not progress) as events:
        made = train_config(
            chosen,
            name=name,
            workspace=_workspace(workspace),
            output=None if output is None else Path(output),
            strict=strict,
            resume=resume,
            events=events,
        )
    return open_run(made.checkpoint)


def open_run(checkpoint: Place, *, workspace: Place | None = None) -> TrainingRun:
    """Open a checkpoint, or a group of replicas, by its folder or its name in the workspace.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    folder = _workspace(workspace).checkpoint(str(checkpoint))
    return TrainingRun(folder, read_replicas(folder))


def evaluate(
    model: TrainingRun | Place,
    dataset: Dataset | str | None = None,
    *,
    max_examples: int | None = None,
    overrides: Overrides = (),
    workspace: Place | None = None,
    progress: bool = True,
) -> StoredEvaluation:
    """Run a model on a dataset version, score each output, and store the evaluation.

    Args:
        model: a run, or anything that `ftreg eval` accepts.
        dataset: the version, with the scorers that were added to it; default: the version that the
            model was trained on, with the scorers of its configuration.
        max_examples: evaluate only this many rows from the start; default: the configuration's.
        overrides: settings of the sections dataset, eval and gate to override.
        workspace: default: `$FTREG_WORKSPACE`, or the working folder.
        progress: whether to say how far it is, on stderr.

    Raises:
        UsageError: the model, the dataset, a scorer or a setting is invalid.
    """
    changes = [*_version(dataset), *_scorers(dataset), *_texts(overrides)]
    if max_examples is not None:
        changes.append(f"dataset.max_eval_examples={max_examples}")
    with _Progress(quiet=not progress) as events:
        found = evaluate_and_gate(
            model.folder if isinstance(model, TrainingRun) else model,
            workspace=_workspace(workspace),
            overrides=changes,
            against=None,
            reports=Reports(html=False),
            events=events,
        )
    return _shown(found.evaluation)


def open_evaluation(reference: Place, *, workspace: Place | None = None) -> StoredEvaluation:
    """Open a stored evaluation by its id or folder, or `"latest"`.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    return _shown(read_evaluation(_workspace(workspace).evaluation(str(reference))))


def gate(
    evaluation: Evaluation | Place,
    against: Evaluation | Place = "baseline",
    *,
    policy: Mapping[str, Any] | GatePolicy | None = None,
    workspace: Place | None = None,
) -> Judgement:
    """Decide whether a candidate may replace the baseline, and write its reports.

    Args:
        evaluation: the candidate.
        against: `"baseline"`, `"anchor"`, or an evaluation.
        policy: the gate's settings; default: those of the candidate's evaluation.
        workspace: default: `$FTREG_WORKSPACE`, or the working folder.

    Raises:
        UndecidedError: there is no baseline, or the two cannot be compared.
        UsageError: there is no such evaluation, a record is damaged, or the policy is invalid.
    """
    where = _workspace(workspace)
    held = str(against.folder) if isinstance(against, Evaluation) else str(against)
    result = gate_and_report(
        _evaluation(evaluation, where), held, workspace=where, policy=_policy(policy)
    )
    return Judgement(**{item.name: getattr(result, item.name) for item in fields(result)})


def promote(
    evaluation: Evaluation | Place,
    *,
    why: str | None = None,
    force: bool = False,
    anchor: bool = False,
    workspace: Place | None = None,
) -> NewBaseline:
    """Make an evaluation the baseline for later candidates.

    Args:
        evaluation: an evaluation that has passed its gate, or the first of its dataset.
        why: the reason, for the history.
        force: promote it whatever the gate's verdict was; needs a reason.
        anchor: also pin it as the anchor, against slow drift.
        workspace: default: `$FTREG_WORKSPACE`, or the working folder.

    Raises:
        UsageError: the gate has not passed and `force` is off, or `force` has no reason.
    """
    where = _workspace(workspace)
    done = promote_evaluation(
        _evaluation(evaluation, where), workspace=where, why=why, force=force, anchor=anchor
    )
    return NewBaseline(**{item.name: getattr(done, item.name) for item in fields(done)})


def report(
    evaluation: Evaluation | Place, path: Place | None = None, *, workspace: Place | None = None
) -> ReportPage:
    """Write the HTML report of an evaluation, with its latest verdict.

    Args:
        evaluation: the evaluation to report on.
        path: the file; default: `report.html` in the evaluation's folder.
        workspace: default: `$FTREG_WORKSPACE`, or the working folder.

    Raises:
        UsageError: the evaluation is damaged, or the file cannot be written.
    """
    where = _workspace(workspace)
    done = write_html(
        _evaluation(evaluation, where),
        workspace=where,
        path=None if path is None else Path(path),
    )
    return ReportPage(done.report)


class _Progress(Bars):
    """Shows progress only; the notebook displays the results."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Show nothing: the notebook displays the evaluation."""

    def gated(self, found: Evaluated) -> None:
        """Show nothing: nothing is gated here."""

    def tracked(self, run: TrackedRun) -> None:
        """Report the run in the experiment tracker."""
        self.notice(str(run))


def _reference(name: str, version: int | None, root: Path) -> str:
    if "@" in name or version is not None:
        return name if version is None else f"{name}@{version}"
    refs = list_refs(root)
    versions = [ref.version for ref in refs if ref.name == name]
    if not versions:
        known = sorted({ref.name for ref in refs})
        there = f"available: {', '.join(known)}" if known else "there are no datasets"
        near = did_you_mean(name, known)
        raise UsageError(f"{root}: there is no dataset {name!r}{near} ({there})")
    return f"{name}@{max(versions)}"


def _scorer_name(name: str) -> str:
    """Return a scorer's name in configurations: `answer_relevancy` for `AnswerRelevancy`."""
    family, colon, which = name.partition(":")
    snake = _CAPITAL.sub("_", family).lower()
    if snake in SCORERS:
        return f"{snake}{colon}{which}"
    if not colon:
        SCORERS.load(name)  # raises, and suggests the nearest name
    return name


def _config(config: Place | Mapping[str, Any] | RunConfig, changes: Sequence[str]) -> RunConfig:
    if isinstance(config, Place):
        return load_config(Path(config), overrides=changes)
    if isinstance(config, RunConfig):
        if not changes:
            return config
        config = config.model_dump(mode="json", exclude_unset=True)
    if not isinstance(config, Mapping):
        raise UsageError(
            f"train takes one configuration: a YAML file or a mapping, found {shown(config)}"
        )
    return build_config(config, overrides=changes)


def _version(dataset: Dataset | str | None) -> list[str]:
    if dataset is None:
        return []
    if isinstance(dataset, str):
        return [f"dataset.version={parse_ref(dataset)}"]
    return _texts({"dataset.version": dataset.name, "dataset.root": str(dataset.root)})


def _scorers(dataset: Dataset | str | None) -> list[str]:
    added = dataset.evaluations if isinstance(dataset, Dataset) else ()
    return _texts({"eval.scorers": added}) if added else []


def _texts(overrides: Overrides) -> list[str]:
    """Return overrides in the command line's form; JSON is valid YAML."""
    if isinstance(overrides, Mapping):
        return [
            f"{key}={json.dumps(value, ensure_ascii=False, default=str)}"
            for key, value in overrides.items()
        ]
    if isinstance(overrides, str):
        raise UsageError(f"overrides must be a mapping or a list of strings: [{overrides!r}]")
    return list(overrides)


def _workspace(place: Place | None) -> Workspace:
    return Workspace.current() if place is None else Workspace(Path(place))


def _evaluation(evaluation: Evaluation | Place, workspace: Workspace) -> Evaluation:
    if isinstance(evaluation, Evaluation):
        return evaluation
    return read_evaluation(workspace.evaluation(str(evaluation)))


def _shown(evaluation: Evaluation) -> StoredEvaluation:
    parts = {item.name: getattr(evaluation, item.name) for item in fields(evaluation)}
    return StoredEvaluation(**parts)


def _policy(policy: Mapping[str, Any] | GatePolicy | None) -> GatePolicy | None:
    if policy is None or isinstance(policy, GatePolicy):
        return policy
    return validate(GatePolicy, Document(dict(policy), {}), where="policy")


def _frame(rows: Sequence[Mapping[str, Any]]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame(rows)
