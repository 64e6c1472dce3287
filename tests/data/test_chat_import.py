"""`ftreg data import` reads chats as others write them, and says what it cannot read."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Cli

TRACK = {
    "type": "function",
    "function": {
        "name": "track",
        "parameters": {"type": "object", "properties": {"to": {"type": "string"}}},
    },
}
CALL = {"type": "function", "function": {"name": "track", "arguments": {"to": "Molde", "a": 1}}}
WANTED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is it?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "gate 3"},
    {"role": "assistant", "content": "<think>\nSo.\n</think>\n\nAt gate 3."},
]
DEEP = '{"a":' * 97 + "1" + "}" * 97
ARGUMENTS = json.dumps({"to": "Molde", "a": 1})
OPENAI = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Where is it?"}]},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {"type": "function", "function": {"name": "track", "arguments": ARGUMENTS}}
            ],
        },
        {"role": "tool", "content": "gate 3"},
        {"role": "assistant", "content": "At gate 3.", "reasoning_content": "So.", "weight": 1},
    ],
    "tools": [TRACK],
}
TRL = {
    "prompt": WANTED[:-1],
    "completion": WANTED[-1:],
    "tools": json.dumps([TRACK["function"]]),
}
HALF = {"prompt": WANTED[:-1], "completion": WANTED[-1]["content"], "tools": [TRACK]}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "Where is it?"},
        {"from": "function_call", "value": json.dumps(CALL["function"])},
        {"from": "observation", "value": "gate 3"},
        {"from": "gpt", "value": WANTED[-1]["content"]},
    ],
    "system": "Be brief.",
    "tools": json.dumps([TRACK]),
}
OLDER = {
    "messages": [
        *WANTED[:2],
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "name": "track", "content": "gate 3"},
        WANTED[-1],
    ],
    "functions": [TRACK["function"]],
}


def lines(path: str, *rows: dict[str, Any]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def imported(cli: Cli, *arguments: str) -> Any:
    return cli("data", "import", "desk", "--license", "MIT", *arguments)


def rows(split: str = "train", version: int = 1) -> list[dict[str, Any]]:
    path = Path(f"sample_datasets/desk/v{version}/{split}.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    "given", [OPENAI, TRL, HALF, SHAREGPT, OLDER], ids=["oai", "trl", "half", "sgpt", "old"]
)
def test_each_form_gives_the_same_chat(given: dict[str, Any], cli: Cli) -> None:
    done = imported(cli, "--train", lines("a.jsonl", given))
    assert done.code == 0, done
    assert "not taken" not in done.err
    (row,) = rows()
    turns = [
        {key: value for key, value in turn.items() if key != "name"} for turn in row["messages"]
    ]
    assert turns == WANTED
    assert row["tools"] == [TRACK]
    # A chat template writes the keys as they stand.
    assert list(row["messages"][2]["tool_calls"][0]["function"]["arguments"]) == ["to", "a"]
    assert cli("data", "verify", "desk@1").code == 0
    again = cli("data", "draft", "desk@1")
    assert again.code == 0, again


@pytest.mark.parametrize(
    "source", ["set/train.parquet", pytest.param("hf:set", marks=pytest.mark.slow)]
)
def test_parquet_and_a_folder_of_the_hub_give_the_rows_of_jsonl(source: str, cli: Cli) -> None:
    """https://huggingface.co/docs/trl/dataset_formats: Parquet has a null for each missing key."""
    given = [{"messages": WANTED, "tools": [TRACK]}, {"messages": WANTED[:2] + WANTED[-1:]}]
    assert imported(cli, "--train", lines("a.jsonl", *given)).code == 0
    Path("set").mkdir()
    pq.write_table(pa.Table.from_pylist(given), "set/train.parquet")
    done = imported(cli, "--train", source)
    assert done.code == 0, done
    assert rows(version=2) == rows()


