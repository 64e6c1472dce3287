"""Compare stored evaluations with each other: a tournament of optimizers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import ftreg
from ftreg.config.policy import GatePolicy
from ftreg.errors import UndecidedError, UsageError
from ftreg.files.store import write_text
from ftreg.gate.choice import Pareto, pareto_front
from ftreg.gate.contest import COMPARISON_SCHEMA, Contest
from ftreg.gate.tournament import hold_tournament
from ftreg.jobs.gate import baseline_of, find_baselines, policy_of, ways_to_rescore
from ftreg.jobs.route import Routes, find_routes, write_routes
from ftreg.records.baseline import Baseline
from ftreg.records.evaluation.comparable import header_differences, rows_of_one_side
from ftreg.records.evaluation.header import ArtefactSummary, is_partial, stopped_after
from ftreg.records.evaluation.stored import Evaluation, leaked_share, read_evaluation
from ftreg.records.printed import OPTIONAL, Printed, printed
from ftreg.records.workspace import Workspace
from ftreg.report.comparison import comparison_markdown, comparison_sections
from ftreg.report.comparison_page import comparison_page
from ftreg.report.form_plot import form_panels
from ftreg.report.phrases import told_apart
from ftreg.report.text_sections import TextSection

_WORDS = ("baseline", "anchor")


@printed
class Compared:
    """One of the evaluations of a comparison."""

    id: str
    """Its name, that of its folder."""
    label: str
    """How tables name it: optimizer, learning rate and the type of an artefact's weights; where it
    needs more, or where they are unknown, its name."""
    checkpoint: str
    """The folder's name of the checkpoint that was evaluated."""
    identity: str
    """Digest of its manifest; of replicas, over those of all."""
    optimizer: str
    """What it was trained with; `unknown` where ftreg did not train it."""
    lr: float | None
    """At which learning rate; null likewise."""
    artefact: ArtefactSummary | None = field(default=None, metadata=OPTIONAL)
    """The file that was served; left out where the checkpoint itself was evaluated."""


@printed
class Comparison(Printed):
    """What `ftreg compare --json` prints."""

    schema_version: int = COMPARISON_SCHEMA
    """Version of this form; it goes up when the meaning of a key does."""
    ftreg: str = ftreg.__version__
    """The version that compared."""
    dataset: str
    """`name@N`."""
    against: str
    """Id of the evaluation the others are compared with."""
    evaluations: tuple[Compared, ...]
    """In the order in which they were asked for."""
    contests: tuple[Contest, ...]
    """One per scorer over all examples, then one per cohort and scorer."""
    pareto: Pareto
    """The Pareto front."""
    notes: tuple[str, ...]
    """What the intervals do not cover."""
    policy: GatePolicy
    """What intervals and tests were made by; the schema `policy` describes it."""
    routes: Routes | None = field(default=None, metadata=OPTIONAL)
    """With --routes; the schema `routes` describes it."""

    def sections(self) -> list[TextSection]:
        """The comparison as tables and sentences."""
        return comparison_sections(
            self.contests,
            labels={item.id: item.label for item in self.evaluations},
            against=self.against,
            confidence=self.policy.confidence,
            notes=self.notes,
            artefacts={item.label: item.artefact for item in self.evaluations if item.artefact},
        )


def compare_evaluations(
    refs: Sequence[str],
    *,
    workspace: Workspace,
    against: str | None = None,
    policy: GatePolicy | None = None,
    tag: str | None = None,
    routes: Path | None = None,
    markdown: Path | None = None,
    html: Path | None = None,
) -> Comparison:
    """Read evaluations, reject those that cannot be compared, and run the tournament.

    Args:
        refs: ids, folders, `latest`, `baseline` or `anchor`; two or more, one of them stored here.
        workspace: where to search.
        against: one of `refs`, with which the others are compared; default: the first.
        policy: default: that of the first stored evaluation.
        tag: the tag to route by; default: the only one.
        routes: YAML file to write, with the checkpoint for each cohort.
        markdown: Markdown file to write the comparison to.
        html: HTML page to write it to.

    Raises:
        UndecidedError: two of them cannot be compared; one line per field that differs. UsageError:
            there is no such evaluation or tag, one is named twice, a policy is invalid, or a file
            cannot be written.
    """
    if tag is not None and routes is None:
        raise UsageError("--tag belongs to --routes")
    stored = {ref: read_evaluation(workspace.evaluation(ref)) for ref in refs if ref not in _WORDS}
    if not stored:
        raise UsageError("name a stored evaluation too: it determines the dataset of the baseline")
    first = next(iter(stored.values()))
    sides = _sides(refs, stored, workspace)
    ids = dict(zip(refs, sides, strict=True))
    if against is not None and against not in ids:
        raise UsageError(
            f"--against {against}: it is not among the compared evaluations ({', '.join(ids)}); "
            "add it"
        )
    _refuse_unlike(sides)
    chosen = ids[refs[0] if against is None else against]
    found = _comparison(sides, first, against=chosen, policy=policy or policy_of(first))
    labels = {item.id: item.label for item in found.evaluations}
    found = replace(found, notes=(*found.notes, *_leaks(stored.values(), labels)))
    if routes is not None:
        decided = find_routes(
            found.contests,
            headers={name: side.header for name, side in sides.items()},
            default=chosen,
            cohorts=first.cohorts,
            tag=tag,
            policy=found.policy,
        )
        write_routes(routes, decided)
        found = replace(found, routes=decided)
    _write(found, labels, markdown=markdown, html=html)
    return found


