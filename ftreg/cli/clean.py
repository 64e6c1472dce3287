"""`ftreg clean`."""

from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.errors import UsageError
from ftreg.records.workspace import Workspace

_Kinds = Annotated[
    list[str] | None,
    typer.Argument(
        help="What to look at: arrow, prepared, outputs, judge, vectors, digests, records, ways, "
        "leftovers; wheels, models and states only if named. Default: all but these three.",
        autocompletion=completion.cache_kinds,
    ),
]
_OlderThan = Annotated[
    str | None,
    typer.Option(metavar="AGE", help="Remove entries not used for this long: 12h, 30d, 2w."),
]
_MaxSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Remove least recently used entries until the kinds fit: 2GiB.",
    ),
]
_All = Annotated[bool, typer.Option("--all", help="Remove all entries of these kinds.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Remove nothing; list what would go.")]


@command
def clean(
    kinds: _Kinds = None,
    older_than: _OlderThan = None,
    max_size: _MaxSize = None,
    everything: _All = False,
    dry_run: _DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """List the caches; remove what you name and what killed runs left.

    Without --older-than, --max-size or --all it removes only leftovers: partial files and folders
    untouched for an hour, and locks nobody holds. What another process uses is kept.

    Example: ftreg clean --older-than 30d --dry-run
    """
    from ftreg.files.cache.folder import parse_size, size_text
    from ftreg.jobs.clean import KINDS, clean, parse_age
    from ftreg.report.terminal import rows_view

    if everything and (older_than is not None or max_size is not None):
        raise UsageError("--all removes entries of any age and size; remove the other option")
    try:
        size = None if max_size is None else parse_size(max_size)
    except UsageError as error:
        raise UsageError(f"--max-size: {error}") from error
    found = clean(
        Workspace.current(),
        kinds=kinds or (),
        older_than=None if older_than is None else parse_age(older_than),
        max_size=size,
        everything=everything,
        dry_run=dry_run,
    )
    gone = "would free" if dry_run else "freed"
    rows = [
        {
            "kind": item.kind,
            "entries": item.entries,
            "size": size_text(item.size),
            "limit": "" if item.limit is None else size_text(item.limit),
            gone: size_text(item.freed) if item.removed else "",
            "what it is": KINDS[item.kind],
        }
        for item in found.kinds
    ]
    options.show(
        as_json,
        value=found,
        text=rows_view("Caches, which can be rebuilt", rows),
    )
    for item in found.kinds:
        for path in item.kept:
            typer.echo(f"in use, or cannot be removed: {path}", err=True)
