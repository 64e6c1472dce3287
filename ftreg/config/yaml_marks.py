"""Read YAML together with the line on which each key stands, so that an error can name it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ftreg.errors import UsageError

KeyPath = tuple[str | int, ...]
Marks = dict[KeyPath, str]
"""Key path to place: `"configs/lion.yaml:12"`, or `"-s optimizer.lr"`."""


@dataclass(frozen=True, slots=True)
class Document:
    """The data of one YAML file, and where each of its keys stands."""

    data: dict[str, Any]
    marks: Marks


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: `1e-5` is a number (1.1 makes it text), `no` is text."""


# PyYAML keeps its rules per first character; ours replace 1.1's for booleans, ints and floats.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag == "tag:yaml.org,2002:null"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RULES = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
)
for _kind, _rule, _first in _RULES:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_rule})$"), list(_first)
    )


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(
        loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan")
    )


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # 010 is ten, not eight


_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def _walk(node: yaml.Node, path: KeyPath, *, file: Path, marks: Marks) -> None:
    """Record the line of every key below `node`.

    Raises:
        UsageError: a key is given twice (YAML readers silently keep the last).
    """
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                raise UsageError(
                    f"{file}:{line}: the key {name} stands here for the second time "
                    f"(first on line {seen[name]})"
                )
            seen[name] = line
            marks[(*path, name)] = f"{file}:{line}"
            _walk(value, (*path, name), file=file, marks=marks)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            marks[(*path, index)] = f"{file}:{item.start_mark.line + 1}"
            _walk(item, (*path, index), file=file, marks=marks)


def parse(text: str, file: Path) -> Document:
    """Parse YAML text whose top level is a mapping.

    Raises:
        UsageError: not YAML, not a mapping, or a key that stands twice; names the line.
    """
    marks: Marks = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), file=file, marks=marks)
        data = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{file}:{line}: not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UsageError(f"{file}: not valid YAML: nested too deeply, or in a circle") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{file}:1: expected keys and values, found a {type(data).__name__}")
    return Document(data, marks)


def read(file: Path) -> Document:
    """Parse a YAML file.

    Raises:
        UsageError: missing, unreadable or not UTF-8; or as `parse`.
    """
    try:
        return parse(file.read_text(encoding="utf-8"), file)
    except FileNotFoundError as error:
        raise UsageError(f"{file}: no such file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: invalid UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error


def dump(data: Mapping[str, Any]) -> str:
    """Write YAML that `parse` reads back to equal data, in the given key order."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes text by the rules of `_Loader`, so that the text "1e-5" does not become a number."""


_Dumper.yaml_implicit_resolvers = {
    first: [*_Loader.yaml_implicit_resolvers.get(first, []), *rules]
    for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


def _represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


_Dumper.add_representer(float, _represent_float)
