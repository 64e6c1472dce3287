"""How experiment trackers are spoken to: in training, and when an evaluation is logged."""

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
    "set MLFLOW_TRACKING_URI to a server that answers (a database of your own instead "
    "of a server needs `pip install mlflow`)"
)

# mlflow's own defaults let a server that went away hold a run for minutes, at every step.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def bound_patience() -> None:
    """Have clients give a server up soon, unless their environment says how long to wait."""
    for key, value in _PATIENCE.items():
        os.environ.setdefault(key, value)


@contextlib.contextmanager
def own_output() -> Iterator[None]:
    """Keep standard output for the command's own result; trackers print there too."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def reason(error: Exception) -> str:
    """Say in one line what a tracker raised, without a password that an address may carry."""
    text = f"{type(error).__name__}: {first_line(error)}"
    text = re.sub(r"//[^/@\s]+@", "//...@", text)
    return textwrap.shorten(text, 300, placeholder="...")
