"""Timestamps of evaluations, so that the newest is always the one made last."""

import datetime
from collections.abc import Callable
from pathlib import Path

from ftreg.records.evaluation.listing import known_moments

_TICK = datetime.timedelta(milliseconds=1)


def next_moment(root: Path, *, notice: Callable[[str], None]) -> str:
    """Return the time for an evaluation made now: later than all below `root`.

    If the clock is set back, `latest` would refer to an older evaluation, which a gate or promotion
    would then use. As in a hybrid logical clock (Kulkarni et al. 2014), time stands still until the
    clock has caught up.

    Args:
        root: the folder of evaluations; damaged ones do not count.
        notice: called with a message if the clock is behind.

    Returns:
        ISO 8601 in UTC, with milliseconds.
    """
    now = datetime.datetime.now(datetime.UTC)
    newest, name = max(_moments(root), default=(None, ""))
    if newest is not None and newest >= now:
        notice(
            f"the clock is behind the evaluation {name} ({_text(newest)}); this one is dated just "
            "after it, so that `latest` refers to it"
        )
        now = newest + _TICK
    return _text(now)


def _moments(root: Path) -> list[tuple[datetime.datetime, str]]:
    found = []
    for created, name in known_moments(root):
        try:
            moment = datetime.datetime.fromisoformat(created or "")
        except ValueError:
            continue
        if moment.tzinfo is not None:
            found.append((moment, name))
    return found


def _text(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
