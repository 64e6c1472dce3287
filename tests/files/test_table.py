"""Small results in the cache: what a kill leaves, what a disk damages, what a full one costs."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ftreg.files.cache import table
from ftreg.files.cache.table import Table

ROOT = Path(__file__).parents[2]
VALUES = {"a": b"one", "b": b"zwei\n", "c": bytes(range(256)), "\ud800": b""}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("FTREG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def filled(identity: str = "i") -> Table:
    made = Table("outputs", identity)
    made.put_many(VALUES)
    return made


def in_a_child(work: Callable[[], None]) -> int:
    """Do something in a fork; its signal, negated, or its exit code: 0 if it ended well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_was_put_is_got_by_whoever_asks_for_the_same() -> None:
    assert filled().get_many([*VALUES, "nothing"]) == VALUES
    assert Table("outputs", "i").get_many(VALUES) == VALUES
    assert Table("outputs", "j").get_many(VALUES) == {}
    assert Table("judge", "i").get_many(VALUES) == {}
    Table("outputs", "i").put_many({"a": b"another"})
    assert Table("outputs", "i").get_many(["a", "b"]) == {"a": b"another", "b": VALUES["b"]}


def test_asking_makes_no_file(cache: Path) -> None:
    assert Table("outputs", "i").get_many(["a"]) == {}
    assert Table("outputs").groups() == []
    assert not cache.exists()


def test_a_kill_costs_nothing_that_was_put() -> None:
    def put_and_die() -> None:
        mine = Table("outputs", "i")
        for number in range(10):
            mine.put_many({str(number): b"value" * number})
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(put_and_die) == -signal.SIGKILL
    found = Table("outputs", "i").get_many(map(str, range(11)))
    assert found == {str(number): b"value" * number for number in range(10)}


