"""Options that several commands share, and how a result is printed."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftreg.cli.shared import completion
from ftreg.config.custom_code import VARIABLE
from ftreg.records.printed import json_object
from ftreg.report.characters import inert_json, visible

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ftreg.config.policy import GatePolicy
    from ftreg.records.printed import Printed

    Shown = Mapping[str, Any] | BaseModel | Printed

EvaluationRef = Annotated[
    str, typer.Argument(help="The evaluation, or latest.", autocompletion=completion.evaluations)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a setting: -s optimizer.lr=1e-5."
    ),
]
Policy = Annotated[
    Path | None,
    typer.Option(help="YAML with the gate policy; default: the evaluation's."),
]
JUnit = Annotated[Path | None, typer.Option("--junit", help="Also write the verdict as JUnit XML.")]
Comment = Annotated[
    Path | None,
    typer.Option(
        "--markdown", help="Also write the report as Markdown, for a pull request comment."
    ),
]
NoCustomCode = Annotated[
    bool,
    typer.Option(
        "--no-custom-code",
        envvar=VARIABLE,
        help="Refuse scorers, optimizers, metrics and model code not shipped with ftreg.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", envvar="FTREG_DEBUG", help="Show the traceback of a custom scorer's error."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; notes are still shown.")]
DatasetRoot = Annotated[Path, typer.Option(help="Folder of datasets.")]
DATASET_ROOT = Path("sample_datasets")
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def given_policy(path: Path | None) -> "GatePolicy | None":
    """Read a file with the gate's settings, if one is given."""
    if path is None:  # the reader imports the models of the complete configuration
        return None
    from ftreg.config.load import read_policy

    return read_policy(path)


def say(text: str) -> None:
    """Print lines of text, with control characters from data escaped."""
    typer.echo(visible(text))


def show(as_json: bool, *, value: "Shown", text: Any) -> None:
    """Print a result: `value` as JSON, or `text` (plain, or anything that rich renders)."""
    if as_json:
        show_json(value)
    else:
        draw(text)


def draw(text: Any) -> None:
    """Print plain text, or anything that rich renders."""
    if isinstance(text, str):
        say(text)
    else:
        from ftreg.report.terminal import console

        console().print(text)


def show_json(value: "Shown") -> None:
    """Print JSON; the value may be or contain dataclasses, pydantic models and paths."""
    typer.echo(inert_json(json.dumps(value, ensure_ascii=False, indent=2, default=_plain)))


def _plain(record: Any) -> Any:
    if isinstance(record, Path):
        return str(record)
    if dataclasses.is_dataclass(record):
        return json_object(record)
    return record.model_dump(mode="json", by_alias=True)
