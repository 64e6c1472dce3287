"""Compare an evaluation with a baseline, and store the verdict beside it."""

import dataclasses
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ftreg
from ftreg.config.policy import GatePolicy
from ftreg.errors import UndecidedError
from ftreg.files.names import plain
from ftreg.files.store import damaged, digest, write_record
from ftreg.gate import Costs, Looks, Order, Probes, Verdict, compare
from ftreg.gate.sequence import seeded_order
from ftreg.jobs.gate_result import GateResult
from ftreg.records.baseline import (
    Baseline,
    baseline_file,
    baseline_path,
    chosen_from,
    read_anchor,
    read_baseline,
    read_history,
)
from ftreg.records.evaluation.comparable import (
    descriptions_of,
    header_differences,
    is_older,
    is_other_form,
    rows_of_one_side,
    unlike_thoughts,
)
from ftreg.records.evaluation.header import is_partial, stopped_after
from ftreg.records.evaluation.stored import Evaluation, leaked_share, read_evaluation, read_gate
from ftreg.records.layout import GATE, GATE_SCHEMA, HEADER
from ftreg.records.looks import add_look, candidates_seen, look_at, read_looks
from ftreg.records.workspace import Workspace
from ftreg.report.noise_line import errors_of_deltas


@dataclass(frozen=True, slots=True)
class LastGate:
    """The contents of `gate.json`, an evaluation's last gate.

    `baseline` and `anchor` are the ids of the evaluations that it was compared with;
    `of_these_scores` is false if the evaluation has been rescored since.
    """

    verdict: Verdict
    baseline: str
    anchor: str | None
    of_these_scores: bool


def last_gate(evaluation: Evaluation) -> LastGate | None:
    """Read the verdict in an evaluation's folder; None if it has not been gated.

    Raises:
        UsageError: the record is damaged, or of a newer schema.
    """
    path = evaluation.folder / GATE
    if not path.is_file():
        return None
    record = read_gate(evaluation.folder)
    with damaged(path, kind="gate record"):
        return LastGate(
            verdict=Verdict.from_dict(record["verdict"]),
            baseline=plain(record["baseline"]),
            anchor=None if record["anchor"] is None else plain(record["anchor"]),
            of_these_scores=record["scores"] == digest(evaluation.scores),
        )


def held_against(name: str, evaluation: Evaluation, *, workspace: Workspace) -> Baseline | None:
    """Find what an evaluation was compared with: in the workspace, or as baseline or anchor.

    Args:
        name: id of an evaluation, as in `LastGate`.
        evaluation: the gated evaluation, whose dataset determines the baseline file.
        workspace: where to search.

    Raises:
        UsageError: a record is damaged.
    """
    folder = workspace.evaluations / name
    if (folder / HEADER).is_file():
        return baseline_of(read_evaluation(folder))
    path = baseline_file(evaluation, workspace)
    if not path.is_file():
        return None
    kept = (read_baseline(path), read_anchor(path))
    return next((item for item in kept if item and item.header["id"] == name), None)


def baseline_of(evaluation: Evaluation) -> Baseline:
    """Return a stored evaluation as a baseline."""
    return Baseline(
        header=evaluation.header,
        scores=evaluation.scores,
        folder=evaluation.folder,
        probes=evaluation.probes,
    )


def gate(
    candidate: Evaluation,
    baseline: Baseline,
    *,
    policy: GatePolicy | None = None,
    anchor: Baseline | None = None,
) -> GateResult:
    """Compare a candidate with a baseline and store `gate.json` in the candidate's folder.

    If the baseline was read from its file, the look is added to the ledger beside it.

    Args:
        candidate: the evaluation to judge.
        baseline: what it is compared with.
        policy: default: the one in force when the candidate was evaluated.
        anchor: an older baseline that it is compared with too.

    Raises:
        UndecidedError: the two cannot be compared; one line per field that differs. UsageError: a
            score or a look is damaged, or the policy names something that does not exist.
    """
    anchor = anchor_for(candidate.header, baseline, anchor)
    refuse_unlike(candidate, baseline, anchor)
    looks = counted_looks(candidate, baseline, anchor)
    verdict = judge(candidate, baseline, policy=policy, anchor=anchor, looks=looks)
    if baseline.file is not None:
        add_look(baseline.file, look_at(candidate, baseline=str(baseline.header["id"])))
    write_record(
        candidate.folder / GATE,
        {
            "schema_version": GATE_SCHEMA,
            "ftreg": ftreg.__version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "baseline": baseline.header["id"],
            "anchor": anchor.header["id"] if anchor else None,
            "candidate": candidate.id,
            "scores": digest(candidate.scores),
            "verdict": verdict.to_dict(),
        },
        create_folder=False,
    )
    return GateResult(baseline=baseline.header, candidate=candidate.header, verdict=verdict)


