"""`ftreg rescore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.rescore import Rescoring

_Ref = Annotated[
    str,
    typer.Argument(
        help="An evaluation, latest, baseline, or the file of a baseline.",
        autocompletion=completion.references,
    ),
]
_Root = Annotated[Path | None, typer.Option(help="Folder of datasets; default: the evaluation's.")]
_Thoughts = Annotated[
    Literal["strip", "keep"] | None,
    typer.Option(help="Whether scorers see <think>...</think>; default: as it was evaluated."),
]


@command
def rescore(
    ref: _Ref,
    root: _Root = None,
    thoughts: _Thoughts = None,
    no_custom_code: options.NoCustomCode = False,
    debug: options.Debug = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Score stored outputs again, with the installed scorers.

    The scores go into a new evaluation; the old one is kept. For a baseline, its anchor is rescored
    too, and the file's history keeps the old scores.

    Example: ftreg rescore latest
    """
    from ftreg.jobs.rescore import rescore

    with Bars(quiet=quiet) as events:
        done = rescore(
            ref, workspace=Workspace.current(), root=root, thoughts=thoughts, events=events
        )
    options.show(as_json, value=done, text=_text(done))


def _text(done: "Rescoring") -> str:
    lines = []
    for item in done.evaluations:
        lines.append(f"{item.evaluation}, rescored from {item.rescored_from}")
        for mean in item.scorers:
            before, after = ("none" if m is None else f"{m:.3f}" for m in (mean.before, mean.after))
            missing = f", {mean.missing} missing" if mean.missing else ""
            lines.append(f"  {mean.scorer}: {before} before, {after} now{missing}")
    if done.baseline is not None:
        lines.append(f"{done.baseline} has the new scores")
    return "\n".join(lines)
