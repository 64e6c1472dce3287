"""Names of dataset versions: `code-summary@2` is `<root>/code-summary/v2/`."""

import re
from dataclasses import dataclass
from pathlib import Path

from ftreg.errors import UsageError, did_you_mean
from ftreg.files.finding import found_below
from ftreg.files.names import check_name

# Letters, digits, dot, dash and underscore, beginning with a letter or digit. `check_name` rejects
# those that some file system does not accept.
_PATTERN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)@([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """A dataset's name and version number."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def folder(self, root: Path) -> Path:
        """Return the folder of this version below `root`."""
        return root / self.name / f"v{self.version}"


def parse_ref(text: str) -> DatasetRef:
    """Parse `name@N`.

    Raises:
        UsageError: the text has another format, or is not a valid file name.
    """
    match = _PATTERN.fullmatch(text)
    if not match:
        raise UsageError(
            f"{text!r} does not name a dataset version; write name@N, as in code-summary@2"
        )
    return DatasetRef(check_name(match[1], what="dataset"), int(match[2]))


def list_refs(root: Path) -> list[DatasetRef]:
    """Return every dataset version below `root` that has a card, in order."""
    refs = []
    for card in found_below(root, "*/v*/dataset.yaml"):
        match = _PATTERN.fullmatch(f"{card.parent.parent.name}@{card.parent.name[1:]}")
        if match:
            refs.append(DatasetRef(match[1], int(match[2])))
    return sorted(refs, key=lambda ref: (ref.name, ref.version))


def find_folder(ref: DatasetRef, root: Path) -> Path:
    """Return the folder of a dataset version.

    Raises:
        UsageError: it does not exist; the message lists the existing ones.
    """
    folder = ref.folder(root)
    if not (folder / "dataset.yaml").is_file():
        known = [str(item) for item in list_refs(root)]
        listing = f" There: {', '.join(known)}." if known else " There are no datasets."
        raise UsageError(
            f"{root}: there is no dataset version {ref}{did_you_mean(str(ref), known)}.{listing}"
        )
    return folder