def chat(*turns: str, **last: Any) -> dict[str, Any]:
    found: list[dict[str, Any]] = [{"role": turn, "content": f"{turn}!"} for turn in turns]
    found[-1] |= last
    return {"messages": found}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (chat("user", "user"), "messages[1]: a user turn follows a user turn"),
        (chat("assistant"), "messages[0]: a chat must begin with a user turn"),
        (chat("user", "system"), "messages[1]: a system turn must be the first turn"),
        (chat("system"), "'messages' has no user turn"),
        (chat("user", "tool"), "messages[1]: a tool turn without a preceding call"),
        (chat("user", "asistant"), "'asistant' is not a role; did you mean assistant?"),
        (chat("user", "assistant", content=" "), "messages[1]: the content of assistant must be"),
        (chat("user", content=[{"type": "image_url"}]), "its content holds 'image_url'"),
        (chat("user", "assistant", weight=0), "messages[1]: weight 0 leaves a turn without loss"),
        (
            chat("user", "assistant", "user", tool_calls=[CALL]) | {"tools": [TRACK]},
            "'tool_calls' is not a key of a turn of user",
        ),
        (
            chat("user", "assistant", tool_calls=[{"function": {"name": "trak"}}])
            | {"tools": [TRACK]},
            "messages[1].tool_calls[0]: 'trak' is not one of the row's tools; did you mean track?",
        ),
        (
            {"messages": [*chat("user")["messages"], WANTED[2], {"role": "user", "content": "?"}]},
            "messages[2]: 1 of the preceding assistant calls have no tool turn",
        ),
        (
            chat("user", "assistant", tool_calls=[{"function": {"name": "f", "arguments": "{"}}]),
            "messages[1].tool_calls[0]: its arguments: broken JSON",
        ),
        (chat("user") | {"tools": [{"name": ""}]}, "tools[0] must be a function with a name"),
        (chat("user") | {"tools": [TRACK, TRACK]}, "tools[1]: 'track' is a duplicate"),
        ({"messages": "hello"}, "a chat is a list of turns, found 'hello'"),
        ({"messages": []}, "'messages' must be a list of turns"),
        (chat("user", "assistant", "assistant"), "follows another assistant turn; merge"),
        ({"chosen": [], "rejected": []}, "'chosen' and 'rejected' are preferences"),
    ],
)
def test_what_cannot_be_read_is_named_or_left_out(
    row: dict[str, Any], message: str, cli: Cli
) -> None:
    source = lines("a.jsonl", chat("user", "assistant"), row)
    done = imported(cli, "--train", source)
    assert done.code == 2, done
    said = done.err.replace("\n", " ")
    assert "a.jsonl:2: " in said
    assert message in said
    assert not Path("sample_datasets/desk/v1").exists()
    done = imported(cli, "--train", source, "--drop-unreadable", "--json")
    assert done.code == 0, done
    assert done.json["unreadable"] == 1
    assert message in done.json["reasons"][0]
    assert "unreadable rows skipped: 1" in done.err
    assert len(rows()) == 1


def test_what_could_not_be_read_again_is_not_written(cli: Cli) -> None:
    call = {"name": "f", "arguments": DEEP}
    source = lines("a.jsonl", chat("user", "assistant", tool_calls=[call]))
    done = imported(cli, "--train", source)
    assert done.code == 2, done
    assert "a.jsonl:1: broken JSON: nested more than 100 levels deep" in done.err


