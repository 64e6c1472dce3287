"""`ftreg verify`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.verify import RecomputedVerdict


@command
def verify(
    statement: Annotated[Path, typer.Argument(help="What `ftreg gate --attest` wrote.")],
    key: Annotated[
        Path | None,
        typer.Option(help="Public key (PEM) that must have signed it."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Recompute an attested verdict, and check every file it names.

    Exits with 0 if everything agrees, 3 if the signature, a file or the verdict differs, or if the
    scores are missing.

    Example: ftreg verify verdict.json
    """
    from ftreg.jobs.verify import verify

    result = verify(statement, key=key, workspace=Workspace.current())
    options.show(as_json, value=result, text="\n".join(_lines(result)))
    raise typer.Exit(int(result.exit_code))


def _lines(result: "RecomputedVerdict") -> Iterator[str]:
    if result.reasons:
        yield "not verified:"
        yield from (f"  {reason}" for reason in result.reasons)
    else:
        yield f"verified: {result.stated}, recomputed from the stored scores, byte for byte"
    if result.candidate is None:
        return
    counts = Counter(result.files.values())
    yield f"  candidate: {result.candidate}"
    yield f"  signature: {f'key {result.signed_by}' if result.signed_by else 'none'}"
    numbers = (f"{counts['equal']} equal", f"{counts['differs']} differ")
    yield f"  files: {', '.join(numbers)}, {counts['absent']} not here"
    absent = [name for name, state in result.files.items() if state == "absent"]
    yield from (f"    not here: {name}" for name in absent)