def test_a_kill_within_a_put_leaves_all_of_it_or_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {str(number): os.urandom(3000) for number in range(400)}
    filled()

    def die_within() -> None:
        # Little memory for pages, so that rows are on the disk before the end of the transaction.
        monkeypatch.setattr(table, "_SETTINGS", (*table._SETTINGS, "PRAGMA cache_size = 5"))
        monkeypatch.setattr(Table, "_trim", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        Table("outputs", "i").put_many(rows)

    size = Table("outputs").path.stat().st_size
    assert in_a_child(die_within) == -signal.SIGKILL
    assert Table("outputs").path.stat().st_size > size + 1_000_000
    assert Table("outputs", "i").get_many([*rows, *VALUES]) == VALUES
    Table("outputs", "i").put_many(rows)
    assert Table("outputs", "i").get_many(rows) == rows
    assert not caplog.text


def test_no_damaged_byte_makes_a_wrong_value() -> None:
    path = filled().path
    whole = path.read_bytes()
    intact = 0
    for place in range(0, len(whole), 29):
        changed = bytearray(whole)
        changed[place] ^= 0x04
        path.write_bytes(changed)
        found = Table("outputs", "i").get_many(VALUES)
        assert found.items() <= VALUES.items(), place
        intact += found == VALUES
        Table("outputs", "i").put_many({"d": b"new"})
        if path.read_bytes()[:16] == whole[:16]:  # it can be used again, whatever was damaged
            assert Table("outputs", "i").get_many(["d"]) in ({"d": b"new"}, {})
        for left in path.parent.iterdir():
            left.unlink()
    assert intact > 10


def test_what_is_no_database_is_set_aside_and_said(caplog: pytest.LogCaptureFixture) -> None:
    path = filled().path
    path.write_bytes(b"This was a database once. " * 400)
    Table("outputs", "i").put_many({"d": b"new"})
    assert Table("outputs", "i").get_many([*VALUES, "d"]) == {"d": b"new"}
    aside = path.with_name(".tmp-outputs.sqlite-damaged")
    assert aside.read_bytes().startswith(b"This was a database once.")
    assert caplog.text.count("it was set aside, and a new one is started") == 1
    assert str(path) in caplog.text


def test_a_full_disk_leaves_what_was_there_and_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The limit on a file's size stands for the disk's end; it applies to a child alone."""
    path = filled().path

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = path.stat().st_size + 10_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        Table("outputs", "i").put_many({"long": os.urandom(1_000_000)})
        Table("outputs", "i").put_many({"longer": os.urandom(1_000_000)})
        assert caplog.text.count("not used") == 1
        assert Table("outputs", "i").get_many(["long", *VALUES]) == VALUES

    assert in_a_child(fill) == 0
    assert Table("outputs", "i").get_many(["long", *VALUES]) == VALUES


def test_what_cannot_be_written_can_be_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled().path
    monkeypatch.setattr(table, "NOTED", -1)  # each use would be noted

    def read() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        assert Table("outputs", "i").get_many(VALUES) == VALUES
        assert not caplog.text
        Table("outputs", "i").put_many({"d": b"new"})
        assert "readonly" in caplog.text

    for folder in (cache, *cache.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(0o755)
    path.parent.chmod(0o555)
    for file in path.parent.iterdir():
        file.chmod(0o444)
    try:
        assert in_a_child(read) == 0
    finally:
        path.parent.chmod(0o755)


def test_a_place_that_cannot_be_one_is_said_once(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    for _ in range(3):
        filled()
    assert Table("outputs", "i").get_many(VALUES) == {}
    assert len(caplog.records) == 1
    assert "continuing without it" in caplog.text


def test_what_was_used_longest_ago_goes_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(table.time, "time", lambda: now)
    monkeypatch.setenv("FTREG_CACHE_LIMITS", "outputs=300000")
    mine = Table("outputs", "i")
    for number in range(200):
        mine.put_many({str(number): os.urandom(4000)})
        assert mine.get_many(["0"])  # asked for all the time
        assert mine.path.stat().st_size < 350_000
        now += 2 * table.NOTED
    kept = sorted(map(int, mine.get_many(map(str, range(200)))))
    assert kept == [0, *range(201 - len(kept), 200)]
    assert 40 < len(kept) < 75
    # What is put last stays, however small the limit.
    monkeypatch.setenv("FTREG_CACHE_LIMITS", "outputs=1")
    Table("outputs", "j").put_many({"a": b"1", "b": b"2"})
    assert Table("outputs", "i").get_many(map(str, range(200))) == {}
    assert Table("outputs", "j").get_many(["a", "b"]) == {"a": b"1", "b": b"2"}


def test_groups_are_dropped_by_their_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 600_000.0
    monkeypatch.setattr(table.time, "time", lambda: now)
    mine = Table("outputs", "i")
    for number in range(3):
        mine.put_many({str(number): os.urandom(100_000)})
        now += 86_400
    size = mine.path.stat().st_size
    assert [(when, rows) for when, rows, _ in mine.groups()] == [
        (600_000, 1), (686_400, 1), (772_800, 1),
    ]  # fmt: skip
    assert mine.get_many(["0"])
    assert mine.drop(600_000)  # used since it was listed
    assert mine.drop(686_400)
    assert mine.get_many("012").keys() == {"0", "2"}
    assert mine.path.stat().st_size <= size - 98_000


_WORKER = """
import sys
from hashlib import sha256
from ftreg.files.cache.table import Table

table = Table("outputs", "i")
def right(name):
    return sha256(name.encode()).digest() * 50
for start in range(0, 300, 10):
    names = [str((start + n) * int(sys.argv[1]) % 307) for n in range(10)]
    assert all(value == right(name) for name, value in table.get_many(names).items())
    table.put_many({name: right(name) for name in names})
"""


@pytest.mark.slow
@pytest.mark.parametrize("damaged", [False, True])
def test_several_processes_share_the_file(damaged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Table("outputs").path
    if damaged:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no database " * 1000)
    monkeypatch.setenv("FTREG_CACHE_LIMITS", "outputs=200000")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(seed)], cwd=ROOT, stderr=subprocess.PIPE
        )
        for seed in (1, 2, 3, 5)
    ]
    for worker in workers:
        _, said = worker.communicate(timeout=300)
        assert worker.returncode == 0, said
        assert b"not used" not in said
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (rows,) = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert 50 < rows < 300
