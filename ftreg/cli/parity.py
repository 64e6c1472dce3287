"""`ftreg parity`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.errors import UsageError
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
        str,
        typer.Argument(help="A GGUF file, a folder of merged weights, or the address of a server."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset version whose prompts are compared; default: that of the training.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model on a server that has several.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the server's key.")
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
    from ftreg.jobs.parity import RunningServer, compare_artefact

    folder = Workspace.current().checkpoint(checkpoint)
    running = artefact.startswith(("http://", "https://"))
    if not running and (model or api_key_env):
        raise UsageError("--model and --api-key-env need the address of a server")
    what = RunningServer(artefact, model, api_key_env) if running else Path(artefact)
    with Bars(quiet=quiet) as bars:
        found = compare_artefact(folder, what, dataset=dataset, base=base, events=bars)
    options.show(as_json, value=found, text="\n".join(_lines(found)))
    raise typer.Exit(int(found.exit_code))


def _lines(found: "Parity") -> Iterator[str]:
    precision = f", {found.precision}" if found.precision else ""
    checked = f"{found.prompts} prompts{precision}"
    nats = "" if found.nats is None else f"; log-probabilities {found.nats:.2g} nats apart"
    untold = ", ".join(found.not_compared)
    unseen = f"  not compared, as the server does not tell: {untold}"
    if found.alike:
        yield f"alike: {found.artefact} reads and ends as {found.checkpoint} ({checked}{nats})"
        yield from [unseen] * bool(untold)
        return
    yield f"not alike: {found.artefact} is not {found.checkpoint} ({checked}{nats})"
    yield from [unseen] * bool(untold)
    for item in found.findings:
        count = f" ({item.prompts} prompts)" if item.prompts > 1 else ""
        yield f"  {item.cause}{count}: {item.where}"
        yield f"    trained: {item.trained}"
        yield f"    served:  {item.served}"
        width = max((len(ours) for _, ours, _ in item.tokens), default=0)
        for place, ours, theirs in item.tokens:
            mark = " " if ours == theirs else "!"
            yield f"    {mark} {place:>5}  {ours:<{width}}  {theirs}"
