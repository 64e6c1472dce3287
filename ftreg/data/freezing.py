"""Edit a dataset: copy a version into a draft, and freeze the draft as the next version."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftreg.config.load import validate
from ftreg.data.card import Card
from ftreg.data.dataset import load_dataset
from ftreg.data.reference import DatasetRef, find_folder, parse_ref
from ftreg.data.row_checks import read_examples
from ftreg.data.versions import (
    CARD,
    MadeVersion,
    RowChecks,
    newest,
    next_version,
    write_card,
)
from ftreg.errors import UsageError
from ftreg.files import marked_yaml
from ftreg.files.marked_yaml import Document
from ftreg.files.store import file_digest, staged_folder

_UNCOMPARED = {"version", "changes"}


def draft(ref: str, folder: Path | None = None, *, root: Path) -> Path:
    """Copy a version into a folder to edit, and return the folder.

    Args:
        ref: `name@N`.
        folder: the folder to create; None is `<root>/<name>/draft`.
        root: the folder of datasets.

    Raises:
        UsageError: no such version, its files do not match its card, or the folder exists.
    """
    dataset = load_dataset(ref, root=root)
    target = folder or root / dataset.ref.name / "draft"
    with staged_folder(target) as staging:
        for name, split in dataset.card.splits.items():
            dataset.verify(name)
            shutil.copyfile(dataset.folder / split.file, staging / split.file)
        # A recipe makes the rows of its own version, not of an edited one.
        write_card(staging, dataset.card.model_copy(update={"recipe": None, "changes": ""}))
    return target


def freeze(given: str, *, root: Path, changes: str | None = None) -> MadeVersion:
    """Make the next version from a draft; the draft is unchanged.

    The draft is a folder with `dataset.yaml` and a JSONL file per split. Version, row counts and
    digests in its card are ignored. A JSONL file that the card does not name is a new split.

    Args:
        given: the draft's folder, or `name@N` for a version that was edited in place.
        root: the folder of datasets.
        changes: the changes since the previous version; None takes them from the card.

    Raises:
        UsageError: the card or a row is invalid, or nothing differs from the newest version.
    """
    if not Path(given).is_dir() and "@" not in given:
        raise UsageError(
            f"{given}: there is no such folder; `ftreg data draft NAME@N` makes a draft"
        )
    folder = Path(given) if Path(given).is_dir() else find_folder(parse_ref(given), root)
    document = marked_yaml.read(folder / CARD)
    if document.data.get("recipe") is not None:
        raise UsageError(
            f"{document.marks[('recipe',)]}: a recipe makes the rows of its own version; remove "
            "the line to freeze these rows, or write a version for the changed recipe by hand"
        )
    name = document.data.get("name")
    if not isinstance(name, str):
        raise UsageError(f"{folder / CARD}: name is missing; it is the dataset's name")
    files = _files(folder, document.data.get("splits"))
    with next_version(name, root) as ref, staged_folder(ref.folder(root)) as staging:
        for file in files.values():
            # The copy is checked, since an editor may save the draft meanwhile.
            shutil.copyfile(folder / file, staging / file)
        card = _card(ref, document, files, folder, changes=changes)
        checks = RowChecks(card)
        splits = {}
        for split, file in files.items():
            count = 0
            for example in _examples(staging / file, folder / file):
                count += 1
                checks.check(example, split=split, place=f"{folder / file}: row {example.id!r}")
            if not count:
                raise UsageError(f"{folder / file}: the split {split} has no row")
            digest = file_digest(staging / file)
            splits[split] = card.splits[split].model_copy(update={"rows": count, "sha256": digest})
        checks.finish(where=str(folder / CARD))
        card = card.model_copy(update={"splits": splits})
        _refuse_unchanged(card, folder, root)
        write_card(staging, card)
    rows = {split: entry.rows for split, entry in splits.items()}
    return MadeVersion(version=str(ref), folder=ref.folder(root), rows=rows)


def _files(folder: Path, splits: Any) -> dict[str, str]:
    """Return split to file: the splits of the card, and one for each other JSONL file."""
    named = {}
    for split, entry in splits.items() if isinstance(splits, Mapping) else ():
        file = entry.get("file") if isinstance(entry, Mapping) else None
        named[str(split)] = file if isinstance(file, str) else f"{split}.jsonl"
    for split, file in named.items():
        if Path(file).name != file or not (folder / file).is_file():
            raise UsageError(
                f"{folder / file}: this file of the split {split} is missing; restore it, or "
                f"remove the split from {folder / CARD}"
            )
    others = {
        path.stem: path.name
        for path in sorted(folder.glob("[!.]*.jsonl"))
        if path.name not in named.values()
    }
    if not named and not others:
        raise UsageError(f"{folder}: no JSONL file to freeze")
    return {**named, **others}


def _card(
    ref: DatasetRef,
    document: Document,
    files: Mapping[str, str],
    folder: Path,
    *,
    changes: str | None,
) -> Card:
    """Return the draft's card with the new version number, without row counts and digests."""
    entries = {
        split: {"file": file, "rows": 1, "sha256": "0" * 64} for split, file in files.items()
    }
    said = {**document.data, "version": ref.version, "splits": entries}
    if changes is not None:
        said["changes"] = changes
    return validate(Card, Document(said, document.marks), where=str(folder / CARD))


def _examples(copy: Path, original: Path) -> Iterator[Any]:
    """Yield the checked examples of a copy, with the original's name in messages."""
    try:
        yield from read_examples(copy)
    except UsageError as error:
        raise UsageError(str(error).replace(str(copy), str(original))) from error


def _refuse_unchanged(card: Card, folder: Path, root: Path) -> None:
    before = newest(card.name, root)
    if before is None:
        return
    old = load_dataset(before, root=root).card
    excluded = _UNCOMPARED | {"recipe"}
    if card.model_dump(exclude=excluded) == old.model_dump(exclude=excluded):
        raise UsageError(f"{folder}: nothing differs from {before}; there is nothing to freeze")
