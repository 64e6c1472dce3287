"""Tokenised rows in the cache: made once, whole or not at all, and never in memory."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftreg.data import DatasetVersion, load_dataset
from ftreg.errors import UsageError
from ftreg.models.assistant_turn import AssistantTurn
from ftreg.models.chat_template import Chat
from ftreg.models.pretrained import load_tokenizer
from ftreg.training.batching.examples import (
    BATCH_ROWS,
    TokenisedExamples,
    record_batches,
    token_pairs,
)
from ftreg.training.batching.tokens import open_prepared, prepare_examples, write_prepared
from tests.conftest import TEMPLATE, Cli, make_model, rows_of, write_dataset

Prepare = Callable[..., TokenisedExamples]


class CountingTokenizer:
    """A tokenizer that counts the chats it is asked to tokenise."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def apply_chat_template(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        return self._tokenizer.apply_chat_template(*arguments, **options)


@pytest.fixture
def dataset(workspace: Path) -> DatasetVersion:
    """As many rows as make three record batches, the last of them not full."""
    write_dataset(workspace / "datasets", train=rows_of(2 * BATCH_ROWS + 5, "t"))
    return load_dataset("colours@1", root=workspace / "datasets")


@pytest.fixture
def tokenizer(tiny_model: Path) -> CountingTokenizer:
    return CountingTokenizer(load_tokenizer(tiny_model))


@pytest.fixture
def prepare(dataset: DatasetVersion, tokenizer: CountingTokenizer) -> Prepare:
    def run(**changes: Any) -> TokenisedExamples:
        rows = changes.pop("rows", None)
        arguments = {
            "dataset": dataset,
            "split": "train",
            "max_length": 512,
            "turn": AssistantTurn(Chat(changes.pop("tokenizer", tokenizer))),
            **changes,
        }
        tokenizer.calls = 0
        version: DatasetVersion = arguments["dataset"]
        return prepare_examples(version.split(arguments["split"])[:rows], **arguments)

    return run


def _entries(workspace: Path) -> list[Path]:
    return sorted((workspace / "cache/prepared").glob("*.arrow"))


def _content(examples: TokenisedExamples) -> list[tuple[list[int], int, int, int]]:
    return [
        (
            list(examples.ids(row)),
            examples.length(row),
            examples.prompt_length(row),
            examples.answer_length(row),
        )
        for row in range(len(examples))
    ]


def test_the_second_start_tokenises_nothing(
    prepare: Prepare, tokenizer: CountingTokenizer, workspace: Path
) -> None:
    done: list[None] = []
    first = prepare(advance=lambda: done.append(None))
    assert len(done) == len(first) == 2 * BATCH_ROWS + 5
    assert tokenizer.calls == 2 * len(first)
    second = prepare(advance=lambda: done.append(None))
    assert tokenizer.calls == 0
    assert len(done) == len(first)
    assert _content(second) == _content(first)
    assert len(_entries(workspace)) == 1


def test_the_tokens_are_those_of_memory(
    prepare: Prepare, dataset: DatasetVersion, tokenizer: CountingTokenizer
) -> None:
    rows = dataset.split("train")
    prompt = dataset.card.prompt
    turn = AssistantTurn(Chat(tokenizer))
    pairs = token_pairs(rows, turn=turn, prompt=prompt, max_length=512)
    plain = TokenisedExamples(record_batches(pairs))
    assert _content(prepare()) == _content(plain)
    last = len(rows) - 1
    messages = prompt.messages(rows[last])
    answer = {"role": "assistant", "content": rows[last].references[0]}
    text = tokenizer.apply_chat_template([*messages, answer], tokenize=False)
    assert tokenizer.decode(list(prepare().ids(last))) == text.removesuffix("\n")


def test_a_row_beyond_the_last_does_not_exist(prepare: Prepare) -> None:
    examples = prepare(rows=3)
    assert len(examples) == 3
    for access in (examples.ids, examples.length, examples.prompt_length):
        with pytest.raises(IndexError):
            access(3)


def test_what_changes_the_tokens_is_another_entry(
    prepare: Prepare, tiny_model: Path, workspace: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    prepare = functools.partial(prepare, tokenizer=load_tokenizer(tiny_model))
    prepare()
    assert len(_entries(workspace)) == 1
    prepare(rows=10)
    assert len(_entries(workspace)) == 2
    prepare(max_length=400)
    assert len(_entries(workspace)) == 3

    folder = make_model(tmp_path / "other")
    prepare(tokenizer=load_tokenizer(folder))
    assert len(_entries(workspace)) == 3  # the same tokenizer in another folder
    (folder / "chat_template.jinja").write_text(
        TEMPLATE.replace("m['content']", "m['content']|lower")
    )
    prepare(tokenizer=load_tokenizer(folder))
    assert len(_entries(workspace)) == 4
    tokens = load_tokenizer(folder)
    tokens.add_tokens(["item"])
    prepare(tokenizer=tokens)
    assert len(_entries(workspace)) == 5
    ends = load_tokenizer(folder)
    ends.eos_token = "<|endoftext|>"
    prepare(tokenizer=ends)
    assert len(_entries(workspace)) == 6

    write_dataset(
        workspace / "datasets", version=2, train=rows_of(2 * BATCH_ROWS + 5, "t"),
        prompt={"user": "{input}"},
    )  # fmt: skip
    prepare(dataset=load_dataset("colours@2", root=workspace / "datasets"))
    assert len(_entries(workspace)) == 7
    prepare(split="eval")
    assert len(_entries(workspace)) == 8
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    prepare()
    assert len(_entries(workspace)) == 9


def test_a_template_with_the_date_in_it_is_another_one_tomorrow(
    prepare: Prepare, workspace: Path, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "dated")
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}\n" + TEMPLATE)
    prepare(rows=3, tokenizer=load_tokenizer(folder))

    prepare(rows=3, turn=AssistantTurn(Chat(load_tokenizer(folder), date="2999-01-01")))
    assert len(_entries(workspace)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "no digest", "garbage"])
