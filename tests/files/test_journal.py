"""Files that grow by lines: what a kill tears off, what a disk damages, what two readers see."""

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from ftreg.errors import UsageError
from ftreg.files.journal import Journal, read_journal

ROWS = [{"key": "a", "text": "one"}, {"key": "b", "text": "zwei\n"}, {"key": "c", "text": "três"}]


def journal(path: Path) -> Path:
    with Journal(path) as file:
        file.append(ROWS[:1])
        file.append(ROWS[1:])
    return path


def test_what_was_appended_is_read_and_goes_on(tmp_path: Path) -> None:
    path = journal(tmp_path / "deep" / "j.jsonl")
    assert read_journal(path) == (ROWS, 0)
    with Journal(path) as file:
        file.append([{"key": "d"}])
        assert read_journal(path) == ([*ROWS, {"key": "d"}], 0)  # by another, while it is open
    assert read_journal(tmp_path / "nothing") == ([], 0)


def test_a_line_torn_at_any_byte_is_no_line(tmp_path: Path) -> None:
    whole = journal(tmp_path / "whole").read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for cut in range(last, len(whole)):
        path = tmp_path / "torn"
        path.write_bytes(whole[:cut])
        assert read_journal(path) == (ROWS[:2], 0), cut
        with Journal(path) as file:
            file.append(ROWS[2:])
        assert path.read_bytes() == whole, cut


def test_no_damaged_byte_makes_a_wrong_row(tmp_path: Path) -> None:
    whole = journal(tmp_path / "whole").read_bytes()
    path = tmp_path / "damaged"
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        rows, damaged = read_journal(path)
        assert all(row in ROWS for row in rows), place
        assert len(rows) < len(ROWS), place
        assert damaged or place == len(whole) - 1


def test_damaged_lines_are_left_out_of_what_is_written_on(tmp_path: Path) -> None:
    path = journal(tmp_path / "j")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace("zwei", "drei") + "rubbish\n[]\n" + lines[2])
    assert read_journal(path) == ([ROWS[0], ROWS[2]], 3)
    with Journal(path) as file:
        file.append([ROWS[1]])
    assert read_journal(path) == ([ROWS[0], ROWS[2], ROWS[1]], 0)


def test_a_full_disk_leaves_the_rows_before(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's end; it applies to a child alone."""
    path = journal(tmp_path / "j")
    size = path.stat().st_size
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
            with Journal(path) as file:
                try:
                    file.append([{"key": "long", "text": "x" * 500}])
                except UsageError as error:
                    code = 0 if f"cannot write {path}" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.stat().st_size == size
    assert read_journal(path) == (ROWS, 0)


def test_the_file_is_plain_jsonl(tmp_path: Path) -> None:
    lines = journal(tmp_path / "j").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [row["text"] for row in ROWS]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        Journal(tmp_path / "file" / "j")
