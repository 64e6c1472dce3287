"""JSON Schemas of the files that users write, and of what ftreg prints and stores.

They are generated from the classes that the code itself reads and writes with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema, TypedDictSchema
from typing_extensions import is_typeddict

from ftreg.config.optimizer import OPTIMIZERS, schema_of
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import RunConfig, ScorerConfig
from ftreg.data import differences, verifying, versions
from ftreg.data.sources import importing
from ftreg.errors import UsageError, did_you_mean
from ftreg.gate import Verdict
from ftreg.gate.choice import ROUTES_SCHEMA
from ftreg.gate.contest import COMPARISON_SCHEMA
from ftreg.jobs import (
    agree,
    blame,
    checkpoints,
    clean,
    compare,
    datasets,
    diff,
    doctor,
    evaluate_and_gate,
    evaluation_history,
    evaluation_table,
    evaluations,
    export,
    gate_result,
    models,
    optim,
    parity,
    power,
    promote,
    report,
    rescore,
    route,
    same_weights,
    score,
    slices,
    track,
    train,
    verify,
)
from ftreg.records.artefact import ARTEFACT_SCHEMA, ArtefactRecord
from ftreg.records.attestation import Statement
from ftreg.records.baseline import BASELINE_SCHEMA, BaselineFile
from ftreg.records.bisect_record import Bisection
from ftreg.records.checkpoint import MANIFEST_SCHEMA
from ftreg.records.evaluation.header import EvaluationHeader
from ftreg.records.evaluation.rows import OutputRow, ScoreRow
from ftreg.records.evaluation.stored import EVALUATION_SCHEMA, GateRecord
from ftreg.records.layout import GATE_SCHEMA
from ftreg.records.looks import LOOK_SCHEMA, Look
from ftreg.records.manifest import Manifest
from ftreg.records.printed import optional_keys
from ftreg.records.samples import PRINTED_SCHEMA

_CONFIG_VERSION = 1
_DRAFT = "https://json-schema.org/draft/2020-12/schema"

# Name to version, the class that defines it, and whether users or ftreg write it.
_SOURCES: dict[str, tuple[int, Any, JsonSchemaMode]] = {
    "config": (_CONFIG_VERSION, RunConfig, "validation"),
    "policy": (_CONFIG_VERSION, GatePolicy, "validation"),
    "verdict": (GATE_SCHEMA, gate_result.PrintedVerdict, "serialization"),
    "evaluation": (EVALUATION_SCHEMA, EvaluationHeader, "serialization"),
    "output": (EVALUATION_SCHEMA, OutputRow, "serialization"),
    "score": (EVALUATION_SCHEMA, ScoreRow, "serialization"),
    "gate": (GATE_SCHEMA, GateRecord[Verdict], "serialization"),
    "comparison": (COMPARISON_SCHEMA, compare.Comparison, "serialization"),
    "routes": (ROUTES_SCHEMA, route.Routes, "serialization"),
    "baseline": (BASELINE_SCHEMA, BaselineFile, "serialization"),
    "attestation": (1, Statement[Verdict], "serialization"),
    "artefact": (ARTEFACT_SCHEMA, ArtefactRecord, "serialization"),
    "look": (LOOK_SCHEMA, Look, "serialization"),
    "checkpoint": (MANIFEST_SCHEMA, Manifest, "serialization"),
    # A printed manifest has the version of the manifest.
    "training": (MANIFEST_SCHEMA, checkpoints.CheckpointRecord, "serialization"),
}
_PRINTED: dict[str, Any] = {
    "group": checkpoints.GroupRecord,
    "series": train.Series,
    "reproduction": same_weights.Reproduction,
    "evaluated": evaluate_and_gate.PrintedEvaluation,
    "scoring": score.ScoredFile,
    "agreement": agree.AgreementWithLabels,
    "rescoring": rescore.Rescoring,
    "report": report.WrittenReport,
    "tracking": track.TrackedRun,
    "power": power.Power,
    "slices": slices.Slices,
    "blame": blame.Blame,
    "promotion": promote.PrintedPromotion,
    "promotions": promote.PrintedPromotions,
    "recomputation": verify.RecomputedVerdict,
    "datasets": datasets.DatasetList,
    "dataset": datasets.ShownDataset,
    "verification": verifying.Verification,
    "importing": importing.Imported,
    "freezing": versions.MadeVersion,
    "dataset-difference": differences.Difference,
    "leaks": datasets.DatasetLeaks,
    "evaluations": evaluations.EvaluationList,
    "table": evaluation_table.ExportedTable,
    "history": evaluation_history.WrittenHistory,
    "checkpoints": checkpoints.CheckpointList,
    "recipe-difference": diff.RecipeDifference,
    "bisection": Bisection,
    "optimizer": optim.OptimizerPlan,
    "conversion": optim.ConversionProposal,
    "models": models.ModelList,
    "findings": doctor.Findings,
    "export": export.Exported,
    "parity": parity.Parity,
    "cleaning": clean.Cleaning,
}
_SOURCES |= {name: (PRINTED_SCHEMA, source, "serialization") for name, source in _PRINTED.items()}

SCHEMAS = tuple(_SOURCES)
"""The names of the schemas."""

PRINTED: Mapping[str, Mapping[str, str]] = {
    "doctor": {"findings": ""},
    "train": {
        "training": "of one checkpoint",
        "group": "of replicas (`train.seeds`)",
        "series": "of several configurations",
    },
    "reproduce": {"reproduction": ""},
    "export": {"export": ""},
    "parity": {"parity": ""},
    "eval": {"verdict": "where it gates", "evaluated": "where there is no verdict"},
    "score": {"scoring": ""},
    "agree": {"agreement": ""},
    "rescore": {"rescoring": ""},
    "gate": {"verdict": ""},
    "verify": {"recomputation": ""},
    "compare": {"comparison": ""},
    "report": {"report": ""},
    "track": {"tracking": ""},
    "power": {"power": ""},
    "slices": {"slices": ""},
    "blame": {"blame": ""},
    "diff": {"recipe-difference": ""},
    "bisect": {"bisection": ""},
    "promote": {"promotion": ""},
    "baseline": {"promotions": ""},
    "clean": {"cleaning": ""},
    "data list": {"datasets": ""},
    "data show": {"dataset": ""},
    "data verify": {"verification": ""},
    "data import": {"importing": ""},
    "data freeze": {"freezing": ""},
    "data diff": {"dataset-difference": ""},
    "data leaks": {"leaks": ""},
    "evaluations list": {"evaluations": ""},
    "evaluations export": {"table": ""},
    "history": {"history": ""},
    "checkpoints list": {"checkpoints": ""},
    "checkpoints show": {"checkpoint": "of one checkpoint", "group": "of replicas"},
    "models list": {"models": ""},
    "optim show": {"optimizer": ""},
    "optim convert": {"conversion": ""},
}
"""Command, as typed after `ftreg`, to the schemas of its JSON, each with its condition.

