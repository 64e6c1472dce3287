"""Whether an artefact claims to come from a checkpoint, and matches its own manifest."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ftreg.errors import shown
from ftreg.files.store import file_digest
from ftreg.records.artefact import (
    CHECKPOINT_KEY,
    ArtefactRecord,
    ParityFinding,
    is_as_recorded,
)
from ftreg.records.checkpoint import Checkpoint


def origin_differences(
    checkpoint: Checkpoint,
    record: ArtefactRecord | None,
    *,
    paths: Iterable[Path],
    said: str | None = None,
) -> Iterator[ParityFinding]:
    """Yield the false claims that an artefact makes about its origin.

    Args:
        checkpoint: the expected one.
        record: the artefact's manifest, if it has one.
        paths: its files.
        said: the identity in its metadata.
    """
    identity = checkpoint.manifest.identity
    named = {"its manifest": record.checkpoint if record else None, CHECKPOINT_KEY: said}
    for place, other in named.items():
        if other is not None and other != identity:
            yield ParityFinding(
                cause="a stale artefact",
                where=f"the checkpoint that {place} names",
                trained=identity[:12],
                served=shown(other[:12]),
            )
    if record is not None and not is_as_recorded(record, map(file_digest, paths)):
        yield ParityFinding(
            cause="a stale artefact",
            where="the digests of its files",
            trained="those of its manifest",
            served="others: a file has changed since it was exported",
        )
