"""Vectors that are kept on disk: the same bits or none, whatever happened to the file."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ftreg.scoring import Sample, Score, get_scorer
from ftreg.scoring.backends.vector_store import VectorStore
from tests.conftest import Cli
from tests.scoring_fakes import HashedWords, NotFinite, embedded

ROOT = Path(__file__).parents[2]
THINKING = ("faithfulness", "answer_relevancy", "completeness")
SAMPLES = [
    Sample(
        id=str(n),
        input=f"When did bridge {n} open? Who built it?",
        output=f"Bridge {n} opened in 19{n}0. It has {n} lanes.",
        reference=f"It opened in 19{n}0.",
        context=f"Bridge {n} opened in 19{n}0. A firm built it. It is 503 metres long.",
    )
    for n in range(1, 6)
]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and where it keeps vectors."""
    monkeypatch.setenv("FTREG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables" / "vectors.sqlite"


def score(embedder: Any, identity: str = "a") -> list[Score]:
    """Score as a new process would: with nothing but what lies on the disk."""
    backend = embedded(embedder, store=VectorStore(identity))
    return [
        found for name in THINKING for found in get_scorer(name, backend=backend).score(SAMPLES)
    ]


def encoded(embedder: HashedWords) -> set[str]:
    """Texts that were encoded, whole or by words."""
    return {text for call in (*embedder.calls, *embedder.word_calls) for text in call}


def test_a_second_scoring_encodes_nothing_and_finds_the_same() -> None:
    first, second = HashedWords(), HashedWords()
    plain = embedded()
    without = [s for name in THINKING for s in get_scorer(name, backend=plain).score(SAMPLES)]
    assert score(first) == without
    assert score(second) == without
    assert first.calls
    assert not second.calls


def test_what_is_there_partly_is_completed() -> None:
    embedder = HashedWords()
    store = VectorStore("a")
    get_scorer("completeness", backend=embedded(embedder, store=store)).score(SAMPLES[:2])
    known = encoded(embedder)
    later = HashedWords()
    plain = embedded()
    without = [s for name in THINKING for s in get_scorer(name, backend=plain).score(SAMPLES)]
    assert score(later) == without
    assert known
    assert not known & encoded(later)


def test_what_another_model_made_is_not_taken() -> None:
    score(HashedWords(), "a")
    embedder = HashedWords()
    score(embedder, "b")
    assert encoded(embedder)


_ANY_TEXT = st.text(st.characters(exclude_categories=()))  # half a character of UTF-16 too
_FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
_VECTOR = arrays.arrays(np.float32, 5, elements=_FLOATS)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(vectors=st.dictionaries(_ANY_TEXT, _VECTOR, max_size=6))
def test_any_vector_comes_back_bit_for_bit(vectors: dict[str, np.ndarray], file: Path) -> None:
    file.unlink(missing_ok=True)
    VectorStore("a").put(vectors)
    found = VectorStore("a").get([*vectors, "\ud800 not there"])
    assert found.keys() == vectors.keys()
    assert all(found[text].tobytes() == vector.tobytes() for text, vector in vectors.items())


def test_a_models_failure_is_not_kept() -> None:
    assert all(found.value is None for found in score(NotFinite()))
    assert all(found.value is not None for found in score(HashedWords()))


def test_the_oldest_go_where_the_file_would_grow_beyond_its_limit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 400_000
    monkeypatch.setenv("FTREG_CACHE_LIMITS", f"vectors={limit}")
    store = VectorStore("a")
    rng = np.random.default_rng(0)
    vectors = {str(n): rng.random(384, dtype=np.float32) for n in range(600)}
    for start in range(0, 600, 20):
        store.put({str(n): vectors[str(n)] for n in range(start, start + 20)})
        assert file.stat().st_size <= 1.2 * limit
    kept = store.get(vectors)
    assert 100 < len(kept) < 260
    assert set(map(int, kept)) == set(range(600 - len(kept), 600))
    assert all((kept[text] == vectors[text]).all() for text in kept)


# Damage


def _change_a_bit(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        (value,) = connection.execute("SELECT value FROM kept WHERE rowid = 1").fetchone()
        changed = value[:100] + bytes([value[100] ^ 1]) + value[101:]
        connection.execute("UPDATE kept SET value = ? WHERE rowid = 1", (changed,))


def _exchange_two(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        (a,), (b,) = connection.execute("SELECT value FROM kept WHERE rowid < 3").fetchall()
        for number, value in ((1, b), (2, a)):
            connection.execute("UPDATE kept SET value = ? WHERE rowid = ?", (value, number))


def _no_blob(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE kept SET value = 'a text' WHERE rowid = 1")


def _overwrite(file: Path) -> None:
    file.write_bytes(b"This was a database once. " * 400)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def _scribble(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [_change_a_bit, _exchange_two, _no_blob, _overwrite, _cut, _scribble]
)
def test_a_damaged_file_is_said_and_never_gives_a_wrong_score(
    damage: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right = score(HashedWords())
    damage(file)
    repairing, after = HashedWords(), HashedWords()
    assert score(repairing) == right
    assert encoded(repairing)
    assert str(file) in caplog.text
    assert "damaged" in caplog.text
    caplog.clear()
    assert score(after) == right
    assert not encoded(after)
    assert not caplog.text


def test_a_folder_that_takes_no_files_costs_no_score(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.parent.write_text("a file where the folder should be")
    right = score(HashedWords())
    plain = embedded()
    assert right == [s for name in THINKING for s in get_scorer(name, backend=plain).score(SAMPLES)]
    assert len(caplog.records) == 1
    assert "continuing without it" in caplog.text


def test_a_file_that_another_process_holds_costs_no_score(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftreg.files.cache.table._PATIENCE", 0.01)
    right = score(HashedWords())
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert score(HashedWords()) == right
    assert "locked" in caplog.text
    holder.close()
    embedder = HashedWords()
    assert score(embedder) == right
    assert not encoded(embedder)


# The packaged model

_SCORE = """
import sys
from ftreg.cli.app import app
try:
    app(sys.argv[1:], prog_name="ftreg")
except SystemExit as end:
    assert not end.code
print("torch" in sys.modules)
"""


@pytest.mark.slow
def test_a_second_scoring_with_the_packaged_model_does_not_load_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftreg.models.packaged import packaged_folder

    cache = Path("cache").absolute()
    monkeypatch.delenv("FTREG_CACHE")
    models = packaged_folder("all-minilm-l6-v2").parent
    monkeypatch.setenv("FTREG_CACHE", str(cache))
    cache.mkdir()
    (cache / "models").symlink_to(models)
    rows = [
        {"id": s.id, "input": s.input, "output": s.output, "context": s.context, "reference": "It."}
        for s in SAMPLES
    ]
    Path("o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = []
    for number in (1, 2):
        command = ["score", "o.jsonl", *(f"--scorer={name}" for name in THINKING)]
        done = subprocess.run(
            [sys.executable, "-c", _SCORE, *command, "-o", f"{number}.jsonl"],
            capture_output=True, text=True, check=True, env=None,
        )  # fmt: skip
        loaded.append(done.stdout.splitlines()[-1])
    assert loaded == ["True", "False"]
    assert Path("1.jsonl").read_bytes() == Path("2.jsonl").read_bytes()
