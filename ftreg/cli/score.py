"""`ftreg score`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.records.samples import PRINTED_SCHEMA
from ftreg.report.characters import inert_json

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.evaluations import PrintedScoring
    from ftreg.records.evaluation.rows import ScoreRow


@command
def score(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL with id, input, output, and reference or context.", show_default=False
        ),
    ],
    scorer: Annotated[
        list[str],
        typer.Option(
            "--scorer",
            help="A scorer, or a YAML mapping as in eval.scorers; give it again for more.",
        ),
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
    no_custom_code: options.NoCustomCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Score outputs that were made elsewhere.

    Example: ftreg score outputs.jsonl --scorer faithfulness --scorer equals -o scores.jsonl
    """
    from ftreg.files.store import canonical_json, check_writable, write_jsonl
    from ftreg.jobs.score import judge_tokens, score_file

    if output is not None:
        check_writable(output)
    rows = score_file(file, scorers=scorer, backend=backend)
    if output is not None:
        write_jsonl(output, rows)
    elif not as_json:
        for row in rows:
            typer.echo(inert_json(canonical_json(row)))
        return
    missing = sum(row["score"] is None for row in rows)
    read, written = judge_tokens(rows)
    cost = f"; the judge read {read} tokens and wrote {written}" if read or written else ""
    value: PrintedScoring = {
        "schema_version": PRINTED_SCHEMA,
        "file": None if output is None else str(output),
        "scores": len(rows),
        "missing": missing,
        "judge_tokens": {"read": read, "written": written},
    }
    if output is None:
        value["rows"] = cast("list[ScoreRow]", rows)
    options.show(
        as_json,
        value=value,
        text=f"{output}: {len(rows)} scores, {missing} of them missing{cost}",
    )
