"""Shell completion. It only reads folder names, so that it is fast."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ftreg.records.workspace import REFERENCE_WORDS, Workspace


def checkpoints(incomplete: str) -> Iterator[str]:
    """Yield the names of the workspace's checkpoints."""
    return _beginning(incomplete, _folders(Workspace.current().checkpoints))


def evaluations(incomplete: str) -> Iterator[str]:
    """Yield the ids of the workspace's evaluations, and `latest`."""
    return _beginning(incomplete, ["latest", *_folders(Workspace.current().evaluations)])


def references(incomplete: str) -> Iterator[str]:
    """Yield the values of `REF`: keywords and evaluation ids."""
    return _beginning(incomplete, [*REFERENCE_WORDS, *_folders(Workspace.current().evaluations)])


def datasets(incomplete: str) -> Iterator[str]:
    """Yield the dataset versions below the default folder, as name@N."""
    found = sorted(Path("sample_datasets").glob("*/v*/dataset.yaml"))
    names = (f"{path.parent.parent.name}@{path.parent.name[1:]}" for path in found)
    return _beginning(incomplete, names)


def cache_kinds(incomplete: str) -> Iterator[str]:
    """Yield the kinds of `ftreg clean`."""
    from ftreg.jobs.clean import KINDS

    return _beginning(incomplete, KINDS)


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("[!.]*/"))


def _beginning(incomplete: str, names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if name.startswith(incomplete))
