"""`ftreg bisect`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.records.workspace import Workspace

_Checkpoint = typer.Argument(
    help="A checkpoint, or a group of replicas.", autocompletion=completion.checkpoints
)
_Dataset = Annotated[
    str | None,
    typer.Option(
        help="Dataset version name@N to evaluate on; default: what GOOD was trained on.",
        autocompletion=completion.datasets,
    ),
]
_Blocks = Annotated[
    int, typer.Option(help="Split differing training rows into at most this many blocks.")
]


@command
def bisect(
    good: Annotated[str, _Checkpoint],
    bad: Annotated[str, _Checkpoint],
    scorer: Annotated[
        str | None, typer.Option(help="Explain this scorer's mean; default: the mean of all.")
    ] = None,
    dataset: _Dataset = None,
    blocks: _Blocks = 4,
    max_runs: Annotated[
        int, typer.Option(help="Train at most this many hybrids, including earlier calls.")
    ] = 40,
    max_hours: Annotated[
        float | None, typer.Option(help="Stop this call after so many hours.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Train nothing; print the plan.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write an HTML page.")
    ] = None,
    overrides: options.Overrides = None,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Find which difference of two recipes made a checkpoint worse.

    It trains and evaluates hybrids of the two, and keeps them.

    Exits with 0 if it has an answer, 3 if it is undecided. Run it again to continue.

    Example: ftreg bisect adamw lion --scorer equals -o why.html
    """
    from ftreg.jobs.bisect import bisect, write_bisection
    from ftreg.report.bisection import bisection_view

    workspace = Workspace.current()
    with Bars(quiet=quiet) as bars:
        found = bisect(
            workspace.checkpoint(good),
            workspace.checkpoint(bad),
            workspace=workspace,
            scorer=scorer,
            dataset=dataset,
            overrides=overrides or (),
            blocks=blocks,
            max_runs=max_runs,
            max_hours=max_hours,
            plan_only=plan,
            events=bars,
        )
    if output is not None:
        write_bisection(found, output)
    options.show(as_json, value=found, text=bisection_view(found))
    raise typer.Exit(found.exit_code)
