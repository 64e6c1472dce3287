"""`ftreg reproduce`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.errors import UsageError
from ftreg.records.checkpoint import read_checkpoint
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.same_weights import Reproduction


@command
def reproduce(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder, or its name.",
            show_default=False,
            autocompletion=completion.checkpoints,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Keep the new checkpoint in this folder.", show_default=False
        ),
    ] = None,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a checkpoint again from its manifest, and compare the weights bit for bit.

    Ends with 0 where they are equal, 1 where they differ though the environment is the same, 3
    where they differ in another environment (versions, hardware, threads, processes, commit).

    Example: ftreg reproduce lion
    """
    from ftreg.jobs.reproduce import reproduce as run_reproduction

    folder = Workspace.current().checkpoint(checkpoint)
    leads = int(os.environ.get("RANK", "0")) == 0
    if output is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes train together: name their one --output")
    if leads:
        base = read_checkpoint(folder).manifest.config.base
        options.tell_of_trust([base.model] if base.trust_remote_code else [])
    with Bars(quiet=quiet, silent=not leads) as bars:
        result = run_reproduction(folder, output=output, events=bars)
    if not leads:
        return
    value = result.to_dict(checkpoint=folder, kept=output)
    options.show(as_json, value=value, text="\n".join(_lines(result)))
    raise typer.Exit(int(result.exit_code))


def _lines(result: "Reproduction") -> Iterator[str]:
    distance, losses = result.distance, result.losses
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
    yield from (f"  {key}: {old} -> {new}" for key, old, new in result.settings)
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
            f"  the losses part at step {losses.step}: {losses.recorded} recorded, "
            f"{losses.reproduced} here"
        )
