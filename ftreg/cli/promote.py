"""`ftreg promote` and `ftreg baseline`."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.evaluations import PrintedPromotion, PrintedPromotions
    from ftreg.records.evaluation.header import EvaluationHeader


@command
def promote(
    evaluation: Annotated[
        str,
        typer.Argument(
            help="The evaluation, or latest.",
            show_default=False,
            autocompletion=completion.evaluations,
        ),
    ],
    anchor: Annotated[
        bool, typer.Option("--anchor", help="Pin it as the anchor too, against slow drift.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Promote even if the gate did not pass.")
    ] = False,
    why: Annotated[
        str | None, typer.Option(help="Reason, kept in the history.", show_default=False)
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make an evaluation the baseline that later candidates are held against.

    Example: ftreg promote latest
    """
    from ftreg.jobs.promote import promote
    from ftreg.records.baseline import baseline_path
    from ftreg.records.evaluation.stored import read_evaluation

    workspace = Workspace.current()
    record = read_evaluation(workspace.evaluation(evaluation))
    path = baseline_path(workspace.baselines, record.header["dataset"]["name"])
    promote(record, path, why=why, force=force, anchor=anchor)
    value: PrintedPromotion = {
        "schema_version": PRINTED_SCHEMA,
        "baseline": record.id,
        "anchor": anchor,
        "forced": force,
        "why": why,
        "file": str(path),
    }
    options.show(as_json, value=value, text=f"{record.id} is now the baseline: {path}")


@command
def baseline(
    dataset: Annotated[
        str, typer.Argument(help="The dataset's name, without version.", show_default=False)
    ],
    as_json: options.AsJson = False,
) -> None:
    """Show the baseline of a dataset, and what was promoted before it.

    Example: ftreg baseline code-summary
    """
    from ftreg.records.baseline import baseline_path, read_baseline, read_history
    from ftreg.report.terminal import baseline_view

    path = baseline_path(Workspace.current().baselines, dataset)
    entry, history = read_baseline(path), read_history(path)
    value: PrintedPromotions = {
        "schema_version": PRINTED_SCHEMA,
        "header": cast("EvaluationHeader", entry.header),  # which it was read as
        "history": history,
    }
    options.show(as_json, value=value, text=baseline_view(entry.header, history))
