"""Whether a configuration may run code that is not shipped with ftreg.

A custom scorer, optimizer or metric is code, and so are the Python files that come with a model.
They run because a configuration or a checkpoint's manifest names them. If these come from somebody
else, as in the CI of a fork, `--no-custom-code` and the variable refuse them all. Child processes
inherit the variable.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from ftreg.errors import UsageError

VARIABLE = "FTREG_NO_CUSTOM_CODE"
_OFF = ("", "0", "false", "f", "no", "n", "off")


def forbidden() -> bool:
    """Whether custom code is refused: the variable is set to anything but an explicit no."""
    return os.environ.get(VARIABLE, "").strip().lower() not in _OFF


@contextlib.contextmanager
def forbid() -> Iterator[None]:
    """Refuse custom code within the block."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def names_code(name: str) -> bool:
    """Whether the name of a scorer, backend or builder refers to code not shipped with ftreg.

    An import path does, and so does a metric of the library `evaluate`, whatever its source: it is
    a script, and none is installed with the library.
    """
    family, colon, _ = name.partition(":")
    return bool(colon) and family != "rubric"


def trust_note(model: str) -> str:
    """Return the notice that code which comes with a model will run."""
    return f"base.trust_remote_code is true: the code that comes with {model} is run"


def refuse(what: str, *, place: str) -> None:
    """Raise if custom code is forbidden.

    Args:
        what: the code, as named in the configuration: "tests.fakes:Drifting".
        place: the file, line and key, or the option, that names it.

    Raises:
        UsageError: it is forbidden.
    """
    if forbidden():
        raise UsageError(
            f"{place}: {what} is code not shipped with ftreg, and --no-custom-code (or "
            f"{VARIABLE}) refuses it; remove it, or allow it if you trust its author"
        )


def trust_notes(models: Iterable[str]) -> list[str]:
    """Return a notice for each model whose own code will run, without duplicates."""
    return [
        f"base.trust_remote_code is true: the code that comes with {model} is run"
        for model in dict.fromkeys(models)
    ]
