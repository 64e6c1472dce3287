"""Where ftreg keeps what it can make again: converted models, fetched wheels, Arrow copies."""

import os
from pathlib import Path

import platformdirs


def cache_folder(*parts: str) -> Path:
    """Return a folder of the user's cache: `$FTREG_CACHE`, or the platform's own place."""
    root = os.environ.get("FTREG_CACHE")
    base = Path(root).expanduser() if root else platformdirs.user_cache_path("ftreg")
    return base.joinpath(*parts)
