"""Clients of experiment trackers, for training and for logging evaluations."""

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Iterator

from ftreg.errors import first_line

PROJECT = "ftreg"
"""The experiment, or project, unless the tracker's own environment names another."""

MLFLOW_WAY_OUT = (
    "set MLFLOW_TRACKING_URI to a server that answers (a local database instead of a "
    "server needs `pip install mlflow`)"
)

# With mlflow's defaults, a server that is down delays a run by minutes at every step.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def bound_patience() -> None:
    """Make clients give up on a server soon, unless the environment sets a timeout."""
    for key, value in _PATIENCE.items():
        os.environ.setdefault(key, value)


@contextlib.contextmanager
def own_output() -> Iterator[None]:
    """Reserve standard output for the command's own result; trackers print there too."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def reason(error: Exception) -> str:
    """Describe a tracker's exception in one line, without passwords from addresses."""
    text = f"{type(error).__name__}: {first_line(error)}"
    text = re.sub(r"//[^/@\s]+@", "//...@", text)
    return textwrap.shorten(text, 300, placeholder="...")
