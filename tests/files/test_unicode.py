"""Texts of every kind, in every field, from an import to the reports.

In files they stay as they are, byte for byte. Where they are shown, what would act there is spelt
out: on a terminal, in Markdown, on the page; in XML, which cannot hold control characters.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conftest import Cli
from tests.judge_server import Server, completion, serving

SHOWN = {
    "arabic": "\u0645\u0631\u062d\u0628\u0627 (123) \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "hebrew": "\u05e9\u05dc\u05d5\u05dd abc",
    "persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # with a non-joiner
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f4\U000e0067"
    "\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "skin": "\U0001f44d\U0001f3fd \u2764\ufe0f",
    "nfc": unicodedata.normalize("NFC", "\u00e9\u00f1\u1ea1\u0301 \ud55c\uae00"),
    "nfd": unicodedata.normalize("NFD", "\u00e9\u00f1\u1ea1\u0301 \ud55c\uae00"),
    "zalgo": "Z" + "\u0301\u0316\u0489" * 8,
    "astral": "\U0001d518\U0001d52b\U0001d526 \U00020bb7\U0001f9ff",
    "spaces": "a\u00a0b\u3000c\u2009d",
    "private": "\ue000 \U000f0000 \ufffd",
    "ligature": "\ufb01 \u017f \u0130i \u1e9e",
}
ACTING = {
    "escape": "\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link",
    "control": "a\x01b\x08c\x7fd\x9b2Je\x85f",
    "nul": "a\x00b",
    "override": "\u202etxt.exe\u202c \u2066x\u2069 \u200fy\u061c",
    "lines": "a\u2028b\u2029c",
    "breaks": "a\r\nb\rc\x0bd\x0ce",
    "invisible": "a\u200bb\u00adc\ufeffd\u2060e",
    "specials": "\ufff9a\ufffb b",
}
TEXTS = SHOWN | ACTING
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def rows() -> list[dict[str, Any]]:
    return [
        {
            "id": f"{name} {text}",
            "input": f"input {text}",
            "context": f"context {text}",
            "reference": [f"reference {text}", f"other {text}"],
            "tags": {f"tag {name}": f"value {text}", "kind": f"kind {text}", "group": f"{text}"},
            "critical": True,
        }
        for name, text in TEXTS.items()
    ]


@pytest.fixture
def server(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        running.reads = lambda body: body["messages"][-1]["content"]
        yield running


def stored(name: str) -> list[dict[str, Any]]:
    (newest,) = sorted(Path("evaluations").glob(f"*/{name}"))[-1:]
    return [json.loads(line) for line in newest.read_bytes().decode().split("\n")[:-1]]


def test_texts_pass_unchanged(cli: Cli, config: Path, server: Server) -> None:
    given = rows()
    lines = [json.dumps(row, ensure_ascii=index % 2 == 0) for index, row in enumerate(given)]
    Path("rows.jsonl").write_bytes("\n".join(lines).encode())
    imported = cli(
        "data", "import", "texts", "--root", "datasets", "--split", "eval=rows.jsonl",
        "--train", "rows.jsonl", "--license", "MIT", "--description", ACTING["escape"],
        "--cohort", "kind", "--cluster", "group",
        "--prompt-user", "{context}\n{input}",
    )  # fmt: skip
    assert imported.code == 0, imported
    written = Path("datasets/texts/v1/eval.jsonl").read_bytes().decode().split("\n")[:-1]
    assert [json.loads(line) for line in written] == given
    assert cli("data", "verify", "texts@1", "--root", "datasets").code == 0

    engine = json.dumps({"name": "openai", "base_url": server.url, "model": "m"})
    chosen = ("dataset.version=texts@1", "gate.min_examples=2", "eval.scorers=[equals]")
    options = [part for setting in chosen for part in ("-s", setting)]
    trained = cli("train", config, "-o", "checkpoints/a", *options, "-s", "train.max_steps=1")
    assert trained.code == 0, trained

    def evaluate(kind: str) -> Any:
        wanted = {f"{row['context']}\n{row['input']}": row for row in given}
        server.script = lambda asked: completion(
            wanted[asked]["reference"][0] if kind == "good" else f"output {asked}"
        )
        return cli("eval", "checkpoints/a", *options, "-s", f"eval.engine={engine}", "--no-gate")

    assert evaluate("good").code == 0
    assert [row["output"] for row in stored("outputs.jsonl")] == [r["reference"][0] for r in given]
    assert cli("promote", "latest", "--why", ACTING["escape"]).code == 0
    baseline = json.loads(Path("baselines/texts.json").read_bytes().decode())
    assert baseline["baseline"]["scores"]["equals"] == {row["id"]: 1.0 for row in given}
    assert not list(controls(cli("baseline", "show", "texts").out))

    Path("cache").rename("cache of before")
    assert evaluate("bad").code == 0
    for row, output in zip(given, stored("outputs.jsonl"), strict=True):
        expected = {
            "id": row["id"], "input": row["input"], "reference": row["reference"],
            "output": f"output {row['context']}\n{row['input']}",
            "cohorts": {"kind": row["tags"]["kind"]}, "cluster": row["tags"]["group"],
        }  # fmt: skip
        assert {key: output[key] for key in expected} == expected
    assert {row["id"] for row in stored("scores.jsonl")} == {row["id"] for row in given}

    done = cli("gate", "baseline", "latest", "--junit", "junit.xml", "--markdown", "comment.md")
    assert done.code == 1, done
    assert not list(controls(done.out + done.err))
    as_json = cli("gate", "baseline", "latest", "--json")
    assert not list(controls(as_json.out))
    assert {drop["id"] for drop in as_json.json["critical"]} == {row["id"] for row in given}
    page = (sorted(Path("evaluations").iterdir())[-1] / "report.html").read_bytes().decode()
    markdown = Path("comment.md").read_bytes().decode()
    check_junit(given)
    check_shown(markdown, page, done.out)
    (index,) = re.findall(r'<script type="application/json" id="index">(.*?)</script>', page, re.S)
    assert json.loads(index)["ids"] == [row["id"] for row in given]
    chunk = "".join(re.findall(r'id="chunk-\d+">(.*?)</script>', page, re.S))
    texts = json.loads(chunk)["texts"]
    for row in given:
        assert {row["input"], row["context"], *row["reference"]} <= set(texts)


def controls(text: str) -> Iterator[str]:
    """What acts in a text that is shown."""
    return (found[0] for found in _CONTROLS.finditer(text))


def check_junit(given: list[dict[str, Any]]) -> None:
    """XML holds most of it as it is; control characters, which it cannot hold, are spelt out."""
    cases = ElementTree.fromstring(Path("junit.xml").read_bytes()).iter("testcase")
    names = {case.get("name") for case in cases}
    for row in given:
        spelt = re.sub(
            "[\x00-\x08\x0b\x0c\x0e-\x1f]",
            lambda found: f"\u2308U+{ord(found[0]):04X}\u230b",
            row["id"],
        )
        assert f"critical example {spelt}" in names


def check_shown(markdown: str, page: str, terminal: str) -> None:
    assert not list(controls(markdown))
    assert not list(controls(page))
    for name, text in SHOWN.items():
        assert f"kind {text}" in markdown, name
        assert f"kind=kind {text}" in page, name
    assert "\u2308U+001B\u230b" in markdown
    assert "\u2308U+001B\u230b" in page
    assert "\u2308U+001B\u230b" in terminal
    assert "\u2308U+202E\u230btxt.exe" in markdown
