"""The plot of a run: loss, learning rate, gradient norm and step size by step, as SVG."""

from collections.abc import Sequence

from ftreg.files.store import damaged
from ftreg.records.checkpoint import Checkpoint
from ftreg.report import phrases
from ftreg.report.curves import HINT, panels
from ftreg.report.history import HISTORY, Step, read_steps
from ftreg.report.picture import picture


def draw_history(history: Sequence[Step], *, title: str) -> str:
    """Draw a run's steps with the panels of the HTML report, and return the SVG.

    Args:
        history: the lines of `history.jsonl`, at least one.
        title: the heading; lines after the first are smaller.

    Raises:
        KeyError, TypeError, ValueError: a line is not part of a history, or there is none.
    """
    if not history:
        raise ValueError("the history has no steps to draw")
    heading, *subtitles = title.split("\n")
    drawn = panels({"candidate": history}, per_rate=True)
    validated = any(curve.kind for curve in drawn[0].curves)
    key = {"candidate": "training", "candidate validation": "validation"} if validated else None
    return picture(heading, drawn, columns=2, subtitles=subtitles, key=key, hint=HINT)


def draw_checkpoint(checkpoint: Checkpoint) -> str:
    """Draw a checkpoint's own `history.jsonl`.

    Raises:
        UsageError: the file is missing, or is not a history.
    """
    manifest = checkpoint.manifest
    recipe = {"optimizer": manifest.optimizer["name"], "lr": manifest.optimizer["arguments"]["lr"]}
    training = manifest.training
    title = (
        f"{phrases.recipe(recipe)}\n{manifest.dataset.version}, {training.steps:,} "
        f"{'step' if training.steps == 1 else 'steps'} of {training.batch_size} examples, "
        f"{training.tokens:,} tokens, {training.precision}"
    )
    if said := phrases.validation_sentence(manifest):
        title += f"\n{said}"
    with damaged(checkpoint.folder / HISTORY, kind="history"):
        return draw_history(read_steps(checkpoint.folder), title=title)
