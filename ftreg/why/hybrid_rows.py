"""Training rows between two dataset versions: blocks of differences, and mixed versions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftreg.data import DatasetVersion, load_dataset
from ftreg.data.card import Card
from ftreg.data.row_checks import fingerprint, row_of
from ftreg.data.versions import write_card
from ftreg.files.store import canonical_json, file_digest, staged_folder, write_jsonl
from ftreg.records.samples import Example
from ftreg.why.factors import Factor

PROMPT = "dataset.prompt"
_ROWS = "dataset.rows"


@dataclass(frozen=True, slots=True)
class RowDifference:
    """The training rows that differ between two versions, by kind, in order.

    `moved` maps the id of a changed or removed row to its position in the old version.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: dict[str, int]


def row_difference(good: DatasetVersion, bad: DatasetVersion, split: str) -> RowDifference:
    """Compare the rows of a split by id, keeping a digest of each."""
    known = {
        example.id: (position, _digest(example))
        for position, example in enumerate(good.split(split))
    }
    places = {name: position for name, (position, _) in known.items()}
    added, changed = [], []
    for example in bad.split(split):
        found = known.pop(example.id, None)
        if found is None:
            added.append(example.id)
        elif found[1] != _digest(example):
            changed.append(example.id)
    removed = tuple(known)
    moved = {name: places[name] for name in (*removed, *changed)}
    return RowDifference(tuple(added), removed, tuple(changed), moved)


def row_factors(
    good: DatasetVersion, bad: DatasetVersion, difference: RowDifference, *, blocks: int
) -> list[Factor]:
    """Return the differences between two versions as factors: the prompt, and blocks of rows.

    Args:
        good: one version.
        bad: the other.
        difference: between their training rows.
        blocks: the maximum number of blocks; each kind of difference has at least one.
    """
    found = []
    if good.card.prompt != bad.card.prompt:
        found.append(Factor(PROMPT, good.card.prompt.model_dump(), bad.card.prompt.model_dump()))
    kinds = {
        "added": difference.added,
        "removed": difference.removed,
        "changed": difference.changed,
    }
    total = sum(map(len, kinds.values()))
    for kind, names in kinds.items():
        if names:
            count = min(len(names), max(1, round(blocks * len(names) / total)))
            found += _blocks(kind, names, count)
    return found


def _blocks(kind: str, names: Sequence[str], count: int) -> Iterator[Factor]:
    """Cut rows of one kind into blocks of about the same size."""
    for number in range(count):
        block = tuple(names[len(names) * number // count : len(names) * (number + 1) // count])
        key = f"{_ROWS}.{kind}" + (f".{number + 1}" if count > 1 else "")
        said = f"{block[0]} ... {block[-1]} ({len(block)} rows)"
        good, bad = {"added": (None, said), "removed": (said, None)}.get(kind, ("as before", said))
        yield Factor(key, good, bad, rows=block)


def write_hybrid_rows(
    root: Path,
    good: DatasetVersion,
    bad: DatasetVersion,
    split: str,
    *,
    difference: RowDifference,
    chosen: Sequence[Factor],
    name: str,
) -> str:
    """Write a dataset version with some factors at their bad level, unless it already exists.

    Its rows are in the order of the bad version; those that the bad version removed come last.

    Args:
        root: the folder of datasets to write it in.
        good: the version that provides card, prompt and other splits.
        bad: the version that provides the chosen factors.
        split: the training split.
        difference: between the two, in this split.
        chosen: factors from `row_factors`.
        name: the name of the new dataset.

    Returns:
        `name@1`.
    """
    folder = root / name / "v1"
    if not folder.is_dir():
        keys = {factor.key for factor in chosen}
        rows = frozenset(row for factor in chosen for row in factor.rows)
        with staged_folder(folder) as staging:
            splits = {}
            for other, entry in good.card.splits.items():
                examples: Iterator[Example] = (
                    _mixed(good, bad, split, difference=difference, rows=rows)
                    if other == split
                    else iter(good.split(other))
                )
                path = staging / entry.file
                write_jsonl(path, map(row_of, examples))
                with path.open("rb") as stream:
                    count = sum(1 for _ in stream)
                splits[other] = entry.model_copy(
                    update={"rows": count, "sha256": file_digest(path)}
                )
            prompt = (bad if PROMPT in keys else good).card.prompt
            changes = f"{good.ref} with {', '.join(sorted(keys))} of {bad.ref}"
            card = good.card.model_copy(
                update={
                    "name": name,
                    "version": 1,
                    "prompt": prompt,
                    "changes": changes,
                    "splits": splits,
                    "recipe": None,
                }
            )
            write_card(staging, Card.model_validate(card.model_dump()))
    return str(load_dataset(f"{name}@1", root=root).ref)


def _mixed(
    good: DatasetVersion,
    bad: DatasetVersion,
    split: str,
    *,
    difference: RowDifference,
    rows: frozenset[str],
) -> Iterator[Example]:
    """Yield the rows of the good version, except for `rows`, which come from the bad version."""
    old, added, changed = good.split(split), set(difference.added), set(difference.changed)
    for example in bad.split(split):
        if example.id in rows or example.id not in added | changed:
            yield example
        elif example.id in changed:
            yield old[difference.moved[example.id]]
    for name in difference.removed:
        if name not in rows:
            yield old[difference.moved[name]]


def _digest(example: Example) -> bytes:
    return fingerprint(canonical_json(row_of(example)))
