"""The pages of a history and of a comparison in a real headless Chromium, opened from the disk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser, find_axe
from tests.conftest import Cli
from tests.report.test_report import HOSTILE
from tests.report.test_report_browser import Opened
from tests.report_fakes import make_dataset, make_evaluation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as running:
        yield running


@pytest.fixture
def pages(cli: Cli) -> list[Path]:
    make_dataset(60)
    make_evaluation("001")
    assert cli("promote", "001", "--anchor", "--why", HOSTILE).code == 0
    for number, mean in enumerate((0.82, 0.3, 0.79), start=2):
        scores = {"faithfulness": [mean] * 60, "equals": [float(mean > 0.5)] * 60}
        make_evaluation(f"{number:03d}", optimizer="lion", lr=1e-5, scores=scores)
        cli("gate", "baseline", f"{number:03d}")
    assert cli("history", "colours", "-o", "history.html").code == 0
    assert cli("compare", "001", "002", "003", "004", "-o", "comparison.html").code == 0
    return [Path("history.html"), Path("comparison.html")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_is_asked_for(
    chromium: Any, pages: list[Path], scheme: str, width: int
) -> None:
    axe = find_axe()
    for path in pages:
        opened = Opened(
            chromium, path, color_scheme=scheme, viewport={"width": width, "height": 900}
        )
        page = opened.page
        page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
        assert page.evaluate("window.hacked") is None
        assert [url for url in opened.asked if not url.startswith("data:")] == [opened.url]
        assert not opened.said
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("figure svg").first.is_visible()
        if axe is None:
            continue
        page.evaluate(axe.read_text(encoding="utf-8"))  # past the policy, as a debugger's script
        found = page.evaluate("axe.run().then((result) => result.violations)")
        told = [(item["id"], [node["html"][:200] for node in item["nodes"][:3]]) for item in found]
        assert not told, json.dumps(told, indent=1)


def test_every_mark_is_drawn_within_its_picture(chromium: Any, pages: list[Path]) -> None:
    for path in pages:
        page = Opened(chromium, path).page
        page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
        outside = page.evaluate(
            """() => [...document.querySelectorAll('figure svg')].flatMap((svg) => {
                const box = svg.getBoundingClientRect();
                return [...svg.querySelectorAll('.sign, .line, .anchor, .standing')].filter(
                    (mark) => {
                        const its = mark.getBoundingClientRect();
                        return its.left < box.left - 1 || its.right > box.right + 1
                            || its.top < box.top - 1 || its.bottom > box.bottom + 1;
                    }).map((mark) => mark.outerHTML);
            })"""
        )
        assert not outside
        assert page.locator("figure svg .sign").count() >= 8
