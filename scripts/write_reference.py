"""Write docs/reference/ from the code: each command's options, each key of the YAML, each record.

python scripts/write_reference.py            write the pages
python scripts/write_reference.py --check    exit with 1 if they are not what the code says
"""

import argparse
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from ftreg.cli.app import app
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import RunConfig
from ftreg.data.card import Card
from ftreg.jobs.schemas import PRINTED, SCHEMAS
from ftreg.jobs.schemas import schema as schema_of
from ftreg.training.events import StepRecord

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
MADE = "<!-- Made by scripts/write_reference.py; edit the code. -->"

NOT_RUN = {
    "ftreg data build": "fetches wheels; `make setup` runs it",
    "ftreg export": "needs a tokenizer with merges; the page Gate what you deploy runs it",
    "ftreg parity": "needs a tokenizer with merges; the page Gate what you deploy runs it",
}
"""Examples of `--help` that the documentation tests do not run, and why."""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


# -- configuration -----------------------------------------------------------------------------


def _kind(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Describe a JSON Schema in words: the type, its choices, its range."""
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
    """Return the page about the keys of the YAML."""
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
            parts += [
                "### eval.engine",
                "A name alone means `{name: ...}`.",
                _keys("eval.engine.", defs["EngineConfig"], defs),
                "### One of eval.scorers",
                "A name alone means `{name: ...}`. The options of each scorer stand on "
                "[its page](../scorers.md).",
                _keys("", defs["ScorerConfig"], defs),
            ]
    assert set(GatePolicy.model_fields) == set(defs["GatePolicy"]["properties"])
    card = Card.model_json_schema()
    parts += [
        "A file for `ftreg gate --policy` has the keys of `gate` at its top.",
        "## The card of a dataset version, dataset.yaml",
        _keys("", card, card["$defs"]),
        "### prompt",
        card["$defs"]["Prompt"]["description"],
        _keys("prompt.", card["$defs"]["Prompt"], card["$defs"]),
        "### One of splits",
        _keys("", card["$defs"]["SplitCard"], card["$defs"]),
    ]
    return "\n\n".join(parts) + "\n"


# -- file formats ------------------------------------------------------------------------------

# In the order in which a run writes them. Files that users write have another page.
_WRITTEN_ELSEWHERE = {"config": "a run's YAML", "policy": "the YAML of `ftreg gate --policy`"}
_FILES = {
    "checkpoint": "`checkpoints/NAME/ftreg.json`",
    "evaluation": "`evaluations/ID/evaluation.json`",
    "output": "`evaluations/ID/outputs.jsonl`, a line per example (and seed)",
    "score": "`evaluations/ID/scores.jsonl`, a line per example and scorer (and seed)",
    "gate": "`evaluations/ID/gate.json`",
    "baseline": "`baselines/DATASET.json`",
    "artefact": "`ARTEFACT.ftreg.json`, or `ftreg-export.json` in a merged folder",
    "look": "`baselines/DATASET.looks/*.json`, a file per candidate that was judged",
    "attestation": "the file of `ftreg gate --attest`; signed, in a DSSE envelope",
    "routes": "the file of `ftreg compare --routes`, YAML",
}
# Configuration sections that a manifest repeats; the configuration page has their keys.
_CONFIGURATION = re.compile(r".*Config|GatePolicy")


Links = Mapping[str, str]
"""A record's name to the link to its description."""


def _record_keys(model: Mapping[str, Any], defs: Mapping[str, Any], links: Links) -> str:
    required = model.get("required", [])
    rows = [
        [
            f"`{name}`",
            _linked(schema, defs, links),
            "" if name in required else "may be missing",
            schema.get("description", ""),
        ]
        for name, schema in model["properties"].items()
    ]
    return _table(["key", "type", "", "meaning"], rows)


def _linked(schema: Mapping[str, Any], defs: Mapping[str, Any], links: Links) -> str:
    """Describe the type of a key; a record is a link to its description."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if _CONFIGURATION.fullmatch(name):
            return "[configuration](configuration.md)"
        if "properties" not in defs[name]:
            return _kind(defs[name], defs)
        return f"[{name}]({links.get(name, f'#{name.lower()}')})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_linked(item, defs, links) for item in schema["anyOf"]))
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_linked(schema['items'], defs, links)}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {_linked(schema['additionalProperties'], defs, links)}"
    return _kind(schema, defs)


def _sections(places: Mapping[str, str], links: Links) -> tuple[list[str], Links]:
    """Describe schemas and the records within them, each once.

    Args:
        places: schema name to the place of its records.
        links: records that another page describes.

    Returns:
        The Markdown parts, and links to the described records.
    """
    whole = {name: schema_of(name) for name in places}
    found = {built["title"]: f"#schema-{name}" for name, built in whole.items()}
    parts = []
    for name, built in whole.items():
        defs = built.get("$defs", {})
        parts += [
            f"## Schema {name}",
            f"{places[name][0].upper()}{places[name][1:]}. "
            f"Version {built['$id'].rpartition(':')[2]}.",
            _record_keys(built, defs, {**links, **found}),
        ]
        for key, model in defs.items():
            known = key in found or key in links or _CONFIGURATION.fullmatch(key)
            if known or "properties" not in model:
                continue
            found[key] = f"#{key.lower()}"
            about = model.get("description", "")
            parts += [
                f"### {key}",
                *([about] if about else []),
                _record_keys(model, defs, {**links, **found}),
            ]
    return parts, found


# Keys of rows without a schema: key, type, whether it may be missing, meaning.
_ROW_KEYS = [
    ["`id`", "text", "", "Told apart by it; no two rows of a split share one."],
    ["`input`", "text", "", "What is asked."],
    [
        "`reference`",
        "text or list of text",
        "may be missing",
        "The accepted answer, or several; the first is trained on.",
    ],
    ["`context`", "text", "may be missing", "What an answer has to agree with."],
    ["`tags`", "mapping to text", "may be missing", "Name to value; the card names cohorts."],
    ["`critical`", "true or false", "may be missing", "No candidate may do worse on it."],
]


def file_formats() -> str:
    """Return the page about file formats: records with a schema, and two kinds of rows."""
    sections, _ = _sections(_FILES, {})
    parts = [
        MADE,
        "# File formats",
        "Every record is JSON, JSONL (a JSON object a line) or YAML in UTF-8, and appears whole or "
        "not at all. `schema_version` goes up when the meaning of a key does; keys may be added "
        "within one, so a reader should pass over what it does not know. Records of older versions "
        "are read. Scores lie in [0, 1], or are null with a reason; numbers that are not finite do "
        'not occur, but in a history, which has them by name (`"nan"`).',
        "`ftreg schema NAME` prints the JSON Schema (draft 2020-12) that a table below is made "
        "from; `docs/schemas/` has them all. What commands print has [a page of its "
        "own](printed.md). Weights and tokenizer are Hugging Face's files: "
        "safetensors, or a PEFT adapter's folder.",
        _table(
            ["schema", "describes"],
            [
                *([f"[`{name}`](#schema-{name})", place] for name, place in _FILES.items()),
                *(
                    [f"`{name}`", f"{place}: [Configuration](configuration.md)"]
                    for name, place in _WRITTEN_ELSEWHERE.items()
                ),
            ],
        ),
        *_rows_of_data(),
        *sections,
        "## Rows of a dataset",
        "A line of a split. The card beside it, `dataset.yaml`, is described in "
        "[Configuration](configuration.md#the-card-of-a-dataset-version-datasetyaml).",
        _table(["key", "type", "", "meaning"], _ROW_KEYS),
        *_history(),
    ]
    return "\n\n".join(parts) + "\n"


def _rows_of_data() -> list[str]:
    rows = [
        ["`sample_datasets/NAME/vN/SPLIT.jsonl`", "[an example](#rows-of-a-dataset)"],
        ["`checkpoints/NAME/history.jsonl`", "[an optimizer step](#history)"],
    ]
    return ["Two more are rows of data:", _table(["file", "a line"], rows)]


def _history() -> list[str]:
    about = " ".join((inspect.getdoc(StepRecord) or "").split("\n\n")[1].split())
    types = {"int": "integer", "float": "number", "float | None": "number or null"}
    rows = [
        [f"`{field.name}`", types[getattr(field.type, "__name__", str(field.type))]]
        for field in dataclasses.fields(StepRecord)
    ]
    return [
        "## History",
        f"A line per optimizer step. {about}",
        _table(["key", "type"], rows),
    ]


# -- printed JSON ------------------------------------------------------------------------------

# Commands that print JSON without `--json`.
_ALWAYS = {"checkpoints show"}


def _asked(command: str) -> str:
    return f"`ftreg {command}`" if command in _ALWAYS else f"`ftreg {command} --json`"


def _place_of(name: str) -> str:
    """Return the link from a reference page to the description of a schema."""
    return f"files.md#schema-{name}" if name in _FILES else f"printed.md#schema-{name}"


def _schemas_of(command: str) -> str:
    """Return links to the schemas of a command's output, each with when it applies."""
    return ", ".join(
        f"[`{name}`]({_place_of(name)}) {when}".strip() for name, when in PRINTED[command].items()
    )


def printed() -> str:
    """Return the page about the output of `--json`."""
    places: dict[str, list[str]] = {}
    for command, names in PRINTED.items():
        for name, when in names.items():
            if name not in _FILES:
                places.setdefault(name, []).append(f"{_asked(command)} {when}".strip())
    assert set(SCHEMAS) == {*_FILES, *_WRITTEN_ELSEWHERE, *places}
    _, files = _sections(_FILES, {})
    sections, _ = _sections(
        {name: f"printed by {', '.join(by)}" for name, by in places.items()},
        {name: f"files.md{link}" for name, link in files.items()},
    )
    parts = [
        MADE,
        "# Printed JSON",
        "With `--json` a command prints one JSON object to stdout and nothing else there; "
        "progress, notes and messages go to stderr. Each object carries `schema_version`, "
        "which goes up when the meaning of a key does; keys may be added within one, so a reader "
        "should pass over what it does not know.",
        "What stdout holds when a command does not end with 0:",
        _table(
            ["", "stdout", "stderr"],
            [
                [
                    "It did its work, and what it found is the reason: a verdict (1, 3), what was "
                    "not reproduced (1, 3), a scorer that is not to be trusted (`agree`, 3), "
                    "damaged data (`data verify`, 2), a machine with a "
                    "problem (`doctor`, 2), a series with a training that failed (`train` of "
                    "several, 1 or 2)",
                    "the object, as with 0",
                    "the reasons, where they are an error",
                ],
                [
                    "`ftreg eval` evaluated, and there is no verdict: no baseline, nothing that it "
                    "can be compared with (3), or a file of the gate that is wrong (2)",
                    "[`evaluated`](#schema-evaluated), with the exit code and the reasons",
                    "the message",
                ],
                [
                    "Anything else: wrong arguments, files or data (2), training that diverged "
                    "(1), nothing to compare (3), a fault of ftreg (70), an interruption (130)",
                    "nothing",
                    "the message",
                ],
            ],
        ),
        "`ftreg schema NAME` prints the JSON Schema (draft 2020-12) that a table below is made "
        "from; `docs/schemas/` has them all.",
        _table(
            ["command", "schema"],
            [[_asked(command), _schemas_of(command)] for command in PRINTED],
        ),
        *sections,
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
    """Return the page about the commands."""
    parts = [
        MADE,
        "# Command line",
        "`ftreg COMMAND --help` says the same. Exit codes, the same for all: 0 done, or the gate "
        "passed; 1 a regression, training that diverged, or a checkpoint that was not reproduced; "
        "2 wrong configuration, arguments or data; 3 undecided, or not to be trusted; 70 a fault "
        "of ftreg; 130 interrupted. `ftreg --install-completion` teaches the shell commands, "
        "checkpoints, evaluations and dataset versions.",
    ]
    for name, command in _commands(get_command(app), "ftreg"):
        if name == "ftreg" or getattr(command, "commands", {}):
            continue
        rows = [_parameter(item) for item in command.params if item.name != "help"]
        parts += [f"## {name}", _prose(command.help or "", NOT_RUN.get(name))]
        if rows:
            parts.append(_table(["argument or option", "default", ""], rows))
        asked = name.removeprefix("ftreg ")
        if asked in PRINTED:
            start = "It prints" if asked in _ALWAYS else "With `--json` it prints"
            parts.append(f"{start} {_schemas_of(asked)}.")
    return "\n\n".join(parts) + "\n"


def _prose(text: str, not_run: str | None) -> str:
    """Convert help text to Markdown: its example becomes a code block."""
    title = f' title="Not run by the tests: {not_run}"' if not_run else ""
    paragraphs = []
    for paragraph in "\n".join(line.strip() for line in text.splitlines()).split("\n\n"):
        example = " ".join(paragraph.split())
        if example.startswith("Example: "):
            paragraphs.append(f"```console{title}\n$ {example.removeprefix('Example: ')}\n```")
        else:
            paragraphs.append(example)
    return "\n\n".join(paragraphs)


def main() -> int:
    """Write or check the pages; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = []
    pages = {
        "configuration.md": configuration(),
        "cli.md": command_line(),
        "files.md": file_formats(),
        "printed.md": printed(),
    }
    for name, text in pages.items():
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
