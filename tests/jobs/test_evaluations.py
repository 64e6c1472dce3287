"""`ftreg evaluations`, `ftreg history`, and the pages of these and of a comparison."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ftreg.files.cache import untouched
from ftreg.files.cache.folder import cache_folder
from ftreg.files.store import write_record
from ftreg.gate.mean import mean_interval
from ftreg.jobs.checkpoints import checkpoints_of
from ftreg.records.evaluation import listing
from ftreg.records.evaluation.listing import list_evaluations, listed_evaluations
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.workspace import Workspace
from tests.conftest import Cli
from tests.report_fakes import make_dataset, make_evaluation

HOSTILE = '<img src=x onerror="hacked()">\u202e'


def store(
    name: str, *, day: int, year: int = 2026, lora: int | None = None, **made: Any
) -> Evaluation:
    """An evaluation of a day of its own."""
    evaluation = make_evaluation(name, **made)
    path = evaluation.folder / "evaluation.json"
    header = json.loads(path.read_text("utf-8"))
    del header["digest"]
    header["created"] = f"{year}-01-{day:02d}T03:04:05.000+00:00"
    if lora:
        header["checkpoint"]["name"] = f"{header['checkpoint']['name']}-lora"
        header["checkpoint"]["recipe"]["lora.r"] = lora
    write_record(path, header)
    return evaluation


@pytest.fixture
def three(workspace: Path) -> None:
    """A baseline, a candidate that passed, and one that did not; the oldest is called last."""
    make_dataset(60)
    store("c", day=1)
    store("b", day=2, lora=16, lr=1e-4)
    store("a", day=3, optimizer="lion", lr=1e-5, scores={"faithfulness": [0.2] * 60})


def gated(cli: Cli) -> None:
    assert cli("promote", "c", "--anchor", "--why", "first").code == 0
    assert cli("gate", "baseline", "b").code in (0, 3)
    assert cli("promote", "b", "--force", "--why", HOSTILE).code == 0
    assert cli("gate", "baseline", "a").code == 1


def test_evaluations_are_listed_newest_first(cli: Cli, three: None) -> None:
    gated(cli)
    found = cli("evaluations", "list", "--json").json
    assert [item["id"] for item in found["evaluations"]] == ["a", "b", "c"]
    first, second, third = found["evaluations"]
    assert first["outcome"] == "regression" and first["against"] == "b"
    assert second["label"] == "adamw-lora (LoRA r 16, AdamW 1e-4)"
    assert (second["lora"], second["promoted"]) == (16, "baseline")
    assert (third["outcome"], third["promoted"], third["lora"]) == (None, "anchor", None)
    assert third["means"] == {"faithfulness": pytest.approx(0.8), "equals": pytest.approx(0.8)}
    done = cli("evaluations", "list", "colours@1", "--last", "2")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "colours@1"
    assert re.match(r"2026-01-03 03:04  REGRESSION  Lion 1e-5", lines[1])
    assert "not shown: 1 older evaluation; --all shows all" in done.out
    assert cli("evaluations", "list", "--all").out.count("2026-01") == 3


def test_what_cannot_be_listed_is_said(cli: Cli, three: None) -> None:
    done = cli("evaluations", "list", "colour")
    assert done.code == 2
    assert "no evaluation on colour; did you mean colours?" in done.err
    Path("evaluations/b/evaluation.json").write_text("{")
    done = cli("evaluations", "list")
    assert done.code == 0
    assert "damaged: evaluations/b/evaluation.json" in done.out
    assert cli("evaluations", "list", "--json").json["total"] == 2
    shutil.rmtree("evaluations")
    assert "Evaluations: none" in cli("evaluations", "list").out


def test_a_listing_follows_every_change_of_a_file(
    cli: Cli, three: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered of a file holds as long as nobody has touched it."""
    monkeypatch.setattr(untouched, "YOUNG", 0)
    root = Path("evaluations")
    for _ in range(2):
        assert [path.name for path in list_evaluations(root)] == ["c", "b", "a"]
    assert [item.outcome for item in listed_evaluations(root)] == [None] * 3
    gated(cli)
    assert [item.outcome for item in listed_evaluations(root)][1:] == ["undecided", "regression"]
    store("d", day=2)
    shutil.rmtree(root / "c")
    assert [path.name for path in list_evaluations(root)] == ["b", "d", "a"]
    (cache_folder("tables") / "records.sqlite").write_bytes(b"no database")
    assert [path.name for path in list_evaluations(root)] == ["b", "d", "a"]


def test_what_is_remembered_is_not_read_again(
    cli: Cli, three: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untouched, "YOUNG", 0)
    before = listed_evaluations(Path("evaluations"))
    monkeypatch.setattr(listing, "read_json", None)  # whoever calls it fails
    assert listed_evaluations(Path("evaluations")) == before


