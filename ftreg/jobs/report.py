"""Collect the contents of an evaluation's HTML report, and write it.

Whatever is no longer available is left out, and the report says so: an evaluation outlives its
checkpoint, its dataset and its baseline.
"""

import contextlib
import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.config.sections import DatasetConfig
from ftreg.data import DatasetVersion, load_dataset
from ftreg.errors import FtregError, UsageError
from ftreg.files.store import damaged, digest, write_bytes
from ftreg.gate import Verdict
from ftreg.jobs.gate import held_against, last_gate
from ftreg.jobs.gate_result import GateResult
from ftreg.records.baseline import Baseline
from ftreg.records.bisect_record import newest_bisection
from ftreg.records.checkpoint import Checkpoint, checkpoint_folders, checkpoint_name
from ftreg.records.evaluation.header import recipe_known
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.kept_answers import BLAME, SLICES, kept_answer
from ftreg.records.layout import HEADER, MANIFEST, REPLICAS
from ftreg.records.printed import Printed, printed
from ftreg.records.recipe import recipe_differences
from ftreg.records.replicas import read_replicas
from ftreg.records.samples import Example
from ftreg.records.workspace import Workspace
from ftreg.report import phrases
from ftreg.report.history import Step, read_steps
from ftreg.report.html import html_report
from ftreg.report.material import Material, Side, mean_scores
from ftreg.report.why_part import Recipes, RunCost, WhyLine, why_lines
from ftreg.why.hybrid_plan import usual_runs

REPORT = "report.html"


@printed
class WrittenReport(Printed):
    """What `ftreg report --json` prints."""

    evaluation: str
    """Its id."""
    report: Path
    """Path of the HTML report."""


def write_html(
    evaluation: Evaluation,
    *,
    workspace: Workspace,
    path: Path | None = None,
    result: GateResult | None = None,
    baseline: Baseline | None = None,
    anchor: Baseline | None = None,
) -> WrittenReport:
    """Write an evaluation's HTML report.

    Args:
        evaluation: the subject of the report.
        workspace: where to find checkpoints and other evaluations.
        path: the file; None for `report.html` in the evaluation's folder.
        result: its verdict, given the `baseline` and `anchor` it was compared with. Without one,
            the report shows the last gate kept in the evaluation's folder, if there is one.
        baseline: see `result`.
        anchor: see `result`.

    Raises:
        UsageError: the evaluation is damaged, or the file cannot be written.
    """
    notes: dict[str, list[str]] = defaultdict(list)
    verdict = result.verdict if result else None
    if result is None:
        verdict, baseline, anchor = _last_gate(evaluation, workspace, notes)
    trained = evaluated_checkpoint(evaluation.header, workspace)
    dataset, examples = _examples(evaluation, trained, notes)
    own = _side(evaluation.header, evaluation.scores, evaluation.folder, trained, notes)
    against, why = None, list[WhyLine]()
    if baseline is not None:
        before = evaluated_checkpoint(baseline.header, workspace)
        folder = baseline.folder or _stored(baseline.header, workspace)
        if folder is None:
            notes["examples"].append(
                "Only the scores of the baseline are known: its evaluation "
                f"{baseline.header['id']}, with outputs and evidence, is not in the workspace.",
            )
        against = _side(baseline.header, baseline.scores, folder, before, notes)
        if verdict is not None and verdict.outcome == "regression":
            why = _why(evaluation, baseline, (before, trained), workspace)
    material = Material(
        evaluation=evaluation,
        candidate=own,
        baseline=against,
        anchor=anchor.header if anchor else None,
        verdict=verdict,
        dataset=dataset,
        examples=examples,
        notes=notes,
        why=why,
    )
    place = evaluation.folder / REPORT if path is None else path
    page = (part.encode() for part in html_report(material))
    write_bytes(place, page, create_folder=path is not None)
    return WrittenReport(evaluation=evaluation.id, report=place)


def _why(
    evaluation: Evaluation,
    baseline: Baseline,
    checkpoints: tuple[Checkpoint | None, Checkpoint | None],
    workspace: Workspace,
) -> list[WhyLine]:
    """Return the follow-up analyses of a regression, with the results of those that were run."""
    _, trained = checkpoints
    return why_lines(
        evaluation.id,
        str(baseline.header["id"]),
        slices=kept_answer(evaluation, SLICES),
        blame=kept_answer(evaluation, BLAME),
        run=None if trained is None else _run_cost(trained, evaluation.header),
        recipes=None if None in checkpoints else _recipes(evaluation, baseline, workspace),
    )


def _run_cost(checkpoint: Checkpoint, header: Mapping[str, Any]) -> RunCost:
    """Return the cost of training and evaluating a checkpoint."""
    generation = header["generation"]
    each, tokens = generation.get("seconds_per_token"), generation.get("new_tokens")
    generating = None if each is None or tokens is None else each * tokens / 60
    return RunCost(checkpoint.manifest.training.seconds / 60, generating)


