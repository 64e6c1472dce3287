"""Find the rows that a checkpoint was trained on."""

from pathlib import Path

from ftreg.data import DatasetVersion, Split, load_dataset
from ftreg.errors import UsageError
from ftreg.records.manifest import Manifest


def trained_on(manifest: Manifest, *, root: Path | None = None) -> tuple[DatasetVersion, Split]:
    """Open the dataset version that a checkpoint was trained on, and its training rows.

    Args:
        manifest: the checkpoint's.
        root: a folder of datasets, for a version missing from that of the training.

    Raises:
        UsageError: they are no longer available, or have changed.
    """
    recorded = manifest.dataset
    try:
        dataset = load_dataset(recorded.version, root=Path(manifest.config.dataset.root))
    except UsageError:
        if root is None:
            raise
        dataset = load_dataset(recorded.version, root=root)
    split = dataset.card.splits.get(recorded.split)
    if split is None or split.sha256 != recorded.split_sha256:
        raise UsageError(f"{dataset.folder}: these are not the rows of the training")
    return dataset, dataset.split(recorded.split)[: recorded.rows]