`checkpoints show` always prints JSON, and the others with `--json`.
"""


class _Plain(GenerateJsonSchema):
    """Omits titles that only repeat a key, and describes inherited keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Keep an optional key of a mapping optional, whatever contains the mapping."""
        if field["type"] == "typed-dict-field":
            return bool(field.get("required", total))
        return super().field_is_required(field, total)

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        """Describe inherited keys too."""
        built = super().dataclass_schema(schema)
        _describe_inherited(built, filter(is_dataclass, schema["cls"].__mro__[1:]))
        for key in built.get("required", ()):
            built["properties"][key].pop("default", None)  # it is printed all the same
        for key in optional_keys(schema["cls"]):
            built["required"].remove(key)
            item = built["properties"][key]
            (some,) = (one for one in item.pop("anyOf") if one != {"type": "null"})
            item |= some
        return built

    def typed_dict_schema(self, schema: TypedDictSchema) -> JsonSchemaValue:
        """Describe inherited keys too."""
        built = super().typed_dict_schema(schema)
        bases = getattr(schema.get("cls"), "__orig_bases__", ())
        _describe_inherited(built, filter(is_typeddict, bases))
        return built


def _describe_inherited(built: JsonSchemaValue, bases: Iterable[Any]) -> None:
    """Copy descriptions of keys from base classes: pydantic reads one class's docstrings."""
    for base in bases:
        inherited = TypeAdapter(base).json_schema(schema_generator=_Plain)["properties"]
        for key, item in inherited.items():
            if "description" in item:
                built["properties"][key].setdefault("description", item["description"])


def schema(name: str) -> dict[str, Any]:
    """Return a JSON Schema (draft 2020-12), JSON-ready.

    Its `$id` is `urn:ftreg:schema:NAME:VERSION`, with the version of the records.

    Raises:
        UsageError: there is no schema of that name.
    """
    if name not in _SOURCES:
        raise UsageError(
            f"{name!r} is not a schema{did_you_mean(name, SCHEMAS)} (known: {', '.join(SCHEMAS)})"
        )
    version, source, mode = _SOURCES[name]
    built: dict[str, Any] = TypeAdapter(source).json_schema(mode=mode, schema_generator=_Plain)
    if name == "config":
        built = _of_one_file(built)
    if mode == "serialization":
        built = _opened(built)
    return {"$schema": _DRAFT, "$id": f"urn:ftreg:schema:{name}:{version}", **built}


def _of_one_file(built: dict[str, Any]) -> dict[str, Any]:
    """Adapt the schema to a single file, which may extend another or be extended.

    No key is required, and an optimizer is identified by its name if it has one.
    """
    definitions = built["$defs"]
    for name, section in definitions.items():
        if name != ScorerConfig.__name__:  # scorers stand in a list, and lists do not merge
            section.pop("required", None)
    del built["required"]
    optimizer = {
        "description": built["properties"]["optimizer"]["description"],
        "type": "object",
        "properties": {"name": {"enum": list(OPTIMIZERS)}},
        "allOf": [
            {
                "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
                "then": {"$ref": f"#/$defs/{schema_of(name).__name__}"},
            }
            for name in OPTIMIZERS
        ],
    }
    extends = {
        "description": "Another YAML file, relative to this one; keys in this file win.",
        "type": "string",
    }
    properties = {"extends": extends, **built["properties"], "optimizer": optimizer}
    return {**built, "properties": properties}


def _opened(value: Any) -> Any:
    """Allow unknown keys (records gain them without a new version); a path is a string."""
    if isinstance(value, dict):
        return {
            key: _opened(item)
            for key, item in value.items()
            if (key, item) not in (("additionalProperties", False), ("format", "path"))
        }
    return [_opened(item) for item in value] if isinstance(value, list) else value
