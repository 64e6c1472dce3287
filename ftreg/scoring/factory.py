"""Making scorers by name, with their options checked."""

import inspect
from typing import Any, cast

from ftreg.errors import UsageError, did_you_mean
from ftreg.registry import Registry
from ftreg.scoring.protocol import Backend, Scorer

SCORERS = Registry(
    "scorer",
    {
        "faithfulness": "ftreg.scoring.faithfulness:Faithfulness",
        "answer_relevancy": "ftreg.scoring.answer_relevancy:AnswerRelevancy",
        "completeness": "ftreg.scoring.completeness:Completeness",
        "equals": "ftreg.scoring.equals:Equals",
        "ground_truth_match": "ftreg.scoring.equals:Equals",
    },
)
BACKENDS = Registry("backend", {"embedded": "ftreg.scoring.backends.minilm:shared"})
DEFAULT_BACKEND = "embedded"


def get_scorer(name: str, *, backend: str | Backend | None = None, **options: Any) -> Scorer:
    """Make a scorer.

    Args:
        name: a name of `SCORERS`, or an import path `package.module:factory` of your own. A
            factory takes its options as keyword arguments, and a backend if it has a parameter
            of that name.
        backend: a name of `BACKENDS`, an import path, or a backend made already; `embedded` where
            None. A scorer that needs none (`equals`) loads none.
        **options: the scorer's own options.

    Raises:
        UsageError: name, backend or option are unknown (the message names the nearest), or an
            option's value does not fit.
    """
    factory = SCORERS.load(name)
    if not callable(factory):
        raise UsageError(f"{name!r} is not a scorer: it cannot be called")
    if isinstance(backend, str) and ":" not in backend and backend not in BACKENDS:
        BACKENDS.load(backend)  # raises, and names the nearest
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name!r} is not a scorer: {error}") from error
    known = [key for key in parameters if key != "backend"]
    takes_any = any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values())
    for option in options:
        if option not in known and not takes_any:
            takes = f"It takes: {', '.join(known)}." if known else "It takes none."
            raise UsageError(
                f"{name} has no option {option!r}{did_you_mean(option, known)} {takes}"
            )
    if "backend" in parameters:
        options["backend"] = _load_backend(backend)
    missing = [
        key
        for key, entry in parameters.items()
        if entry.default is entry.empty
        and entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)
        and key not in options
    ]
    if missing:
        raise UsageError(f"{name} needs the option {missing[0]!r}")
    return cast(Scorer, factory(**options))


def _load_backend(backend: str | Backend | None) -> Backend:
    if backend is None or isinstance(backend, str):
        return cast(Backend, BACKENDS.load(backend or DEFAULT_BACKEND)())
    return backend
