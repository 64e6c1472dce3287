"""`ftreg compare`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace


@command
def compare(
    evaluations: Annotated[
        list[str],
        typer.Argument(
            metavar="REF",
            help="Evaluations, latest, baseline or anchor.",
            autocompletion=completion.references,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="Which of them the others are compared with; default: the first.",
            autocompletion=completion.references,
        ),
    ] = None,
    policy: options.Policy = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the comparison as Markdown.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the comparison as an HTML page.")
    ] = None,
    routes: Annotated[
        Path | None, typer.Option(help="Write which checkpoint should serve which cohort, as YAML.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="The tag to route by, if there are several.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare evaluations: ranks, winners by cohort, the Pareto front.

    Exits with 3 if they are not comparable.

    Example: ftreg compare baseline latest --tag topic --routes routes.yaml
    """
    from ftreg.jobs.compare import compare_evaluations
    from ftreg.report.comparison import comparison_view

    found = compare_evaluations(
        evaluations,
        workspace=Workspace.current(),
        against=against,
        policy=options.given_policy(policy),
        tag=tag,
        routes=routes,
        markdown=markdown,
        html=output,
    )
    options.show(as_json, value=found, text=comparison_view(found.sections()))
    if not as_json:
        for path in filter(None, (routes, markdown, output)):
            options.say(f"\nwritten: {path}")