def anchor_for(
    candidate: Mapping[str, Any], baseline: Baseline, anchor: Baseline | None
) -> Baseline | None:
    """Return the anchor for a candidate, by its header, besides a baseline.

    It is None if the two are forms of one checkpoint: the form of an older one says nothing about
    this one's.
    """
    return None if is_other_form(baseline.header, candidate) else anchor


def judge(
    candidate: Evaluation,
    baseline: Baseline,
    *,
    policy: GatePolicy | None,
    anchor: Baseline | None,
    looks: Looks | None,
) -> Verdict:
    """Return the verdict on a candidate, without storing it; the arguments are those of `gate`.

    `looks` is how often the rows were looked at, from `counted_looks`. A candidate that was
    evaluated until the gate had decided is always judged as it was then.
    """
    policy = policy or policy_of(candidate)
    if is_other_form(baseline.header, candidate.header):
        policy = policy.for_other_form()
    return compare(
        baseline.scores,
        candidate.scores,
        policy,
        cohorts=candidate.cohorts,
        critical=candidate.critical,
        clusters=candidate.clusters or None,
        anchor=anchor.scores if anchor else None,
        leaked=leaked_share(candidate),
        levels=levels_of(candidate),
        looks=looks,
        order=evaluated_order(candidate),
        probes=Probes(
            baseline=baseline.probes,
            candidate=candidate.probes,
            anchor=anchor.probes if anchor else None,
        ),
        costs=_costs(candidate, baseline.header),
        noise=_noise_of_examples(candidate.header, baseline.header),
    )


def _noise_of_examples(
    candidate: Mapping[str, Any], baseline: Mapping[str, Any]
) -> dict[str, float]:
    """Return how much an example's change varies with repeated generation, if measured."""
    examples = math.sqrt(candidate["dataset"]["rows"])
    errors = errors_of_deltas(baseline, candidate)
    return {name: error * examples for name, error in errors.items() if error is not None}


def _costs(candidate: Evaluation, baseline: Mapping[str, Any]) -> Costs:
    """Return the cost of answers, as far as both sides record it."""
    asked, old = candidate.header["generation"], baseline["generation"]
    answers = len(baseline["checkpoint"].get("seeds", "1")) * baseline["dataset"]["rows"]
    tokens = old.get("new_tokens")
    return Costs(
        tokens=candidate.tokens,
        most_tokens=asked["max_new_tokens"],
        baseline_tokens=None if tokens is None or not answers else tokens / answers,
        seconds_per_token=asked.get("seconds_per_token"),
        baseline_seconds_per_token=old.get("seconds_per_token"),
    )


def evaluated_order(evaluation: Evaluation) -> Order | None:
    """Return the order in which examples were evaluated, if the gate looked in between.

    Raises:
        UsageError: the record is damaged.
    """
    record = evaluation.header.get("sequence")
    if record is None:
        return None
    digest_of_all = evaluation.header["dataset"]["digest"]
    ids = seeded_order(evaluation.cohorts, evaluation.clusters, digest=digest_of_all)
    return Order(
        ids=ids[: record["examples"]],
        cohorts=record["cohorts"],
        largest_cluster=record["largest_cluster"],
    )


def counted_looks(
    candidate: Evaluation, baseline: Baseline, anchor: Baseline | None
) -> Looks | None:
    """Return the number of looks including this one; None if there is no ledger."""
    if baseline.file is None:
        return None
    look = look_at(candidate, baseline=str(baseline.header["id"]))
    seen = read_looks(baseline.file, candidate.header["dataset"])
    history = read_history(baseline.file)
    ids = {promotion["evaluation"] for promotion in history}
    held = [item for item in [*seen, look] if item["baseline"] is not None]
    return Looks(
        number=len({(item["scores"], item["baseline"]) for item in held}),
        promoted=candidates_seen(
            item for item in held if item["candidate"] in ids and item["scores"] != look["scores"]
        ),
        unheld=max(1, candidates_seen(item for item in seen if item["baseline"] is None)),
        chosen_from=chosen_from(history, look["baseline"] or ""),
        anchor_from=chosen_from(history, str(anchor.header["id"])) if anchor else 1,
    )


