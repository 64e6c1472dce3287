"""`ftreg score`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.command import command


@command
def score(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL with id, input, output, and reference or context.", show_default=False
        ),
    ],
    scorer: Annotated[
        list[str], typer.Option("--scorer", help="A scorer; give it again for more.")
    ],
    backend: Annotated[
        str | None, typer.Option(help="What the scorers think with.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="JSONL of scores; default: stdout.", show_default=False
        ),
    ] = None,
) -> None:
    """Score outputs that were made elsewhere.

    Example: ftreg score outputs.jsonl --scorer faithfulness --scorer equals -o scores.jsonl
    """
    from ftreg.scoring.files import score_file
    from ftreg.store import canonical_json, check_writable, write_jsonl

    if output is not None:
        check_writable(output)
    rows = score_file(file, scorers=scorer, backend=backend)
    if output is None:
        for row in rows:
            typer.echo(canonical_json(row))
        return
    write_jsonl(output, rows)
    missing = sum(row["score"] is None for row in rows)
    typer.echo(f"{output}: {len(rows)} scores, {missing} of them missing")
