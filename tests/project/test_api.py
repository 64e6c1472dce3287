"""The public API as it stands: what docs/stability.md promises, name by name.

A change that shows here is one that users may notice. Look at the difference, hold it against
docs/stability.md, and take it over with `pytest tests/project/test_api.py --snapshot-update`.
"""

import ast
import dataclasses
import enum
import importlib
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from typer.main import get_command

import ftreg
from ftreg.cli.app import app
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import RunConfig
from ftreg.data.card import Card
from ftreg.errors import ExitCode
from ftreg.jobs.schemas import SCHEMAS

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "ftreg",
    "ftreg.config",
    "ftreg.data",
    "ftreg.gate",
    "ftreg.notebook",
    "ftreg.optim",
    "ftreg.scoring",
)


def _node(item: Any) -> Any:
    """Where something is defined; read from the source, so that every Python says the same."""
    return ast.parse(textwrap.dedent(inspect.getsource(item))).body[0]


def _signature(node: Any) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}"


def _members(item: Any) -> Iterator[str]:
    """The public parts of a class, as it defines them."""
    if issubclass(item, enum.Enum):
        yield from (f"{member.name} = {member.value!r}" for member in item)
        return
    for part in _node(item).body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            name, text = part.target.id, ast.unparse(part)
        elif isinstance(part, ast.FunctionDef):
            words = {"property", "classmethod", "staticmethod"}
            marks = [f"@{ast.unparse(mark)} " for mark in part.decorator_list]
            known = "".join(mark for mark in marks if mark[1:-1] in words)
            name, text = part.name, f"{known}{part.name}{_signature(part)}"
        else:
            continue
        if not name.startswith("_") or name in {"__init__", "__len__", "__getitem__", "__iter__"}:
            yield text


def _described(module: str, name: str) -> Iterator[str]:
    item = getattr(importlib.import_module(module), name)
    if inspect.isclass(item):
        kind = "dataclass" if dataclasses.is_dataclass(item) else "class"
        yield f"{module}.{name}: {kind}({', '.join(base.__name__ for base in item.__bases__)})"
        yield from (f"    {text}" for text in _members(item))
    elif inspect.isfunction(item):
        yield f"{module}.{name}{_signature(_node(item))}"
    elif isinstance(item, str):
        yield f"{module}.{name}: str"
    elif choices := typing.get_args(item):
        yield f"{module}.{name}: one of {', '.join(map(repr, choices))}"
    else:
        yield f"{module}.{name}: {', '.join(map(str, item))}"


def test_names_to_import(snapshot: SnapshotAssertion) -> None:
    lines = [
        line
        for module in PACKAGES
        for name in sorted(importlib.import_module(module).__all__)
        for line in _described(module, name)
    ]
    assert "\n".join(lines) == snapshot


def _commands(command: Any, name: str) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield name
        for item in command.params:
            if item.name == "help":
                continue
            option = item.param_type_name == "option"
            shown = ", ".join([*item.opts, *item.secondary_opts]) if option else item.name.upper()
            many = " ..." if item.multiple or item.nargs == -1 else ""
            default = "required" if item.required else f"default {item.default!r}"
            yield f"    {shown}{many}: {default}"
    for sub in sorted(inner):
        yield from _commands(inner[sub], f"{name} {sub}")


def test_commands_options_and_exit_codes(snapshot: SnapshotAssertion) -> None:
    codes = [f"exit {int(code)}: {code.name}" for code in ExitCode]
    assert "\n".join([*_commands(get_command(app), "ftreg"), *codes]) == snapshot


def _keys(schema: Mapping[str, Any], whole: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a JSON Schema with its default, those of what it refers to included."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from _keys(whole["$defs"][name], whole, prefix)
    for choice in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())):
        yield from _keys(choice, whole, prefix)
    for key, value in schema.get("properties", {}).items():
        place = f"{prefix}.{key}" if prefix else key
        if "const" in value and key == "name":
            prefix = f"{prefix}[{value['const']}]"
            continue
        default = json.dumps(value["default"]) if "default" in value else ""
        needed = "required" if key in schema.get("required", ()) else default
        yield f"{place}: {needed}".strip()
        yield from _keys(value, whole, place)
    if isinstance(schema.get("items"), Mapping):
        yield from _keys(schema["items"], whole, f"{prefix}[]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _keys(schema["additionalProperties"], whole, f"{prefix}.*")


def _listed(schema: Mapping[str, Any]) -> str:
    return "\n".join(dict.fromkeys(_keys(schema, schema)))


@pytest.mark.parametrize("model", [RunConfig, GatePolicy, Card], ids=lambda item: item.__name__)
def test_keys_that_people_write(model: Any, snapshot: SnapshotAssertion) -> None:
    assert _listed(model.model_json_schema()) == snapshot


# What people write is listed above.
CONFIGURATION = re.compile(r"(^|\.|\])(config|policy)\.")
RECORDS = sorted(set(SCHEMAS) - {"config", "policy"})


@pytest.mark.parametrize("name", RECORDS)
def test_keys_of_records(name: str, snapshot: SnapshotAssertion) -> None:
    schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text("utf-8"))
    keys = [line.partition(":")[0] for line in _listed(schema).splitlines()]
    # The configuration within a manifest is listed with what people write.
    shown = [key for key in keys if not CONFIGURATION.search(key)]
    assert "\n".join([schema["$id"], *shown]) == snapshot


def test_variables_of_the_environment(snapshot: SnapshotAssertion) -> None:
    found = {
        name
        for path in (ROOT / "ftreg").rglob("*.py")
        for name in re.findall(r"\bFTREG_[A-Z_]+\b", path.read_text("utf-8"))
    }
    assert "\n".join(sorted(found)) == snapshot


def test_the_page_names_what_is_listed_here() -> None:
    page = (ROOT / "docs" / "stability.md").read_text("utf-8")
    for module in PACKAGES:
        assert f"`{module}`" in page
    for code in ExitCode:
        assert re.search(rf"\| {int(code)} \|", page), code
    for name in ("FTREG_CACHE", "FTREG_WORKSPACE", "FTREG_CACHE_LIMITS"):
        assert f"`{name}`" in page
    assert ftreg.__version__ in page
