"""Make the files of a dataset version from its recipe."""

import tempfile
from pathlib import Path

from ftreg.data.builders import build_splits
from ftreg.data.dataset import load_dataset
from ftreg.errors import UsageError
from ftreg.files.store import file_digest


def build_version(ref: str, *, root: Path) -> bool:
    """Build the rows of `name@N`, and install them once their digests match the card.

    Returns:
        False if all files existed already and matched the card byte for byte.

    Raises:
        UsageError: the version has no recipe, a source cannot be fetched, or the rows do not match
            the card.
    """
    dataset = load_dataset(ref, root=root)
    card, folder = dataset.card, dataset.folder
    if card.recipe is None:
        raise UsageError(f"{folder}: {ref} has no recipe; its files come with it")
    targets = {name: folder / split.file for name, split in card.splits.items()}
    if all(
        path.is_file() and file_digest(path) == card.splits[name].sha256
        for name, path in targets.items()
    ):
        return False
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-") as scratch:
        made = build_splits(folder / card.recipe, Path(scratch))
        for name, split in card.splits.items():
            found = file_digest(made[name]) if name in made else "nothing"
            if found != split.sha256:
                raise UsageError(
                    f"{folder / card.recipe}: the recipe produces different rows than those of "
                    f"{ref}: {split.file} is {found[:12]}..., and the card says "
                    f"{split.sha256[:12]}..."
                )
        for name, path in targets.items():
            made[name].replace(path)
    return True
