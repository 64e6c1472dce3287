"""Read a configuration: `extends`, overrides, validation, and errors that name file and line."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ftreg.config.code_named import refuse_code_named
from ftreg.config.evaluating import EVALUATION_SECTIONS, EvaluationConfig
from ftreg.config.optimizer import OPTIMIZERS, schema_of
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import RunConfig
from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files import marked_yaml
from ftreg.files.marked_yaml import Document, KeyPath, Marks

Model = TypeVar("Model", bound=BaseModel)

# Names of our keys in other tools, which users type by habit.
_KNOWN_AS = {
    "learning_rate": "lr",
    "optim": "optimizer",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "warmup_ratio": "warmup",
    "lr_scheduler_type": "name",
    "lora_alpha": "alpha",
    "use_rslora": "rslora",
    "use_dora": "dora",
    "activation_checkpointing": "gradient_checkpointing",
    "max_seq_length": "max_length",
    "betas1": "betas",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "gradient_clipping": "max_grad_norm",
    "output_dir": "output",
}
EXTENDS_ANYWHERE = "FTREG_EXTENDS_ANYWHERE"
"""The variable that lets `extends` name files outside the project."""
_EVALUATED = EvaluationConfig.model_fields
_MOST_FINDINGS = 20
_LONGEST_CHAIN = 16
"""Files that extend each other."""
_DEEPEST = 32
"""Parts of an override's key."""
# Alternatives for the same setting: the upper file's key replaces both.
_SEEDS = {"seed", "seeds"}


