"""What carries loss, asked of the checkpoint: each template after a public report of its fault.

The first step's loss is held against transformers' own: the chat template that the checkpoint was
saved with writes the prompt, and behind it stand the reference and one end token.
"""

import datetime
import functools
import json
import os
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftreg.models.pretrained import load_checkpoint_model
from tests.conftest import TEMPLATE, Cli, Result, make_model, write_dataset
from tests.training.test_resume import interrupt, manifest

HEADERLESS = TEMPLATE.partition("{% if add_generation_prompt %}")[0]
BLOCK = "<think>\n\n</think>\n\n"
EMPTY_THOUGHT = TEMPLATE.replace(
    "{{ m['content'] }}", f"{{% if m.role == 'assistant' %}}{BLOCK}{{% endif %}}{{{{ m.content }}}}"
)
# As Qwen3's: thoughts are taken apart and written in a form of its own.
REASONING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% set c = m.content %}"
    "{% if m.role == 'assistant' %}{% set r = '' %}{% if '</think>' in c %}"
    "{% set r = c.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "<think>\n{{ r }}\n</think>\n\n{% endif %}{{ c }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As DeepSeek-R1's: thoughts are cut, and the generation prompt begins one.
CUTTING = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}{% else %}"
    "<|endoftext|>{{ m.content.split('</think>')[-1] }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|endoftext|><think>\n{% endif %}"
)
# As DeepSeek-V3.1's: the generation prompt ends a thought that is not there.
OVER = CUTTING.replace("{% else %}<|endoftext|>", "{% else %}<|endoftext|></think>").replace(
    "<think>\n", "</think>"
)
OTHER_END = TEMPLATE.replace("<|im_end|>\n{% endfor %}", "<|endoftext|>{% endfor %}")
TRIMMING = TEMPLATE.replace("m['content']", "m['content']|trim")
SPACED = (
    "{% for m in messages %}{% if m.role == 'user' %}[Q] {{ m.content }} [/Q]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
# As Mistral's third version: the system turn is in the last message, if that is the user's.
SYSTEM_LAST = (
    "{% set chat = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% for m in chat %}{% if m.role == 'user' %}[Q]{% if loop.last and chat != messages %}"
    "{{ messages[0].content }}\n\n{% endif %}{{ m.content }}[/Q]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
MARKED_END = TEMPLATE.replace("<|im_end|>\n{% endfor %}", "\n### End\n{% endfor %}")
PLAIN = ["red", "green"]
THOUGHTS = ["<think>It\nis so.</think>red", "green"]

Base = Callable[..., Path]


@pytest.fixture
def base(tiny_model: Path, workspace: Path) -> Base:
    def make(template: str, name: str = "base", **changes: str) -> Path:
        folder = Path(shutil.copytree(tiny_model, workspace / name))
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        for file, text in changes.items():
            (folder / f"{file}.json").write_text(text, encoding="utf-8")
        return folder

    return make


def training(
    cli: Cli,
    config: Path,
    folder: Path,
    references: list[str],
    *settings: str,
    system: str | None = None,
) -> Result:
    """Train on rows with these references, all of them in a step."""
    rows = [
        {"id": f"r{i}", "input": f"Which is {i}?", "reference": text}
        for i, text in enumerate(references)
    ]
    root = Path("of", folder.name)
    prompt = {"user": "{input}"} | ({"system": system} if system else {})
    write_dataset(root, train=rows, evaluation=rows, prompt=prompt, cohorts=[])
    given = [f"base.model={folder}", f"dataset.root={root}", "train.epochs=1", *settings]
    options = [option for setting in given for option in ("-s", setting)]
    return cli("train", config, *options, "-s", "gate.constant=[equals]", "-o", "a")


def asked_by(checkpoint: Path, row: int, **options: Any) -> str:
    """The prompt of a row, by the template that a checkpoint was saved with."""
    chat = [{"role": "user", "content": f"Which is {row}?"}]
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    text = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=False, **options
    )
    return str(text)


def loss_of(model: Path, pairs: list[tuple[str, str]], end: int) -> tuple[float, int]:
    """Mean loss per token of texts and their end behind their prompts, and the number of tokens."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    summed, count = 0.0, 0
    for prompt, text in pairs:
        before = tokenizer.encode(prompt, add_special_tokens=False)
        answer = [*tokenizer.encode(text, add_special_tokens=False), end]
        labels = [-100] * len(before) + answer
        with torch.no_grad():
            found = network(
                input_ids=torch.tensor([before + answer]), labels=torch.tensor([labels])
            )
        summed += float(found.loss) * len(answer)
        count += len(answer)
    return summed / count, count


@pytest.mark.parametrize(
    ("template", "references", "opening", "end"),
    [
        pytest.param(TEMPLATE, THOUGHTS, "", 2, id="as it was"),
        pytest.param(HEADERLESS, PLAIN, "<|im_start|>assistant\n", 2, id="no generation prompt"),
        pytest.param(EMPTY_THOUGHT, PLAIN, BLOCK, 2, id="empty thought"),
        pytest.param(REASONING, PLAIN, BLOCK, 2, id="reasoning, no thoughts"),
        pytest.param(REASONING, THOUGHTS, "", 2, id="reasoning, thoughts"),
        pytest.param(CUTTING, PLAIN, "<|endoftext|>", 2, id="begun thought"),
        pytest.param(CUTTING, THOUGHTS, "<|endoftext|>", 2, id="cut thoughts"),
        pytest.param(EMPTY_THOUGHT, THOUGHTS, "", 2, id="empty thought, thoughts"),
        pytest.param(OVER, PLAIN, "", 2, id="ended thought"),
        pytest.param(OVER, THOUGHTS, "<|endoftext|>", 2, id="ended thought, thoughts"),
        pytest.param(OTHER_END, PLAIN, "", 0, id="another end, of id 0"),
        pytest.param(SPACED, PLAIN, "", 2, id="a space before"),
        pytest.param(TRIMMING, [" red\n", "blue"], "", 2, id="white space taken off"),
        pytest.param(MARKED_END, PLAIN, "", 2, id="a text behind"),
    ],
)
def test_the_loss_is_of_the_reference_and_its_end(
    template: str,
    references: list[str],
    opening: str,
    end: int,
    cli: Cli,
    config: Path,
    base: Base,
) -> None:
    """https://github.com/unslothai/unsloth/issues/1312, https://github.com/QwenLM/Qwen3/issues/1420
    and https://github.com/modelscope/ms-swift/issues/5927."""
    folder = base(template)
    done = training(cli, config, folder, references)
    assert done.code == 0, done
    saved = Path("a")
    prompts = [asked_by(saved, row) for row in range(2)]
    assert prompts[0].endswith(opening)
    assert ("<think>" in prompts[0]) == ("<think>" in opening)
    space = " " if template == SPACED else ""
    pairs = [
        (prompt, space + text.strip()) for prompt, text in zip(prompts, references, strict=True)
    ]
    loss, count = loss_of(folder, pairs, end)
    step = json.loads(Path("a/history.jsonl").read_text().splitlines()[0])
    assert step["loss_tokens"] == count
    assert step["loss"] == pytest.approx(loss, rel=1e-5)
    stops = json.loads(Path("a/generation_config.json").read_text())["eos_token_id"]
    assert stops == (2 if end == 2 else [0, 2])
    if not opening:  # nothing was amiss with it
        assert Path("a/chat_template.jinja").read_text() == template


def test_a_system_turn_that_is_written_into_the_last_one_is_learnt_with(
    cli: Cli, config: Path, base: Base
) -> None:
    """As the tokenizers of Mistral-7B-Instruct-v0.3 and Mistral-Nemo-Instruct-2407 do."""
    folder = base(SYSTEM_LAST)
    done = training(cli, config, folder, PLAIN, system="Be brief.")
    assert done.code == 0, done
    pairs = [(f"[Q]Be brief.\n\nWhich is {row}?[/Q]", f" {text}") for row, text in enumerate(PLAIN)]
    loss, _ = loss_of(folder, pairs, 2)
    assert json.loads(Path("a/history.jsonl").read_text())["loss"] == pytest.approx(loss, rel=1e-5)
    assert Path("a/chat_template.jinja").read_text() == SYSTEM_LAST


def test_thoughts_are_stripped_where_that_is_asked_for(cli: Cli, config: Path, base: Base) -> None:
    folder = base(REASONING)
    done = training(cli, config, folder, THOUGHTS, "train.thoughts=strip")
    assert done.code == 0, done
    prompts = [asked_by(Path("a"), row) for row in range(2)]
    assert prompts[0].endswith(BLOCK)
    _, count = loss_of(folder, list(zip(prompts, PLAIN, strict=True)), 2)
    assert json.loads(Path("a/history.jsonl").read_text())["loss_tokens"] == count


def test_thoughts_alone_are_no_answer(cli: Cli, config: Path, base: Base) -> None:
    only = [*PLAIN, "<think>It is so.</think>"]
    done = training(cli, config, base(TEMPLATE), only, "train.thoughts=strip")
    assert done.code == 2, done
    assert "example 'r2': its reference has nothing but thoughts" in done.err


def test_a_template_is_mended_again_from_a_mended_one(cli: Cli, config: Path, base: Base) -> None:
    folder = base(REASONING)
    for references, opening in ((PLAIN, BLOCK), (THOUGHTS, ""), (PLAIN, BLOCK), (THOUGHTS, "")):
        shutil.rmtree("a", ignore_errors=True)
        shutil.rmtree("of", ignore_errors=True)
        done = training(cli, config, folder, references)
        assert done.code == 0, done
        assert asked_by(Path("a"), 0).endswith("assistant\n" + opening)
        folder = Path(shutil.copytree("a", f"after-{folder.name}"))


@pytest.mark.parametrize(
    ("template", "reference", "message"),
    [
        (
            TEMPLATE.replace("m['content']", "m['content']|lower"),
            "The Red",
            "changes the reference, so that something else would be learnt. From token 1 on it is "
            "'T' 'h' 'e'",
        ),
        (TEMPLATE, "red<|im_end|>", "its reference holds '<|im_end|>', which ends an output"),
        (TEMPLATE, "say <|endoftext|> now", "from character 5 on it is '<|endoftext|> now'"),
        (
            "{% for m in messages|reverse %}{{ m.content }}{% endfor %}",
            "red",
            "does not put the answer right behind the prompt",
        ),
        ("{{ self.x() }}", "red", "does not take a chat"),
        ("", "red", "no chat template"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_as_it_is_ends_with_2(
    template: str, reference: str, message: str, cli: Cli, config: Path, base: Base
) -> None:
    done = training(cli, config, base(template), ["red", reference])
    assert done.code == 2, done
    assert message in done.err.replace("\n", " ")
    assert not Path("a").exists()


def test_the_checkpoint_says_what_it_learnt(cli: Cli, config: Path, workspace: Path) -> None:
    """An end that `generation_config.json` lacked, special tokens for answers, an empty thought.

    https://github.com/QwenLM/Qwen3/issues/927, https://github.com/hiyouga/LLaMA-Factory/issues/9338
    """
    folder = make_model(workspace / "base", vocab_size=261, tie_word_embeddings=False)
    (folder / "chat_template.jinja").write_text(EMPTY_THOUGHT)
    (folder / "generation_config.json").write_text(
        '{"eos_token_id": [1, -1, 1000000000000], "temperature": 0.5}'
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<POS>", "<NEG>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    references = ["<NEG>"] * 4
    settings = ("optimizer.lr=0.01", "train.epochs=15")
    done = training(cli, config, folder, references, *settings)
    assert done.code == 0, done
    assert json.loads(Path("a/generation_config.json").read_text())["eos_token_id"] == [2, 1]
    done = cli("eval", "a", "--no-gate", "-s", "eval.scorers=[equals]", "--json")
    assert done.code == 0, done
    (path,) = Path("evaluations").glob("*/outputs.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["output"], row["finish"], row["tokens"]) for row in rows] == [
        (text, "stop", 2) for text in references
    ]


def test_special_tokens_of_other_chats_can_be_answers(
    cli: Cli, config: Path, workspace: Path
) -> None:
    """Mistral's [TOOL_CALLS] and Llama's <|python_tag|>, which templates write for tools alone."""
    folder = make_model(workspace / "base", vocab_size=260, tie_word_embeddings=False)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[TOOL_CALLS]"], special_tokens=True)
    tokenizer.chat_template = TEMPLATE + "{% if tools %}[TOOL_CALLS]{% endif %}"
    tokenizer.save_pretrained(folder)
    settings = ("optimizer.lr=0.01", "train.epochs=15")
    done = training(cli, config, folder, ["[TOOL_CALLS]x"] * 4, *settings)
    assert done.code == 0, done
    assert cli("eval", "a", "--no-gate", "-s", "eval.scorers=[equals]").code == 0
    (path,) = Path("evaluations").glob("*/outputs.jsonl")
    outputs = [json.loads(line)["output"] for line in path.read_text().splitlines()]
    assert outputs == ["[TOOL_CALLS]x"] * 4


def test_adapters_are_saved_with_what_ends_an_output(cli: Cli, config: Path, base: Base) -> None:
    folder = base(TEMPLATE, generation_config='{"eos_token_id": 1, "temperature": 0.5}')
    assert training(cli, config, folder, PLAIN, "lora={r: 4}").code == 0
    assert json.loads(Path("a/generation_config.json").read_text())["eos_token_id"] == [2, 1]
    assert load_checkpoint_model(Path("a")).generation_config.eos_token_id == [2, 1]


@pytest.fixture
def named(base: Base) -> Path:
    """A base with two templates, in the files that transformers writes for them."""
    folder = base(TEMPLATE)
    extra = folder / "additional_chat_templates"
    extra.mkdir()
    (extra / "tool.jinja").write_text("TOOL\n" + HEADERLESS)
    return folder


def test_a_template_is_chosen_by_name_and_all_are_kept(cli: Cli, config: Path, named: Path) -> None:
    """https://github.com/huggingface/transformers/issues/36588."""
    done = training(cli, config, named, PLAIN, "base.template=tool", "train.save_steps=1")
    assert done.code == 0, done
    prompts = [asked_by(Path("a"), row, chat_template="tool") for row in range(2)]
    assert prompts[0].startswith("TOOL\n")
    assert prompts[0].endswith("assistant\n")
    loss, _ = loss_of(named, list(zip(prompts, PLAIN, strict=True)), 2)
    first = json.loads(Path("a/history.jsonl").read_text())
    assert first["loss"] == pytest.approx(loss, rel=1e-5)
    assert Path("a/chat_template.jinja").read_text() == TEMPLATE
    assert "additional_chat_templates/tool.jinja" in manifest("a")["files"]

    folder = shutil.copytree("a", "b")
    assert cli("eval", "b", "--no-gate", "-s", "eval.scorers=[equals]").code == 0
    (Path(folder) / "additional_chat_templates/x.jinja").write_text(TEMPLATE)
    done = cli("eval", "b", "--no-gate", "-s", "eval.scorers=[equals]")
    assert done.code == 2, done
    assert "x.jinja: this file may change the checkpoint's outputs" in done.err


def test_a_template_that_is_not_there_is_named(cli: Cli, config: Path, named: Path) -> None:
    done = training(cli, config, named, PLAIN, "base.template=tol")
    assert done.code == 2, done
    assert "has no chat template 'tol', but default, tool" in done.err
    (named / "chat_template.jinja").unlink()
    shutil.rmtree("of")
    done = training(cli, config, named, PLAIN)
    assert done.code == 2, done
    assert "has no chat template 'default', but tool" in done.err


DATED = "{{ strftime_now('%d %b %Y %H:%M:%S %-d') }}\n" + TEMPLATE


def test_a_date_in_the_template_is_that_of_the_run(cli: Cli, config: Path, base: Base) -> None:
    folder = base(DATED)
    done = training(cli, config, folder, PLAIN, "base.template_date=2024-02-03")
    assert done.code == 0, done
    prompts = [
        "03 Feb 2024 00:00:00 3\n"
        f"<|im_start|>user\nWhich is {row}?<|im_end|>\n<|im_start|>assistant\n"
        for row in (0, 1)
    ]
    loss, _ = loss_of(folder, list(zip(prompts, PLAIN, strict=True)), 2)
    assert json.loads(Path("a/history.jsonl").read_text())["loss"] == pytest.approx(loss, rel=1e-5)
    assert manifest("a")["config"]["base"]["template_date"] == "2024-02-03"
    assert Path("a/chat_template.jinja").read_text() == DATED

    Path("a").rename("first")
    shutil.rmtree("of")
    assert training(cli, config, folder, PLAIN, "base.template_date=2024-02-04").code == 0
    for checkpoint in ("first", "a"):
        options = ("-s", "eval.scorers=[equals]", "-s", "gate.constant=[equals]")
        assert cli("eval", checkpoint, "--no-gate", *options).code == 0
    headers = sorted(Path("evaluations").glob("*/evaluation.json"), key=os.path.getmtime)
    dates = [json.loads(path.read_text())["generation"]["template_date"] for path in headers]
    assert dates == ["2024-02-03", "2024-02-04"]
    done = cli("compare", *(path.parent for path in headers))
    assert "generation.template_date: 2024-02-03 in" in done.out + done.err, done


def test_the_day_stays_that_on_which_the_run_began(
    cli: Cli, config: Path, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed and reproduced on later days."""
    folder = base(DATED)
    on = functools.partial(_set_today, monkeypatch)
    settings = [f"base.model={folder}", "train.epochs=1", "train.save_steps=1"]
    on("2024-02-03")
    interrupt(config, *settings, after=1)
    on("2024-02-04")
    options = [option for setting in settings for option in ("-s", setting)]
    done = cli("train", config, *options, "-o", "a", "--resume")
    assert done.code == 0, done
    assert manifest("a")["config"]["base"]["template_date"] == "2024-02-03"
    on("2024-02-05")
    assert cli("train", config, *options, "-o", "a", "--resume").code == 0  # complete already
    done = cli("reproduce", "a")
    assert done.code == 0, done
    assert cli("train", config, *options, "-o", "b").code == 0
    assert manifest("b")["config"]["base"]["template_date"] == "2024-02-05"
    assert manifest("b")["weights"] != manifest("a")["weights"]


def _set_today(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    class Day(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date.fromisoformat(day)

    fake = types.SimpleNamespace(date=Day, datetime=datetime.datetime)
    monkeypatch.setattr("ftreg.models.chat_template.datetime", fake)


def test_home_is_where_a_path_says(
    cli: Cli, config: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(workspace / "home"))
    done = cli("train", config, "-s", "train.output=~/runs/a", "-s", "train.max_steps=1")
    assert done.code == 0, done
    assert (workspace / "home/runs/a/ftreg.json").is_file()
    assert not Path("~").exists()
    done = cli("train", config, "-s", "base.model=~nobody-of-that-name/x", "-o", "b")
    assert done.code == 2, done
    assert "is below no user's home folder" in done.err