def test_a_damaged_file_is_made_again(
    damage: str, prepare: Prepare, tokenizer: CountingTokenizer, workspace: Path
) -> None:
    whole = _content(prepare())
    calls = tokenizer.calls
    (path,) = _entries(workspace)
    data = path.read_bytes()
    middle = len(data) // 2
    damaged = {
        "cut": data[:middle],
        "flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "empty": b"",
        "no digest": data,
        "garbage": b"garbage",
    }[damage]
    path.write_bytes(damaged)
    if damage == "no digest":
        path.with_suffix(".sha256").unlink()
    assert _content(prepare()) == whole
    assert tokenizer.calls == calls
    assert path.read_bytes() == data
    prepare()
    assert tokenizer.calls == 0


def test_a_mistake_keeps_nothing(prepare: Prepare, workspace: Path) -> None:
    before = prepare(rows=2)
    entries = _entries(workspace)
    limit = before.length(0)
    assert before.length(1) > limit
    with pytest.raises(UsageError, match=f"example 't1' has {before.length(1)} tokens"):
        prepare(max_length=limit)
    assert _entries(workspace) == entries
    assert not list((workspace / "cache/prepared").glob("*.part"))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "big.arrow"
    rows = 200_000
    write_prepared(path, (([row % 97] * 40, [row % 11] * (1 + row % 40)) for row in range(rows)))
    assert path.stat().st_size > 45e6
    code = """
import sys
from pathlib import Path
import psutil
from ftreg.training.batching.tokens import open_prepared
process = psutil.Process()
before = process.memory_info()
examples = open_prepared(Path(sys.argv[1]))
opened = process.memory_info()
tokens = sum(len(examples.ids(row)) + examples.ids(row)[0] for row in range(len(examples)))
walked = process.memory_info()
# Pages of a mapped file that are read count as resident and shared, and can be dropped.
print(len(examples), opened.rss - before.rss,
      (walked.rss - walked.shared) - (before.rss - before.shared))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, opened, walked = map(int, done.stdout.split())
    assert count == rows
    assert opened < 30e6
    assert walked < 30e6
    examples = open_prepared(path)
    assert list(examples.ids(123_456)) == [123_456 % 97] * 40 + [123_456 % 11] * (1 + 123_456 % 40)
    assert examples.prompt_length(123_456) == 40


def test_an_empty_reference_ends_with_2(cli: Cli, config: Path, workspace: Path) -> None:
    empty = [{"id": "a", "input": "x", "context": "c", "reference": ""}]
    write_dataset(workspace / "datasets", version=2, train=empty, cohorts=[])
    done = cli("train", config, "-s", "dataset.version=colours@2", "-o", "a")
    assert done.code == 2, done
    assert "train.jsonl:1: 'reference' must be a string" in done.err


def test_an_empty_split_ends_with_2(cli: Cli, config: Path, workspace: Path) -> None:
    write_dataset(workspace / "datasets", version=2, train=[])
    done = cli("train", config, "-s", "dataset.version=colours@2", "-o", "a")
    assert done.code == 2, done
    assert "splits.train.rows" in done.err


def test_a_reference_that_is_only_the_end_ends_with_2(
    cli: Cli, config: Path, workspace: Path
) -> None:
    rows = [{"id": "a", "input": "x", "context": "c", "reference": "<|im_end|>"}]
    write_dataset(workspace / "datasets", version=2, train=rows, cohorts=[])
    done = cli("train", config, "-s", "dataset.version=colours@2", "-o", "a")
    assert done.code == 2, done
    assert "example 'a': its reference holds '<|im_end|>', which ends an output" in done.err


def test_a_template_that_drops_the_answers_ends_with_2(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "mute")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages if m['role'] != 'assistant' %}{{ m['content'] }}{% endfor %}"
    )
    done = cli("train", config, "-s", f"base.model={folder}", "-o", "a")
    assert done.code == 2, done
    assert (
        "mute: the model's chat template (chat_template.jinja) does not write what the assistant"
        in done.err
    )
    assert not Path("a").exists()


def test_the_second_training_tokenises_nothing(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerBase

    calls: list[Any] = []
    original = PreTrainedTokenizerBase.apply_chat_template

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        asked, *_ = arguments
        calls.extend(message for message in asked if "item" in message["content"])
        return original(self, *arguments, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "apply_chat_template", counted)
    assert cli("train", config, "-o", "a").code == 0
    assert len(calls) == 24
    assert cli("train", config, "-o", "b").code == 0
    assert len(calls) == 24
    a, b = (Path(name, "model.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b
