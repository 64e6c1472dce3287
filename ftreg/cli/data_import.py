"""`ftreg data import`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.errors import UsageError

if TYPE_CHECKING:
    from ftreg.data.sources.importing import Imported

_SHOWN = 20
"""The number of unreadable rows that are listed with reasons."""

Name = Annotated[str, typer.Argument(help="The dataset's name; its next version is made.")]
Train = Annotated[
    str | None,
    typer.Option(help="Rows to train on: JSONL, CSV, TSV, Parquet, or hf:org/name@rev[:split]."),
]
Evaluation = Annotated[str | None, typer.Option("--eval", help="Held-out rows.")]
OtherSplits = Annotated[
    list[str] | None, typer.Option(metavar="NAME=SOURCE", help="Another split.")
]
EvalShare = Annotated[
    float | None,
    typer.Option(
        min=0.0001,
        max=0.9999,
        help="Hold out this share of --train; equal inputs stay on one side.",
    ),
]
Mapped = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="[SPLIT:]FIELD=COLUMN",
        help="Column of a field: input=question, tags.level=grade, reference=answers.text, "
        "messages=turns, eval:input=messages[-1].content. Others come from the column of their own "
        "name; an id is made of the content.",
    ),
]
MappingFile = Annotated[
    Path | None, typer.Option("--mapping", help="The same as a YAML file, field: column.")
]
License = Annotated[str | None, typer.Option("--license", help="SPDX expression.")]
Description = Annotated[str | None, typer.Option(help="What one row is.")]
Origin = Annotated[
    str | None, typer.Option(help="Where the rows come from; default: files and digests.")
]
Changes = Annotated[str | None, typer.Option(help="What differs from the version before.")]
PromptUser = Annotated[
    str | None, typer.Option(help="The user's turn, with {input} and {context}.")
]
PromptSystem = Annotated[str | None, typer.Option(help="The system turn.")]
Cohorts = Annotated[
    list[str] | None, typer.Option(metavar="TAG", help="A tag whose values form cohorts.")
]
Cluster = Annotated[
    str | None, typer.Option(metavar="TAG", help="A tag of rows that depend on each other.")
]
ContextFrom = Annotated[
    str | None, typer.Option(help="input, where an output must be faithful to it.")
]
Form = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="otel: spans of production calls, exported as OTLP JSON; default: by the ending.",
    ),
]
Subset = Annotated[str | None, typer.Option(help="Subset of a hub set.")]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="Keep only the first of duplicate rows.")
]
DropUnreadable = Annotated[
    bool, typer.Option("--drop-unreadable", help="Skip rows that cannot be read, and say why.")
]


@command
def import_rows(
    name: Name,
    train: Train = None,
    evaluation: Evaluation = None,
    split: OtherSplits = None,
    eval_share: EvalShare = None,
    mapping: Mapped = None,
    mapping_file: MappingFile = None,
    license_: License = None,
    description: Description = None,
    source: Origin = None,
    changes: Changes = None,
    prompt_user: PromptUser = None,
    prompt_system: PromptSystem = None,
    cohort: Cohorts = None,
    cluster: Cluster = None,
    context_from: ContextFrom = None,
    form: Form = None,
    subset: Subset = None,
    drop_duplicates: DropDuplicates = False,
    drop_unreadable: DropUnreadable = False,
    root: options.DatasetRoot = options.DATASET_ROOT,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a dataset version from a file or a hub dataset, checking each row.

    The card (licence, prompt, cohorts, ...) is copied from the version before, except for what you
    set.

    Example: ftreg data import trivia --train train.csv --eval dev.csv --map input=question
    --map reference=answer --map tags.level=difficulty --cohort level --license CC-BY-4.0
    """
    from ftreg.data.sources.importing import import_version
    from ftreg.data.sources.mapping import parse_mapping

    sources = _sources(train, evaluation, split or [])
    facts: dict[str, Any] = {"license": license_, "description": description, "source": source}
    facts |= {"changes": changes, "cohorts": cohort, "cluster": cluster}
    facts |= {"context_from": context_from, "prompt": _prompt(prompt_user, prompt_system)}
    with Bars(quiet=quiet) as bars:
        made = import_version(
            name,
            sources,
            root=root,
            mapping=parse_mapping(mapping or [], mapping_file),
            facts=facts,
            eval_share=eval_share,
            drop_duplicates=drop_duplicates,
            drop_unreadable=drop_unreadable,
            subset=subset,
            form=form,
            advance=bars.progress,
        )
        for line in _notices(made):
            bars.notice(line)
    counts = ", ".join(f"{where} {rows} rows" for where, rows in made.rows.items())
    dropped = f" ({made.dropped} duplicates dropped)" if made.dropped else ""
    options.show(as_json, value=made, text=f"{made.version}: {counts}{dropped}\n{made.folder}")


def _notices(made: "Imported") -> Iterator[str]:
    """Yield notices about the rows."""
    from ftreg.data.cohorts import hidden_contexts
    from ftreg.data.sources.mapping import listed

    for where, columns in made.ignored_columns.items():
        if columns:
            yield f"{where}: unused columns: {listed(columns)}"
    yield from made.notes
    if made.unreadable:
        yield f"unreadable rows skipped: {made.unreadable}"
        yield from made.reasons[:_SHOWN]
        if made.unreadable > _SHOWN:
            yield f"and {made.unreadable - _SHOWN} more; --json has the first hundred"
    if made.hidden_contexts:
        yield hidden_contexts(made.hidden_contexts)


def _prompt(user: str | None, system: str | None) -> dict[str, str | None] | None:
    if user is None and system is not None:
        raise UsageError("--prompt-system needs --prompt-user; together they are the prompt")
    return None if user is None else {"user": user, "system": system}


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
        raise UsageError("there is nothing to import; use --train, --eval or --split NAME=SOURCE")
    return given
