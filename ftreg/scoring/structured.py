"""Shared by scorers of structured answers: strict JSON, schemas, comparison field by field.

Nothing here fetches anything: a `$ref` must stay within its schema.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from ftreg.errors import UsageError, cut, did_you_mean
from ftreg.files.reading import LARGEST_SETTINGS, parse_json, read_text
from ftreg.files.store import canonical_json
from ftreg.records.samples import Sample
from ftreg.scoring.answers import normalize
from ftreg.scoring.equals import same_json
from ftreg.scoring.patterns import occurs
from ftreg.scoring.samplewise import SamplewiseScorer, UncheckableError

Text = Literal["exact", "normalized"]
"""How texts within a value are compared: as written, or after `normalize`."""
_Errors = Iterator[ValidationError]
Place = tuple[str | int, ...]
"""The keys and positions that lead to a value."""

_TEXTS = ("exact", "normalized")
_SOURCES = ("context", "input")
_FENCE = re.compile(r"^[ \t]*```[\w+-]*[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
MOST_PROBLEMS = 20
"""How many problems of an output its evidence lists."""
_MOST_SHOWN = 20
_LONGEST_SHOWN = 300


class UnreadableError(ValueError):
    """A text is not in the expected form; the message says why."""


def unfenced(text: str) -> str:
    """Return the content of a text's only Markdown fence, or the text if it has none or several."""
    blocks = _FENCE.findall(text)
    return str(blocks[0]) if len(blocks) == 1 else text


def decoded(text: str) -> Any:
    """Return the value of a text that is JSON and nothing else.

    Raises:
        UnreadableError: it is not, or it is nested too deeply to be processed.
    """
    try:
        return parse_json(text, place="")
    except UsageError as error:
        raise UnreadableError(str(error).removeprefix(": ")) from error


def in_words(place: Place) -> str:
    """Return a place as `$.items[0].name`."""
    return str(ValidationError("", path=place).json_path)


class CheckedSchema:
    """A JSON Schema that has been validated.

    The draft is the one that `$schema` names, or 2020-12. `format` does not affect validity, as in
    the standard: what it would check depends on the installed libraries.

    Args:
        schema: the schema.
        place: what it is, for messages.

    Raises:
        UsageError: it is not a JSON Schema, or refers to one that is elsewhere; names the key.
    """

    def __init__(self, schema: Any, *, place: str) -> None:
        dialect = schema.get("$schema") if isinstance(schema, Mapping) else None
        draft = Draft202012Validator if dialect is None else validator_for(schema, default=None)
        if draft is None:
            raise UsageError(f"{place}: $schema: {dialect!r} is not a draft that ftreg knows")
        try:
            draft.check_schema(schema)
            registry: Registry[Any] = Registry()
            resource = specification_with(draft.META_SCHEMA["$schema"]).create_resource(schema)
            _check_references(resource, registry.resolver_with_root(resource))
            # Without a registry jsonschema would fetch what a reference names.
            self._validator = _with_time_limit(draft)(schema, registry=registry)
            list(self._validator.iter_errors(None))
        except SchemaError as error:
            message = cut(error.message, _LONGEST_SHOWN)
            raise UsageError(f"{place}: {error.json_path}: {message}") from error
        except UnreadableError as error:
            raise UsageError(f"{place}: {error}") from error
        except RecursionError as error:
            raise UsageError(f"{place}: the schema refers to itself endlessly") from error

    def problems(self, value: Any) -> list[str]:
        """Return what is wrong with a value, each with its place; empty if it is valid.

        Raises:
            UncheckableError: the value is too deeply nested for a schema that refers to itself, has
                numbers beyond a float, or takes a pattern longer than its time limit.
        """
        try:
            found = sorted(self._validator.iter_errors(value), key=lambda error: error.json_path)
        except (RecursionError, OverflowError) as error:
            raise UncheckableError(f"the schema cannot be checked: {error}") from error
        return [f"{error.json_path}: {cut(error.message, _LONGEST_SHOWN)}" for error in found]


def _with_time_limit(draft: Any) -> Any:
    """Return a draft's validator whose patterns have a time limit."""
    additional = draft.VALIDATORS["additionalProperties"]
    unevaluated = draft.VALIDATORS.get("unevaluatedProperties")

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> _Errors:
        if validator.is_type(value, "string") and not occurs(wanted, value):
            yield ValidationError(f"{value!r} does not match {wanted!r}")

    def of_patterns(validator: Any, wanted: Any, value: Any, schema: Any) -> _Errors:
        for each, inner in wanted.items():
            for name in _named(validator, value, [each]):
                yield from validator.descend(value[name], inner, path=name, schema_path=each)

    def of_others(validator: Any, wanted: Any, value: Any, schema: Any) -> _Errors:
        named = _named(validator, value, schema.get("patternProperties", {}))
        if named:
            value = {name: each for name, each in value.items() if name not in named}
        rest = {key: each for key, each in schema.items() if key != "patternProperties"}
        yield from additional(validator, wanted, value, rest)

    def of_the_rest(validator: Any, wanted: Any, value: Any, schema: Any) -> _Errors:
        # This keyword searches by itself, in nested schemas too; most slow patterns end here.
        _named(validator, value, schema.get("patternProperties", {}))
        yield from unevaluated(validator, wanted, value, schema)

    keywords = {
        "pattern": pattern,
        "patternProperties": of_patterns,
        "additionalProperties": of_others,
    }
    if unevaluated is not None:
        keywords["unevaluatedProperties"] = of_the_rest
    return extend(draft, keywords)


