"""Measure the HTML report: time to write it, its size, and time to load it in a browser.

Two synthetic evaluations with every kind of text are compared, and the report is opened in a
headless Chromium (see tests/browser.py for which). Prints the figures, and asserts none.
"""

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ftreg.config.policy import GatePolicy
from ftreg.jobs.gate import baseline_of, gate
from ftreg.jobs.report import write_html
from ftreg.records.baseline import Baseline
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.workspace import Workspace
from tests.browser import browser
from tests.report_fakes import make_dataset, make_evaluation

_SENTENCE = "the ferry leaves at noon on a quiet day and its crew checks every cabin with care"
WORDS = tuple(_SENTENCE.split())


def text(source: random.Random, words: int) -> str:
    """Sentences with the given number of words."""
    return " ".join(source.choices(WORDS, k=words)).capitalize() + "."


def evaluations(count: int) -> tuple[Baseline, Evaluation]:
    """Two evaluations of `count` examples: inputs of 60 words, contexts of 150, outputs of 40."""
    source = random.Random(0)
    make_dataset(
        count,
        {i: {"input": text(source, 60), "context": text(source, 150)} for i in range(count)},
    )
    names = ("faithfulness", "answer_relevancy", "completeness", "equals")
    made = []
    for name in ("001", "002"):
        made.append(
            make_evaluation(
                name,
                optimizer={"001": "adamw", "002": "lion"}[name],
                outputs={i: text(source, 40) for i in range(count)},
                scores={scorer: [source.random() for _ in range(count)] for scorer in names},
            )
        )
    return baseline_of(made[0]), made[1]


def in_browser(path: Path) -> dict[str, float]:
    """Seconds until the page shows its first examples, and for a reader's next actions."""
    seconds = {}
    with browser() as running:
        page = running.new_page()

        @contextlib.contextmanager
        def timed(name: str):  # type: ignore[no-untyped-def]
            began = time.perf_counter()
            yield
            # Two frames later, what changed has been drawn.
            page.evaluate(
                "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))"
            )
            seconds[name] = time.perf_counter() - began

        with timed("open"):
            page.goto(path.resolve().as_uri())
            page.locator(".list > li").first.wait_for()
        with timed("filter by scorer"):
            page.select_option("#by-scorer", "faithfulness")
        with timed("filter by change and cohort"):
            page.select_option("#by-change", "regressed")
            page.select_option("#by-cohort", "parity=odd")
        with timed("search, the first time"):
            page.locator("#by-text").evaluate(
                "(box) => { box.value = 'zebra'; box.dispatchEvent(new Event('input')); }"
            )
            page.locator(".list:not(:has(li))").wait_for(state="attached")
        with timed("search again"):
            page.locator("#by-text").evaluate(
                "(box) => { box.value = 'quiet day'; box.dispatchEvent(new Event('input')); }"
            )
            page.locator(".list > li").first.wait_for()
        with timed("open an example"):
            page.locator(".list .row").first.click()
        with timed("next page"):
            page.get_by_role("button", name="Next").click()
        seconds["elements in the page"] = page.evaluate("document.querySelectorAll('*').length")
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        os.environ["FTREG_CACHE"] = str(Path(name) / "cache")
        baseline, candidate = evaluations(options.examples)
        result = gate(candidate, baseline, policy=GatePolicy(margin=0.01))
        began = time.perf_counter()
        path = write_html(
            candidate, workspace=Workspace(Path()), result=result, baseline=baseline
        ).report
        print(f"{options.examples:,} examples, 4 scorers, with a baseline")
        print(f"  write                        {time.perf_counter() - began:8.2f} s")
        print(f"  size                         {path.stat().st_size / 2**20:8.2f} MiB")
        for what, value in in_browser(path).items():
            unit = f"{value:8.2f} s" if what != "elements in the page" else f"{value:8.0f}"
            print(f"  {what:28} {unit}")
    print("A search waits 0.2 s for the next key before it begins, which is in its figure.")


if __name__ == "__main__":
    main()
