"""A real headless Chromium and axe-core for tests of pages, if they are installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
INSTALLED = ROOT / ".venv" / "browser"
"""Where `make browser` installs both."""

# Chromium itself must not use the network.
_QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


def find_browser() -> str | None:
    """Return `$FTREG_TEST_BROWSER`, the one from `make browser`, or the system's Chromium."""
    named = os.environ.get("FTREG_TEST_BROWSER")
    if named:
        return named
    own = INSTALLED / "chromium"
    if own.is_file():
        return str(own)
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def find_axe() -> Path | None:
    """Return the script of axe-core: `$FTREG_TEST_AXE`, or the one from `make browser`."""
    path = Path(os.environ.get("FTREG_TEST_AXE", INSTALLED / "axe.min.js"))
    return path if path.is_file() else None


@contextmanager
def browser() -> Iterator[Any]:
    """Start the browser, or skip the test with the reason."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium: `make browser` installs one, or FTREG_TEST_BROWSER names it")
    environment = dict(os.environ)
    if path.startswith(str(INSTALLED)):  # it has libraries and a font that the system may lack
        environment["LD_LIBRARY_PATH"] = str(INSTALLED / "lib")
        environment["FONTCONFIG_PATH"] = str(INSTALLED)
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=_QUIET, env=environment)
        try:
            yield running
        finally:
            running.close()