def _named(validator: Any, value: Any, patterns: Iterable[str]) -> list[str]:
    """Return the names of an object that match a pattern; none of another value."""
    if not validator.is_type(value, "object"):
        return []
    return [name for name in value if any(occurs(each, name) for each in patterns)]


def _check_references(resource: Any, resolver: Any) -> None:
    """Raise UnreadableError if a schema refers to something outside it."""
    if isinstance(resource.contents, Mapping):
        for key in ("$ref", "$dynamicRef"):
            reference = resource.contents.get(key)
            if not isinstance(reference, str):
                continue
            try:
                resolver.lookup(reference)
            except (Unresolvable, ValueError) as error:  # a list has no place called by a word
                raise UnreadableError(
                    f"{key}: {reference!r} leads nowhere; nothing is fetched, so put what it "
                    "refers to into the schema, under $defs"
                ) from error
    for inner in resource.subresources():
        _check_references(inner, resolver.in_subresource(inner))


def given(option: Any, *, place: str) -> Any:
    """Return the value of an option that is JSON, or the path of a file with it.

    Raises:
        UsageError: there is no such file, it is not JSON, or the value has a type JSON lacks.
    """
    if isinstance(option, str):
        path = Path(os.path.expanduser(option))
        text = read_text(path, most=LARGEST_SETTINGS, kind=place.rpartition(" ")[2])
        return parse_json(text, place=str(path), first_line=1)
    try:
        return json.loads(canonical_json(option))  # a copy, so that nobody changes it later
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Fields:
    """How the fields of a value agree with those of a reference.

    A field is a value at its place that contains no other values; list elements go by position.
    """

    same: int
    missing: tuple[Place, ...]
    extra: tuple[Place, ...]
    different: tuple[tuple[Place, Any, Any], ...]
    """Place, value of the reference, value."""

    @property
    def total(self) -> int:
        """The number of fields of both together."""
        return self.same + len(self.missing) + len(self.extra) + len(self.different)

    @property
    def share(self) -> float:
        """The share of the fields that are the same."""
        return self.same / self.total

    def evidence(self) -> dict[str, Any]:
        """Return the places of the differences, JSON-ready, limited to what people can read."""
        return {
            "missing": [in_words(place) for place in self.missing[:_MOST_SHOWN]],
            "extra": [in_words(place) for place in self.extra[:_MOST_SHOWN]],
            "different": [
                {"field": in_words(place), "expected": expected, "found": found}
                for place, expected, found in self.different[:_MOST_SHOWN]
            ],
        }


def compare_fields(value: Any, reference: Any, *, text: Text) -> Fields:
    """Compare decoded JSON with a reference, field by field; 1 and 1.0 are one number."""
    mine, wanted = dict(_fields(value)), dict(_fields(reference))
    both = [place for place in wanted if place in mine]
    different = tuple(
        (place, wanted[place], mine[place])
        for place in both
        if not _same(mine[place], wanted[place], text)
    )
    return Fields(
        same=len(both) - len(different),
        missing=_without(wanted, mine),
        extra=_without(mine, wanted),
        different=different,
    )


def _without(fields: Mapping[Place, Any], others: Mapping[Place, Any]) -> tuple[Place, ...]:
    """Places that the others lack; an empty list or object lacks no place if they have more."""
    above = {place[:depth] for place in others for depth in range(len(place))}
    return tuple(
        place
        for place, value in fields.items()
        if place not in others and not (value in ([], {}) and place in above)
    )


def _same(one: Any, other: Any, text: Text) -> bool:
    if text == "normalized" and isinstance(one, str) and isinstance(other, str):
        return normalize(one) == normalize(other)
    return same_json(one, other)


def _fields(value: Any) -> Iterator[tuple[Place, Any]]:
    pending: list[tuple[Place, Any]] = [((), value)]
    while pending:
        place, item = pending.pop()
        inner: list[tuple[str | int, Any]] = []
        if isinstance(item, dict):
            inner = list(item.items())
        elif isinstance(item, list):
            inner = list(enumerate(item))
        if inner:
            pending.extend(((*place, key), one) for key, one in reversed(inner))
        else:
            yield place, item


class StructuredScorer(SamplewiseScorer):
    """The base of these scorers: their options, and JSON that each example has itself."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self._choose("text", options.text, _TEXTS)
        if not isinstance(options.fenced, bool):
            raise UsageError(f"{self.name}: fenced must be true or false, found {options.fenced!r}")

    def _choose(self, option: str, value: Any, known: Sequence[str]) -> None:
        if value not in known:
            raise UsageError(
                f"{self.name}: {option} cannot be {value!r}{did_you_mean(str(value), known)} "
                f"(known: {', '.join(known)})"
            )

    def _choose_source(self, option: str, *, fixed: Any, source: Any) -> None:
        """Check that schema or tools are given once: for all examples, or by each."""
        if source is not None:
            if fixed is not None:
                raise UsageError(f"{self.name}: give either {option} or {option}_in, not both")
            self._choose(f"{option}_in", source, _SOURCES)

    def _of_example(self, sample: Sample, source: str) -> Any:
        """The JSON that an example has itself."""
        text = sample.context if source == "context" else sample.input
        try:
            return decoded(text or "")
        except UnreadableError as error:
            raise UncheckableError(f"the example's {source}: {error}") from error
