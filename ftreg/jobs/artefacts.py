"""Find the checkpoint that an artefact was made from."""

from pathlib import Path

from ftreg.errors import UsageError
from ftreg.files.reading import open_input
from ftreg.records.artefact import CHECKPOINT_KEY, read_artefact
from ftreg.records.checkpoint import list_checkpoints
from ftreg.records.workspace import Workspace

_MAGIC = b"GGUF"


def is_artefact(reference: str) -> bool:
    """Whether a reference is a GGUF file, by its name or its first bytes."""
    path = Path(reference)
    if reference.endswith(".gguf") or not path.is_file():
        return reference.endswith(".gguf")
    with open_input(path) as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def checkpoint_of(artefact: Path, *, of: str | None, workspace: Workspace) -> Path:
    """Return the folder of the checkpoint that an artefact was made from.

    Args:
        artefact: a GGUF file.
        of: the checkpoint's folder or name, for a file that does not name it itself.
        workspace: where to search for checkpoints.

    Raises:
        UsageError: there is no such file, or its checkpoint is unknown.
    """
    if not artefact.is_file():
        raise UsageError(f"{artefact}: there is no such file")
    if of is not None:
        return workspace.checkpoint(of)
    from ftreg.models.gguf_reading import GgufFile

    record = read_artefact(artefact)
    identity = record.checkpoint if record else GgufFile(artefact).get(CHECKPOINT_KEY)
    if identity is None:
        raise UsageError(
            f"{artefact} does not say which checkpoint it was made from, as is usual for GGUF "
            "files made elsewhere; name the checkpoint: `ftreg eval FILE.gguf --of CHECKPOINT`"
        )
    for checkpoint in list_checkpoints(workspace.checkpoints):
        if checkpoint.manifest.identity == identity:
            return checkpoint.folder
    raise UsageError(
        f"{artefact} was made from the checkpoint {identity[:12]}, which is not in "
        f"{workspace.checkpoints}; give its folder: `ftreg eval FILE.gguf --of CHECKPOINT`"
    )
