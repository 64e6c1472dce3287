"""`ftreg slices`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.slices import Slices


@command
def slices(
    evaluation: options.EvaluationRef = "latest",
    against: Annotated[
        str,
        typer.Option(
            help="baseline, anchor, or an evaluation.", autocompletion=completion.references
        ),
    ] = "baseline",
    scorer: Annotated[
        list[str] | None, typer.Option(help="Search this scorer only; may be repeated.")
    ] = None,
    policy: options.Policy = None,
    as_json: options.AsJson = False,
) -> None:
    """Find undeclared groups of examples that got worse.

    Searches each half of the examples and tests on the other. Exits with 0 whatever it finds, 3 if
    the two evaluations cannot be compared.

    Example: ftreg slices latest --against baseline
    """
    from ftreg.jobs.slices import find_slices
    from ftreg.records.evaluation.stored import read_evaluation

    workspace = Workspace.current()
    found = find_slices(
        read_evaluation(workspace.evaluation(evaluation)),
        workspace=workspace,
        against=against,
        scorers=scorer or (),
        policy=options.given_policy(policy),
    )
    options.show(as_json, value=found, text="\n".join(_lines(found)))


def _lines(found: "Slices") -> list[str]:
    from ftreg.report.phrases import points, signed

    said = (
        f"{found.described:,} groups were searched on each half of "
        f"{found.searched + found.tested:,} examples, and {len(found.slices)} tested on the other "
        "half."
    )
    lines = [f"{found.evaluation} against {found.against}", said]
    for item in found.found:
        low, high = item.interval or (None, None)
        without = f", without those of {' or of '.join(item.without)}" if item.without else ""
        lines += [
            "",
            f"worse: {item.slice}{without}" + (" (a cohort)" if item.declared else ""),
            f"  {item.scorer} {signed(item.delta)} points ({signed(low)} to {signed(high)}) on "
            f"{item.n} of its {item.examples} examples; p = {item.p_adjusted:.2g} with all tests",
        ]
        lines += [
            f"  {one.id} {signed(one.delta)}: {' '.join((one.input or '').split())[:60]}"
            for one in item.worst[:3]
        ]
    if not found.found:
        lines += ["", "No group is certainly worse by more than its margin."]
    lines += ["", "Found in four of five cases if it fell by at least (points):"]
    for scorer in dict.fromkeys(item.scorer for item in found.unseen):
        cells = [
            f"{100 * item.share:g} % ({item.examples:,}) "
            + ("never" if item.drop is None else points(item.drop))
            for item in found.unseen
            if item.scorer == scorer
        ]
        lines.append(f"  {scorer}: {'; '.join(cells)}")
    return lines
