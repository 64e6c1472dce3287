"""`ftreg data import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.errors import UsageError
from ftreg.records.samples import PRINTED_SCHEMA

if TYPE_CHECKING:
    from ftreg.jobs.schemas.printed.datasets import PrintedImporting


@command
def import_rows(
    name: Annotated[
        str,
        typer.Argument(help="The dataset's name; its next version is made.", show_default=False),
    ],
    train: Annotated[
        str | None,
        typer.Option(
            help="Rows to train on: JSONL, CSV, TSV, Parquet, or hf:org/name@rev[:split].",
            show_default=False,
        ),
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Held-out rows.", show_default=False)
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SOURCE", help="Another split.", show_default=False),
    ] = None,
    eval_share: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=0.9999,
            help="Hold out this share of --train; equal inputs stay on one side.",
            show_default=False,
        ),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Column of a field: input=question, tags.level=grade, reference=answers.text. "
            "Others come from the column of their own name; an id is made of the content.",
            show_default=False,
        ),
    ] = None,
    mapping_file: Annotated[
        Path | None,
        typer.Option("--mapping", help="The same as YAML, field: column.", show_default=False),
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="SPDX expression.", show_default=False)
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="What one row is.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Where the rows come from; default: files and digests.", show_default=False
        ),
    ] = None,
    changes: Annotated[
        str | None, typer.Option(help="What differs from the version before.", show_default=False)
    ] = None,
    prompt_user: Annotated[
        str | None,
        typer.Option(help="The user's turn, with {input} and {context}.", show_default=False),
    ] = None,
    prompt_system: Annotated[
        str | None, typer.Option(help="The system turn.", show_default=False)
    ] = None,
    cohort: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="A tag whose values form cohorts.", show_default=False),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="TAG", help="A tag of rows that depend on each other.", show_default=False
        ),
    ] = None,
    context_from: Annotated[
        str | None,
        typer.Option(help="input, where an output must be faithful to it.", show_default=False),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="otel: spans of production calls, exported as OTLP JSON; default: by the ending.",
            show_default=False,
        ),
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="Subset of a hub set.", show_default=False)
    ] = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Keep the first of rows that stand twice.")
    ] = False,
    root: Annotated[Path, typer.Option(help="Folder of datasets.")] = Path("sample_datasets"),
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a dataset version of rows from elsewhere, every row checked.

    What the card says (licence, prompt, cohorts, ...) is taken from the version before, unless it
    is said anew.

    Example: ftreg data import trivia --train train.csv --eval dev.csv --map input=question
    --map reference=answer --map tags.level=difficulty --cohort level --license CC-BY-4.0
    """
    from ftreg.data.sources.importing import import_version
    from ftreg.data.sources.mapping import listed, parse_mapping

    sources = _sources(train, evaluation, split or [])
    facts: dict[str, Any] = {
        "license": license_,
        "description": description,
        "source": source,
        "changes": changes,
        "cohorts": cohort,
        "cluster": cluster,
        "context_from": context_from,
    }
    if prompt_user is not None:
        facts["prompt"] = {"user": prompt_user, "system": prompt_system}
    elif prompt_system is not None:
        raise UsageError("--prompt-system needs --prompt-user; the two make one prompt")
    with Bars(quiet=quiet) as bars:
        made = import_version(
            name,
            sources,
            root=root,
            mapping=parse_mapping(mapping or [], mapping_file),
            facts={key: value for key, value in facts.items() if value is not None},
            eval_share=eval_share,
            drop_duplicates=drop_duplicates,
            subset=subset,
            form=form,
            advance=bars.progress,
        )
        for where, columns in made.ignored.items():
            if columns:
                bars.notice(f"{where}: columns that were not taken: {listed(columns)}")
    counts = ", ".join(f"{where} {rows} rows" for where, rows in made.rows.items())
    dropped = f" ({made.dropped} that stood twice were dropped)" if made.dropped else ""
    value: PrintedImporting = {
        "schema_version": PRINTED_SCHEMA,
        "version": str(made.ref),
        "folder": str(made.folder),
        "rows": dict(made.rows),
        "dropped": made.dropped,
        "ignored_columns": dict(made.ignored),
    }
    options.show(as_json, value=value, text=f"{made.ref}: {counts}{dropped}\n{made.folder}")


def _sources(train: str | None, evaluation: str | None, others: list[str]) -> dict[str, str]:
    sources = {"train": train, "eval": evaluation}
    for item in others:
        where, equals, text = item.partition("=")
        if not equals or not where.replace("_", "").replace("-", "").isalnum():
            raise UsageError(f"--split {item}: write NAME=SOURCE, as in --split test=test.jsonl")
        if sources.get(where) is not None:
            raise UsageError(f"--split {item}: the split {where} is given twice")
        sources[where] = text
    given = {where: text for where, text in sources.items() if text is not None}
    if not given:
        raise UsageError("there is nothing to import; name --train, --eval or --split NAME=SOURCE")
    return given
