"""Compare stored evaluations with each other: a tournament of optimizers.

Part of the thin layer that puts the rooms together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import ftreg
from ftreg.config.policy import GatePolicy
from ftreg.errors import UndecidedError, UsageError
from ftreg.gate.choice import pareto_front
from ftreg.gate.contest import COMPARISON_SCHEMA, Contest
from ftreg.gate.tournament import hold_tournament
from ftreg.jobs.gate import baseline_of, find_baselines, policy_of
from ftreg.records.baseline import Baseline
from ftreg.records.evaluation.comparable import header_differences, rows_of_one_side
from ftreg.records.evaluation.stored import Evaluation, leaked_share, read_evaluation
from ftreg.records.workspace import Workspace
from ftreg.report.phrases import short_recipe

_WORDS = ("baseline", "anchor")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluations side by side.

    `headers` and `labels` (such as "Lion 1e-5") are by the evaluation's id, in the order asked
    for; `against` is the id of the one that the others are held against; `tags` are the cohort tags
    that the examples have, with their values.
    """

    headers: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str]
    against: str
    policy: GatePolicy
    contests: Sequence[Contest]
    tags: Mapping[str, Sequence[str]]
    notes: Sequence[str]

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The dataset's part of the headers, which all share."""
        found: Mapping[str, Any] = self.headers[self.against]["dataset"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what `ftreg compare --json` prints; `ftreg schema comparison` describes it."""
        return {
            "schema_version": COMPARISON_SCHEMA,
            "ftreg": ftreg.__version__,
            "dataset": self.dataset["version"],
            "against": self.against,
            "evaluations": [
                {
                    "id": name,
                    "label": self.labels[name],
                    "checkpoint": header["checkpoint"]["name"],
                    "identity": header["checkpoint"]["identity"],
                    "optimizer": header["checkpoint"]["optimizer"],
                    "lr": header["checkpoint"]["lr"],
                }
                for name, header in self.headers.items()
            ],
            "contests": [asdict(contest) for contest in self.contests],
            "pareto": pareto_front(self.contests),
            "notes": list(self.notes),
            "policy": self.policy.model_dump(mode="json"),
        }


def compare_evaluations(
    refs: Sequence[str],
    *,
    workspace: Workspace,
    against: str | None = None,
    policy: GatePolicy | None = None,
) -> Comparison:
    """Read evaluations, refuse those that cannot be compared, and hold the tournament.

    Args:
        refs: ids, folders, `latest`, `baseline` or `anchor`; two or more, one of them stored here.
        workspace: where to look.
        against: one of `refs`, that the others are held against; default: the first.
        policy: default: that of the first stored evaluation.

    Raises:
        UndecidedError: two of them cannot be compared; a line per field that differs.
        UsageError: there is no such evaluation, one is named twice, or a policy is wrong.
    """
    stored = {ref: read_evaluation(workspace.evaluation(ref)) for ref in refs if ref not in _WORDS}
    if not stored:
        raise UsageError("name a stored evaluation too: it says which dataset's baseline is meant")
    first = next(iter(stored.values()))
    sides: dict[str, Baseline] = {}
    ids: dict[str, str] = {}
    for ref in refs:
        if ref in stored:
            side = baseline_of(stored[ref])
        else:
            side, _ = find_baselines(ref, first, workspace=workspace)
        ids[ref] = str(side.header["id"])
        if ids[ref] in sides:
            raise UsageError(f"{ref}: {ids[ref]} is named twice")
        sides[ids[ref]] = side
    if len(sides) < 2:
        raise UsageError("a comparison needs two evaluations or more")
    if against is not None and against not in ids:
        raise UsageError(
            f"--against {against}: it is none of those compared ({', '.join(ids)}); add it to them"
        )
    _refuse_unlike(sides)
    policy = policy or policy_of(first)
    contests = hold_tournament(
        {name: side.scores for name, side in sides.items()},
        policy,
        cohorts=first.cohorts,
        clusters=first.clusters or None,
    )
    headers = {name: side.header for name, side in sides.items()}
    labels = _labels(headers)
    return Comparison(
        headers=headers,
        labels=labels,
        against=ids[refs[0] if against is None else against],
        policy=policy,
        contests=contests,
        tags=_tags(first.cohorts),
        notes=[*_seed_notes(headers, labels), *_leaks(stored.values(), labels)],
    )


def _refuse_unlike(sides: Mapping[str, Baseline]) -> None:
    for (first, one), (second, other) in combinations(sides.items(), 2):
        found = header_differences(one.header, other.header, places=(first, second))
        found += rows_of_one_side(one.scores, other.scores, places=(first, second))
        if found:
            lines = "\n  ".join(found)
            raise UndecidedError(
                f"{first} and {second} cannot be compared, since they were not evaluated alike:\n"
                f"  {lines}\nEvaluate all of them in the same way."
            )


def _labels(headers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Optimizer and learning rate; numbered by id where several have the same."""
    words = {name: short_recipe(header["checkpoint"]) for name, header in headers.items()}
    labels = {}
    for name, text in words.items():
        same = sorted(other for other, its in words.items() if its == text)
        labels[name] = text if len(same) == 1 else f"{text} #{1 + same.index(name)}"
    return labels


def _tags(cohorts: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for tags in cohorts.values():
        for tag, value in tags.items():
            found.setdefault(tag, set()).add(value)
    return {tag: sorted(values) for tag, values in sorted(found.items())}


def _seed_notes(headers: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> list[str]:
    single = [
        labels[name]
        for name, header in headers.items()
        if len(header["checkpoint"].get("seeds", ())) < 2
    ]
    if not single:
        return []
    whom = "every evaluation" if len(single) == len(headers) else ", ".join(single)
    return [f"one training seed of {whom}: the noise of another seed is not covered"]


def _leaks(stored: Iterable[Evaluation], labels: Mapping[str, str]) -> list[str]:
    shares = {labels[evaluation.id]: leaked_share(evaluation) for evaluation in stored}
    leaked = [f"{label} {100 * share:.1f} %" for label, share in shares.items() if share]
    return [f"trained on some of the examples: {', '.join(leaked)}"] if leaked else []
