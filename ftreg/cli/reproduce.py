"""`ftreg reproduce`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg import process
from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.same_weights import Reproduction


@command
def reproduce(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder, or its name.", autocompletion=completion.checkpoints
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the new checkpoint in this folder.")
    ] = None,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a checkpoint again from its manifest, and compare the weights.

    Exits with 0 if they are equal, 1 if they differ in the same environment, 3 if they differ in
    another one (versions, hardware, threads, processes, commit).

    Example: ftreg reproduce lion
    """
    from ftreg.jobs.reproduce import reproduce

    folder = Workspace.current().checkpoint(checkpoint)
    with Bars(quiet=quiet, silent=not process.leads()) as bars:
        result = reproduce(folder, output=output, events=bars)
    if process.leads():
        options.show(as_json, value=result, text="\n".join(_lines(result)))
        raise typer.Exit(int(result.exit_code))


def _lines(result: "Reproduction") -> Iterator[str]:
    distance, losses = result.distance, result.first_loss_difference
    if distance is None:
        yield "reproduced: the weights are equal, bit for bit"
    elif result.outcome == "undecided":
        yield (
            "undecided: the weights differ, and so does the environment; train where the lines "
            "below agree to decide"
        )
    else:
        yield (
            "not reproduced: the weights differ, though the environment is the same: something "
            "is not deterministic, or the manifest is not that of these weights"
        )
    for item in result.differences:
        yield f"  {item.setting}: {item.recorded} -> {item.here}"
    if distance is not None:
        relative = "" if distance.relative_l2 is None else f", L2 {distance.relative_l2:.3g} of it"
        yield f"  weights: at most {distance.max_abs:.3g} apart{relative}"
        yield from (f"  weights: {name} is not in both" for name in distance.unlike)
        yield from (f"  {name} differs" for name, file in result.files.items() if not file.equal)
    if not result.order.equal:
        yield "  the order of the rows differs"
    if losses is None:
        yield "  the losses of all steps are equal"
    else:
        yield (
            f"  the losses differ from step {losses.step}: {losses.recorded} recorded, "
            f"{losses.reproduced} here"
        )
