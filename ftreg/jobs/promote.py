"""Make an evaluation the baseline that candidates are held against."""

from pathlib import Path

from ftreg.config.policy import GatePolicy, loosened
from ftreg.errors import UsageError
from ftreg.files.store import damaged, digest
from ftreg.records.baseline import Baseline, move_baseline
from ftreg.records.evaluation.stored import Evaluation, read_gate
from ftreg.records.layout import GATE


def promote(
    evaluation: Evaluation,
    path: Path,
    *,
    why: str | None = None,
    force: bool = False,
    anchor: bool = False,
) -> None:
    """Make an evaluation the baseline (and the anchor, if asked).

    The first evaluation of a dataset may be promoted as it is; after that only one that has
    passed its gate, unless forced with a reason, which the history keeps.

    Raises:
        UsageError: the gate has not passed and `force` is off, or `force` has no reason.
    """
    if force and not why:
        raise UsageError("--force needs --why TEXT: the history keeps the reason")

    def check(baseline: Baseline, pinned: Baseline | None) -> None:
        _refuse_unless_passed(evaluation, baseline, anchor=pinned, path=path)

    move_baseline(
        path,
        evaluation,
        forced=force,
        anchor=anchor,
        why=why,
        check=None if force else check,
    )


def _refuse_unless_passed(
    evaluation: Evaluation, baseline: Baseline, *, anchor: Baseline | None, path: Path
) -> None:
    """Refuse what has not passed the very gate that guards this baseline.

    That is: these scores, against this baseline and anchor, by a policy no looser than its own.
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
        raise UsageError(f"{evaluation.id} has other scores now than it was gated with; {way_out}")
    with damaged(path, kind="baseline"):
        own = GatePolicy.model_validate(baseline.header["policy"], strict=False)
    looser = loosened(own, policy)
    if looser:
        raise UsageError(
            f"{evaluation.id} was gated by a looser policy than the baseline's "
            f"({'; '.join(looser)}); {way_out}"
        )
    if outcome != "pass":
        raise UsageError(
            f"{evaluation.id} did not pass its gate ({outcome}); to promote it all the same use "
            "--force --why TEXT"
        )
