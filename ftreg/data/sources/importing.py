"""Make a dataset version from external rows: streamed, checked, all or nothing."""

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftreg.data.card import Card
from ftreg.data.dataset import load_dataset
from ftreg.data.reference import DatasetRef
from ftreg.data.row_checks import UniqueIds, check_row, row_of, row_text
from ftreg.data.sources.mapping import Mapper, check_splits_of, mapping_of
from ftreg.data.sources.readers import Source, open_source
from ftreg.data.versions import (
    MadeVersion,
    RowChecks,
    make_card,
    newest,
    next_version,
    write_card,
)
from ftreg.errors import UsageError
from ftreg.files.names import check_name
from ftreg.files.reading import DEEPEST, LONGEST_LINE, megabytes, parse_json
from ftreg.files.store import staged_folder
from ftreg.records.samples import Example
from ftreg.records.turns import asked_in

# What a card inherits from the previous version, unless it is given again.
_INHERITED = ("license", "description", "prompt", "context_from", "cohorts", "cluster")
_HELD_OUT = "eval"
_ADVANCE_EVERY = 1000
_MOST_REASONS = 100

Opened = Mapping[str, tuple[Source, Mapper]]
Advance = Callable[[str, int, int], None]
"""Called with the stage, the number of lines or rows done, and their total (0: unknown)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported(MadeVersion):
    """What `ftreg data import --json` prints."""

    dropped: int
    """Rows that stood twice and were left out, with --drop-duplicates."""
    ignored_columns: Mapping[str, list[str]]
    """Split to the columns of its source that were not taken."""
    unreadable: int
    """Rows that could not be read and were left out, with --drop-unreadable."""
    reasons: list[str]
    """Why these could not be read, with file and line; of many the first hundred."""
    hidden_contexts: int
    """Rows with a context that the prompt does not show to the model."""
    notes: list[str]
    """What else was left out of the sources."""


@dataclass(slots=True)
class _SplitFile:
    """A split that is being written."""

    stream: Any
    sha256: Any = field(default_factory=hashlib.sha256)
    rows: int = 0
    ids: UniqueIds = field(default_factory=UniqueIds)

    def write(self, row: Mapping[str, Any], *, place: str) -> None:
        text = row_text(row)
        if text.count("[") + text.count("{") > DEEPEST:
            parse_json(text, place=place)  # what is written must be readable
        line = text.encode() + b"\n"
        if len(line) > LONGEST_LINE:
            raise UsageError(f"{place}: a row of more than {megabytes(LONGEST_LINE)}")
        self.stream.write(line)
        self.sha256.update(line)
        self.rows += 1


@dataclass(slots=True)
class _Taken:
    """Selects rows, and counts the accepted and the skipped ones."""

    card: Card
    drop_duplicates: bool
    drop_unreadable: bool
    twice: int = 0
    hidden_contexts: int = 0
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)

    def skip(self, error: UsageError) -> None:
        """Skip an unreadable row.

        Raises:
            UsageError: it may not be skipped.
        """
        if not self.drop_unreadable:
            raise error
        self.unreadable += 1
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(str(error))

    def repeated(self, example: Example, place: str) -> None:
        """Skip a row whose id occurred before.

        Raises:
            UsageError: it may not be skipped.
        """
        if not self.drop_duplicates:
            raise UsageError(
                f"{place}: duplicate id {example.id!r}, or a duplicate row; --drop-duplicates "
                "keeps the first of them"
            )
        self.twice += 1

    def take(self, example: Example) -> None:
        """Count an accepted row."""
        self.hidden_contexts += self.card.hides_context(example)


def import_version(
    name: str,
    sources: Mapping[str, str],
    *,
    root: Path,
    mapping: Mapping[str, str],
    facts: Mapping[str, Any],
    eval_share: float | None = None,
    drop_duplicates: bool = False,
    drop_unreadable: bool = False,
    subset: str | None = None,
    form: str | None = None,
    advance: Advance = lambda what, done, total: None,
) -> Imported:
    """Write the next version of a dataset.

    Args:
        name: the dataset's name.
        sources: split to file or hub dataset; see `open_source`.
        root: the folder of datasets.
        mapping: field to column; see `parse_mapping`.
        facts: values for fields of `Card`; missing or None values are inherited from the previous
            version, if there is one.
        eval_share: hold out this share of `train` as `eval`, in (0, 1). Rows with the same input go
            to the same side, and the assignment is always the same.
        drop_duplicates: skip rows whose id occurred before, instead of rejecting them.
        drop_unreadable: skip unreadable rows, instead of rejecting them.
        subset: the subset of a hub dataset.
        form: the format of the files; see `open_source`.
        advance: receives progress.

    Raises:
        UsageError: a source, a row or the card is invalid; nothing was written.
    """
    _check_splits(sources, eval_share=eval_share)
    opened = _open(sources, mapping, subset=subset, form=form)
    with next_version(name, root) as ref:
        said = _card_facts(ref, facts, opened, root=root)
        card = _with_splits(said, ref, {"train": (1, "0" * 64)})
        checks = RowChecks(card)
        with staged_folder(ref.folder(root)) as staging:
            taken = _Taken(card, drop_duplicates, drop_unreadable)
            written = _write_splits(
                staging, opened, checks=checks, taken=taken, eval_share=eval_share, advance=advance
            )
            _refuse_empty(ref, written, taken)
            ignored = {split: mapper.finish() for split, (_, mapper) in opened.items()}
            checks.finish(where=str(ref))
            write_card(staging, _with_splits(said, ref, written))
    return Imported(
        version=str(ref),
        folder=ref.folder(root),
        rows={split: rows for split, (rows, _) in written.items()},
        dropped=taken.twice,
        ignored_columns=ignored,
        unreadable=taken.unreadable,
        reasons=taken.reasons,
        hidden_contexts=taken.hidden_contexts,
        notes=[note for source, _ in opened.values() for note in source.notes],
    )


def _refuse_empty(ref: DatasetRef, written: Mapping[str, tuple[int, str]], taken: _Taken) -> None:
    for split, (rows, _) in written.items():
        if not rows:
            first = f"; {taken.unreadable} could not be read, the first: " if taken.reasons else ""
            reason = f"{first}{''.join(taken.reasons[:1])}"
            raise UsageError(f"the split {split} of {ref} would have no row{reason}")


def _check_splits(splits: Collection[str], *, eval_share: float | None) -> None:
    if eval_share is not None and (_HELD_OUT in splits or "train" not in splits):
        raise UsageError(
            "--eval-share holds out a share of --train as the split eval; it needs --train and "
            "no --eval"
        )
    for split in splits:
        check_name(split, what="split")


def _open(
    sources: Mapping[str, str], mapping: Mapping[str, str], *, subset: str | None, form: str | None
) -> Opened:
    """Open every source before any row is read."""
    check_splits_of(mapping, sources)
    opened = {
        split: open_source(text, split=split, subset=subset, form=form)
        for split, text in sources.items()
    }
    return {
        split: (
            source,
            Mapper(
                mapping_of(split, mapping),
                source.columns,
                source=source.name,
                padded=source.unit == "row",
            ),
        )
        for split, source in opened.items()
    }


def _write_splits(
    folder: Path,
    opened: Opened,
    *,
    checks: RowChecks,
    taken: _Taken,
    eval_share: float | None,
    advance: Advance,
) -> dict[str, tuple[int, str]]:
    """Write a file per split; return split to rows and digest."""
    with contextlib.ExitStack() as stack:
        files = {
            split: _SplitFile(stack.enter_context((folder / f"{split}.jsonl").open("wb")))
            for split in (*opened, *(() if eval_share is None else (_HELD_OUT,)))
        }
        for split, (source, mapper) in opened.items():
            _import_split(
                split,
                _progress(source, split, advance),
                source=source,
                mapper=mapper,
                checks=checks,
                files=files,
                taken=taken,
                eval_share=eval_share if split == "train" else None,
            )
    return {split: (file.rows, file.sha256.hexdigest()) for split, file in files.items()}


def _card_facts(
    ref: DatasetRef, facts: Mapping[str, Any], opened: Opened, *, root: Path
) -> dict[str, Any]:
    before = newest(ref.name, root)
    known = {} if before is None else load_dataset(before, root=root).card.model_dump()
    # Without the folder of a file, which is meaningless on another machine.
    names = [source.origin.partition(" (")[0] for source, _ in opened.values()]
    origin = "; ".join(f"{split}: {source.origin}" for split, (source, _) in opened.items())
    said = {
        "description": f"Imported from {', '.join(names)}.",
        "prompt": {"user": "{input}"},
        "source": origin,
        **{key: known[key] for key in _INHERITED if key in known},
        **{key: value for key, value in facts.items() if value is not None},
    }
    if "license" not in said:
        raise UsageError(
            "--license is missing: give the licence of the rows as an SPDX expression (CC-BY-4.0, "
            "MIT, LicenseRef-proprietary)"
        )
    return said


def _with_splits(
    facts: Mapping[str, Any], ref: DatasetRef, splits: Mapping[str, tuple[int, str]]
) -> Card:
    entries = {
        split: {"file": f"{split}.jsonl", "rows": rows, "sha256": sha256}
        for split, (rows, sha256) in splits.items()
    }
    given = {"name": ref.name, "version": ref.version, **facts, "splits": entries}
    return make_card(given, where="ftreg data import")


def _progress(source: Source, split: str, advance: Advance) -> Iterator[tuple[int, dict[str, Any]]]:
    what, count = f"importing {split}", 0
    advance(what, 0, source.total)
    for count, (number, row) in enumerate(source.rows(), start=1):
        if count % _ADVANCE_EVERY == 0:
            advance(what, number, max(source.total, number))
        yield number, row
    advance(what, count, count)  # rows: a CSV has one more line, its header


def _import_split(
    split: str,
    rows: Iterator[tuple[int, dict[str, Any]]],
    *,
    source: Source,
    mapper: Mapper,
    checks: RowChecks,
    files: Mapping[str, _SplitFile],
    taken: _Taken,
    eval_share: float | None,
) -> None:
    """Write a source's rows into their files."""
    ids = files[split].ids
    for number, given in rows:
        place = source.place(number)
        try:
            example = check_row(mapper.row(given, place=place), place=place)
            held_out = eval_share is not None and _position(_opening(example)) < eval_share
            target = _HELD_OUT if held_out else split
            checks.check(example, split=target, place=place)
        except UsageError as error:
            taken.skip(error)
            continue
        if not ids.add(example.id):
            taken.repeated(example, place)
            continue
        taken.take(example)
        files[target].write(row_of(example), place=place)


def _opening(example: Example) -> str:
    """Return the input, or a chat's first user turn: chats with the same start stay together."""
    return next(iter(asked_in(example.messages)), example.input)


def _position(text: str) -> float:
    """Return a number in [0, 1) that depends only on the words of a text."""
    words = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8]) / 2**64
