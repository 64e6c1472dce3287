"""`ftreg evaluations` and `ftreg history`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.command_groups import group
from ftreg.records.printed import json_object
from ftreg.records.workspace import Workspace

app = group("List and export evaluations.")

_SHOWN = 20


@app.command("list")
@command
def list_stored(
    dataset: Annotated[
        str | None, typer.Argument(help="Only of this dataset: its name, or name@N.")
    ] = None,
    last: Annotated[
        int, typer.Option(min=1, help="Show at most this many of the newest.")
    ] = _SHOWN,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """List evaluations, the newest first, with verdicts and mean scores.

    Example: ftreg evaluations list ferry-desk
    """
    from ftreg.jobs.evaluations import evaluations_of
    from ftreg.report.evaluation_list import evaluation_list

    found = evaluations_of(Workspace.current(), dataset=dataset, last=None if every else last)
    text = evaluation_list(
        [json_object(item) for item in found.evaluations], total=found.total, damaged=found.damaged
    )
    options.show(as_json, value=found, text=text)


@app.command()
@command
def export(
    evaluation: options.EvaluationRef,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The table to write, .csv or .parquet.")
    ],
    as_json: options.AsJson = False,
) -> None:
    """Write an evaluation as a table, a row per example.

    Example: ftreg evaluations export latest -o latest.csv
    """
    from ftreg.jobs.evaluation_table import export_evaluation
    from ftreg.records.evaluation.stored import read_evaluation

    found = read_evaluation(Workspace.current().evaluation(evaluation))
    done = export_evaluation(found, output)
    options.show(as_json, value=done, text=f"{done.file}: {done.rows:,} rows")


@command
def history(
    dataset: Annotated[str, typer.Argument(help="The dataset's name, or name@N.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file; default: history-NAME.html."),
    ] = None,
    last: Annotated[
        int, typer.Option(min=1, help="How many of a version's newest evaluations to plot.")
    ] = 100,
    every: Annotated[bool, typer.Option("--all", help="Plot all of them.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Plot a dataset's evaluations and promotions over time, as HTML.

    Example: ftreg history ferry-desk -o history.html
    """
    from ftreg.jobs.evaluation_history import write_history

    done = write_history(
        dataset,
        workspace=Workspace.current(),
        output=output or Path(f"history-{dataset}.html"),
        last=None if every else last,
    )
    options.show(as_json, value=done, text=str(done.history))
    if not as_json:
        for note in done.notes:
            options.say(f"not drawn: {note}")
