"""Take the screenshots of docs/gallery/: reports in a headless Chromium, and the terminal.

They show real runs: the packaged model, fine-tuned on `ferry-desk@2` with the configurations that
`ftreg init` writes; Lion is stopped after one of three epochs so that the report shows differences.
Runs missing from the workspace are made first, which takes minutes.

    python scripts/gallery.py
"""

import argparse
import base64
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent.parent))

from ftreg.records.evaluation.listing import list_evaluations
from tests.browser import browser

GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
WIDTH, HEIGHT = 1080, 940
A4 = (940, 1330)  # as wide as the tables; a browser shrinks them to fit the paper
RUNS: dict[str, tuple[str, ...]] = {"adamw": (), "lion": ("-s", "train.epochs=1")}
_TERMINAL = TerminalTheme(
    (251, 251, 250),
    (45, 49, 54),
    [(45, 49, 54), (178, 42, 42), (0, 114, 80), (150, 100, 0), (0, 92, 160), (140, 60, 120),
     (0, 115, 125), (95, 100, 106)],
    [(110, 116, 122), (200, 50, 50), (0, 133, 95), (176, 118, 0), (0, 114, 178), (170, 74, 131),
     (0, 135, 145), (30, 33, 37)],
)  # fmt: skip

_PAGE = """<!doctype html><meta charset="utf-8">
<style>@font-face {{font-family: mono; src: url(data:font/ttf;base64,FONT)}}
body {{margin: 0; background: {background}}}
pre {{font: 15px/1.4 mono; margin: 0; padding: 18px 22px; display: inline-block;
color: {foreground}}}</style><pre>{code}</pre>"""


# Circles and diamonds, which the test browser's font lacks.
_MARKS = """@font-face {font-family: marks; src: url(data:font/ttf;base64,FONT)}
.outcome::before {font-family: marks}"""


def ftreg(folder: Path, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
    """Run a command as in an 80-column terminal, and return its output with colours.

    Exits if the exit code is not in `accept`.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ftreg", *arguments],
        cwd=folder,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm-256color"},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode not in accept:
        sys.exit(f"ftreg {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def evaluations(workspace: Path) -> dict[str, str]:
    """Return the id of each checkpoint's newest evaluation by name; missing runs are made."""
    if not (workspace / "configs").is_dir():
        workspace.parent.mkdir(parents=True, exist_ok=True)
        ftreg(workspace.parent, "init", workspace.name)
    for name, settings in RUNS.items():
        if name in _evaluated(workspace):
            continue
        if not (workspace / "checkpoints" / name).is_dir():
            place = ("-o", f"checkpoints/{name}")
            ftreg(workspace, "train", f"configs/{name}.yaml", *place, *settings)
        ftreg(workspace, "eval", name, "--no-gate")
    return _evaluated(workspace)


def _evaluated(workspace: Path) -> dict[str, str]:
    ids = [path.name for path in list_evaluations(workspace / "evaluations")]
    return {name: found for name in RUNS for found in ids if found.startswith(f"{name}-")}


def keep(png: bytes, name: str) -> None:
    """Save a picture with 128 colours, a third of the size without a visible difference."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    small = picture.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    GALLERY.mkdir(parents=True, exist_ok=True)
    path = GALLERY / f"{name}.png"
    small.save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1024:.0f} KiB")


def of_the_report(chromium: Any, report: Path) -> None:
    """Take the report's screenshots: top in light and dark, sections, examples, and print view."""

    def opened(scheme: str = "light", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Any:
        context = chromium.new_context(
            color_scheme=scheme,
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=1.5,
            bypass_csp=True,
        )
        page = context.new_page()
        page.goto(report.resolve().as_uri())
        page.add_style_tag(content=_MARKS.replace("FONT", monospaced()))
        page.locator(".list > li").first.wait_for()
        return page

    for scheme in ("light", "dark"):
        keep(opened(scheme).screenshot(), f"report-{scheme}")
    for name, section, scheme in SECTIONS:
        page = opened(scheme)
        keep(page.locator(section).screenshot(), name)
    for name, act, scheme in EXAMPLES:
        page = opened(scheme)
        act(page)
        keep(page.screenshot(), name)
    page = opened(size=A4)
    page.emulate_media(media="print")
    page.add_style_tag(content="body {padding: 40px 48px !important}")  # paper margin
    keep(page.screenshot(), "print")


def _differences(page: Any) -> None:
    page.select_option("#by-scorer", "faithfulness")
    page.select_option("#by-change", "regressed")
    _open_first(page)


def _evidence(page: Any) -> None:
    _differences(page)
    page.locator("[data-view=faithfulness]").first.click()


def _open_first(page: Any) -> None:
    page.locator(".list .row").first.click()
    page.locator("#examples").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#examples').scrollIntoView()")


SECTIONS: list[tuple[str, str, str]] = [
    ("training", "#training", "light"),
]
EXAMPLES: list[tuple[str, Callable[[Any], None], str]] = [
    ("differences", _differences, "light"),
    ("evidence", _evidence, "dark"),
]


def monospaced() -> str:
    """Return the system's monospaced font in base64: the test browser only has Open Sans."""
    asked = ["fc-match", "--format", "%{file}", "DejaVu Sans Mono:style=Book"]
    found = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    return base64.b64encode(Path(found).read_bytes()).decode()


def of_the_terminal(chromium: Any, text: str, command: str, name: str) -> None:
    """Take the screenshot of a command and its output as a terminal shows them."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", "bold"))
    console.print(Text.from_ansi(text.rstrip()))
    html = console.export_html(
        theme=_TERMINAL,
        inline_styles=True,
        code_format=_PAGE.replace("FONT", monospaced()),
    )
    page = chromium.new_context(device_scale_factor=1.5).new_page()
    page.set_viewport_size({"width": 900, "height": 400})
    page.set_content(html)
    keep(page.locator("pre").screenshot(), name)


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("runs/gallery"),
        help="where the runs are, or are made",
    )
    workspace = parser.parse_args().workspace
    ids = evaluations(workspace)
    verdict = ftreg(workspace, "gate", ids["adamw"], ids["lion"], accept=(0, 1, 3))
    compared = ftreg(workspace, "compare", *ids.values())
    with browser() as chromium:
        of_the_report(chromium, workspace / "evaluations" / ids["lion"] / "report.html")
        of_the_terminal(
            chromium, verdict, "ftreg gate evaluations/adamw-* evaluations/lion-*", "verdict"
        )
        of_the_terminal(
            chromium, compared, "ftreg compare evaluations/{adamw,lion}-*", "comparison"
        )


if __name__ == "__main__":
    main()
