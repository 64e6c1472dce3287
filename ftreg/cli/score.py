"""`ftreg score`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.report.characters import inert_json


@command
def score(
    file: Annotated[
        Path, typer.Argument(help="JSONL with id, input, output, and reference or context.")
    ],
    scorer: Annotated[
        list[str],
        typer.Option(
            help="A scorer, or a YAML mapping as in eval.scorers; repeatable.",
        ),
    ],
    backend: Annotated[str | None, typer.Option(help="Which backend judges the claims.")] = None,
    thoughts: Annotated[
        Literal["strip", "keep"], typer.Option(help="Whether scorers see <think>...</think>.")
    ] = "strip",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSONL of scores; default: stdout.")
    ] = None,
    no_custom_code: options.NoCustomCode = False,
    debug: options.Debug = False,
    as_json: options.AsJson = False,
) -> None:
    """Score outputs made elsewhere.

    Example: ftreg score outputs.jsonl --scorer faithfulness --scorer equals -o scores.jsonl
    """
    from ftreg.files.store import canonical_json
    from ftreg.jobs.score import score_file

    done = score_file(file, scorers=scorer, backend=backend, thoughts=thoughts, output=output)
    if done.rows is not None and not as_json:
        for row in done.rows:
            typer.echo(inert_json(canonical_json(row)))
        return
    read, written = done.judge_tokens.read, done.judge_tokens.written
    cost = f"; the judge read {read} tokens and wrote {written}" if read or written else ""
    text = f"{output}: {done.scores} scores, {done.missing} of them missing{cost}"
    options.show(as_json, value=done, text=text)