def test_a_split_has_a_mapping_of_its_own_and_paths_reach_into_chats(cli: Cli) -> None:
    train = lines("a.jsonl", {"turns": WANTED[1:2] + WANTED[-1:], "topic": "parcels"})
    Path("b.csv").write_text("question,answer\nWhere?,There\n", encoding="utf-8")
    done = imported(
        cli, "--train", train, "--eval", "b.csv", "--map", "train:messages=turns",
        "--map", "eval:input=question", "--map", "eval:reference=answer",
        "--map", "train:tags.topic=topic",
    )  # fmt: skip
    assert done.code == 0, done
    assert [turn["role"] for turn in rows()[0]["messages"]] == ["user", "assistant"]
    assert rows()[0]["tags"] == {"topic": "parcels"}
    assert (rows("eval")[0]["input"], rows("eval")[0]["reference"]) == ("Where?", "There")
    given = {
        "messages": WANTED,
        "contexts": ["One.", "", "Two."],
        "documents": [{"text": "A"}, {"text": "B"}],
    }
    for version, context in enumerate(["contexts", "documents[*].text"], start=2):
        done = imported(
            cli, "--train", lines("c.jsonl", given), "--map", "input=messages[1].content",
            "--map", "reference=messages[-1].content", "--map", f"context={context}",
            "--prompt-user", "{context}\n{input}",
        )  # fmt: skip
        assert done.code == 0, done
        (row,) = rows(version=version)
        assert row["input"] == "Where is it?"
        assert row["context"] == ("One.\n\nTwo." if context == "contexts" else "A\n\nB")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("evl:input=q", "there is no split 'evl'"),
        ("train:inpt=q", "'inpt' is not a field of a row; did you mean input?"),
        ("input=messages[7].content", "input is mapped to the column 'messages[7].content'"),
        ("input=messages[x]", "input is mapped to the column 'messages[x]'"),
        ("messages=chats", "messages is mapped to the column 'chats', which does not exist"),
    ],
)
def test_a_wrong_mapping_is_named(pair: str, message: str, cli: Cli) -> None:
    done = imported(cli, "--train", lines("a.jsonl", OPENAI), "--map", pair)
    assert done.code == 2, done
    assert message in done.err.replace("\n", " ")


def test_a_context_that_the_prompt_hides_is_said(cli: Cli) -> None:
    given = [
        {"messages": WANTED, "context": "The parcel is at gate 3."},
        {"messages": WANTED, "context": "gate 3", "id": "shown"},
        {"input": "Where?", "context": "There."},
    ]
    done = imported(cli, "--train", lines("a.jsonl", *given))
    assert done.code == 0, done
    assert "2 rows have a context that the prompt does not show" in done.err.replace("\n", " ")
    done = imported(cli, "--train", "a.jsonl", "--prompt-user", "{context} {input}", "--json")
    assert done.json["hidden_contexts"] == 0


def test_chats_that_begin_alike_are_not_torn_apart(cli: Cli) -> None:
    given = []
    for number in range(40):
        opening = chat("user", "assistant", content=f"{number}")["messages"]
        opening[0]["content"] = f"Question {number % 10}"
        more = [*opening, {"role": "user", "content": f"And {number}?"}]
        given.append({"messages": [*more, {"role": "assistant", "content": "Yes."}]})
    assert imported(cli, "--train", lines("a.jsonl", *given), "--eval-share", "0.5").code == 0
    sides = [{row["messages"][0]["content"] for row in rows(split)} for split in ("train", "eval")]
    assert sides[0] | sides[1] == {f"Question {number}" for number in range(10)}
    assert not sides[0] & sides[1]


def test_a_row_is_an_input_or_a_chat(cli: Cli) -> None:
    assert imported(cli, "--train", lines("a.jsonl", OPENAI)).code == 0
    assert cli("data", "draft", "desk@1").code == 0
    draft = Path("sample_datasets/desk/draft")
    for more, message in (
        ({"input": "x"}, "a row has either 'input' or 'messages', but this one has both"),
        ({"messages": None}, "'messages' must be a list of turns"),
    ):
        lines(str(draft / "train.jsonl"), {"id": "x", **OPENAI, **more})
        done = cli("data", "freeze", draft)
        assert done.code == 2, done
        assert message in done.err.replace("\n", " ")
    lines(str(draft / "train.jsonl"), {"id": "x", "input": "x", "tools": [TRACK]})
    assert "'tools' need 'messages'" in cli("data", "freeze", draft).err