def _recipes(evaluation: Evaluation, baseline: Baseline, workspace: Workspace) -> Recipes | None:
    """Return both checkpoints, if their recipes differ, and the result of a search of theirs."""
    sides = [baseline.header, evaluation.header]
    told = [header["checkpoint"]["recipe"] for header in sides]
    changed = [
        key
        for key, _, _ in recipe_differences(*told)
        if not key.startswith(("versions.", "training.seed"))
    ]
    if not changed:
        return None
    good, bad = (str(header["checkpoint"]["name"]) for header in sides)
    kept = newest_bisection(
        workspace.checkpoints, *(str(header["checkpoint"]["identity"]) for header in sides)
    )
    return Recipes(good, bad, usual_runs(len(changed)), kept or "")


def _last_gate(
    evaluation: Evaluation, workspace: Workspace, notes: dict[str, list[str]]
) -> tuple[Verdict | None, Baseline | None, Baseline | None]:
    """Return the verdict kept in the evaluation's folder, if it still concerns these scores."""
    gate = last_gate(evaluation)
    if gate is None:
        notes["verdict"].append("This evaluation is not compared with a baseline.")
        return None, None, None
    if not gate.of_these_scores:
        notes["verdict"].append("Its last gate judged different scores; gate it again.")
        return None, None, None
    baseline = held_against(gate.baseline, evaluation, workspace=workspace)
    if baseline is None:
        notes["verdict"].append(
            f"Its last gate ({gate.verdict.outcome}) compared it with {gate.baseline}, which "
            "is no longer in the workspace or a baseline; gate it again.",
        )
        return None, None, None
    anchor = held_against(gate.anchor, evaluation, workspace=workspace) if gate.anchor else None
    return gate.verdict, baseline, anchor


def _stored(header: Mapping[str, Any], workspace: Workspace) -> Path | None:
    folder = workspace.evaluations / str(header["id"])
    return folder if (folder / HEADER).is_file() else None


def _side(
    header: Mapping[str, Any],
    scores: Any,
    folder: Path | None,
    checkpoint: Checkpoint | None,
    notes: dict[str, list[str]],
) -> Side:
    side = Side(header=header, scores=mean_scores(scores), folder=folder)
    name = header["checkpoint"]["name"]
    if not recipe_known(header["checkpoint"]):
        notes["training"].append(f"ftreg did not train {name}: its recipe is unknown.")
        return side
    if checkpoint is None:
        notes["training"].append(
            f"The history of {name} is not available: its checkpoint is not in "
            "the workspace, or has changed.",
        )
        return side
    if parted := phrases.parted_sentence(checkpoint.manifest):
        notes["training"].append(f"{name}: {parted}.")
    side = dataclasses.replace(side, validation=phrases.validation_sentence(checkpoint.manifest))
    try:
        return dataclasses.replace(side, history=_history(checkpoint))
    except UsageError as error:
        notes["training"].append(f"The history of {name} is not available: {error}")
        return side


def _history(checkpoint: Checkpoint) -> Sequence[Step]:
    steps = read_steps(checkpoint.folder)
    with damaged(checkpoint.folder, kind="history"):
        for row in steps:
            int(row["step"]), row["loss"], row["lr"], row["grad_norm"], row["step_size"]
    return steps


def evaluated_checkpoint(header: Mapping[str, Any], workspace: Workspace) -> Checkpoint | None:
    """Return the evaluated checkpoint, if it still exists under its name, at any depth.

    For replicas this is the first one, since the report draws one run's curves.
    """
    name, record = str(header["checkpoint"]["name"]), MANIFEST
    if "seeds" in header["checkpoint"]:
        record = REPLICAS
    nested = (
        folder
        for folder in checkpoint_folders(workspace.checkpoints, record=record)
        if checkpoint_name(folder) == name
    )
    for folder in itertools.chain([workspace.checkpoints / name], nested):
        with contextlib.suppress(UsageError):
            found = read_replicas(folder)
            if found.identity == header["checkpoint"]["identity"]:
                return found.first
    return None


def _examples(
    evaluation: Evaluation, checkpoint: Checkpoint | None, notes: dict[str, list[str]]
) -> tuple[DatasetVersion | None, Sequence[Example]]:
    """Return the dataset version and the evaluated rows, if they are unchanged."""
    wanted = evaluation.header["dataset"]
    config = checkpoint.manifest.config.dataset if checkpoint else None
    trained_in = config.root if config else DatasetConfig.model_fields["root"].default
    root = wanted.get("root", trained_in)  # older evaluations do not say
    lacks = "inputs, contexts and references are not shown"
    try:
        dataset = load_dataset(str(wanted["version"]), root=Path(root))
        if dataset.card.digest != wanted["digest"]:
            raise UsageError(f"{dataset.folder}: it has changed since the evaluation")
        rows = dataset.split(wanted["split"])[: wanted["rows"]]
        examples = list(rows)
    except FtregError as error:
        notes["dataset"].append(f"The dataset version is not available, so {lacks}: {error}")
        return None, ()
    if digest([example.id for example in examples]) != wanted["rows_digest"]:
        notes["dataset"].append(f"The evaluated rows are not the dataset's first, so {lacks}.")
        return dataset, ()
    return dataset, examples
