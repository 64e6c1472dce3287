"""A real headless Chromium for the tests that look at pages, and axe-core, where they are there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
INSTALLED = ROOT / ".venv" / "browser"
"""Where `make browser` puts both."""

# Nothing of Chromium's own may look for a network.
_QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


def find_browser() -> str | None:
    """`$FTREG_TEST_BROWSER`, what `make browser` installed, or a Chromium of the system."""
    named = os.environ.get("FTREG_TEST_BROWSER")
    if named:
        return named
    own = INSTALLED / "chromium"
    if own.is_file():
        return str(own)
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def find_axe() -> Path | None:
    """The script of axe-core: `$FTREG_TEST_AXE`, or what `make browser` installed."""
    path = Path(os.environ.get("FTREG_TEST_AXE", INSTALLED / "axe.min.js"))
    return path if path.is_file() else None


@contextmanager
def browser() -> Iterator[Any]:
    """Start it, or skip the test with the reason."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium: `make browser` installs one, or FTREG_TEST_BROWSER names it")
    environment = dict(os.environ)
    if path.startswith(str(INSTALLED)):  # it brings the libraries and a font that a system may lack
        environment["LD_LIBRARY_PATH"] = str(INSTALLED / "lib")
        environment["FONTCONFIG_PATH"] = str(INSTALLED)
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=_QUIET, env=environment)
        try:
            yield running
        finally:
            running.close()
