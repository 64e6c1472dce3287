"""Files that are not what they should be: refused early, with the file and the line named."""

import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftreg.config import load_config
from ftreg.data.sources.spans import span_rows
from ftreg.errors import UsageError
from ftreg.files import marked_yaml, reading
from tests.conftest import Cli, Result

GOOD = "dataset: {version: a@1}\noptimizer:\n  name: lion\n  lr: 1e-4\n"
ROW = '{"id": "a", "input": "x", "output": "x", "reference": "x"}\n'


def refused(done: Result, *expected: str) -> str:
    assert done.code == 2, done
    assert "Traceback" not in done.err
    for text in expected:
        assert text in done.err
    return done.err


def config_of(text: str | bytes) -> str:
    """The message about a configuration that is refused."""
    Path("run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        load_config(Path("run.yaml"))
    return str(caught.value)


# YAML


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (bomb(9), "run.yaml:1: not valid YAML: more than 50,000 values"),
        ("a: [" + "1," * 60_000 + "]", "run.yaml:1: not valid YAML: more than 50,000 values"),
        ("a: 1\nb: &b [*b]", "run.yaml:2: not valid YAML: it contains itself"),
        ("a: 1\nb: " + "[" * 5_000, "run.yaml:2: not valid YAML: nested too deeply"),
        ("a: 1\nb: " + "{a: " * 5_000, "run.yaml:2: not valid YAML: nested too deeply"),
        ("a: 1\nb: " + "9" * 100_000, "run.yaml:2: not valid YAML: a whole number of more"),
        (GOOD + "train: {seed: " + "9" * 399 + "}", "run.yaml:5: train.seed: input should be"),
        (GOOD + "train: {max_steps: " + "9" * 30 + "}", "run.yaml:5: train.max_steps: input"),
        (GOOD + "  weight_decay: 1e999\n", "run.yaml:5: optimizer.weight_decay: input should be a"),
        (GOOD + "eval: {scorers: [{name: a, options: {b: [.nan]}}]}", "run.yaml:5: eval.scorers.0"),
        ("a: !!timestamp 2020-01-01", "run.yaml:1: not valid YAML: could not determine"),
        ("a: 1\nb: !!binary aGk=", "run.yaml:2: not valid YAML: could not determine"),
        ("a: !!python/object/apply:os.system [id]", "run.yaml:1: not valid YAML: could not"),
        ("a: 1\nb: !!int x", "run.yaml:2: not valid YAML: 'x' is not a valid int"),
        ("a: 1\nb: !!bool x", "run.yaml:2: not valid YAML: 'x' is not a valid bool"),
        ("a: 1\n[1]: 2", "run.yaml:2: a key must be a string"),
        ("a: &a {b: 1}\nc:\n  <<: *a", "run.yaml:3: YAML 1.2 has no merge keys (<<)"),
        ('a: 1\nb: "\\ud800"', "run.yaml:2: a text cannot hold the character NUL, nor half"),
        ('a: 1\nb: "x\\0"', "run.yaml:2: a text cannot hold the character NUL"),
        ("a: 1\nb: \x07", "run.yaml:2: not valid YAML: the character U+0007"),
        ("a: 1\n---\nb: 2", "run.yaml:2: not valid YAML: but found another document"),
        (b"a: 1\nb: \xff", "run.yaml:2: invalid UTF-8"),
        (GOOD.encode("utf-16"), "run.yaml:1: this is UTF-16; save it as UTF-8"),
        ("", "run.yaml: dataset is missing"),
        ("# nothing\n", "run.yaml: dataset is missing"),
        ("extends: " + "x" * 5_000, "run.yaml:1: extends names 'xxxx"),
        ("extends: /dev/zero", "run.yaml:1: extends names '/dev/zero', which does not exist"),
    ],
)  # fmt: skip
def test_yaml_that_is_no_configuration(text: str | bytes, expected: str, workspace: Path) -> None:
    message = config_of(text)
    assert message.startswith(expected)
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD.replace("\n", "\r\n") + "trian: 1\r\n", 5),
        ("\ufeff" + GOOD + "trian: 1\n", 5),
        (GOOD + "base:\n  model: 'a\u2028b\x85c'\ntrian: 1\n", 7),
        (GOOD + "train: # a\ttab\n  seed: 1\ntrian: 1\n", 7),
        ("---\n# one document\n" + GOOD + "trian: 1\n...\n", 7),
        ("trian: &a {seed: 1}\n" + GOOD + "train: *a\n", 1),
    ],
)
def test_lines_are_counted_as_editors_count_them(text: str, line: int, workspace: Path) -> None:
    assert config_of(text).startswith(f"run.yaml:{line}: trian is not a setting")