def test_an_evaluation_is_exported_as_it_is_stored(cli: Cli, workspace: Path) -> None:
    make_dataset(3)
    scores: dict[str, Any] = {"faithfulness": [0.5, None, 1.0], "equals": [1.0, 0.0, 0.5]}
    texts = {0: 'a "b", c\nd', 1: "=1+1", 2: "\u2028ü"}
    make_evaluation("001", outputs=texts, scores=scores)
    assert cli("evaluations", "export", "latest", "-o", "t/a.csv", "--json").json["rows"] == 3
    assert cli("evaluations", "export", "001", "-o", "a.parquet").code == 0
    with Path("t/a.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["output"] for row in rows] == list(texts.values())
    assert [row["faithfulness"] for row in rows] == ["0.5", "", "1.0"]
    assert rows[1]["faithfulness_reason"] == "no claims in the output"
    assert json.loads(rows[0]["references"]) == ["red", "It is red."]
    table = pq.read_table("a.parquet").to_pylist()
    assert list(table[0]) == list(rows[0])
    assert [row["faithfulness"] for row in table] == [0.5, None, 1.0]
    assert table[0]["references"] == ["red", "It is red."]
    done = cli("evaluations", "export", "001", "-o", "a.xlsx")
    assert (
        done.code == 2
        and "a.xlsx: the file name of a table must end in .csv or .parquet" in done.err
    )


class Page(HTMLParser):
    """The text of a page, and the elements that are drawn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.labels: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.labels += [value for key, value in attrs if key == "aria-label"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_history_has_every_evaluation_and_promotion(cli: Cli, three: None) -> None:
    gated(cli)
    done = cli("history", "colours", "-o", "h.html", "--json").json
    assert (done["evaluations"], done["total"], done["promotions"]) == (3, 3, 2)
    assert done["looks"] == 3 and done["versions"] == ["colours@1"]
    page = Page(Path("h.html"))
    for said in ("adamw-lora (LoRA r 16, AdamW 1e-4)", "Lion 1e-5", "2026-01-03 03:04", "forced"):
        assert said in page.text
    assert "script" not in page.tags and "img" not in page.tags
    assert "U+202E" in page.text
    low, high = mean_interval(np.full(60, 0.2), confidence=0.95)
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in page.text
    assert "Faithfulness, all: 3 evaluations, the first 80.0, the last 20.0 points" in page.labels
    assert "Equals, parity=odd: 2 evaluations, the first 80.0, the last 80.0 points" in page.labels
    panels = Path("h.html").read_text("utf-8").count('class="anchor" d="M52')
    assert panels == 6  # two scorers, over all examples and in two cohorts
    newest = cli("history", "colours@1", "-o", "h.html", "--last", "1", "--json").json
    assert (newest["evaluations"], newest["total"]) == (1, 3)
    assert "1 evaluation of 3, the newest" in Page(Path("h.html")).text
    assert cli("history", "nothing").code == 2


def test_the_baseline_is_drawn_from_its_promotion_on(cli: Cli, three: None) -> None:
    gated(cli)
    cli("history", "colours@1", "-o", "h.html")
    assert 'class="standing" d="M48' not in Path("h.html").read_text("utf-8")
    store("later", day=4, year=2099)  # made after what was promoted today
    cli("history", "colours@1", "-o", "h.html")
    steps = re.findall(r'class="standing" d="(M[^"]+)"', Path("h.html").read_text("utf-8"))
    # Of the key, and of each panel: what stood when nothing later was made has no length.
    assert len(steps) == 7
    for path in steps[1:]:
        (first, second) = re.findall(r"M([\d.]+),[\d.]+H([\d.]+)", path)
        assert first[0] == first[1] == second[0] and float(second[1]) == 432.0


def test_a_history_says_where_a_scorer_changed(cli: Cli, three: None) -> None:
    path = Path("evaluations/a/evaluation.json")
    header = json.loads(path.read_text("utf-8"))
    del header["digest"]
    header["scorers"]["faithfulness"]["version"] = 2
    write_record(path, header)
    cli("history", "colours", "-o", "h.html")
    text = Page(Path("h.html")).text
    assert "Faithfulness: version 1 since c, version 2 since a; their scores cannot be" in text
    assert "Equals: version" not in text


def test_a_history_goes_on_without_what_is_damaged(cli: Cli, three: None) -> None:
    Path("evaluations/b/scores.jsonl").write_text("")
    done = cli("history", "colours")
    assert done.code == 0
    assert "not drawn: evaluations/b/scores.jsonl: the file has changed" in done.out
    assert "Nothing has been promoted yet." in Page(Path("history-colours.html")).text


def test_a_comparison_is_written_as_a_page(cli: Cli, three: None) -> None:
    store("d", day=4, lora=16, lr=1e-4, scores={"faithfulness": [0.9] * 60})
    assert cli("compare", "c", "b", "d", "-o", "c.html").code == 0
    page = Page(Path("c.html"))
    assert "script" not in page.tags
    for said in ("adamw-lora (LoRA r 16, AdamW 1e-4) #1", "Deltas from AdamW 5e-5", "wins"):
        assert said in page.text
    (drawn,) = [label for label in page.labels if label.startswith("Faithfulness. ")]
    assert "adamw-lora (LoRA r 16, AdamW 1e-4) #2: 90.0 [" in drawn


def test_checkpoints_are_found_however_deep_they_lie(cli: Cli, config: Path) -> None:
    few = ("-s", "train.max_steps=1")
    for folder in ("one", "by/optimizer/two"):
        assert cli("train", config, *few, "-o", f"checkpoints/{folder}").code == 0
    shutil.copytree("checkpoints/one", "checkpoints/by/three.state/step-1")
    shutil.copytree("checkpoints/one", "checkpoints/.hidden/four")
    Path("checkpoints/by/round").symlink_to(Path("checkpoints").resolve())
    Path("checkpoints/best").symlink_to("one")
    names = [item.name for item in checkpoints_of(Workspace(Path())).checkpoints]
    assert {"best", "by/optimizer/two", "one", "by/round/one"} <= set(names)
    assert not [name for name in names if "three" in name or "four" in name]
    assert cli("eval", "by/optimizer/two", "--no-gate").code == 0
    (report,) = Path("evaluations").glob("*/report.html")
    assert "The history of two" not in report.read_text("utf-8")
