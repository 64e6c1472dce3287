"""Importing, freezing, comparing and verifying dataset versions, through the command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ftreg.data import digests, load_dataset
from ftreg.files.store import file_digest
from tests.conftest import Cli, rows_of, write_dataset

CSV = """\
question,answer,level,must
"Which colour, please?",red,1,true
"Two
lines",007,2,false
No answer,,1,
"""


def _rows(folder: str, split: str = "train") -> list[dict[str, Any]]:
    path = Path("sample_datasets", folder, f"{split}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def _card(folder: str) -> dict[str, Any]:
    card: dict[str, Any] = yaml.safe_load(
        Path("sample_datasets", folder, "dataset.yaml").read_text()
    )
    return card


MAPPED = ["--map", "input=question", "--map", "reference=answer", "--map", "tags.level=level",
          "--map", "critical=must", "--license", "MIT"]  # fmt: skip


def test_csv_is_imported_with_a_mapping_and_verifies(cli: Cli) -> None:
    Path("a.csv").write_text(CSV)
    done = cli("data", "import", "trivia", "--train", "a.csv", *MAPPED, "--cohort", "level")
    assert done.code == 0, done
    assert "trivia@1: train 3 rows" in done.out
    first, second, third = _rows("trivia/v1")
    assert {**first, "id": ""} == {
        "id": "", "input": "Which colour, please?", "reference": "red", "tags": {"level": "1"},
        "critical": True,
    }  # fmt: skip
    assert second["input"] == "Two\nlines"
    assert second["reference"] == "007"  # text stays text
    assert "reference" not in third and "critical" not in third
    assert len({row["id"] for row in (first, second, third)}) == 3
    card = _card("trivia/v1")
    assert file_digest(Path("a.csv")) in card["source"]
    assert card["cohorts"] == ["level"]
    assert cli("data", "verify", "trivia@1").code == 0


def test_jsonl_and_parquet_of_the_same_rows_make_the_same_bytes(cli: Cli) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"q": {"text": "one?"}, "a": ["1", "one"], "tags": {"kind": "n"}, "extra": 5},
        {"q": {"text": "two?"}, "a": ["2"], "tags": {"kind": None}, "extra": None},
    ]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), "a.parquet")
    Path("m.yaml").write_text("input: q.text\nreference: a\n")
    digests_found = []
    for file in ("a.jsonl", "a.parquet"):
        done = cli(
            "data", "import", "n", "--train", file, "--mapping", "m.yaml", "--license", "MIT"
        )
        assert done.code == 0, done
        assert "unused columns: extra" in done.err
        digests_found.append(_card(f"n/v{len(digests_found) + 1}")["splits"]["train"]["sha256"])
    assert digests_found[0] == digests_found[1]
    assert _rows("n/v1")[0]["reference"] == ["1", "one"]
    assert _rows("n/v1")[1].keys() == {"id", "input", "reference"}


@pytest.mark.parametrize(
    ("file", "text", "arguments", "expected"),
    [
        ("a.csv", "q,a\nx,y,z\n", ["--map", "input=q"], "a.csv:2: 3 cells, but the header has 2"),
        ("a.csv", 'q\n"x\ny"\n""\n', ["--map", "input=q"],
         "a.csv:4: 'input' must be a non-empty string"),
        ("a.csv", "q,q\nx,y\n", ["--map", "input=q"], "a.csv:1: duplicate column 'q'"),
        ("a.csv", "", ["--map", "input=q"], "a.csv:1: no header"),
        ("a.csv", "q\n\udcff\n", ["--map", "input=q"], "a.csv:2: invalid UTF-8"),
        ("a.csv", "question\nx\n", ["--map", "input=qestion"],
         "a.csv: input is mapped to the column 'qestion', which does not exist; did you mean"),
        ("a.csv", "q\nx\n", [], "a.csv:2: there is no column 'input'; select one"),
        ("a.csv", "input\nx\ny\nx\n", [], "a.csv:4: duplicate id"),
        ("a.csv", "input\n", [], "the split train of new@1 would have no row"),
        ("a.csv", "input\nx\n", ["--map", "inptu=q"], "'inptu' is not a field of a row; did"),
        ("a.csv", "input\nx\n", ["--cohort", "level"], "cohorts name the tag 'level', which no"),
        ("a.csv", "input\nx\n", ["--prompt-user", "{input} {context}"], "a.csv:2: example "),
        ("a.csv", "input\nx\n", ["--prompt-user", "hello"], "must contain {input}"),
        ("a.csv", "input\nx\n", ["--cluster", "doc", "--eval-share", "0.9999"], "a.csv:2: the"),
        ("a.jsonl", '{"input": "x"}\n{broken\n', [], "a.jsonl:2: broken JSON"),
        ("a.jsonl", '{"input": "x"}\n{"input": {"a": 1}}\n', [], "a.jsonl:2: 'input' must be"),
        ("a.jsonl", '{"input": "x"}\n', ["--map", "tags.level=lvl"], "mapped to the column 'lvl'"),
        ("a.parquet", "no parquet", [], "a.parquet: cannot read this as Parquet"),
        ("a.xlsx", "", [], "a.xlsx: files with this extension cannot be imported"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_leaves_nothing(
    file: str, text: str, arguments: list[str], expected: str, cli: Cli
) -> None:
    Path(file).write_bytes(text.encode("utf-8", "surrogateescape"))
    done = cli("data", "import", "new", "--train", file, "--license", "MIT", *arguments)
    assert done.code == 2, done
    assert expected in done.err
    assert "Traceback" not in done.err
    assert not list(Path("sample_datasets").glob("new/*"))


def test_the_licence_is_asked_for_once_and_inherited(cli: Cli) -> None:
    Path("a.csv").write_text(CSV)
    without = [item for item in MAPPED if item not in ("--license", "MIT")]
    done = cli("data", "import", "trivia", "--train", "a.csv", *without)
    assert done.code == 2 and "--license is missing" in done.err
    cli("data", "import", "trivia", "--train", "a.csv", *MAPPED, "--cohort", "level",
        "--prompt-user", "Q: {input}")  # fmt: skip
    first = Path("sample_datasets/trivia/v1/dataset.yaml").read_bytes()
    assert cli("data", "import", "trivia", "--train", "a.csv", *without).code == 0
    card = _card("trivia/v2")
    assert (card["license"], card["cohorts"]) == ("MIT", ["level"])
    assert card["prompt"] == {"user": "Q: {input}"}
    assert Path("sample_datasets/trivia/v1/dataset.yaml").read_bytes() == first


def test_rows_that_stand_twice_can_be_dropped(cli: Cli) -> None:
    Path("a.csv").write_text("input\nx\ny\nx\n")
    done = cli("data", "import", "d", "--train", "a.csv", "--license", "MIT", "--drop-duplicates",
               "--json")  # fmt: skip
    assert done.json["rows"] == {"train": 2}
    assert done.json["dropped"] == 1


def test_a_share_is_held_out_and_equal_inputs_stay_together(cli: Cli) -> None:
    lines = [f"Question {i % 200},answer {i}" for i in range(400)]
    Path("a.csv").write_text("input,reference\n" + "\n".join(lines) + "\n")
    import_ = ["data", "import", "h", "--train", "a.csv", "--license", "MIT", "--eval-share", "0.3"]
    assert cli(*import_).code == 0
    train, held_out = _rows("h/v1"), _rows("h/v1", "eval")
    assert len(train) + len(held_out) == 400
    assert 60 <= len(held_out) <= 180
    assert not {row["input"] for row in train} & {row["input"] for row in held_out}
    assert cli(*import_).code == 0
    assert _rows("h/v2", "eval") == held_out


def test_a_set_of_the_datasets_library_is_imported(cli: Cli) -> None:
    Path("hub").mkdir()
    Path("hub/train.jsonl").write_text('{"question": "a?", "answer": 1}\n')
    Path("hub/test.jsonl").write_text('{"question": "b?", "answer": 2}\n')
    done = cli("data", "import", "s", "--train", "hf:hub:train", "--eval", "hf:hub:test",
               "--license", "MIT",
               "--map", "input=question", "--map", "reference=answer")  # fmt: skip
    assert done.code == 0, done
    assert _rows("s/v1", "eval")[0]["reference"] == "2"
    done = cli("data", "import", "s", "--train", "hf:hub:dev", "--license", "MIT")
    assert done.code == 2 and "hf:hub:dev: cannot load it" in done.err


def test_a_hub_set_is_pinned_to_its_commit(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    commit, asked = "c" * 40, {}

    class Rows(list[dict[str, str]]):
        column_names = ("input",)
        info = SimpleNamespace(splits=None)

    def load(path: str, **options: Any) -> Rows:
        asked.update(options, path=path)
        return Rows([{"input": "x"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "dataset_info", lambda *a, **k: SimpleNamespace(sha=commit)
    )
    assert cli("data", "import", "s", "--train", "hf:org/set@main", "--license", "MIT").code == 0
    assert (asked["revision"], asked["split"], asked["streaming"]) == (commit, "train", True)
    assert f"org/set@{commit}" in _card("s/v1")["source"]
    done = cli("data", "import", "s", "--train", "hf:org/set", "--license", "MIT")
    assert done.code == 2 and "name the revision too" in done.err


def test_a_draft_becomes_the_next_version(cli: Cli) -> None:
    write_dataset(Path("sample_datasets"))
    frozen = {path: path.read_bytes() for path in Path("sample_datasets/colours/v1").iterdir()}
    assert cli("data", "draft", "colours@1").code == 0
    done = cli("data", "freeze", "sample_datasets/colours/draft")
    assert done.code == 2 and "nothing differs from colours@1" in done.err
    with Path("sample_datasets/colours/draft/eval.jsonl").open("a") as stream:
        stream.write(json.dumps({**rows_of(1)[0], "id": "more"}) + "\n")
    done = cli(
        "data", "freeze", "sample_datasets/colours/draft", "--changes", "One more.", "--json"
    )
    assert done.json["version"] == "colours@2"
    assert done.json["rows"] == {"train": 12, "eval": 9}
    assert _card("colours/v2")["changes"] == "One more."
    assert cli("data", "verify").code == 0  # both versions
    assert {path: path.read_bytes() for path in frozen} == frozen
    done = cli("data", "freeze", "sample_datasets/colours/draft")
    assert done.code == 2 and "nothing differs from colours@2" in done.err


def test_a_broken_draft_is_refused_with_its_own_line(cli: Cli) -> None:
    write_dataset(Path("sample_datasets"))
    cli("data", "draft", "colours@1", "-o", "d")
    Path("d/eval.jsonl").write_text('{"id": "a", "input": "x"}\n{"id": "b"}\n')
    done = cli("data", "freeze", "d")
    assert done.code == 2
    assert "d/eval.jsonl:2: 'input' must be" in done.err or "d/eval.jsonl: row 'a'" in done.err
    Path("d/eval.jsonl").unlink()
    done = cli("data", "freeze", "d")
    assert done.code == 2 and "this file of the split eval is missing" in done.err
    assert [path.name for path in Path("sample_datasets/colours").iterdir()] == ["v1"]


def test_two_freezes_at_once_make_two_versions(workspace: Path) -> None:
    write_dataset(Path("sample_datasets"))
    drafts = []
    for number in (1, 2):
        folder = write_dataset(Path(f"d{number}"), evaluation=rows_of(8 + number))
        drafts.append(folder)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "ftreg", "data", "freeze", str(folder)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL,
        )
        for folder in drafts
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    root = Path("sample_datasets")
    sizes = {len(load_dataset(f"colours@{n}", root=root).split("eval")) for n in (2, 3)}
    assert sizes == {9, 10}


def test_diff_names_added_removed_and_changed_rows(cli: Cli) -> None:
    old, new = rows_of(8), rows_of(9)
    del new[2]
    new[3]["reference"] = "pink"
    new[0]["tags"]["parity"] = "odd"
    new[5], new[6] = new[6], new[5]
    write_dataset(Path("sample_datasets"), evaluation=old)
    write_dataset(Path("sample_datasets"), evaluation=new, version=2, license="MIT")
    found = cli("data", "diff", "colours@1", "colours@2", "--json").json
    split = found["splits"]["eval"]
    assert split["rows"] == [8, 8]
    assert split["added"] == {"count": 1, "first": ["e8"]}
    assert split["removed"] == {"count": 1, "first": ["e2"]}
    assert split["changed"] == {"count": 2, "first": ["e0", "e4"]}
    assert split["reordered"] is True
    assert split["cohorts"] == {"parity=even": [4, 3], "parity=odd": [4, 5]}
    assert found["card"] == {"license": ["Apache-2.0", "MIT"]}
    same = found["splits"]["train"]
    assert not same["reordered"]
    assert not any(same[key]["count"] for key in ("added", "removed", "changed"))
    text = cli("data", "diff", "colours@1", "colours@2").out
    assert "eval, removed: e2" in text and max(map(len, text.splitlines())) <= 80


def test_show_draws_cohorts_and_lengths(cli: Cli) -> None:
    rows = rows_of(8)
    rows[0]["input"] = "x" * 1500
    write_dataset(Path("sample_datasets"), evaluation=rows)
    shown = cli("data", "show", "colours@1", "--json").json
    assert shown["lengths"]["eval"]["input"]["1,024-2,047"] == 1
    assert sum(shown["lengths"]["eval"]["input"].values()) == 8
    assert sum(shown["lengths"]["eval"]["reference"].values()) == 16
    text = cli("data", "show", "colours@1").out
    assert "█" in text and "1,024-2,047" in text and "parity=even" in text
    assert max(map(len, text.splitlines())) <= 80


def test_verify_reports_every_broken_split(cli: Cli) -> None:
    folder = write_dataset(Path("sample_datasets"))
    write_dataset(Path("sample_datasets"), version=2)
    for name in ("train", "eval"):
        with (folder / f"{name}.jsonl").open("a") as stream:
            stream.write("\n")
    done = cli("data", "verify", "--json")
    assert done.code == 2
    found = {(item["version"], item["split"]): item["problem"] for item in done.json["splits"]}
    assert not done.json["ok"]
    assert "have changed" in found["colours@1", "train"]
    assert "have changed" in found["colours@1", "eval"]
    assert found["colours@2", "train"] is None


def _aged(path: Path) -> None:
    """Let a file be old enough to be remembered, change time and all."""
    while time.time_ns() - path.stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.05)


def test_a_digest_is_computed_once_and_never_believed_of_a_young_file(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    path = Path("a.jsonl")
    path.write_text("one\n")
    young = digests.remembered_digest(path)
    assert digests.remembered_digest(path) == young
    assert len(read) == 2  # it could still be changed within one tick of the clock
    _aged(path)
    assert [digests.remembered_digest(path) for _ in range(3)] == [young] * 3
    assert len(read) == 3
    stat = path.stat()
    path.write_text("two\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same mtime
    assert digests.remembered_digest(path) == file_digest(path) != young
    (workspace / "cache" / "tables" / "digests.sqlite").write_bytes(
        b"not a database, and long enough" * 99
    )
    assert digests.remembered_digest(path) == file_digest(path)