def _write(
    found: Comparison, labels: Mapping[str, str], *, markdown: Path | None, html: Path | None
) -> None:
    title, sections = f"Comparison on {found.dataset}", found.sections()
    if markdown is not None:
        write_text(markdown, comparison_markdown(title, sections))
    if html is not None:
        forms = form_panels(
            found.contests,
            against=found.against,
            labels=labels,
            artefacts={item.id: item.artefact for item in found.evaluations if item.artefact},
            margins=_form_margins(found),
        )
        page = comparison_page(title, sections, found.contests, labels=labels, forms=forms)
        write_text(html, page)


def _form_margins(found: Comparison) -> dict[str, float]:
    """Return scorer to the allowed drop of another form of the same checkpoint."""
    policy = found.policy.for_other_form()
    return {contest.scorer: policy.margin_for(contest.scorer) for contest in found.contests}


def _comparison(
    sides: Mapping[str, Baseline], first: Evaluation, *, against: str, policy: GatePolicy
) -> Comparison:
    headers = {name: side.header for name, side in sides.items()}
    contests = hold_tournament(
        {name: side.scores for name, side in sides.items()},
        policy,
        cohorts=first.cohorts,
        clusters=first.clusters or None,
    )
    evaluations = _compared(headers)
    return Comparison(
        dataset=headers[against]["dataset"]["version"],
        against=against,
        evaluations=evaluations,
        contests=tuple(contests),
        pareto=pareto_front(contests),
        notes=tuple(_seed_notes(headers, {item.id: item.label for item in evaluations})),
        policy=policy,
    )


def _sides(
    refs: Sequence[str], stored: Mapping[str, Evaluation], workspace: Workspace
) -> dict[str, Baseline]:
    """Return evaluation id to header and scores, in the order of `refs`."""
    first = next(iter(stored.values()))
    sides: dict[str, Baseline] = {}
    for ref in refs:
        if ref in stored:
            side = baseline_of(stored[ref])
        else:
            side, _ = find_baselines(ref, first.header["dataset"]["name"], workspace=workspace)
        name = str(side.header["id"])
        if name in sides:
            raise UsageError(f"{ref}: {name} is named twice")
        sides[name] = side
    if len(sides) < 2:
        raise UsageError("a comparison needs two or more evaluations")
    return sides


def _refuse_unlike(sides: Mapping[str, Baseline]) -> None:
    for name, side in sides.items():
        if is_partial(side.header):
            raise UndecidedError(
                f"{name} ({stopped_after(side.header)}) cannot be compared: its scores decided "
                "which rows it has. Evaluate its checkpoint without --until-decided."
            )
    for (first, one), (second, other) in combinations(sides.items(), 2):
        found = header_differences(one.header, other.header, places=(first, second))
        found += rows_of_one_side(one.scores, other.scores, places=(first, second))
        if found:
            lines = "\n  ".join(found)
            rescored = ways_to_rescore(one, other)
            anew = f"Rescore stored outputs: {rescored}. Or evaluate" if rescored else "Evaluate"
            raise UndecidedError(
                f"{first} and {second} cannot be compared, because they were evaluated "
                f"differently:\n  {lines}\n{anew} all of them in the same way."
            )


def _form(header: Mapping[str, Any]) -> str:
    """Return the form of the weights, if it differs from the checkpoint's own."""
    artefact = header["generation"].get("artefact")
    return f" {artefact['precision']}" if artefact else ""


def _compared(headers: Mapping[str, Mapping[str, Any]]) -> tuple[Compared, ...]:
    labels = told_apart(
        {name: header["checkpoint"] for name, header in headers.items()},
        forms={name: _form(header) for name, header in headers.items()},
    )
    found = []
    for name, header in headers.items():
        checkpoint = header["checkpoint"]
        found.append(
            Compared(
                id=name,
                label=labels[name],
                checkpoint=checkpoint["name"],
                identity=checkpoint["identity"],
                optimizer=checkpoint["optimizer"],
                lr=checkpoint["lr"],
                artefact=header["generation"].get("artefact"),
            )
        )
    return tuple(found)


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
