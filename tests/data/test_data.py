"""Dataset versions: what is accepted, and how each mistake is named."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ftreg.data import load_dataset
from ftreg.errors import UsageError
from ftreg.files.store import file_digest
from tests.conftest import Cli, rows_of, write_card, write_dataset

SAMPLES = Path(__file__).parents[2] / "sample_datasets"


def test_rows_come_back_as_they_were(workspace: Path) -> None:
    rows = rows_of(5)
    rows[3]["critical"] = True
    rows[4] = {"id": "bare", "input": "naïve\u2028 𝔘𝔫𝔦\x00code"}
    write_dataset(workspace, evaluation=rows)
    split = load_dataset("colours@1", root=workspace).split("eval")
    assert [example.id for example in split] == [row["id"] for row in rows]
    assert split[0].references == ("red", "It is red.")
    assert split[0].tags == {"parity": "even", "group": "g0"}
    assert [example.critical for example in split] == [False, False, False, True, False]
    assert split[-1].input == "naïve\u2028 𝔘𝔫𝔦\x00code"
    assert split[-1].context is None
    assert [example.id for example in split[1:3]] == ["e1", "e2"]
    assert len(split[:100]) == 5


def test_braces_in_a_row_are_not_placeholders(workspace: Path) -> None:
    write_dataset(
        workspace,
        evaluation=[{"id": "a", "input": "{context} {x}", "context": "{input}"}],
        cohorts=[],
    )
    dataset = load_dataset("colours@1", root=workspace)
    messages = dataset.card.prompt.messages(dataset.split("eval")[0])
    assert messages == [{"role": "user", "content": "{input}\n{context} {x}"}]


def _replace(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))

    return change


ROW = '{"id": "a", "input": "x", "reference": "y"}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ROW + "{broken\n", "eval.jsonl:2: broken JSON"),
        (
            ROW + "\n" + ROW,
            "eval.jsonl:3: duplicate id 'a' (first on line 1)",
        ),
        (ROW + '{"id": "\udcff"}\n', "eval.jsonl:2: invalid UTF-8"),
        (ROW + "[1]\n", "eval.jsonl:2: expected a JSON object, found list"),
        (
            '{"id": "a", "input": "x", "refrence": "y"}\n',
            "eval.jsonl:1: 'refrence' is not a field of a row; did you mean reference?",
        ),
        (
            '{"id": "a"}\n',
            "eval.jsonl:1: 'input' must be a non-empty string; it is missing",
        ),
        (
            '{"id": 7, "input": "x"}\n',
            "eval.jsonl:1: 'id' must be a non-empty string; found 7",
        ),
        ('{"id": "a", "input": "x", "reference": []}\n', "eval.jsonl:1: 'reference' must be"),
        ('{"id": "a", "input": "x", "tags": {"k": 1}}\n', "eval.jsonl:1: 'tags' must map"),
        ('{"id": "a", "input": "x", "critical": 1}\n', "eval.jsonl:1: 'critical' must be true"),
        ('{"id": "a", "input": "\\ud800"}\n', "eval.jsonl:1: a lone surrogate"),
        ('{"id": "a", "input": ' + "[" * 100_000 + "\n", "eval.jsonl:1: broken JSON"),
    ],
)
def test_a_broken_row_is_named_with_its_line(
    text: str, expected: str, cli: Cli, workspace: Path
) -> None:
    folder = write_dataset(workspace / "sample_datasets")
    path = folder / "eval.jsonl"
    _replace(text)(path)
    write_card(
        folder,
        name="colours",
        version=1,
        splits={"eval": {"file": path.name, "rows": 1, "sha256": file_digest(path)}},
    )
    done = cli("data", "verify", "colours@1")
    assert done.code == 2
    assert expected in done.err
    assert "Traceback" not in done.err


def test_changed_bytes_are_refused(cli: Cli, workspace: Path) -> None:
    folder = write_dataset(workspace / "sample_datasets")
    assert cli("data", "verify", "colours@1").code == 0
    with (folder / "eval.jsonl").open("a") as stream:
        stream.write(json.dumps({"id": "new", "input": "x"}) + "\n")
    done = cli("data", "verify", "colours@1")
    assert done.code == 2
    assert "eval.jsonl: the bytes of colours@1 have changed" in done.err
    assert len(done.err.splitlines()) == 1
    with (folder / "eval.jsonl").open("a") as stream:
        stream.write("{broken\n")
    done = cli("data", "verify", "colours@1")
    assert done.code == 2
    assert "eval.jsonl: the bytes of colours@1 have changed" in done.err
    assert "eval.jsonl:10: broken JSON" in done.err


def test_a_missing_file_is_named(cli: Cli, workspace: Path) -> None:
    folder = write_dataset(workspace / "sample_datasets")
    (folder / "train.jsonl").unlink()
    done = cli("data", "verify", "colours@1")
    assert done.code == 2
    assert "train.jsonl: this file of colours@1 is missing" in done.err


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("colors@1", "no dataset version colors@1; did you mean colours@1?"),
        ("colours@2", "no dataset version colours@2; did you mean colours@1?"),
        ("colours", "does not name a dataset version"),
        ("../secret@1", "does not name a dataset version"),
        ("colours@0", "does not name a dataset version"),
    ],
)
def test_unknown_versions(ref: str, expected: str, cli: Cli, workspace: Path) -> None:
    write_dataset(workspace / "sample_datasets")
    done = cli("data", "show", ref)
    assert done.code == 2
    assert expected in done.err


def test_a_wrong_card_is_named_with_its_line(workspace: Path) -> None:
    folder = write_dataset(workspace)
    card = folder / "dataset.yaml"
    card.write_text(card.read_text().replace("license:", "licence:"))
    with pytest.raises(
        UsageError, match=r"dataset\.yaml:\d+: licence is not a setting of the conf"
    ):
        load_dataset("colours@1", root=workspace)


def test_list_and_show(cli: Cli, workspace: Path) -> None:
    write_dataset(workspace / "sample_datasets")
    assert cli("data", "list", "--json").json["datasets"][0]["version"] == "colours@1"
    shown = cli("data", "show", "colours@1", "--json").json
    assert shown["cohort_sizes"]["eval"] == {"parity=even": 4, "parity=odd": 4}
    assert "parity=even" in cli("data", "show", "colours@1").out


@pytest.mark.parametrize("kind", ["bytes", "folder", "pipe"])
def test_a_damaged_copy_in_the_cache_is_made_again(kind: str, cli: Cli, workspace: Path) -> None:
    write_dataset(workspace / "sample_datasets")
    assert cli("data", "verify", "colours@1").code == 0
    for path in [*(workspace / "cache" / "arrow").glob("*.arrow")]:
        for damaged in (path, path.with_suffix(".sha256")):
            damaged.unlink()
            if kind == "bytes":
                damaged.write_bytes(b"not arrow")
            elif kind == "folder":
                (damaged / "something").mkdir(parents=True)
            else:
                os.mkfifo(damaged)
    assert cli("data", "verify", "colours@1").code == 0


@pytest.mark.parametrize(("version", "questions"), [("ferry-desk@1", 60), ("ferry-desk@2", 192)])
def test_hand_written_dataset_is_whole(version: str, questions: int) -> None:
    dataset = load_dataset(version, root=SAMPLES)
    train, held_out = dataset.split("train"), dataset.split("eval")
    assert not {row.context for row in train} & {row.context for row in held_out}
    assert all(row.context and row.references for row in [*train, *held_out])
    assert len({row.input for row in [*train, *held_out]}) == len(train) + questions
    assert set(Counter(row.tags["notice"] for row in held_out).values()) == {3}
    assert len({row.context for row in held_out}) == questions / 3
    assert sum(row.critical for row in held_out) >= 10


def test_the_second_version_only_adds_to_the_first() -> None:
    first, second = (load_dataset(f"ferry-desk@{version}", root=SAMPLES) for version in (1, 2))
    assert list(second.split("train")) == list(first.split("train"))
    assert list(second.split("eval"))[:60] == list(first.split("eval"))
    assert second.card.prompt == first.card.prompt
    assert second.card.cluster == "notice"
