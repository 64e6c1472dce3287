"""The HTML report: what it says, and that nothing in it can do harm."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ftreg.report.characters import visible
from ftreg.report.curves import panels
from ftreg.report.distributions import distributions
from ftreg.report.html import embed
from tests.conftest import Cli, reseal
from tests.report_fakes import make_dataset, make_evaluation

HOSTILE = (
    "</script><script>window.hacked = 1</script><!-- <img src=x onerror='window.hacked = 1'> & "
    "\u202ereversed\u202c \u2066\u0000\u001b[31m\u2028 end"
)


class Page(HTMLParser):
    """A report taken apart: its texts, its elements, and the contents of its scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.raw = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.style = ""
        self.parts: list[str] = []
        self._inside: str | None = None
        self.feed(self.raw)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = None
        if tag in ("script", "style"):
            self._inside = (dict(attrs).get("id") or "code") if tag == "script" else "style"

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.style += data
        elif self._inside is not None:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data
        else:
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())

    def json(self, name: str) -> Any:
        return json.loads(self.scripts[name])


def dropped(count: int = 60) -> list[float | None]:
    """Lower by 16 points, and by 30 where the example is critical, which is no noise."""
    return [0.5 if i == 3 else 0.66 - 0.02 * (i % 3) for i in range(count)]


@pytest.fixture
def gated(cli: Cli) -> Page:
    """A candidate that lost faithfulness, held against a baseline."""
    make_dataset()
    make_evaluation("001")
    make_evaluation(
        "002",
        optimizer="lion",
        lr=1e-5,
        scores={"faithfulness": dropped(), "equals": [0.818] * 60},
    )
    done = cli("gate", "001", "002")
    assert done.code == 1, done
    assert "evaluations/002/report.md" in done.out
    assert "evaluations/002/report.html" in done.out
    return Page(Path("evaluations/002/report.html"))


def test_the_verdict_is_one_sentence_for_a_release_manager(gated: Page) -> None:
    sentence = re.search(
        r"Lion 1e-5 may not replace AdamW 5e-5: Faithfulness −16\.3 points "
        r"\[−\d\d\.\d, −1\d\.\d\], margin 1\.0; 1 critical example got worse; Equals \+1\.8\.",
        gated.text,
    )
    assert sentence, gated.text[:1500]


def test_the_report_shows_every_part(gated: Page) -> None:
    headings = [
        "Deltas and margins", "Deltas by cohort", "Recipes", "Training", "Distribution of scores",
        "Examples", "Dataset", "Provenance",
    ]  # fmt: skip
    places = [gated.text.rindex(heading) for heading in headings]
    assert places == sorted(places)
    for text in (
        "parity=even",
        "optimizer.lr",
        "1e-5",
        "5e-5",
        "Apache-2.0",
        "colours@1",
        "greedy",
    ):
        assert text in gated.text
    assert "The history of lion is not available" in gated.text
    assert "12.5 % of the evaluated rows stand there too" in gated.text
    index = gated.json("index")
    assert index["cohorts"] == ["parity=even", "parity=odd"]
    assert index["critical"].index(True) == 3
    assert index["baseline"][index["scorers"].index({"name": "equals", "title": "Equals"})] == (
        [0.8] * 60
    )
    chunk = gated.json("chunk-0")
    first = chunk["examples"][0]
    assert chunk["texts"][first["input"]] == "Which colour has item 0?"
    assert chunk["texts"][first["candidate"]["output"]] == "It is red."
    found = first["candidate"]["findings"]["faithfulness"]["evidence"][0]
    assert (found["kind"], found["best"], found["checks"]) == (
        "claim", "Item 0 is red.", ["number"],
    )  # fmt: skip


def test_every_drawing_has_words_and_every_table_headings(gated: Page) -> None:
    for tag, attributes in gated.elements:
        if tag == "svg" and attributes.get("role") == "img":
            assert attributes["aria-labelledby"] in {a.get("id") for t, a in gated.elements}
    tables = sum(tag == "table" for tag, _ in gated.elements)
    assert tables == sum(tag == "caption" for tag, _ in gated.elements)


