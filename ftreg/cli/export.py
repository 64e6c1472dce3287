"""`ftreg export`."""

from pathlib import Path
from typing import Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.records.workspace import Workspace


@command
def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder, or its name.", autocompletion=completion.checkpoints
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The GGUF file, or the folder, to write.")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="merged, or gguf: with a precision, as gguf:q8_0 (f32, f16, bf16, q8_0, q4_0)."
        ),
    ] = "gguf:f16",
    base: Annotated[
        str | None, typer.Option(help="Folder with the base model of adapters, where it moved.")
    ] = None,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a checkpoint as a GGUF file, or as a folder with adapters merged.

    A manifest beside it says which checkpoint it is of; `ftreg parity` holds the two together.

    Example: ftreg export lion --to gguf:q8_0 -o lion-q8_0.gguf
    """
    from ftreg.jobs.export import export

    folder = Workspace.current().checkpoint(checkpoint)
    with Bars(quiet=quiet) as bars:
        found = export(folder, to=to, output=output, base=base, events=bars)
    size = found.record.bytes / 1e6
    options.show(
        as_json,
        value=found,
        text=f"{found.artefact} ({found.record.precision}, {size:.1f} MB)\n{found.manifest}",
    )
