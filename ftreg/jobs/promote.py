"""Promote an evaluation to the baseline for later candidates, and list promotions."""

from pathlib import Path
from typing import cast

from ftreg.config.policy import GatePolicy, loosened
from ftreg.errors import UsageError
from ftreg.files.store import damaged, digest
from ftreg.records.baseline import (
    Baseline,
    Promotion,
    baseline_file,
    baseline_path,
    move_baseline,
    read_baseline,
    read_history,
)
from ftreg.records.evaluation.header import (
    ArtefactSummary,
    EvaluationHeader,
    is_partial,
    stopped_after,
)
from ftreg.records.evaluation.stored import Evaluation, read_gate
from ftreg.records.layout import GATE
from ftreg.records.looks import add_look, candidates_seen, look_at, read_looks
from ftreg.records.printed import Printed, printed
from ftreg.records.workspace import Workspace


@printed
class PrintedPromotion(Printed):
    """What `ftreg promote --json` prints."""

    baseline: str
    """Id of the new baseline evaluation."""
    anchor: bool
    """Whether it was also pinned as the anchor."""
    forced: bool
    """Whether --force was given."""
    why: str | None
    """The given reason."""
    file: Path
    """Path of the baseline's file; the schema `baseline` describes it."""
    artefact: ArtefactSummary | None = None
    """The file that is released with it; null if none was named."""


@printed
class PrintedPromotions(Printed):
    """What `ftreg baseline --json` prints."""

    header: EvaluationHeader
    """The evaluation that is the baseline; the schema `evaluation` describes it."""
    history: tuple[Promotion, ...]
    """The promotions, oldest first."""
    looks: int
    """Number of candidates judged on the rows of the baseline's dataset version."""


def promotions(dataset: str, *, workspace: Workspace) -> PrintedPromotions:
    """Return the baseline of a dataset, and earlier promotions.

    Args:
        dataset: its name, without version.
        workspace: has the baselines.

    Raises:
        UndecidedError: there is no baseline.
        UsageError: the file is damaged or has a newer schema.
    """
    path = baseline_path(workspace.baselines, dataset)
    header = cast(EvaluationHeader, read_baseline(path).header)  # which it was read as
    looks = [look for look in read_looks(path, header["dataset"]) if look["baseline"]]
    return PrintedPromotions(
        header=header, history=tuple(read_history(path)), looks=candidates_seen(looks)
    )


def promote(
    evaluation: Evaluation,
    *,
    workspace: Workspace,
    why: str | None = None,
    force: bool = False,
    anchor: bool = False,
    artefact: Evaluation | None = None,
) -> PrintedPromotion:
    """Make an evaluation the baseline of its dataset (and the anchor, if asked).

    The first evaluation of a dataset can be promoted without a gate. Later ones must have passed
    it, unless forced with a reason, which the history keeps.

    Args:
        evaluation: the new baseline.
        workspace: has the baselines.
        why: a reason, for the history.
        force: promote it whatever its verdict; needs a reason.
        anchor: also pin it as the anchor.
        artefact: evaluation of the file that is released with it, for the history.

    Raises:
        UsageError: the gate has not passed and `force` is off, or `force` has no reason; or only
            part of the rows was evaluated; or the artefact is not one of this checkpoint, or has
            not passed its gate against this evaluation.
    """
    if force and not why:
        raise UsageError("--force needs --why TEXT: the history keeps the reason")
    if is_partial(evaluation.header):
        raise UsageError(
            f"{evaluation.id} ({stopped_after(evaluation.header)}) cannot be the baseline: later "
            "candidates could not be compared on the other rows. Evaluate its checkpoint without "
            "--until-decided, and promote that."
        )
    released = None if artefact is None else _released(artefact, evaluation, force=force)
    path = baseline_file(evaluation, workspace)
    look = look_at(evaluation, baseline=None)
    looks = read_looks(path, evaluation.header["dataset"])
    seen = candidates_seen([*looks, look])

    def check(baseline: Baseline, pinned: Baseline | None) -> None:
        _refuse_unless_passed(evaluation, baseline, anchor=pinned, path=path)

    move_baseline(
        path,
        evaluation,
        forced=force,
        anchor=anchor,
        why=why,
        seen=seen,
        artefact=released,
        check=None if force else check,
    )
    if candidates_seen(looks) < seen:
        add_look(path, look)  # nothing has judged it
    return PrintedPromotion(
        baseline=evaluation.id, anchor=anchor, forced=force, why=why, file=path, artefact=released
    )


def _released(artefact: Evaluation, evaluation: Evaluation, *, force: bool) -> ArtefactSummary:
    """Return the history's record of an artefact that is released with a checkpoint."""
    found: ArtefactSummary | None = artefact.header["generation"].get("artefact")
    if found is None:
        raise UsageError(f"--artefact: {artefact.id} is not an evaluation of an artefact")
    if found["checkpoint"] != evaluation.header["checkpoint"]["identity"]:
        raise UsageError(
            f"--artefact: {found['file']} is of the checkpoint {found['checkpoint'][:12]}, and "
            f"{evaluation.id} of {evaluation.header['checkpoint']['identity'][:12]}"
        )
    gate = read_gate(artefact.folder) if (artefact.folder / GATE).is_file() else None
    with damaged(artefact.folder / GATE, kind="gate record"):
        passed = (
            gate is not None
            and gate["baseline"] == evaluation.id
            and gate["scores"] == digest(artefact.scores)
            and gate["verdict"]["outcome"] == "pass"
        )
    if not (passed or force):
        raise UsageError(
            f"--artefact: {artefact.id} has not passed its gate against {evaluation.id}; gate it "
            f"with `ftreg gate {evaluation.id} {artefact.id}`, or use --force --why TEXT"
        )
    return found


def _refuse_unless_passed(
    evaluation: Evaluation, baseline: Baseline, *, anchor: Baseline | None, path: Path
) -> None:
    """Refuse an evaluation that has not passed the gate of this baseline.

    The gate must have judged these scores, against this baseline and anchor, by a policy no looser
    than the baseline's.
    """
    gated = evaluation.folder / GATE
    way_out = "gate it with `ftreg gate baseline EVALUATION`, or use --force --why TEXT"
    if not gated.is_file():
        raise UsageError(f"{evaluation.id} has not been gated against the baseline; {way_out}")
    gate = read_gate(evaluation.folder)
    with damaged(gated, kind="gate record"):
        outcome = gate["verdict"]["outcome"]
        sides = (gate["baseline"], gate["anchor"])
        scores = gate["scores"]
        policy = GatePolicy.model_validate(gate["verdict"]["policy"], strict=False)
    expected = (baseline.header["id"], anchor.header["id"] if anchor else None)
    if sides != expected:
        raise UsageError(
            f"{evaluation.id} was gated against {sides[0]} and the anchor {sides[1]}, but now they "
            f"are {expected[0]} and {expected[1]}; {way_out}"
        )
    if scores != digest(evaluation.scores):
        raise UsageError(f"{evaluation.id} has changed scores since it was gated; {way_out}")
    with damaged(path, kind="baseline"):
        own = GatePolicy.model_validate(baseline.header["policy"], strict=False)
    looser = loosened(own, policy)
    if looser:
        raise UsageError(
            f"{evaluation.id} was gated with a looser policy than the baseline's "
            f"({'; '.join(looser)}); {way_out}"
        )
    if outcome != "pass":
        raise UsageError(
            f"{evaluation.id} did not pass its gate ({outcome}); to promote it anyway use "
            "--force --why TEXT"
        )
