"""Open a dataset version: digests and rows are checked, and rows are memory-mapped from Arrow."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import pyarrow as pa
from filelock import FileLock

from ftreg.data.card import Card, read_card
from ftreg.data.digests import remembered_digest
from ftreg.data.reference import DatasetRef, find_folder, parse_ref
from ftreg.data.row_checks import read_examples
from ftreg.errors import UsageError
from ftreg.files.cache.entries import trim
from ftreg.files.cache.folder import cache_folder, limit_of, touch
from ftreg.files.cache.sealed import is_whole, seal_of, written_whole
from ftreg.files.store import file_digest
from ftreg.records.samples import Example

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("input", pa.string()),
        ("references", pa.list_(pa.string())),
        ("context", pa.string()),
        ("tags", pa.string()),  # JSON: rows need not have the same tags
        ("critical", pa.bool_()),
        ("messages", pa.string()),  # JSON, and null where the row is no chat
        ("tools", pa.string()),
    ]
)
_BATCH = 1000
# Part of the cache key: increment it when the columns or the checks on rows change.
_CACHE_FORMAT = 2


class Split(Sequence[Example]):
    """The examples of one split, memory-mapped from an Arrow file.

    Indexing reads one row; slicing gives a Split over the same file.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Split": ...
    def __getitem__(self, index: int | slice) -> "Example | Split":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("a Split is sliced with step 1 only")
            return Split(self._table.slice(start, max(0, stop - start)))
        position = range(len(self))[index]  # negative indices, and IndexError where it is due
        return next(_examples(self._table.slice(position, 1)))

    def __iter__(self) -> Iterator[Example]:
        return _examples(self._table)

    def tags(self) -> Iterator[dict[str, str]]:
        """Yield the tags of each example, without reading its texts."""
        for chunk in self._table["tags"].chunks:
            for start in range(0, len(chunk), _BATCH):
                yield from map(json.loads, chunk.slice(start, _BATCH).to_pylist())

    def lengths(self, field: Literal["input", "reference", "context"]) -> dict[int, int]:
        """Return length in characters to number of texts of a field, shortest first.

        Every accepted reference counts; missing fields do not.
        """
        import pyarrow.compute as pc

        column = self._table["references" if field == "reference" else field]
        counts: Counter[int] = Counter()
        for chunk in column.chunks:
            texts = chunk.flatten() if field == "reference" else chunk
            for item in pc.value_counts(pc.utf8_length(texts.drop_null())).to_pylist():
                counts[item["values"]] += item["counts"]
        return dict(sorted(counts.items()))


def _examples(table: pa.Table) -> Iterator[Example]:
    for batch in table.to_batches(max_chunksize=_BATCH):
        for row in batch.to_pylist():
            yield Example(
                id=row["id"],
                input=row["input"],
                references=tuple(row["references"]),
                context=row["context"],
                tags=json.loads(row["tags"]),
                critical=row["critical"],
                messages=tuple(json.loads(row["messages"] or "[]")),
                tools=tuple(json.loads(row["tools"] or "[]")),
            )


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """An opened dataset version: `ref`, `card` and its folder."""

    ref: DatasetRef
    card: Card
    folder: Path

    def split(self, name: str) -> Split:
        """Open one split, after checking its bytes against the card.

        Raises:
            UsageError: no such split, a missing file, bytes that do not match the digest, a broken
                row, or a number of rows that differs from the card.
        """
        if name not in self.card.splits:
            known = ", ".join(self.card.splits)
            raise UsageError(f"{self.folder}: {self.ref} has no split {name!r}; it has {known}")
        entry = self.card.splits[name]
        path = self.folder / entry.file
        self.verify(name)
        # The number of rows is checked as they are read, so it is part of the name.
        arrow = cache_folder("arrow", f"{entry.sha256}-{entry.rows}-{_CACHE_FORMAT}.arrow")
        limit_of("arrow")  # an invalid limit is reported before anything is created
        # Opened under the lock as well: `ftreg clean` takes it to remove a copy.
        arrow.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{arrow}.lock"):
            # A wrong text would score silently.
            made = not is_whole(arrow, digest_of=remembered_digest)
            if made:
                with written_whole(arrow) as temporary:
                    _write_arrow(path, temporary, expected=entry.rows)
            else:
                touch(seal_of(arrow))  # its own time is part of what is remembered of its digest
            found = Split(pa.ipc.open_file(pa.memory_map(str(arrow))).read_all())
        if made:
            trim("arrow")
        return found

    def verify(self, name: str, *, reread: bool = False) -> None:
        """Check that a split's bytes match the card.

        Args:
            name: the split.
            reread: read the file even if it is unchanged since the last check.

        Raises:
            UsageError: the file is missing, or its digest differs.
        """
        entry = self.card.splits[name]
        path = self.folder / entry.file
        if not path.is_file():
            way_out = (
                f"make it with `ftreg data build {self.ref}`"
                if self.card.recipe
                else "restore the file from version control"
            )
            raise UsageError(f"{path}: this file of {self.ref} is missing; {way_out}")
        if not reread and remembered_digest(path) == entry.sha256:
            return
        found = file_digest(path)  # the memory may be damaged itself
        if found != entry.sha256:
            raise UsageError(
                f"{path}: the bytes of {self.ref} have changed: sha256 is {found[:12]}..., and "
                f"{self.folder / 'dataset.yaml'} says {entry.sha256[:12]}.... A dataset version "
                "never changes: restore the file, or make a new version." + _broken_row(path)
            )


def _broken_row(path: Path) -> str:
    """Return what is wrong with the first broken row of a changed file, on a new line; or ""."""
    try:
        for _ in read_examples(path):
            pass
    except UsageError as error:
        return f"\n{error}"
    return ""


def _json_or_null(items: Sequence[object]) -> str | None:
    """Return JSON that keeps the order of keys, since chat templates render them in that order."""
    return json.dumps(items, ensure_ascii=False) if items else None


def _write_arrow(path: Path, temporary: Path, *, expected: int) -> None:
    """Check every row of a JSONL file, and write the Arrow file."""
    count = 0
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        rows: list[dict[str, object]] = []

        def flush() -> None:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
            rows.clear()

        for example in read_examples(path):
            count += 1
            rows.append(
                {
                    "id": example.id,
                    "input": example.input,
                    "references": list(example.references),
                    "context": example.context,
                    "tags": json.dumps(example.tags, ensure_ascii=False),
                    "critical": example.critical,
                    "messages": _json_or_null(example.messages),
                    "tools": _json_or_null(example.tools),
                }
            )
            if len(rows) == _BATCH:
                flush()
        flush()
    if count != expected:
        raise UsageError(f"{path}: has {count} rows, but its card says {expected}")


def load_dataset(ref: str | DatasetRef, *, root: Path = Path("sample_datasets")) -> DatasetVersion:
    """Open a dataset version by its name, `"code-summary@2"`.

    Raises:
        UsageError: no such version below `root`, or its card is invalid.
    """
    parsed = parse_ref(ref) if isinstance(ref, str) else ref
    folder = find_folder(parsed, root)
    card = read_card(folder)
    if (card.name, card.version) != (parsed.name, parsed.version):
        raise UsageError(
            f"{folder / 'dataset.yaml'}: the card says {card.name}@{card.version}, but it is in "
            f"the folder of {parsed}"
        )
    return DatasetVersion(parsed, card, folder)
