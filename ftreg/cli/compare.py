"""`ftreg compare`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.errors import UsageError
from ftreg.records.workspace import Workspace


@command
def compare(
    evaluations: Annotated[
        list[str],
        typer.Argument(
            metavar="REF",
            help="Evaluations, latest, baseline or anchor.",
            show_default=False,
            autocompletion=completion.references,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            help="Which of them the others are held against; default: the first.",
            show_default=False,
            autocompletion=completion.references,
        ),
    ] = None,
    policy: options.Policy = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write the comparison as Markdown.", show_default=False),
    ] = None,
    routes: Annotated[
        Path | None,
        typer.Option(
            help="Write which checkpoint should serve which cohort, as YAML.", show_default=False
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(help="The tag to route by, if there are several.", show_default=False),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare evaluations with each other: ranks, winners by cohort, and who is not dominated.

    Ends with 3 if they were not evaluated alike.

    Example: ftreg compare baseline latest --tag length --routes routes.yaml
    """
    from ftreg.cli.gate import read_policy
    from ftreg.jobs.compare import compare_evaluations
    from ftreg.jobs.route import find_routes, write_yaml
    from ftreg.report.comparison import (
        comparison_markdown,
        comparison_sections,
        comparison_view,
    )

    if tag is not None and routes is None:
        raise UsageError("--tag belongs to --routes")
    comparison = compare_evaluations(
        evaluations,
        workspace=Workspace.current(),
        against=against,
        policy=None if policy is None else read_policy(policy, None),
    )
    sections = comparison_sections(
        comparison.contests,
        labels=comparison.labels,
        headers=comparison.headers,
        against=comparison.against,
        confidence=comparison.policy.confidence,
        notes=comparison.notes,
    )
    value = comparison.to_dict()
    written = []
    if routes is not None:
        value["routes"] = found = find_routes(comparison, tag=tag)
        write_yaml(routes, found)
        written.append(routes)
    if markdown is not None:
        from ftreg.files.store import write_text

        write_text(
            markdown,
            comparison_markdown(f"Comparison on {comparison.dataset['version']}", sections),
        )
        written.append(markdown)
    options.show(as_json, value=value, text=comparison_view(sections))
    if not as_json:
        for path in written:
            options.say(f"\nwritten: {path}")
