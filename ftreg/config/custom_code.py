"""Whether code may run that a configuration names and ftreg does not bring.

A scorer, an optimizer or a metric of one's own is code, and so is what comes with the weights of a
model. They run because a configuration or a checkpoint's manifest names them. Where these come from
somebody else, as in the CI of a fork, `--no-custom-code` and the variable refuse them all.
Processes that this one starts inherit the variable.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from ftreg.errors import UsageError

VARIABLE = "FTREG_NO_CUSTOM_CODE"
_OFF = ("", "0", "false", "f", "no", "n", "off")


def forbidden() -> bool:
    """Whether custom code is refused; any value but a plain no in the variable says so."""
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
    """Whether a scorer's, backend's or builder's name stands for code that is not ftreg's own.

    An import path does, and so does a metric of the library `evaluate`, wherever it comes from: it
    is a script, and none of them is installed with the library.
    """
    family, colon, _ = name.partition(":")
    return bool(colon) and family != "rubric"


def trust_note(model: str) -> str:
    """Say that code which comes with a model will run."""
    return f"base.trust_remote_code is true: the code that comes with {model} is run"


def refuse(what: str, *, place: str) -> None:
    """End here if custom code is forbidden.

    Args:
        what: the code, in the words of the configuration: "tests.fakes:Drifting".
        place: the file, line and key, or the option, that names it.

    Raises:
        UsageError: it is forbidden.
    """
    if forbidden():
        raise UsageError(
            f"{place}: {what} is code not shipped with ftreg, and --no-custom-code (or "
            f"{VARIABLE}) refuses it; remove it, or allow it where you trust whoever wrote it"
        )


def trust_notes(models: Iterable[str]) -> list[str]:
    """Return what to say before the code runs that comes with these models; once for each."""
    return [
        f"base.trust_remote_code is true: the code that comes with {model} is run"
        for model in dict.fromkeys(models)
    ]