def test_nothing_but_its_own_script_and_style_may_run(gated: Page) -> None:
    (policy,) = [
        str(attributes["content"])
        for tag, attributes in gated.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for rule, text in (("script-src", gated.scripts["code"]), ("style-src", gated.style)):
        value = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{value}'"
    for tag, attributes in gated.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:,")), (tag, value)
    assert not re.search(r"url\(|@import|https?:", gated.style + gated.scripts["code"])


def test_the_same_evaluations_give_the_same_bytes(gated: Page, cli: Cli) -> None:
    for name in ("a.html", "b.html"):
        done = cli("report", "002", "-o", name)
        assert done.code == 0, done
        assert done.out.strip() == name
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()
    assert Path("a.html").read_text(encoding="utf-8") == gated.raw


def test_hostile_texts_stay_texts(cli: Cli) -> None:
    make_dataset(6, {1: {"id": HOSTILE, "input": HOSTILE, "tags": {"parity": HOSTILE}}})
    make_evaluation("001", outputs={1: HOSTILE, 2: "x" * 1_000_000})
    assert cli("report", "001").code == 0
    page = Page(Path("evaluations/001/report.html"))
    assert set(page.scripts) == {"index", "chunk-0", "code"}
    assert not [attributes for tag, attributes in page.elements if tag == "img"]
    chunk = page.json("chunk-0")
    assert chunk["texts"][chunk["examples"][1]["candidate"]["output"]] == HOSTILE
    assert page.json("index")["ids"][1] == HOSTILE
    # In the page's own text, what would be invisible or turn the line around is spelt out.
    assert not re.search("[\0\x1b\u202a-\u202e\u2066-\u2069]", page.raw)
    assert "⌈U+202E⌋reversed" in page.text


def test_embedded_json_cannot_end_its_element_and_is_read_back() -> None:
    value = {"a": HOSTILE, "b": ["\u2029", "é 😀", "half \ud800"]}
    text = str(embed(value))
    assert not set("<>&\u2028\u2029\ud800") & set(text)
    assert "é 😀" in text
    assert json.loads(text) == value
    assert visible("a\tb\n\u00a0é😀 عربي") == "a\tb\n\u00a0é😀 عربي"


def test_a_single_evaluation_has_a_report_of_its_own(cli: Cli) -> None:
    make_dataset(6)
    make_evaluation("001", scores={"faithfulness": [None, 1.0, 0.5, 0.5, 0.5, 0.5]})
    assert cli("report", "latest").code == 0
    page = Page(Path("evaluations/001/report.html"))
    assert "AdamW 5e-5 scores, in points of 100: Faithfulness 60.0." in page.text
    assert "This evaluation is not compared with a baseline." in page.text
    assert "Mean scores by cohort" in page.text
    assert page.json("index")["baseline"] is None


def test_a_baseline_that_has_only_scores_says_so(cli: Cli) -> None:
    make_dataset()
    column = [0.8 - 0.1 * (i % 2) for i in range(60)]
    first = make_evaluation("001", scores={"equals": column})
    make_evaluation("002", optimizer="lion", scores={"equals": column})
    assert cli("promote", first.folder, "--anchor").code == 0
    first.folder.rename("elsewhere")
    Path("policy.yaml").write_text("margin: 0.05")
    assert cli("gate", "baseline", "002", "--policy", "policy.yaml").code == 0
    page = Page(Path("evaluations/002/report.html"))
    assert "its evaluation 001, with outputs and evidence, is not in the workspace" in page.text
    assert "Against the anchor" in page.text
    assert "output" not in page.json("chunk-0")["examples"][0]["baseline"]
    assert page.json("index")["baseline"][0] == column


def test_what_is_no_longer_at_hand_is_said(cli: Cli, gated: Page) -> None:
    rows = Path("sample_datasets/colours/v1/eval.jsonl")
    rows.write_text(rows.read_text().replace("shelf", "table"))
    Path("evaluations/001").rename("elsewhere")
    assert cli("report", "002").code == 0
    page = Page(Path("evaluations/002/report.html"))
    assert "so inputs, contexts and references are not shown" in page.text
    assert "compared it with 001, which is no longer in the workspace or a baseline" in page.text
    assert "input" not in page.json("chunk-0")["examples"][0]
    scores = Path("evaluations/002/scores.jsonl")
    scores.write_text(scores.read_text().replace('"score":0.818', '"score":0.1'))
    reseal(scores.parent)
    assert cli("report", "002").code == 0
    assert "judged different scores" in Page(Path("evaluations/002/report.html")).text


def test_an_evaluation_that_is_not_there_is_the_users_mistake(cli: Cli) -> None:
    done = cli("report", "nowhere")
    assert done.code == 2
    assert "'nowhere' is not an evaluation" in done.err


def test_curves_of_two_runs_share_their_axes_and_break_at_gaps() -> None:
    def run(steps: int, lr: float) -> list[dict[str, Any]]:
        return [
            {"step": i, "loss": 2 / i, "lr": lr, "grad_norm": 1.0, "step_size": lr / i}
            for i in range(1, steps + 1)
        ]

    broken = run(20, 1e-4)
    broken[9]["loss"] = "nan"
    loss, rate, *_ = panels({"baseline": run(40, 1e-3), "candidate": broken})
    longer, shorter = loss.curves
    assert longer.path.count("M") == 1
    assert shorter.path.count("M") == 2
    ends = [re.findall(r"([\d.]+),[\d.]+", curve.path)[-1] for curve in loss.curves]
    assert float(ends[0]) == 432.0
    assert float(ends[1]) == pytest.approx(52 + 380 * 19 / 39, abs=0.1)
    assert [curve.figures["first"] for curve in rate.curves] == ["0.001", "1e-4"]
    (one,) = panels({"candidate": run(1, 0.0)})[0].curves
    assert one.path.startswith("M242.0,")


def test_a_histogram_counts_every_score_once() -> None:
    column = {str(i): value for i, value in enumerate([0.0, 0.05, 0.15, 0.3, 1.0, None])}
    (found,) = distributions({"candidate": {"equals": column}})
    spread = found.sides["candidate"]
    assert (spread.n, spread.missing) == (5, 1)
    assert [bin for bin, share in enumerate(spread.shares) if share] == [0, 1, 3, 6, 19]
    assert sum(spread.shares) == pytest.approx(1)
    assert spread.quantiles[2] == 0.15