def load_config(path: Path, *, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a run's configuration from YAML.

    Args:
        path: the file; `extends: other.yaml` in it is read first, relative to the file.
        overrides: `"section.key=value"` texts, the value in YAML; they override the files.

    Raises:
        UsageError: all mistakes, one per line, with file, line, key and the nearest valid key; or
            forbidden code (`ftreg.config.custom_code`).
    """
    return _run_config(_read_with_parents(path, ()), overrides, where=path)


def build_config(values: Mapping[str, Any], *, overrides: Iterable[str] = ()) -> RunConfig:
    """Validate a run's configuration given as a mapping of sections to settings.

    Raises:
        UsageError: as `load_config`.
    """
    return _run_config(Document(dict(values), {}), overrides, where=Path("configuration"))


def _run_config(document: Document, overrides: Iterable[str], *, where: Path) -> RunConfig:
    for override in overrides:
        document = _merge(document, _parse_override(override))
    config = validate(RunConfig, document, where=str(where))
    refuse_code_named(config, marks=document.marks, where=where)
    return config


def evaluation_config(
    sections: Mapping[str, Any],
    *,
    file: Path | None = None,
    overrides: Iterable[str],
    manifest: Path | None = None,
) -> EvaluationConfig:
    """Return the evaluation's configuration: recorded sections, then a file, then overrides.

    Args:
        sections: section to its settings, as configured for the checkpoint.
        file: a configuration; only its sections `dataset`, `eval` and `gate` are used.
        overrides: as in `load_config`.
        manifest: the file that recorded `sections`, for messages.

    Raises:
        UsageError: as `load_config`.
    """
    document = Document({key: sections[key] for key in sections if key in _EVALUATED}, {})
    if file is not None:
        document = _merge(document, _sections_to_evaluate(file))
    for override in overrides:
        document = _merge(document, _parse_override(override))
    changed = validate(EvaluationConfig, document, where=str(file or "configuration"))
    refuse_code_named(
        changed,
        marks=document.marks,
        where=manifest or Path("configuration"),
        recorded=manifest is not None,
        sections=("base", "eval"),
    )
    return changed


def _sections_to_evaluate(file: Path) -> Document:
    """Return the sections of a configuration file that an evaluation reads."""
    document = _read_with_parents(file, ())
    for key in document.data:
        if key not in RunConfig.model_fields:
            raise UsageError(
                f"{document.marks.get((key,), file)}: {shown(key)} is not a section of a "
                f"configuration{did_you_mean(str(key), RunConfig.model_fields)}"
            )
    return Document(
        {key: value for key, value in document.data.items() if key in EVALUATION_SECTIONS},
        {path: mark for path, mark in document.marks.items() if path[0] in EVALUATION_SECTIONS},
    )


def read_policy(path: Path) -> GatePolicy:
    """Read a file with the gate's settings.

    Raises:
        UsageError: one line per mistake, with file, line and key.
    """
    return validate(GatePolicy, marked_yaml.read(path), where=str(path))


def _read_with_parents(path: Path, seen: tuple[Path, ...]) -> Document:
    absolute = Path(os.path.abspath(path))
    if len(seen) == _LONGEST_CHAIN:
        raise UsageError(f"{path}: extends chains more than {_LONGEST_CHAIN} files")
    if absolute in seen:
        chain = " -> ".join(item.name for item in (*seen, absolute))
        raise UsageError(f"{path}: extends forms a cycle: {chain}")
    document = marked_yaml.read(path)
    parent = document.data.pop("extends", None)
    if parent is None:
        return document
    place = document.marks.pop(("extends",))
    if not isinstance(parent, str):
        raise UsageError(f"{place}: extends names one file, found {shown(parent)}")
    parent_path = path.parent / parent
    if not os.path.isfile(parent_path):
        raise UsageError(f"{place}: extends names {shown(parent)}, which does not exist")
    _refuse_outside(parent_path, first=(*seen, absolute)[0], place=place)
    return _merge(_read_with_parents(parent_path, (*seen, absolute)), document)


def _refuse_outside(parent: Path, *, first: Path, place: str) -> None:
    """Restrict `extends` to the project: errors quote file contents, and a log may be public."""
    if os.environ.get(EXTENDS_ANYWHERE):
        return
    real = Path(os.path.realpath(parent))
    checkout = next((up for up in first.parents if (up / ".git").exists()), first.parent)
    project = (Path(os.path.realpath(root)) for root in (Path.cwd(), checkout))
    if not any(real.is_relative_to(root) for root in project):
        raise UsageError(
            f"{place}: extends names a file outside the working folder and the checkout that "
            f"contains {first.name}; copy it there, or set {EXTENDS_ANYWHERE}=1 if you trust the "
            "configuration"
        )


def _parse_override(text: str) -> Document:
    key, equals, value = text.partition("=")
    parts = tuple(key.strip().split("."))
    sound = key.isprintable() and "\n" not in value and len(parts) <= _DEEPEST
    if not (equals and all(parts) and sound):
        raise UsageError(f"-s {shown(text)}: write an override as section.key=value")
    place = f"-s {key.strip()}"
    try:
        (data,) = marked_yaml.parse(f"value: {value}", Path(place)).data.values()
    except (UsageError, ValueError) as error:
        reason = str(error).removeprefix(f"{place}:1: ").removeprefix("not valid YAML: ")
        raise UsageError(
            f"{place}: the value is not valid YAML: {shown(value)} ({reason})"
        ) from error
    marks: Marks = {}
    for depth in range(len(parts), 0, -1):
        marks[parts[:depth]] = place
        data = {parts[depth - 1]: data}
    return Document(data, marks)


def _merge(below: Document, above: Document) -> Document:
    """Merge `above` over `below`: mappings merge key by key, everything else is replaced.

    An optimizer section that names a different optimizer replaces the one below completely: AdamW's
    lr and betas must not reach Lion through `extends`. `train.seeds` replaces a `train.seed` below,
    and vice versa.
    """
    marks = {**below.marks}

    def lay(low: Any, high: Any, path: KeyPath) -> Any:
        if isinstance(low, Mapping) and isinstance(high, Mapping):
            other_optimizer = path == ("optimizer",) and high.get(
                "name", low.get("name")
            ) != low.get("name")
            if path == ("train",) and _SEEDS & high.keys():
                low = {key: value for key, value in low.items() if key not in _SEEDS}
            if not other_optimizer:
                keys = [*low, *(key for key in high if key not in low)]
                return {
                    key: lay(low[key], high[key], (*path, str(key)))
                    if key in low and key in high
                    else (high[key] if key in high else low[key])
                    for key in keys
                }
        for old in [old for old in marks if old[: len(path)] == path]:
            del marks[old]
        return high

    data = lay(below.data, above.data, ())
    return Document(data, {**marks, **above.marks})


def validate(model: type[Model], document: Document, *, where: str) -> Model:
    """Validate a document, translating pydantic's findings into lines for the user.

    Raises:
        UsageError: one line per mistake.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        found = [
            _explain(model, dict(detail), document=document, where=where)
            for detail in error.errors(include_url=False)
        ]
        lines = list(dict.fromkeys(found))
        rest = len(lines) - _MOST_FINDINGS
        more = [f"{where}: and {rest} more"] if rest > 0 else []
        raise UsageError("\n".join([*lines[:_MOST_FINDINGS], *more])) from error
    except UsageError as error:  # of a section that says itself where it stands: "eval.engine: ..."
        path = tuple(str(error).partition(":")[0].split("."))
        place = document.marks.get(path)
        raise UsageError(f"{place}: {error}" if place else str(error)) from None


def _explain(
    model: type[BaseModel], detail: dict[str, Any], *, document: Document, where: str
) -> str:
    path = _without_union_tags(detail["loc"], document.data)
    kind = detail["type"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        path = (*path, "name")
    place = next(
        (
            document.marks[path[:depth]]
            for depth in range(len(path), 0, -1)
            if path[:depth] in document.marks
        ),
        where,
    )
    key = ".".join(str(part) for part in path)
    siblings = _keys_at(model, path[:-1], document.data)
    if kind == "extra_forbidden":
        owner = _owner(path[:-1], document.data)
        near = _nearest(str(path[-1]), siblings)
        hint = f"; did you mean {'.'.join([*map(str, path[:-1]), near])}?" if near else ""
        key = marked_yaml.named_key(key)
        return f"{place}: {key} is not a setting of {owner}{hint} (settings: {', '.join(siblings)})"
    if kind == "missing":
        return f"{place}: {key} is missing; it has no default"
    if kind == "union_tag_not_found":
        return f"{place}: {key} is missing; choose one of {', '.join(OPTIMIZERS)}"
    if kind == "union_tag_invalid":
        tag = detail["ctx"]["tag"]
        hint = did_you_mean(str(tag), OPTIMIZERS)
        return f"{place}: {tag!r} is not an optimizer{hint} (known: {', '.join(OPTIMIZERS)})"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not path:
        return f"{place}: {message}"
    return f"{place}: {key}: {message}, found {shown(detail['input'])}"


def _nearest(name: str, known: list[str]) -> str | None:
    aliases = {alias: key for alias, key in _KNOWN_AS.items() if key in known}
    hint = did_you_mean(name.lower(), [*known, *aliases])
    found = hint.removeprefix("; did you mean ").removesuffix("?")
    return aliases.get(found, found) or None


def _without_union_tags(loc: tuple[str | int, ...], data: Any) -> KeyPath:
    """Remove the parts of pydantic's location that name a union's branch, not a key."""
    if len(loc) > 1 and loc[0] == "optimizer":
        section = data.get("optimizer")
        if isinstance(section, Mapping) and loc[1] == section.get("name"):
            return (loc[0], *loc[2:])
    return loc


def _owner(path: KeyPath, data: Any) -> str:
    if path == ("optimizer",):
        return str(data["optimizer"].get("name"))
    return ".".join(map(str, path)) or "the configuration"


def _keys_at(model: type[BaseModel], path: KeyPath, data: Mapping[str, Any]) -> list[str]:
    """Return the valid keys of the section at `path`."""
    current: type[BaseModel] | None = model
    for part in path:
        if part == "optimizer":
            current = schema_of(str(data.get("optimizer", {}).get("name")))
        elif isinstance(part, str) and current is not None:
            field = current.model_fields.get(part)
            current = _model_within(field.annotation) if field else None
    return list(current.model_fields) if current else []


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """Return the section in an annotation such as `LoraConfig | None` or `list[ScorerConfig]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_within, getattr(annotation, "__args__", ()))), None)
