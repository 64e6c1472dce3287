"""A signal that came, remembered.

Python raises KeyboardInterrupt wherever it happens to be, and in the midst of an import or a
callback a library may swallow it. Whoever begins long work asks here whether that has happened.
"""

_came = False


def forget() -> None:
    """Begin anew: no signal has come."""
    global _came
    _came = False


def remember() -> None:
    """A signal has come."""
    global _came
    _came = True


def check() -> None:
    """Raise KeyboardInterrupt where a signal came that was not heard.

    Raises:
        KeyboardInterrupt: `remember` was called since `forget`.
    """
    if _came:
        raise KeyboardInterrupt


def came() -> bool:
    """Whether a signal has come since `forget`."""
    return _came