def test_a_mistake_behind_an_alias_is_named_where_it_stands(workspace: Path) -> None:
    text = "train: &a\n  sede: 1\n" + GOOD + "schedule: *a\n"
    lines = config_of(text).splitlines()
    assert lines[0].startswith("run.yaml:2: schedule.sede is not a setting of schedule")
    assert lines[1].startswith("run.yaml:2: train.sede is not a setting of train")


def test_the_line_of_a_section_that_checks_itself(workspace: Path) -> None:
    engine = "eval:\n  engine: {name: openai, model: m, base_url: 'http://u:pass@host/v1'}\n"
    message = config_of(GOOD + engine)
    assert message.startswith("run.yaml:6: eval.engine: base_url must be an address")
    assert "u:pass" not in message


def test_of_a_thousand_mistakes_the_first_are_named(workspace: Path) -> None:
    message = config_of(GOOD + "".join(f"k{number}: 1\n" for number in range(1000)))
    assert len(message.splitlines()) == 21
    assert message.endswith("run.yaml: and 980 more")


def test_keys_are_texts_however_they_are_written(workspace: Path) -> None:
    document = marked_yaml.parse("1: a\ntrue: b\n~: c\n1.5: d\n", Path("x"))
    assert document.data == {"1": "a", "true": "b", "~": "c", "1.5": "d"}


