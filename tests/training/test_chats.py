"""Chats from the row to the report: what carries loss, what is asked, and what is shown.

Loss and outputs are held against transformers: its chat template writes the whole chat, the answers
are found in the text by their marks, and `generate()` goes on from the turns before the last.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.conftest import TEMPLATE, Cli, rewrite_rows, write_dataset
from tests.judge_server import serving
from tests.training.test_chat_templates import SYSTEM_LAST, Base, base, loss_of

__all__ = ["base"]

# As Hermes and Qwen2.5 do, and in the order of the keys.
TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>\n{{ c.function | tojson }}\n</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen3's: only what comes behind the last question is written with an (empty) thought.
LATE_THOUGHT = TEMPLATE.replace(
    "{{ m['content'] }}",
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}",
)
ANSWERS = re.compile(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", re.DOTALL)
PARCEL = {
    "name": "track",
    "description": "Where a parcel is.",
    "parameters": {"type": "object", "properties": {"parcel": {"type": "string"}}},
}


def ticket(number: int) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "You are a help desk."},
        {"role": "user", "content": f"Where is parcel {number}?"},
        {"role": "assistant", "content": "In which town?"},
        {"role": "user", "content": "Molde"},
        {"role": "assistant", "content": f"At gate {number}."},
    ]


def calling(number: int, *, content: str = "") -> list[dict[str, Any]]:
    call = {"name": "track", "arguments": {"parcel": f"Nº {number}", "also": [number]}}
    return [
        {"role": "user", "content": f"Where is parcel {number}?"},
        {
            "role": "assistant",
            "content": content,
            "tool_calls": [{"id": "c", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "c", "content": '{"at": "gate"}'},
        {"role": "assistant", "content": f"At gate {number}."},
    ]


def write_chats(chats: list[list[dict[str, Any]]], tools: Any = None, **card: Any) -> None:
    rows = [
        {"id": f"r{number}", "messages": chat, **({"tools": tools} if tools else {})}
        for number, chat in enumerate(chats)
    ]
    card = {"prompt": {"user": "{input}"}, "cohorts": [], **card}
    write_dataset(Path("chats"), name="desk", train=rows, evaluation=rows, **card)


def training(cli: Cli, config: Path, model: Path, *settings: str) -> Any:
    given = [f"base.model={model}", "dataset.root=chats", "dataset.version=desk@1", *settings]
    options = [option for setting in given for option in ("-s", setting)]
    one_step = ("-s", "train.max_steps=1", "-s", "train.batch_size=8")
    return cli("train", config, *options, *one_step, "-o", "a")


def expected_loss(
    model: Path, chats: list[list[dict[str, Any]]], tools: Any, *, last: bool
) -> tuple[float, int]:
    """Mean loss per token of the answers, by transformers, and how many tokens these are."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    summed, count = 0.0, 0
    for chat in chats:
        text = tokenizer.apply_chat_template(chat, tools=tools, tokenize=False)
        found = list(ANSWERS.finditer(text))[-1 if last else 0 :]
        ids, labels, place = [], [], 0
        for match in found:
            for part, learnt in (
                (text[place : match.start(1)], False),
                (match[1], True),
            ):
                tokens = tokenizer.encode(part, add_special_tokens=False)
                ids += tokens
                labels += tokens if learnt else [-100] * len(tokens)
            place = match.end(1)
        with torch.no_grad():
            loss = network(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        learnt_tokens = sum(label >= 0 for label in labels)
        summed += float(loss) * learnt_tokens
        count += learnt_tokens
    return summed / count, count


@pytest.mark.parametrize(
    ("kind", "loss_on"),
    [
        ("talk", "all_turns"),
        ("talk", "last_turn"),
        ("tools", "all_turns"),
        ("call last", "last_turn"),
    ],
)
def test_the_loss_is_of_the_assistants_turns(
    kind: str, loss_on: str, cli: Cli, config: Path, base: Base
) -> None:
    """https://github.com/verl-project/verl/pull/3287, where the first token of each was left out,
    and https://github.com/huggingface/trl/pull/7229, where the end was."""
    model = base(TEMPLATE if kind == "talk" else TOOLS)
    chats = [ticket(1), ticket(22)] if kind == "talk" else [calling(1), calling(2, content="Yes.")]
    if kind == "call last":
        chats = [chat[:2] for chat in chats]
    tools = None if kind == "talk" else [{"type": "function", "function": PARCEL}]
    write_chats(chats, tools)
    done = training(cli, config, model, f"train.loss_on={loss_on}")
    assert done.code == 0, done
    loss, count = expected_loss(model, chats, tools, last=loss_on == "last_turn")
    step = json.loads(Path("a/history.jsonl").read_text().splitlines()[0])
    assert step["loss_tokens"] == count
    assert step["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_template_that_writes_history_otherwise_is_trained_on_the_last_turn(
    cli: Cli, config: Path, base: Base
) -> None:
    write_chats([ticket(1), ticket(2)])
    model = base(LATE_THOUGHT)
    refused = training(cli, config, model)
    assert refused.code == 2, refused
    said = refused.err.replace("\n", " ")
    assert "example 'r0'" in said
    assert "writes turn 3 otherwise" in said
    assert "on it is 'I' 'n' ' '" in said and "and was '<' 't' 'h'" in said
    assert "train.loss_on: last_turn" in said
    assert training(cli, config, model, "train.loss_on=last_turn").code == 0


def test_a_system_turn_that_stands_in_the_last_question_is_learnt_with(
    cli: Cli, config: Path, base: Base
) -> None:
    """As the tokenizers of Mistral-7B-Instruct-v0.3 and Mistral-Nemo-Instruct-2407 write it."""
    model = base(SYSTEM_LAST)
    write_chats([ticket(1)])
    refused = training(cli, config, model)
    assert refused.code == 2, refused
    assert "train.loss_on: last_turn" in refused.err.replace("\n", " ")
    assert training(cli, config, model, "train.loss_on=last_turn").code == 0
    system, *turns, question, answer = (turn["content"] for turn in ticket(1))
    asked = f"[Q]{turns[0]}[/Q] {turns[1]}<|im_end|>[Q]{system}\n\n{question}[/Q]"
    loss, count = loss_of(model, [(asked, f" {answer}")], 2)
    step = json.loads(Path("a/history.jsonl").read_text())
    assert (step["loss_tokens"], step["loss"]) == (count, pytest.approx(loss, rel=1e-5))


@pytest.mark.parametrize(
    ("template", "chat", "tools", "message"),
    [
        (TEMPLATE, calling(1), [PARCEL], "leaves out the tools: 'track'"),
        (TEMPLATE, calling(1)[:2], None, "leaves out the call of a function: 'track'"),
        (
            TOOLS.replace("{% for m in messages %}", "{% for m in messages[-2:] %}"),
            ticket(1),
            None,
            "leaves out what the system says: 'You are a help desk.'",
        ),
    ],
)  # fmt: skip
def test_what_a_template_leaves_out_is_no_chat_to_train_on(
    template: str,
    chat: list[dict[str, Any]],
    tools: Any,
    message: str,
    cli: Cli,
    config: Path,
    base: Base,
) -> None:
    write_chats([chat], tools)
    done = training(cli, config, base(template), "train.loss_on=last_turn")
    assert done.code == 2, done
    assert message in done.err.replace("\n", " ")


def test_thoughts_of_earlier_turns_are_stripped_where_that_is_asked_for(
    cli: Cli, config: Path, base: Base
) -> None:
    chat = ticket(1)
    thinking = [dict(turn) for turn in chat]
    thinking[2]["content"] = "<think>Hm.</think>In which town?"
    write_chats([thinking])
    model = base(TEMPLATE)
    assert training(cli, config, model, "train.thoughts=strip").code == 0
    step = json.loads(Path("a/history.jsonl").read_text())
    assert step["loss_tokens"] == expected_loss(model, [chat], None, last=False)[1]


def test_the_last_turn_is_answered_and_the_reports_show_a_chat(
    cli: Cli, talking_config: Path, talking_model: Path
) -> None:
    write_chats([ticket(number) for number in range(8)])
    scorers = ("-s", "eval.scorers=[{name: 'tests.fakes:length_scorer', options: {limit: 40}}]")
    policy = ("-s", "gate.constant=[]")
    assert training(cli, talking_config, talking_model).code == 0
    assert cli("eval", "a", "--no-gate", *scorers, *policy).code == 0
    (folder,) = Path("evaluations").iterdir()
    _check_outputs(folder / "outputs.jsonl")
    assert cli("promote", folder).code == 0
    assert cli("eval", "a", "--no-gate", *scorers, *policy).code == 0
    again = next(item for item in Path("evaluations").iterdir() if item != folder)
    rewrite_rows(again / "scores.jsonl", lambda rows: [{**row, "score": 0.0} for row in rows])
    done = cli("gate", "baseline", again)
    assert done.code == 3, done  # too few rows for the margin
    _check_html(again / "report.html")
    report = (again / "report.md").read_text().replace("<br>", "\n")
    assert "user: Where is parcel 3?" in report, report
    assert "assistant: In which town?" in report


def _check_outputs(path: Path) -> None:
    """Hold outputs against `generate()` on what the template writes of the turns before."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    tokenizer: Any = AutoTokenizer.from_pretrained("a")
    model: Any = AutoModelForCausalLM.from_pretrained("a", dtype=torch.float32).eval()
    for number, row in enumerate(found):
        asked = ticket(number)[:-1]
        ids = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        written = model.generate(**ids, do_sample=False, max_new_tokens=4)[0]
        expected = tokenizer.decode(written[ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert row["output"] == expected.strip()
        assert row["messages"] == asked
        assert (row["input"], row["reference"]) == ("Molde", [f"At gate {number}."])


def _check_html(path: Path) -> None:
    chunk = re.search(r'id="chunk-0"[^>]*>(.*?)</script>', path.read_text(), re.DOTALL)
    assert chunk is not None
    content = json.loads(chunk[1])
    turns = [
        (turn["role"], content["texts"][turn["text"]]) for turn in content["examples"][3]["chat"]
    ]
    assert turns == [(turn["role"], turn["content"]) for turn in ticket(3)[:-1]]


def test_a_server_gets_turns_tools_and_calls_and_may_call(
    cli: Cli, config: Path, base: Base
) -> None:
    write_chats([calling(1), [*calling(2)[:2]]], [PARCEL])
    assert training(cli, config, base(TOOLS)).code == 0
    with serving() as server:
        server.reads = lambda body: body
        arguments = json.dumps({"parcel": "Nº 2", "also": [2]})
        call = {
            "id": "x",
            "type": "function",
            "function": {"name": "track", "arguments": arguments},
        }
        server.script = lambda body: {
            "choices": [
                {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
            ],
        }
        engine = f"eval.engine={{name: openai, base_url: '{server.url}', model: m}}"
        scorers = "eval.scorers=[tool_call]"
        done = cli("eval", "a", "--no-gate", "-s", engine, "-s", scorers, "-s", "gate.constant=[]")
        assert done.code == 0, done
    asked = {len(body["messages"]): body for body in server.chats}
    assert asked[3]["tools"] == [{"type": "function", "function": PARCEL}]
    sent = asked[3]["messages"][1]["tool_calls"][0]["function"]
    assert json.loads(sent["arguments"]) == {"parcel": "Nº 1", "also": [1]}
    (folder,) = Path("evaluations").iterdir()
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert {row["id"]: row["score"] for row in scores}["r1"] == 1.0


def test_a_context_that_the_model_is_not_shown_is_said(cli: Cli, config: Path, base: Base) -> None:
    rows = [
        {"id": "a", "messages": ticket(1), "context": "Parcel 1 is at gate 1."},
        {"id": "b", "messages": ticket(2), "context": "You are a help desk."},
    ]
    card: dict[str, Any] = {"cohorts": [], "train": rows, "evaluation": rows}
    write_dataset(Path("chats"), name="desk", prompt={"user": "{input}"}, **card)
    hidden = "1 row has a context that the prompt does not show to the model"
    trained = training(cli, config, base(TEMPLATE))
    assert hidden in trained.err.replace("\n", " ")
    done = cli("eval", "a", "--no-gate")
    assert done.code == 0, done
    assert hidden in done.err.replace("\n", " ")
    write_dataset(Path("shown"), name="desk", prompt={"user": "{context}\n{input}"}, **card)
    done = cli("eval", "a", "--no-gate", "-s", "dataset.root=shown")
    assert done.code == 0, done
    assert "a context that the prompt" not in done.err
