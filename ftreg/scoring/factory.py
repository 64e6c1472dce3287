"""Creating scorers by name; their options and those of their backend are checked."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ftreg.config.registry import Registry
from ftreg.errors import UsageError, did_you_mean
from ftreg.scoring.own_scorer import OwnScorer, told_of_scorer
from ftreg.scoring.protocol import Backend, Scorer
from ftreg.scoring.thoughts import AnswerScorer

if TYPE_CHECKING:  # it loads pydantic
    from ftreg.config.sections import Thoughts

SCORERS = Registry(
    "scorer",
    {
        "faithfulness": "ftreg.scoring.faithfulness:Faithfulness",
        "answer_relevancy": "ftreg.scoring.answer_relevancy:AnswerRelevancy",
        "completeness": "ftreg.scoring.completeness:Completeness",
        "equals": "ftreg.scoring.equals:Equals",
        "ground_truth_match": "ftreg.scoring.equals:Equals",
        "json_schema": "ftreg.scoring.json_schema:JsonSchema",
        "tool_call": "ftreg.scoring.tool_call:ToolCall",
        "rubric": "ftreg.scoring.rubric:Rubric",
        "evaluate": "ftreg.scoring.evaluate_metric:EvaluateMetric",
        "retention": "ftreg.scoring.probes.retention:Retention",
        "instructions": "ftreg.scoring.probes.instructions:Instructions",
    },
)
PROBES = frozenset({"retention", "instructions"})
"""Those of them that ask the model itself, and are given no outputs."""
BACKENDS = Registry(
    "backend",
    {
        "embedded": "ftreg.scoring.backends.embedded:shared",
        "judge": "ftreg.scoring.backends.judge:make_judge",
        "nli": "ftreg.scoring.backends.nli:make_nli",
    },
)
DEFAULT_BACKEND = "embedded"
FAMILIES = ("evaluate", "rubric")
"""Scorers that `name:WHICH` makes one of; the gate knows each by its full name."""

_Parameters = Mapping[str, inspect.Parameter]


def get_scorer(
    name: str,
    *,
    backend: str | Backend | None = None,
    thoughts: "Thoughts" = "strip",
    **options: Any,
) -> Scorer:
    """Create a scorer.

    Args:
        name: a name of `SCORERS`; `evaluate:METRIC` or `rubric:TITLE`; or an import path
            `package.module:factory` of your own. A factory gets its options as keyword arguments,
            and a backend if it has a parameter of that name.
        backend: a name of `BACKENDS`, an import path, or an existing backend; if None, the
            factory's `default_backend`, or else `embedded`. A scorer that needs none (`equals`)
            loads none.
        thoughts: whether the scorer sees what an output has between `<think>` and `</think>` (and
            other models' tags): `strip` or `keep`.
        **options: the scorer's own options, and those of the backend.

    Raises:
        UsageError: the name, the backend, `thoughts` or an option is unknown (the message names the
            nearest), or an option's value is invalid.
    """
    factory = _factory(name)
    if thoughts not in ("strip", "keep"):
        raise UsageError(f"thoughts must be strip or keep, found {thoughts!r}")
    if isinstance(backend, str) and ":" not in backend and backend not in BACKENDS:
        BACKENDS.load(backend)  # raises, and names the nearest
    taken = _parameters(factory, f"{name!r} is not a scorer")
    thinks = "backend" in taken
    own = {key: entry for key, entry in taken.items() if key != "backend"}
    make_backend: Callable[..., Any] | None = None
    theirs: _Parameters = {}
    chosen = backend or getattr(factory, "default_backend", DEFAULT_BACKEND)
    # The options of a backend are of interest only where one must be made.
    if thinks and isinstance(chosen, str):
        make_backend = BACKENDS.load(chosen)
        if not callable(make_backend):
            raise UsageError(f"{chosen!r} is not a backend: it cannot be called")
        theirs = _parameters(make_backend, f"{chosen!r} is not a backend")
    for_scorer, for_backend = _divide(name, options, own, theirs)
    _check_missing(name, own, for_scorer)
    if make_backend is not None:
        _check_missing(f"the backend {chosen}", theirs, for_backend)
        for_scorer["backend"] = _make_backend(make_backend, str(chosen), for_backend)
    elif thinks:
        for_scorer["backend"] = backend
    made = _make(name, factory, for_scorer)
    strips = thoughts == "strip" and hasattr(made, "score")
    return cast(Scorer, AnswerScorer(made) if strips else made)


def _make(name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Create a scorer; errors of a user's own scorer are reported as its own from here on."""
    if name in SCORERS or name.partition(":")[0] in FAMILIES:
        return factory(**options)
    with told_of_scorer(name, "to be made"):
        made = factory(**options)
    whole = hasattr(made, "score") and hasattr(made, "describe")
    return OwnScorer(name, made) if whole else made


def _make_backend(factory: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    if name in BACKENDS:
        return factory(**options)
    with told_of_scorer(f"backend {name}", "to be made"):
        return factory(**options)


def takes_option(name: str, option: str) -> bool:
    """Whether a scorer has its own option with this name.

    Raises:
        UsageError: there is no such scorer.
    """
    return option in _named(_parameters(_factory(name), f"{name!r} is not a scorer"))


def _factory(name: str) -> Callable[..., Any]:
    family, colon, which = name.partition(":")
    if colon and family in FAMILIES:
        made = SCORERS.load(family)
        factory = functools.partial(made, which)
        if hasattr(made, "default_backend"):
            vars(factory)["default_backend"] = made.default_backend
        return factory
    found = SCORERS.load(name)
    if not callable(found):
        raise UsageError(f"{name!r} is not a scorer: it cannot be called")
    return cast(Callable[..., Any], found)


def _parameters(factory: Callable[..., Any], otherwise: str) -> _Parameters:
    """Return the keyword parameters."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise UsageError(f"{otherwise}: {error}") from error
    return {
        key: entry for key, entry in parameters.items() if entry.kind is not entry.POSITIONAL_ONLY
    }


def _divide(
    name: str, options: Mapping[str, Any], own: _Parameters, theirs: _Parameters
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into the scorer's and the backend's; the scorer's take precedence."""
    for_scorer: dict[str, Any] = {}
    for_backend: dict[str, Any] = {}
    for key, value in options.items():
        if key in _named(own):
            for_scorer[key] = value
        elif key in _named(theirs):
            for_backend[key] = value
        elif _takes_any(own):
            for_scorer[key] = value
        elif _takes_any(theirs):
            for_backend[key] = value
        else:
            known = [*_named(own), *_named(theirs)]
            takes = ", ".join(known) or "none"
            raise UsageError(
                f"{name} has no option {key!r}{did_you_mean(key, known)} (options: {takes})"
            )
    return for_scorer, for_backend


def _named(parameters: _Parameters) -> list[str]:
    return [key for key, entry in parameters.items() if _is_named(entry)]


def _is_named(entry: inspect.Parameter) -> bool:
    return entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)


def _takes_any(parameters: _Parameters) -> bool:
    return any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values())


def _check_missing(what: str, parameters: _Parameters, options: Mapping[str, Any]) -> None:
    for key, entry in parameters.items():
        if _is_named(entry) and entry.default is entry.empty and key not in options:
            raise UsageError(f"{what} needs the option {key!r}")