def test_a_chain_of_files_ends(workspace: Path) -> None:
    for number in range(40):
        Path(f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    with pytest.raises(UsageError, match="more than 16 files"):
        load_config(Path("0.yaml"))


@pytest.mark.parametrize("text", ["\udcff=1", "a\n.b=1", "a=\udcff", "a" + ".a" * 40 + "=1"])
def test_overrides_of_any_bytes(text: str, cli: Cli, workspace: Path) -> None:
    Path("run.yaml").write_text(GOOD)
    refused(cli("optim", "show", "run.yaml", "-s", text), "-s ")


# What is no file, or too much of one


@pytest.fixture(params=["folder", "zeros", "pipe", "null", "huge"])
def thing(request: pytest.FixtureRequest, workspace: Path) -> Path:
    path = workspace / "thing"
    match request.param:
        case "folder":
            path.mkdir()
        case "zeros":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case "null":
            path.symlink_to("/dev/null")
        case "huge":
            path.touch()
            os.truncate(path, 3 << 30)
    return path


def test_anything_given_as_a_file_is_refused(thing: Path, cli: Cli) -> None:
    refused(cli("optim", "show", thing), "thing")
    refused(cli("score", thing, "--scorer", "equals"), "thing")
    Path("map.yaml").symlink_to(thing)
    source = Path("a.jsonl")
    source.write_text(ROW)
    done = cli("data", "import", "x", "--eval", source, "--mapping", "map.yaml", "--license", "MIT")
    if thing.is_fifo() or os.path.realpath(thing) == "/dev/null":
        assert done.code == 0  # an empty mapping maps nothing
    else:
        refused(done, "map.yaml")


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_an_import_takes_files_only(name: str, thing: Path, cli: Cli) -> None:
    Path(name).symlink_to(thing)
    if thing.is_file():
        os.truncate(thing, 65 << 20)  # beyond the longest line, and soon hashed
    refused(cli("data", "import", "x", "--eval", name, "--license", "MIT"), name)


def test_a_pipe_somebody_writes_is_read(cli: Cli, workspace: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, ROW.encode())
    os.close(writer)
    done = cli("score", f"/dev/fd/{reader}", "--scorer", "equals")
    os.close(reader)
    assert done.code == 0
    assert json.loads(done.out)["score"] == 1.0


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> int:
    for module in ("files.reading", "data.sources.readers", "data.sources.importing"):
        monkeypatch.setattr(f"ftreg.{module}.LONGEST_LINE", 1 << 20)
    return 1 << 20


def test_a_line_that_is_too_long_is_named(short_lines: int, cli: Cli, workspace: Path) -> None:
    long = json.dumps({"id": "b", "input": "x" * short_lines, "output": "x"})
    Path("a.jsonl").write_text(ROW + long)
    expected = "a.jsonl:2: a line of more than 1 MiB"
    refused(cli("score", "a.jsonl", "--scorer", "equals"), expected)
    refused(cli("data", "import", "x", "--eval", "a.jsonl", "--license", "MIT"), expected)
    assert not list(Path("sample_datasets/x").glob("v*"))


def test_a_quote_left_open_is_named_where_it_opens(
    short_lines: int, cli: Cli, workspace: Path
) -> None:
    Path("a.csv").write_text('input\nfine\n"open\n' + "line\n" * short_lines)
    done = cli("data", "import", "x", "--eval", "a.csv", "--license", "MIT")
    refused(done, "a.csv:3: ", "more than 1 MiB; is a double quote left open in it?")
    Path("b.csv").write_text("input,tags.a\nfine,1\n" + '"x\n",' * (short_lines // 3))
    done = cli("data", "import", "x", "--eval", "b.csv", "--license", "MIT")
    refused(done, "b.csv:3: ", "more than 1 MiB")


def test_a_row_that_could_not_be_read_back_is_not_written(
    short_lines: int, cli: Cli, workspace: Path
) -> None:
    text = "é" * (short_lines // 3)  # a third of the limit as written, and taken twice below
    Path("a.jsonl").write_text(json.dumps({"input": text}, ensure_ascii=False))
    given = ["--eval", "a.jsonl", "--license", "MIT", "--map", "reference=input"]
    refused(cli("data", "import", "x", *given), "a.jsonl:1: a row of more than 1 MiB")


# JSON


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": "a", "input": "x", "input": "y"}', "duplicate key 'input' in one object"),
        ('{"id": "a", "input": "x", "tags": {"k": "v", "k": "w"}}', "duplicate key 'k'"),
        ('{"id": "a", "input": NaN}', "NaN is not a JSON number"),
        ('{"id": "a", "input": -Infinity}', "-Infinity is not a JSON number"),
        ('{"id": "a", "input": 1e999}', "'1e999' is outside a float's range"),
        ('{"id": "a", "input": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ('{"id": "a", "input": ' + "[" * 101 + "]" * 101 + "}", "nested more than 100 levels deep"),
        ('{"id": "a", "input": ' + '{"a":' * 50_000, "nested more than 100 levels deep"),
        ('{"id": "a", "input": "\\uD83D"}', "lone surrogate"),
        ('{"id": "a", "\\udead": "x"}', "lone surrogate"),
        ('{"id": "a", "input": "\x01"}', "Invalid control character"),
        ('{"id": "a", "input": "x"} {}', "Extra data"),
        ('{"id": "a", "' + "k" * 10_000 + '": "x"}', "there is no column 'input'"),
        ('{"id": "' + "k" * 10_000 + '", "input": ["x"]}', "must be a non-empty string"),
    ],
)  # fmt: skip
def test_json_that_says_more_than_json(line: str, expected: str, cli: Cli, workspace: Path) -> None:
    Path("a.jsonl").write_text('{"id": "z", "input": "x"}\r\n\r\n' + line)
    done = cli("data", "import", "x", "--eval", "a.jsonl", "--license", "MIT")
    message = refused(done)
    assert len(message) < 1000
    assert "a.jsonl:3: " in message
    assert expected in message


def test_a_file_of_windows_is_read(cli: Cli, workspace: Path) -> None:
    Path("a.jsonl").write_bytes(b"\xef\xbb\xbf" + ROW.replace("\n", "\r\n").encode())
    assert cli("score", "a.jsonl", "--scorer", "equals").code == 0
    Path("b.jsonl").write_bytes(ROW.encode("utf-16"))
    refused(cli("score", "b.jsonl", "--scorer", "equals"), "b.jsonl:1: this is UTF-16; save it as")


# CSV, Parquet, OTLP


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"input\rx\ry\r", "a.csv:1: "),
        (b"", "a.csv:1: no header"),
        (b"input,input\nx,y\n", "a.csv:1: duplicate column 'input'"),
        (b'input\n"x"y\n', "a.csv:2: broken CSV"),
        (b'input\n"x\n', "a.csv:2: broken CSV"),
        ("input\nx\n".encode("utf-16"), "a.csv:1: this is UTF-16"),
    ],
)
def test_csv_that_is_none(data: bytes, expected: str, cli: Cli, workspace: Path) -> None:
    Path("a.csv").write_bytes(data)
    refused(cli("data", "import", "x", "--eval", "a.csv", "--license", "MIT"), expected)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([b"x", b"y"]), "a.parquet: row 1: 'input' must be a non-empty string"),
        (
            pa.array([[1.0, float("nan")], None]),
            "a.parquet: row 1: 'input' must be a non-empty string",
        ),
        (pa.array([2**40, 1], pa.timestamp("s")), "a.parquet: cannot read on after row 0"),
        (
            pa.array([b"fine", b"\xff"]).view(pa.string()),
            "a.parquet: cannot read on after row 0: ",
        ),
    ],
    ids=["bytes", "nan", "year", "utf8"],
)
def test_parquet_that_holds_no_texts(
    column: pa.Array, expected: str, cli: Cli, workspace: Path
) -> None:
    pq.write_table(pa.table({"input": column}), "a.parquet")
    refused(cli("data", "import", "x", "--eval", "a.parquet", "--license", "MIT"), expected)


