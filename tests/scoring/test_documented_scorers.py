"""The examples of docs/scorers, run as they stand there."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftreg.scoring import Sample, get_scorer
from tests.conftest import Cli
from tests.documented import blocks, commands, write_files
from tests.judge_server import Chat, completion, serving


@pytest.mark.parametrize(
    "page",
    [
        *("scorers/custom.md", "scorers/evaluate.md"),
        *("scorers/json_schema.md", "scorers/tool_call.md"),
    ],
)
def test_the_commands_print_what_the_page_shows(page: str, cli: Cli, workspace: Path) -> None:
    write_files(page, workspace)
    ran = 0
    for command in commands(page):
        if command.arguments[0] != "ftreg":
            continue
        done = cli(*command.arguments[1:])
        assert done.code == 0, done
        assert [json.loads(line) for line in done.out.splitlines()] == [
            json.loads(line) for line in command.shown.splitlines()
        ]
        ran += 1
    assert ran


def with_scorers(config: Path, page: str, *, keep: str = "") -> None:
    """Give a configuration the `eval.scorers` that a page shows."""
    (shown,) = [yaml.safe_load(block) for block in blocks(page, "yaml") if block.startswith("# ")]
    document = yaml.safe_load(config.read_text())
    document["eval"]["scorers"] = [
        entry for entry in shown["eval"]["scorers"] if keep in json.dumps(entry)
    ]
    config.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("page", "keep", "names"),
    [
        ("scorers/custom.md", "", {"equals", "desk_scorers:Tone"}),
        # The other two are ids, which a hub would have to give.
        ("scorers/evaluate.md", "word_share", {"evaluate:metrics/word_share"}),
        ("scorers/json_schema.md", "", {"json_schema"}),
        ("scorers/tool_call.md", "", {"tool_call"}),
    ],
)
def test_the_configuration_of_the_page_evaluates(
    page: str, keep: str, names: set[str], cli: Cli, config: Path, workspace: Path
) -> None:
    write_files(page, workspace)
    with_scorers(config, page, keep=keep)
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    done = cli("eval", "checkpoints/a", "--no-gate")
    assert done.code == 0, done
    (scores,) = Path("evaluations").glob("*/scores.jsonl")
    assert {json.loads(line)["scorer"] for line in scores.read_text().splitlines()} == names


def test_the_rubrics_of_the_page_are_asked_as_written(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    (page,) = [yaml.safe_load(block) for block in blocks("scorers/rubric.md", "yaml")]
    tone, brevity = page["eval"]["scorers"]

    def grade(chat: Chat) -> dict[str, Any]:
        score = 2 if "is polite" in chat.outside else 5
        return completion(json.dumps({"explanation": "I read it.", "score": score}))

    sample = Sample(id="1", input="When?", output="At 9:40.", context="It leaves at 9:40.")
    with serving() as server:
        server.script = grade
        for entry, value in ((tone, 0.25), (brevity, 1.0)):
            options = {**entry["options"], "base_url": server.url, "max_retries": 0}
            assert get_scorer(entry["name"], **options).score([sample])[0].value == value
    first = server.chats[0]
    assert first.parts["OUTPUT OF EXAMPLE 1"] == "Read the notice."
    assert "example 1 deserves 1 (curt)" in first.outside


def test_the_first_example_of_the_index_scores() -> None:
    (block,) = blocks("scorers.md", "python")
    names: dict[str, Any] = {}
    exec(block, names)  # what a reader would paste
    assert names["scores"][0].value == 1.0
