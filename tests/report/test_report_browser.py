"""The HTML report in a real headless Chromium, opened from the disk."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser, find_axe
from tests.conftest import Cli
from tests.report.test_report import HOSTILE, dropped
from tests.report_fakes import make_dataset, make_evaluation

pytestmark = pytest.mark.slow

LONG = "word " * 200_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as running:
        yield running


class Opened:
    """A page, and whatever it said or asked for."""

    def __init__(self, chromium: Any, path: Path, **context: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = chromium.new_context(**context).new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.url = path.resolve().as_uri()
        self.page.goto(self.url)

    def rows(self) -> list[str]:
        return list(self.page.locator(".list .name > bdi:first-child").all_inner_texts())

    def count(self) -> str:
        return str(self.page.locator("#count").inner_text())


@pytest.fixture
def report(cli: Cli) -> Path:
    """A candidate with every kind of difference, and hostile texts among them."""
    make_dataset(
        60,
        {
            1: {"id": HOSTILE, "input": HOSTILE, "context": f"{HOSTILE} It is green."},
            5: {"input": "ما لون العنصر؟", "reference": ["أحمر"]},
        },
    )
    make_evaluation("001", outputs={7: "It is blue, as the label on it says."})
    make_evaluation(
        "002",
        optimizer="lion",
        lr=1e-5,
        outputs={
            1: HOSTILE,
            2: LONG,
            4: "x" * 1_000_000,
            5: "أحمر",
            7: "It is green, as the label on it says.",
            8: "",
        },
        scores={"faithfulness": [*dropped(59), 0.9], "equals": [*[0.8] * 50, *[0.7, 0.9] * 5]},
    )
    assert cli("gate", "001", "002").code == 1
    return Path("evaluations/002/report.html")


def test_it_asks_for_nothing_and_runs_nothing_that_a_model_wrote(
    chromium: Any, report: Path
) -> None:
    opened = Opened(chromium, report)
    page = opened.page
    page.select_option("#by-order", "given")
    for position in (1, 2, 4, 5, 8):
        page.locator(".list .row").nth(position).click()
        for button in page.locator(f"#example-{position} [data-view=faithfulness]").all():
            button.click()
    page.locator("#example-1 [data-view=differences]").click()
    shown = page.locator("#example-1").inner_text()
    assert "</script><script>window.hacked = 1</script><!--" in shown
    assert page.locator("#example-1 .control").all_inner_texts().count("U+202E") >= 2
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert [url for url in opened.asked if not url.startswith("data:")] == [opened.url]
    assert not opened.said
    # A script that got in all the same would be refused, and so would any address.
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 2';"
        "document.body.append(s); const i = new Image(); i.src = 'http://localhost:9/x.png'; }"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert len(opened.said) >= 2
    assert all("Content Security Policy" in text for text in opened.said)


def test_a_long_line_is_cut_until_it_is_wanted(chromium: Any, report: Path) -> None:
    page = Opened(chromium, report).page
    page.select_option("#by-order", "given")
    page.locator(".list .row").nth(4).click()
    text = page.locator("#example-4 h3.candidate + .text")
    assert len(text.inner_text()) < 5000
    page.get_by_role("button", name="Show all 20,").click()
    shown = text.inner_text()
    assert 20_000 < len(shown) < 20_200  # the page has no more of it, and says where the rest is
    assert "[980,000 more characters; the whole text is in the row of this id" in shown
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_words_that_differ_are_marked_on_their_side(chromium: Any, report: Path) -> None:
    page = Opened(chromium, report).page
    page.select_option("#by-order", "given")
    page.locator(".list .row").nth(7).click()
    place = page.locator("#example-7")
    assert place.locator("del").all_inner_texts() == ["blue"]
    assert place.locator("ins").all_inner_texts() == ["green"]


def test_differences_leave_what_both_have_and_nothing_else(chromium: Any, cli: Cli) -> None:
    source = random.Random(0)
    words = ["a", "b", "c", "d", "e"]
    texts = [
        [" ".join(source.choices(words, k=source.randrange(30))) for _ in range(20)] for _ in "ab"
    ]
    make_dataset(20)
    make_evaluation("001", outputs=dict(enumerate(texts[0])))
    make_evaluation("002", outputs=dict(enumerate(texts[1])))
    cli("gate", "001", "002")
    page = Opened(chromium, Path("evaluations/002/report.html")).page
    page.select_option("#by-order", "given")
    for position, (before, after) in enumerate(zip(*texts, strict=True)):
        page.locator(".list .row").nth(position).click()
        kept = page.evaluate(
            """(id) => ["baseline", "candidate"].map((side) => {
                const text = document.querySelector(`#${id} h3.${side} + .text`).cloneNode(true);
                const whole = text.textContent;
                text.querySelectorAll("del, ins").forEach((mark) => mark.remove());
                return [whole, text.textContent.split(/\\s+/).filter(Boolean).join(" ")];
            })""",
            f"example-{position}",
        )
        assert [whole for whole, _ in kept] == [text or "(nothing)" for text in (before, after)]
        if before and after:
            assert kept[0][1] == kept[1][1]


def test_filters_find_what_they_say(chromium: Any, report: Path) -> None:
    opened = Opened(chromium, report)
    page = opened.page
    assert len(opened.rows()) == 20
    assert opened.count() == "60 examples"
    page.select_option("#by-scorer", "equals")
    page.select_option("#by-change", "regressed")
    assert opened.rows() == ["e50", "e52", "e54", "e56", "e58"]
    page.select_option("#by-change", "improved")
    assert opened.rows() == ["e51", "e53", "e55", "e57", "e59"]
    page.select_option("#by-cohort", "parity=even")
    assert opened.count() == "0 of 60 examples"
    page.select_option("#by-change", "")
    page.select_option("#by-cohort", "")
    page.check("#by-critical")
    assert opened.rows() == ["e3"]
    page.uncheck("#by-critical")
    page.fill("#by-text", "LABEL on it")
    page.locator(".list:not(:has(> li:nth-child(2))) > li:nth-child(1)").wait_for()
    assert opened.rows() == ["e7"]
    page.fill("#by-text", "")
    page.locator(".list:not(:has(> li:nth-child(21))) > li:nth-child(20)").wait_for()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    assert len(opened.rows()) == 20
    assert page.get_by_role("button", name="Next").is_disabled()


def test_the_heat_map_and_the_verdict_lead_to_examples(chromium: Any, report: Path) -> None:
    opened = Opened(chromium, report)
    opened.page.locator(".heat tr", has_text="parity=odd").locator("a").first.click()
    assert opened.count() == "30 of 60 examples"
    assert opened.page.input_value("#by-cohort") == "parity=odd"
    opened.page.locator(".verdict a").first.click()
    assert opened.rows() == ["e3"]
    assert opened.page.locator("#example-3").is_visible()


def test_evidence_is_marked_in_the_texts(chromium: Any, report: Path) -> None:
    page = Opened(chromium, report).page
    page.select_option("#by-order", "given")
    page.locator(".list .row").nth(10).press("Enter")
    button = page.locator("#example-10 [data-view=faithfulness]")
    button.focus()
    button.press("Enter")
    assert page.locator("#example-10 mark").all_inner_texts() == [
        "Item 10 is red.1", "It is red.1", "It is red.1",
    ]  # fmt: skip
    assert "fails the check of number" in page.locator("#example-10").inner_text()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.dataset.view") == "faithfulness"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(chromium: Any, report: Path, scheme: str, width: int) -> None:
    axe = find_axe()
    if axe is None:
        pytest.skip("no axe-core: `make browser` installs it, or FTREG_TEST_AXE names axe.min.js")
    page = Opened(
        chromium, report, color_scheme=scheme, viewport={"width": width, "height": 900}
    ).page
    page.select_option("#by-order", "given")
    for position in (1, 7, 10):
        page.locator(".list .row").nth(position).click()
    page.locator("#example-10 [data-view=faithfulness]").click()
    page.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    page.evaluate(axe.read_text(encoding="utf-8"))  # past the policy, as a debugger's script
    found = page.evaluate("axe.run().then((result) => result.violations)")
    serious = [
        (item["id"], [node["html"][:200] for node in item["nodes"][:3]])
        for item in found
        if item["impact"] in ("serious", "critical")
    ]
    assert not serious, json.dumps(serious, indent=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_and_takes_its_picture(chromium: Any, report: Path, tmp_path: Path) -> None:
    page = Opened(chromium, report).page
    picture, paper = tmp_path / "report.png", tmp_path / "report.pdf"
    page.screenshot(path=str(picture))
    page.pdf(path=str(paper), format="A4")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert paper.read_bytes().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert not page.locator(".filters").is_visible()
    assert not page.locator("body > header").is_visible()
    assert page.locator(".forest").first.is_visible()


def test_why_copies_a_command_and_leads_to_the_examples_of_a_group(chromium: Any, cli: Cli) -> None:
    make_dataset(
        400, {at: {"input": f"Which {'recipe' if at % 9 == 0 else 'shop'}?"} for at in range(400)}
    )
    make_evaluation("001", scores={"equals": [0.6] * 400})
    fell = [0.1 if at % 9 == 0 else 0.5 - 0.1 * (at % 3) for at in range(400)]
    make_evaluation("002", scores={"equals": fell})
    assert cli("gate", "001", "002").code == 1
    assert cli("report", "002").code == 0
    path = Path("evaluations/002/report.html")
    page = Opened(chromium, path, permissions=["clipboard-read", "clipboard-write"]).page
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == "ftreg slices 002 --against 001"
    assert cli(*command.split()[1:]).code == 0
    assert cli("report", "002").code == 0
    opened = Opened(chromium, path)
    link = opened.page.locator("#why a").first
    name = link.inner_text()
    link.click()
    assert opened.rows() == [name]
    assert not opened.said
