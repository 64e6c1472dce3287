"""Write docs/reference/ from the code: every command with its options, every key of the YAML.

python scripts/write_reference.py            write the pages
python scripts/write_reference.py --check    end with 1 if they are not what the code says
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from ftreg.cli.app import app
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import RunConfig
from ftreg.data.card import Card

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
MADE = "<!-- Made by scripts/write_reference.py; edit the code. -->"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


# -- configuration -----------------------------------------------------------------------------


def _kind(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """A JSON Schema in words: the type, its choices, its range."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2].removesuffix("Config").lower()
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(item, defs) for item in schema[key]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{item}`" for item in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        fixed = schema.get("prefixItems")
        inner = ", ".join(_kind(item, defs) for item in fixed) if fixed else None
        return f"list of {inner or _kind(schema.get('items', {}), defs)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"mapping to {_kind(values, defs)}" if isinstance(values, dict) else "mapping"
    name = {"string": "text", "boolean": "true or false"}.get(kind, kind)
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return " ".join([name, ", ".join(bounds)]).strip()


def _default(name: str, model: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    if name in model.get("required", []):
        return "**required**"
    return f"`{json.dumps(defaults[name])}`" if name in defaults else ""


def _keys(prefix: str, model: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    rows = []
    for name, schema in model["properties"].items():
        default = {name: schema["default"]} if "default" in schema else {}
        rows.append(
            [
                f"`{prefix}{name}`",
                _kind(schema, defs),
                _default(name, model, default),
                schema.get("description", ""),
            ]
        )
    return _table(["key", "type", "default", "meaning"], rows)


def configuration() -> str:
    """The page of the YAML's keys."""
    whole = RunConfig.model_json_schema()
    defs = whole["$defs"]
    parts = [
        MADE,
        "# Configuration",
        "Every key, from the code that reads it. A key that does not stand here is refused, with "
        "the nearest that does. `extends: other.yaml` lays a file over another; "
        "`-s section.key=value` lays a value over both.",
    ]
    for section, schema in whole["properties"].items():
        if section == "optimizer":
            parts += ["## optimizer", "`name` chooses which of these it is."]
            for name, ref in schema["discriminator"]["mapping"].items():
                model = defs[ref.rpartition("/")[2]]
                about = model.get("description", "").splitlines()[0]
                parts += [f"### {name}", about, _keys("optimizer.", model, defs)]
            continue
        refs = [schema, *schema.get("anyOf", [])]
        name = next(item["$ref"].rpartition("/")[2] for item in refs if "$ref" in item)
        parts += [
            f"## {section}",
            defs[name]["description"],
            _keys(f"{section}.", defs[name], defs),
        ]
        if section == "eval":
            scorer = defs["ScorerConfig"]
            parts += ["### One of eval.scorers", _keys("", scorer, defs)]
    assert set(GatePolicy.model_fields) == set(defs["GatePolicy"]["properties"])
    parts += [
        "A file for `ftreg gate --policy` has the keys of `gate` at its top.",
        "## The card of a dataset version, dataset.yaml",
        _keys("", Card.model_json_schema(), Card.model_json_schema().get("$defs", {})),
    ]
    return "\n\n".join(parts) + "\n"


# -- command line ------------------------------------------------------------------------------


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for sub, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{name} {sub}")


def _parameter(parameter: Any) -> list[str]:
    is_option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in names) if is_option else f"`{parameter.name.upper()}`"
    default = parameter.default
    if parameter.required:
        text = "**required**"
    elif default is None or default is False or callable(default):
        text = ""
    else:
        text = f"`{default}`"
    return [shown, text, parameter.help or ""]


def command_line() -> str:
    """The page of the commands."""
    parts = [
        MADE,
        "# Command line",
        "`ftreg COMMAND --help` says the same. Exit codes, the same for all: 0 done, or the gate "
        "passed; 1 a regression, training that diverged, or a checkpoint that was not reproduced; "
        "2 wrong configuration, arguments or data; 3 undecided; 70 a fault of ftreg; 130 "
        "interrupted. `ftreg --install-completion` teaches the shell commands, checkpoints, "
        "evaluations and dataset versions.",
    ]
    for name, command in _commands(get_command(app), "ftreg"):
        if name == "ftreg" or getattr(command, "commands", {}):
            continue
        rows = [_parameter(item) for item in command.params if item.name != "help"]
        parts += [f"## {name}", _prose(command.help or "")]
        if rows:
            parts.append(_table(["argument or option", "default", ""], rows))
    return "\n\n".join(parts) + "\n"


def _prose(text: str) -> str:
    """Help as Markdown: its example becomes a block of code."""
    paragraphs = []
    for paragraph in "\n".join(line.strip() for line in text.splitlines()).split("\n\n"):
        example = " ".join(paragraph.split())
        if example.startswith("Example: "):
            paragraphs.append(f"```console\n$ {example.removeprefix('Example: ')}\n```")
        else:
            paragraphs.append(example)
    return "\n\n".join(paragraphs)


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = []
    for name, text in {"configuration.md": configuration(), "cli.md": command_line()}.items():
        path = FOLDER / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"not what the code says: {', '.join(stale)}; run scripts/write_reference.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
