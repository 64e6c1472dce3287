"""`ftreg parity`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.parity import Parity


@command
def parity(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder, or its name.", autocompletion=completion.checkpoints
        ),
    ],
    artefact: Annotated[
        str, typer.Argument(help="A GGUF file, or the address of a llama.cpp server.")
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset version whose prompts are compared; default: that of the training.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Folder with the base model of adapters, where it moved.")
    ] = None,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare a served artefact with its checkpoint: tokens, ends, weights.

    Exits with 0 if they agree, 3 if they do not; shows the first difference of each kind with its
    likely cause.

    Example: ftreg parity lion lion-q8_0.gguf
    """
    from ftreg.jobs.parity import compare_artefact

    folder = Workspace.current().checkpoint(checkpoint)
    with Bars(quiet=quiet) as bars:
        found = compare_artefact(folder, artefact, dataset=dataset, base=base, events=bars)
    options.show(as_json, value=found, text="\n".join(_lines(found)))
    raise typer.Exit(int(found.exit_code))


def _lines(found: "Parity") -> Iterator[str]:
    precision = f", {found.precision}" if found.precision else ""
    checked = f"{found.prompts} prompts{precision}"
    nats = "" if found.nats is None else f"; log-probabilities {found.nats:.2g} nats apart"
    if found.alike:
        yield f"alike: {found.artefact} reads and ends as {found.checkpoint} ({checked}{nats})"
        return
    yield f"not alike: {found.artefact} is not {found.checkpoint} ({checked}{nats})"
    for item in found.findings:
        count = f" ({item.prompts} prompts)" if item.prompts > 1 else ""
        yield f"  {item.cause}{count}: {item.where}"
        yield f"    trained: {item.trained}"
        yield f"    served:  {item.served}"
        width = max((len(ours) for _, ours, _ in item.tokens), default=0)
        for place, ours, theirs in item.tokens:
            mark = " " if ours == theirs else "!"
            yield f"    {mark} {place:>5}  {ours:<{width}}  {theirs}"
