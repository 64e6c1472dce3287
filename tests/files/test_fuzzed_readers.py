"""Every reader of files on input that hypothesis makes: what comes out is a value or a refusal.

The same readers run for minutes under atheris, see `scripts/fuzz.py`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.fuzz import TOKENS, Reader, attempt, readers

READERS = readers()
# Those that gate and report take a tenth of a second each.
SLOWER = {"evaluation", "output-rows", "score-rows", "baseline", "gate-record"}
RECORDS = {
    name: READERS[name]
    for name in ("evaluation", "output-rows", "score-rows", "baseline", "gate-record", "manifest",
                 "dataset", "outputs", "jsonl", "otlp", "history")
}  # fmt: skip

BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def edited(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Good input with a few edits: bytes cut out, others or a token put in."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 12)))
        put = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6), st.just(b"")))
        data = data[:start] + put + data[stop:]
    return data


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, -1, 2**63, 10**300, "", "a", "0", "\x1b[2J", "..", "/etc", "x" * 5000]),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def reshaped(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Good JSON, a document or a row a line, of which values have become others, or gone."""
    text = draw(st.sampled_from(seeds)).decode()
    try:
        rows = [json.loads(text)]
    except ValueError:
        rows = [json.loads(line) for line in text.splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = rows
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = draw(st.sampled_from(keys))
            inner = holder[key]
            if not (isinstance(inner, dict | list) and inner) or draw(st.integers(0, 3)) == 0:
                break
            holder = inner
        if draw(st.booleans()) and len(holder) > 1:
            del holder[key]
        else:
            holder[key] = draw(anything)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTREG_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", READERS)
def test_edited_input_is_read_or_refused(name: str, place: Path) -> None:
    reader = READERS[name]
    _run(reader, edited(reader.seeds), place)


@pytest.mark.parametrize("name", RECORDS)
def test_reshaped_records_are_read_or_refused(name: str, place: Path) -> None:
    reader = READERS[name]
    _run(reader, reshaped(reader.seeds), place)


def _run(reader: Reader, strategy: st.SearchStrategy[bytes], place: Path) -> None:
    @settings(BOUNDED, max_examples=12 if reader.name in SLOWER else 100)
    @given(strategy)
    def check(data: bytes) -> None:
        attempt(reader, data, place)

    check()


@pytest.mark.parametrize("name", READERS)
def test_good_input_is_read(name: str, place: Path) -> None:
    """The seeds are not all refused, or the tests above would test one branch."""
    refusals = [attempt(READERS[name], seed, place) for seed in READERS[name].seeds]
    if name == "gate-record":
        assert "did not pass its gate" in str(refusals[0])
    else:
        assert refusals == [None] * len(refusals)


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("baseline", ("history", 0, "why"), "damaged baseline: 0.why: Field required"),
        ("baseline", ("baseline", "scores"), "damaged baseline: 'scores' is missing"),
        ("gate-record", ("scores",), "damaged gate record: scores: Field required"),
        ("gate-record", ("verdict", "outcome"), "damaged gate record: outcome: Field required"),
        (
            "manifest",
            ("environment", "versions"),
            "damaged manifest: environment: versions: ",
        ),
        (
            "manifest",
            ("optimizer", "arguments", "lr"),
            "optimizer: arguments.lr: Field",
        ),
        ("evaluation", ("checkpoint", "lr"), "damaged evaluation: checkpoint.lr: Field required"),
        ("evaluation", ("ftreg",), None),  # older ones do not say who wrote them
    ],
)
def test_a_record_that_lacks_a_key(
    name: str, keys: tuple[str | int, ...], expected: str | None, place: Path
) -> None:
    record = json.loads(READERS[name].seeds[0])
    holder: Any = record
    for key in keys[:-1]:
        holder = holder[key]
    del holder[keys[-1]]
    message = attempt(READERS[name], json.dumps(record).encode(), place)
    assert message is None if expected is None else expected in str(message)