def attribute(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": text}}


def spans(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def test_retrieved_documents_are_not_kept_in_memory(workspace: Path) -> None:
    call = [attribute("gen_ai.operation.name", "chat"), attribute("input.value", "Which?")]
    with Path("spans.json").open("w") as stream:
        for number in range(2000):
            found = [attribute("retrieval.documents.0.document.content", f"{number} " * 2000)]
            retriever = {"traceId": f"t{number}", "spanId": "r", "attributes": found}
            caller = {"traceId": f"t{number}", "spanId": f"s{number}", "attributes": call}
            stream.write(json.dumps(spans(caller, retriever)) + "\n")
    size = Path("spans.json").stat().st_size
    tracemalloc.start()
    contexts = [
        (row["context"] == f"{n} " * 2000)
        for n, (_, row) in enumerate(span_rows(Path("spans.json")))
    ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert contexts == [True] * 2000
    assert peak < size / 10


def test_documents_keep_their_order_and_stand_once(workspace: Path) -> None:
    found = [
        attribute(f"retrieval.documents.{n}.document.content", text)
        for n, text in ((1, "second"), (0, "first\0"), (2, "first\0"))
    ]
    call = [attribute("gen_ai.operation.name", "chat"), attribute("input.value", "Which?")]
    document = spans(
        {"traceId": "t", "spanId": "s", "attributes": call},
        {"traceId": "t", "spanId": "r", "attributes": found},
    )
    Path("spans.json").write_text(json.dumps(document, indent=1))
    ((_, row),) = span_rows(Path("spans.json"))
    assert row["context"] == "first\0\n\nsecond"


def test_a_broken_line_of_an_indented_export_is_named(cli: Cli, workspace: Path) -> None:
    text = json.dumps(spans(), indent=1).replace('"spans"', "spans")
    Path("spans.json").write_text(text)
    line = text[: text.index("spans:")].count("\n") + 1
    done = cli("data", "import", "x", "--from", "otel", "--eval", "spans.json", "--license", "MIT")
    refused(done, f"spans.json:{line}: broken JSON")


# Records


def test_limits_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bad-input.md").read_text("utf-8")
    from ftreg.services.chat.bounded import LARGEST_ANSWER

    for limit in (
        f"{reading.megabytes(reading.LONGEST_LINE)}",
        f"{reading.megabytes(marked_yaml.LARGEST)}",
        f"{reading.megabytes(LARGEST_ANSWER)}",
        f"{reading.LARGEST_RECORD >> 30} GiB",
        f"{reading.DEEPEST} levels",
    ):
        assert limit in page


def test_a_folder_of_old_numbers_does_not_count(cli: Cli, workspace: Path) -> None:
    refused(cli("data", "show", "x@" + "9" * 5000), "does not name a dataset version")


# What a terminal is told


ACTING = "\x1b]0;title\x07 \x1b[2J \x9b2J \r \u202eright-to-left \u2028"


def _acts(text: str) -> Iterator[str]:
    return (found for found in re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]", text))


def test_hostile_data_does_nothing_on_a_terminal(cli: Cli, workspace: Path) -> None:
    row = {"id": ACTING, "input": "x", "tags": {f"t{ACTING}": ACTING}, "output": "x"}
    Path("a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row))
    done = cli("data", "import", "x", "--eval", "a.jsonl", "--license", "MIT")
    assert not list(_acts(refused(done, "a.jsonl:2: duplicate id")))
    Path("a.jsonl").write_text(json.dumps(row | {"reference": "x"}))
    assert cli("data", "import", "x", "--eval", "a.jsonl", "--license", ACTING,
               "--cohort", f"t{ACTING}").code == 0  # fmt: skip
    for command in (("list",), ("show", "x@1"), ("verify", "x@1")):
        done = cli("data", *command)
        assert done.code == 0
        assert not list(_acts(done.out + done.err))
    assert "⌈U+001B⌋" in cli("data", "show", "x@1").out
    scored = cli("score", "a.jsonl", "--scorer", "equals")
    assert not list(_acts(scored.out))
    assert json.loads(scored.out)["id"] == ACTING
    assert cli("data", "show", "x@1", "--json").json["license"] == ACTING