def look_ahead(evaluation: Evaluation, workspace: Workspace) -> None:
    """Record in the ledger that an evaluation was seen, if there is no baseline yet.

    The first baseline is chosen among these evaluations.

    Raises:
        UsageError: it cannot be written.
    """
    path = baseline_file(evaluation, workspace)
    if not path.is_file():
        add_look(path, look_at(evaluation, baseline=None))


def refuse_unlike(candidate: Evaluation, baseline: Baseline, anchor: Baseline | None) -> None:
    """Reject baselines that a candidate cannot be compared with.

    Raises:
        UndecidedError: it was evaluated differently; one line per field that differs. Or it was
            stopped when a gate had decided.
    """
    _refuse_unlike(baseline, candidate, name="baseline")
    if anchor is not None:
        _refuse_unlike(anchor, candidate, name="anchor")


def _refuse_unlike(side: Baseline, candidate: Evaluation, *, name: str) -> None:
    if is_partial(side.header):
        raise UndecidedError(
            f"{candidate.id} cannot be compared with the {name} {side.header['id']} "
            f"({stopped_after(side.header)}): its scores decided which rows it has. Evaluate "
            "its checkpoint without --until-decided."
        )
    found = header_differences(side.header, candidate.header)
    if found:
        places = (f"the {name}", "the candidate")
        found += rows_of_one_side(side.scores, candidate.scores, places=places)
        lines = "\n  ".join(found)
        rescored = ways_to_rescore(side, baseline_of(candidate))
        anew = f"Rescore stored outputs: {rescored}. Or evaluate" if rescored else "Evaluate"
        raise UndecidedError(
            f"{candidate.id} cannot be compared with the {name} {side.header['id']}, because they "
            f"were evaluated differently:\n  {lines}\n{anew} both in the same way, and promote a "
            "new baseline (and anchor) if the change is intended."
        )


def ways_to_rescore(first: Baseline, second: Baseline) -> str:
    """Return the commands that score both sides the same way, empty if scoring is not enough.

    If thoughts differ, the first is to be scored like the second.
    """
    thoughts = unlike_thoughts(first.header, second.header)
    option = f" --thoughts {thoughts}" if thoughts else ""
    commands = []
    if option or is_older(first.header, second.header):
        commands.append(f"`ftreg rescore {_place(first)}{option}`")
    if is_older(second.header, first.header):
        commands.append(f"`ftreg rescore {_place(second)}`")
    return " and ".join(commands)


def _place(side: Baseline) -> object:
    return side.file or side.folder or side.header["id"]


def levels_of(evaluation: Evaluation) -> dict[str, int | None]:
    """Return the number of different scores of its scorers, for those that declare it."""
    described = descriptions_of(evaluation.header)
    return {name: each["levels"] for name, each in described.items() if "levels" in each}


def policy_of(evaluation: Evaluation) -> GatePolicy:
    """Return the policy in force when the evaluation was made."""
    with damaged(evaluation.folder / HEADER, kind="evaluation"):
        return GatePolicy.model_validate(evaluation.header["policy"], strict=False)


def find_baselines(
    ref: str, dataset: str, *, workspace: Workspace
) -> tuple[Baseline, Baseline | None]:
    """Find what `ref` names, and its anchor if `ref` is a baseline that has one.

    Args:
        ref: `baseline`, `anchor`, or an evaluation.
        dataset: name of the candidate's dataset, which determines the baseline file.
        workspace: where to search.

    Raises:
        UndecidedError: there is no baseline yet, or `anchor` is requested but none is pinned.
        UsageError: no such evaluation, or a broken file.
    """
    path = baseline_path(workspace.baselines, dataset)
    if ref == "anchor":
        return read_baseline(path, anchor=True), None
    if ref != "baseline":
        return baseline_of(read_evaluation(workspace.evaluation(ref))), None
    baseline = read_baseline(path)
    folder = workspace.evaluations / str(baseline.header["id"])
    if (folder / HEADER).is_file():
        baseline = dataclasses.replace(baseline, folder=folder)
    return baseline, read_anchor(path)
