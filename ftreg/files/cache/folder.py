"""The location and limits of the cache; `ftreg clean` lists the kinds."""

import contextlib
import os
import re
from pathlib import Path

import platformdirs

from ftreg.errors import UsageError, did_you_mean

_LIMITS = "FTREG_CACHE_LIMITS"
_UNITS = {"": 1, "b": 1} | {
    f"{letter}{end}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for end, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_GIB = 1024**3

DEFAULT_LIMITS: dict[str, int] = {
    "arrow": 16 * _GIB,
    "judge": 1 * _GIB,
    "outputs": 4 * _GIB,
    "prepared": 16 * _GIB,
    "vectors": _GIB // 4,
    "ways": _GIB // 64,
}
"""Maximum bytes on disk of each kind; the least recently used entries are removed first."""


def cache_folder(*parts: str) -> Path:
    """Return a folder of the user's cache: `$FTREG_CACHE`, or the platform's default.

    Raises:
        UsageError: there is no home folder, or the variable's value is not UTF-8.
    """
    root = os.environ.get("FTREG_CACHE")
    try:
        base = Path(root).expanduser() if root else platformdirs.user_cache_path("ftreg")
        str(base).encode()
    except RuntimeError as error:  # a container's user without a home, or an unknown `~name`
        place = f"FTREG_CACHE={root}" if root else "the cache"
        raise UsageError(
            f"{place}: this user has no home folder; set FTREG_CACHE to a folder to write to"
        ) from error
    except UnicodeEncodeError as error:
        raise UsageError(f"FTREG_CACHE={root}: the path is not UTF-8; set another") from error
    return base.joinpath(*parts)


def limit_of(kind: str) -> int | None:
    """Return how many bytes a kind may take on disk; None for no limit.

    `$FTREG_CACHE_LIMITS` changes the defaults: `judge=200MB,outputs=none`.

    Args:
        kind: unlimited unless it is a key of `DEFAULT_LIMITS`.

    Raises:
        UsageError: the variable names an unknown kind, or an invalid size.
    """
    limits: dict[str, int | None] = dict(DEFAULT_LIMITS)
    for part in filter(None, (item.strip() for item in os.environ.get(_LIMITS, "").split(","))):
        name, _, text = (piece.strip() for piece in part.partition("="))
        if name not in limits:
            raise UsageError(
                f"{_LIMITS}: {name!r} is not a cache with a limit{did_you_mean(name, limits)} "
                f"(they are: {', '.join(limits)})"
            )
        try:
            limits[name] = None if text == "none" else parse_size(text)
        except UsageError as error:
            raise UsageError(f"{_LIMITS}: {name}: {error}, or none") from error
    return limits.get(kind)


def parse_size(text: str) -> int:
    """Return the bytes of `500MB` (thousands), `2GiB` or `2G` (1024s), or a plain number.

    Raises:
        UsageError: it is not one of these.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(f"{text!r} is not a size; write one such as 500MB or 2GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def size_text(size: int) -> str:
    """Return a readable size: `1.5 GiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def touch(path: Path) -> None:
    """Record that an entry was used now: the least recently used are removed first."""
    with contextlib.suppress(OSError):
        os.utime(path)
