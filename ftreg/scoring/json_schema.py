"""Whether an output is JSON that fits a schema, and how many of its fields match the reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftreg.errors import UsageError
from ftreg.records.samples import Sample, Score
from ftreg.scoring.samplewise import UncheckableError
from ftreg.scoring.structured import (
    MOST_PROBLEMS,
    CheckedSchema,
    StructuredScorer,
    Text,
    UnreadableError,
    compare_fields,
    decoded,
    given,
    unfenced,
)

_PARTS = ("both", "valid", "fields")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchemaOptions:
    """How an output is compared with schema and reference; see `JsonSchema`."""

    schema: Any
    schema_in: str | None
    part: str
    text: Text
    fenced: bool


class JsonSchema(StructuredScorer):
    """The share of fields that match the reference, 0 if the output does not fit the schema.

    Needs no model, and fetches nothing.

    Args:
        schema: a JSON Schema, or the path of a JSON file with one.
        schema_in: `context` or `input`, if each example has its own schema there, as JSON.
        part: what the score is: `both`, `valid` (1 or 0; needs no reference) or `fields` (ignores
            the schema, and needs none).
        text: how texts are compared: `exact`, or `normalized` as in `equals`.
        fenced: read the output's only Markdown fence, if it has one; otherwise the output must be
            JSON and nothing else.

    Raises:
        UsageError: the schema is malformed or missing, or an option's value is invalid.
    """

    name = "json_schema"
    version = 1

    def __init__(
        self,
        *,
        schema: str | Mapping[str, Any] | None = None,
        schema_in: str | None = None,
        part: str = "both",
        text: Text = "exact",
        fenced: bool = False,
    ) -> None:
        place = f"{self.name}: schema"
        read = None if schema is None else given(schema, place=place)
        super().__init__(
            JsonSchemaOptions(schema=read, schema_in=schema_in, part=part, text=text, fenced=fenced)
        )
        self._choose("part", part, _PARTS)
        self._choose_source("schema", fixed=schema, source=schema_in)
        if schema is None and schema_in is None and part != "fields":
            raise UsageError(
                f"{self.name} needs the option schema (a JSON Schema, or the path of a file with "
                "one), or schema_in: context if each example has its own"
            )
        where = schema if isinstance(schema, str) else place
        self._schema = None if schema is None else CheckedSchema(read, place=where)

    def _score_one(self, sample: Sample) -> Score:
        schema = self._schema_of(sample)
        references = [] if self.options.part == "valid" else self._references(sample, schema)
        try:
            value = decoded(unfenced(sample.output) if self.options.fenced else sample.output)
        except UnreadableError as error:
            return Score(0.0, evidence=({"valid": False, "problems": [str(error)]},))
        problems = schema.problems(value) if schema else []
        evidence: dict[str, Any] = {
            "valid": not problems if schema else None,
            "problems": problems[:MOST_PROBLEMS],
        }
        score = float(not problems)
        if references:
            found = [
                compare_fields(value, reference, text=self.options.text)
                for _, reference in references
            ]
            best = max(range(len(found)), key=lambda number: found[number].share)
            evidence |= {
                "closest": references[best][0],
                "fields": found[best].total,
                "same": found[best].same,
                **found[best].evidence(),
            }
            if self.options.part == "fields" or not problems:
                score = found[best].share
        return Score(round(score, 6), evidence=(evidence,))

    def _schema_of(self, sample: Sample) -> CheckedSchema | None:
        source = self.options.schema_in
        if source is None:
            return self._schema
        try:
            return CheckedSchema(self._of_example(sample, source), place=f"the example's {source}")
        except UsageError as error:
            raise UncheckableError(str(error)) from error

    def _references(self, sample: Sample, schema: CheckedSchema | None) -> list[tuple[str, Any]]:
        """The accepted answers, as written and decoded; all of them must be usable."""
        if not sample.references:
            raise UncheckableError("no reference")
        found = []
        for text in dict.fromkeys(sample.references):
            try:
                found.append((text, decoded(text)))
            except UnreadableError as error:
                raise UncheckableError(f"the reference: {error}") from error
            problems = schema.problems(found[-1][1]) if schema else []
            if problems and self.options.part == "both":
                raise UncheckableError(f"the reference does not fit the schema: {problems[0]}")
        return found
