"""Read external rows one at a time: JSONL, CSV, Parquet, and hub datasets."""

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ftreg.data.sources.spans import span_rows
from ftreg.errors import UsageError, first_line
from ftreg.files.reading import LONGEST_LINE, lines_of, megabytes
from ftreg.files.store import file_digest, read_jsonl
from ftreg.services.hub import why_not_given

Numbered = tuple[int, dict[str, Any]]
_CHUNK = 1 << 20
_BATCH = 1000
_HUB = re.compile(r"hf:(?P<name>[^@:]+)(@(?P<revision>[^@:]+))?(:(?P<split>[^@:]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows to import.

    `name` is the user's name for it, `origin` the card's description. `total` is the number of
    lines or rows, as `unit` says; 0 if unknown. `columns` are the columns of every row, None if
    rows may differ. `rows` starts from the beginning and yields the number of the line or row, and
    the row; afterwards `notes` says what was skipped.
    """

    name: str
    origin: str
    unit: Literal["line", "row"]
    total: int
    columns: tuple[str, ...] | None
    rows: Callable[[], Iterator[Numbered]]
    notes: Sequence[str] = ()

    def place(self, number: int) -> str:
        """Return the location of a row, for messages."""
        return f"{self.name}:{number}" if self.unit == "line" else f"{self.name}: row {number}"


def open_source(
    text: str, *, split: str, subset: str | None = None, form: str | None = None
) -> Source:
    """Open a file by its ending, or `hf:name@revision:split`.

    Args:
        text: what the user named.
        split: the split to import; the default for the hub's split.
        subset: the subset (configuration) of a hub dataset.
        form: `otel` if the file contains exported spans; None: decided by the extension.

    Raises:
        UsageError: it does not exist, is of an unknown kind, or cannot be read.
    """
    if form is not None and form not in _FORMS:
        raise UsageError(f"--from {form}: no such format of rows (known: {', '.join(_FORMS)})")
    if form is None and text.startswith("hf:"):
        return _hub(text, split=split, subset=subset)
    path = Path(text)
    opener = _KINDS.get(path.suffix.lower()) if form is None else _FORMS[form]
    if opener is None:
        raise UsageError(
            f"{text}: files with this extension cannot be imported; it must be one of "
            f"{', '.join(_KINDS)}, or a dataset of the Hugging Face hub as "
            "hf:org/name@revision:split"
        )
    if not path.is_file():
        raise UsageError(f"{text}: no such file")
    return opener(path)


def _origin(path: Path) -> str:
    name = os.fsencode(path.name).decode(
        "utf-8", "replace"
    )  # a card holds text, whatever names are
    return f"{name} (sha256 {file_digest(path)})"


def _lines(path: Path) -> int:
    """Return the number of lines for the progress; reading is cheap compared with checking."""
    with path.open("rb") as stream:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(_CHUNK), b""))


def _by_line(
    rows: Callable[[Path], Iterator[Numbered]], *, columns: tuple[str, ...] | None = None
) -> Callable[[Path], Source]:
    """Open a file whose reader knows the line number of each row."""
    return lambda path: Source(
        name=str(path),
        origin=_origin(path),
        unit="line",
        total=_lines(path),
        columns=columns,
        rows=lambda: rows(path),
    )


def _csv(path: Path) -> Source:
    # Not Arrow's reader: it does not know the line of a row, and would read "007" as 7.
    _, header = next(_records(path), (1, []))
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice:
        problem = f"duplicate column {twice[0]!r}" if twice else "no header"
        raise UsageError(f"{path}:1: {problem}; the first line must name each column once")

    def rows(path: Path) -> Iterator[Numbered]:
        records = _records(path)
        next(records)
        for number, cells in records:
            if len(cells) != len(header):
                raise UsageError(
                    f"{path}:{number}: {len(cells)} cells, but the header has {len(header)}; a "
                    "cell that contains the separator or a line break must be in double quotes"
                )
            # CSV has no null; an empty cell is the closest equivalent.
            yield number, {name: cell or None for name, cell in zip(header, cells, strict=True)}

    return _by_line(rows, columns=tuple(header))(path)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line of each record of a CSV or TSV file, and its cells."""
    csv.field_size_limit(LONGEST_LINE)  # limits a field; records are limited below
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    lines = _Lines(path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = reader.line_num + 1
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UsageError(f"{path}:{first}: broken CSV: {error}") from error
        if cells:
            yield first, cells


class _Lines:
    """The lines of a CSV file, with a limit per record in case a quote is left open."""

    def __init__(self, path: Path) -> None:
        self._path, self._lines = path, lines_of(path)
        self._first, self._next, self._length = 1, 1, 0

    def begin_record(self) -> None:
        self._first, self._length = self._next, 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        number, text = next(self._lines)
        self._next = number + 1
        self._length += len(text)
        if self._length > LONGEST_LINE:
            raise UsageError(
                f"{self._path}:{self._first}: a record of more than {megabytes(LONGEST_LINE)}; is "
                "a double quote left open in it?"
            )
        return text


def _parquet(path: Path) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot read this as Parquet: {first_line(error)}") from error

    def rows() -> Iterator[Numbered]:
        number = 0
        try:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=_rows_at_once(file.metadata)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        # Values that Python cannot represent (a date in the year 300000) raise one of the latter.
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{path}: cannot read on after row {number}: {first_line(error)}"
            ) from error

    return Source(
        name=str(path),
        origin=_origin(path),
        unit="row",
        total=file.metadata.num_rows,
        columns=tuple(file.schema_arrow.names),
        rows=rows,
    )


def _rows_at_once(metadata: Any) -> int:
    """Return the number of rows that take about as much memory as the longest line."""
    largest = 1
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        largest = max(largest, group.total_byte_size // max(1, group.num_rows))
    return int(max(1, min(_BATCH, LONGEST_LINE // largest)))


def _hub(text: str, *, split: str, subset: str | None) -> Source:
    match = _HUB.fullmatch(text)
    if not match:
        raise UsageError(f"{text}: write a hub dataset as hf:org/name@revision:split")
    name, revision, wanted = match["name"], match["revision"], match["split"] or split
    if not Path(name).is_dir():  # the library also reads folders of data files
        if revision is None:
            raise UsageError(
                f"{text}: name the revision too (a commit, tag or branch, as in hf:{name}@main); "
                "the card records the commit"
            )
        revision = _commit(text, name, revision)
    stream = _hub_rows(text, name, revision, split=wanted, subset=subset)
    splits = stream.info.splits or {}
    known = splits[wanted].num_examples if wanted in splits else 0

    def rows() -> Iterator[Numbered]:
        try:
            yield from enumerate(stream, start=1)
        except Exception as error:  # anything that the network or a file's reader raises
            raise UsageError(f"{text}: cannot read on: {first_line(error)}") from error

    at = f"@{revision}" if revision else ""
    of = f", subset {subset}" if subset else ""
    return Source(
        name=text,
        origin=f"the Hugging Face hub, {Path(name).name if not at else name}{at}{of}, {wanted}",
        unit="row",
        total=known or 0,
        columns=tuple(stream.column_names) if stream.column_names else None,
        rows=rows,
    )


def _commit(text: str, name: str, revision: str) -> str:
    """Return the current commit of a revision, since a branch moves."""
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:
        why = why_not_given(error, f"datasets/{name}", revision=revision)
        raise UsageError(f"{text}: cannot find it on the hub: {why}") from error


def _hub_rows(text: str, name: str, revision: str | None, *, split: str, subset: str | None) -> Any:
    import datasets

    try:
        return datasets.load_dataset(
            name, name=subset, split=split, revision=revision, streaming=True
        )
    except Exception as error:
        raise UsageError(f"{text}: cannot load it: {first_line(error)}") from error


def _otel(path: Path) -> Source:
    notes: list[str] = []
    return replace(_by_line(lambda path: span_rows(path, notes))(path), notes=notes)


_KINDS: dict[str, Callable[[Path], Source]] = {
    ".jsonl": _by_line(read_jsonl),
    ".ndjson": _by_line(read_jsonl),
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
_FORMS: dict[str, Callable[[Path], Source]] = {"otel": _otel}
