"""Write the model card of a checkpoint from its manifest and its last verdict."""

import contextlib
from pathlib import Path

from ftreg.errors import UsageError
from ftreg.files.store import write_text
from ftreg.jobs.gate import held_against, last_gate
from ftreg.records.checkpoint import checkpoint_name, read_checkpoint
from ftreg.records.evaluation.listing import listed_evaluations
from ftreg.records.evaluation.stored import Evaluation, read_evaluation
from ftreg.records.workspace import Workspace

CARD_FILE = "README.md"


def write_model_card(folder: Path, *, workspace: Workspace, output: Path | None = None) -> Path:
    """Write the card of a checkpoint, in the hub's form.

    Args:
        folder: the checkpoint's.
        workspace: the card includes its newest evaluation of the checkpoint, with the last verdict.
        output: the file; None is `README.md` in the folder.

    Returns:
        The file that was written.

    Raises:
        UsageError: there is no checkpoint, a record is damaged, or the file already exists and was
            not written by ftreg.
    """
    from ftreg.report.hub_card import model_card

    checkpoint = read_checkpoint(folder)
    path = output or folder / CARD_FILE
    _refuse_to_overwrite(path)
    evaluation = _newest(checkpoint.manifest.identity, workspace)
    gate = None if evaluation is None else last_gate(evaluation)
    if gate is not None and not gate.of_these_scores:
        gate = None
    baseline = None
    if gate is not None and evaluation is not None:
        baseline = held_against(gate.baseline, evaluation, workspace=workspace)
    text = model_card(
        checkpoint_name(folder),
        checkpoint.manifest,
        evaluation=None if evaluation is None else evaluation.header,
        verdict=None if gate is None else gate.verdict,
        baseline=None if baseline is None else baseline.header,
    )
    write_text(path, text)
    return path


def _refuse_to_overwrite(path: Path) -> None:
    """Refuse to overwrite a user's file; peft's placeholder card may be replaced."""
    if not path.is_file():
        return
    found = path.read_text(encoding="utf-8", errors="replace")
    if "Made by ftreg from the manifest" not in found and "[More Information Needed]" not in found:
        raise UsageError(
            f"{path}: this file already exists, and was not written by ftreg; name another with "
            "--output, or move it away"
        )


def _newest(identity: str, workspace: Workspace) -> Evaluation | None:
    """Return the newest evaluation of a checkpoint, skipping damaged ones."""
    for listed in reversed(listed_evaluations(workspace.evaluations)):
        if listed.header and listed.header["checkpoint"]["identity"] == identity:
            with contextlib.suppress(UsageError):
                return read_evaluation(listed.folder)
    return None
