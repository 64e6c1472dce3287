"""The evaluations of a folder in chronological order, without reading each of them again.

A listing needs a few facts about each, which are cached while the files are unchanged: listing ten
thousand evaluations costs little more than listing a hundred.
"""

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftreg.errors import UsageError
from ftreg.files.cache.untouched import remembered
from ftreg.files.store import damaged, read_json
from ftreg.records.evaluation.header import check_header
from ftreg.records.evaluation.stored import EVALUATION_SCHEMA, read_gate
from ftreg.records.layout import GATE, HEADER

_HEADER_FACTS = ("id", "dataset", "summary", "sequence", "rescored_from")
_CHECKPOINT_FACTS = ("name", "identity", "optimizer", "lr", "seeds", "base")
_FORM = "2"
"""Part of the cache key: increase it with any change to the cached facts."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An evaluation in a folder.

    `header` has some keys of `evaluation.json`; if that file is damaged, `header` is None and
    `problem` describes the damage. `outcome` and `held_against` are from its last gate, if any.
    """

    folder: Path
    created: str
    header: Mapping[str, Any] | None
    problem: str = ""
    outcome: str | None = None
    held_against: str | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """The header, empty if it is damaged."""
        return self.header or {}


def list_evaluations(root: Path) -> list[Path]:
    """Return the evaluation folders below `root`, oldest first.

    A damaged one is sorted by the modification time of its file: it matters only if it is the
    newest, and is then refused when read.
    """
    found = _all_facts(root)
    return [root / name for name in sorted(found, key=lambda name: _age(root, name, found))]


def listed_evaluations(root: Path) -> list[Listed]:
    """Return the evaluations below `root`, oldest first, with their last verdicts."""
    found = _all_facts(root)
    gates = remembered(root, (f"{name}/{GATE}" for name in found), _verdict, what=f"gate {_FORM}")
    return [
        Listed(
            folder=root / name,
            created=_age(root, name, found)[0],
            header=found[name]["header"],
            problem=found[name]["problem"],
            **gates.get(f"{name}/{GATE}", {}),
        )
        for name in sorted(found, key=lambda name: _age(root, name, found))
    ]


def known_moments(root: Path) -> list[tuple[str | None, str]]:
    """Return the creation time recorded in each evaluation below `root`, and its folder's name.

    The time of a damaged one is None.
    """
    return [(facts["created"], name) for name, facts in _all_facts(root).items()]


def _all_facts(root: Path) -> dict[str, dict[str, Any]]:
    """Return the known facts about each evaluation, by the name of its folder."""
    try:
        names = [name for name in os.listdir(root) if not name.startswith(".")]
    except OSError:
        return {}
    headers = (f"{name}/{HEADER}" for name in names)
    found = remembered(root, headers, _facts, what=f"evaluation {_FORM}")
    return {name.partition("/")[0]: facts for name, facts in found.items()}


def _age(root: Path, name: str, found: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    return found[name]["created"] or _changed(root / name / HEADER), name


def _facts(path: Path) -> dict[str, Any]:
    try:
        header = read_json(path, kind="evaluation", schema=EVALUATION_SCHEMA)
    except UsageError as error:
        return {"created": None, "header": None, "problem": str(error)}
    created = str(header.get("created"))
    try:
        with damaged(path, kind="evaluation"):
            check_header(header)
    except UsageError as error:
        return {"created": created, "header": None, "problem": str(error)}
    checkpoint = header["checkpoint"]
    facts = {key: header[key] for key in _HEADER_FACTS if key in header}
    facts["checkpoint"] = {key: checkpoint[key] for key in _CHECKPOINT_FACTS if key in checkpoint}
    facts["checkpoint"]["recipe"] = {
        key: value for key, value in checkpoint["recipe"].items() if key == "lora.r"
    }
    facts["versions"] = {name: it.get("version") for name, it in header["scorers"].items()}
    return {"created": created, "header": facts, "problem": ""}


def _verdict(path: Path) -> dict[str, Any]:
    try:
        record = read_gate(path.parent)
        with damaged(path, kind="gate record"):
            return {
                "outcome": str(record["verdict"]["outcome"]),
                "held_against": str(record["baseline"]),
            }
    except UsageError:
        return {}


def _changed(path: Path) -> str:
    try:
        changed = path.stat().st_mtime
    except OSError:  # it has been deleted since
        changed = 0.0
    moment = datetime.datetime.fromtimestamp(changed, datetime.UTC)
    return moment.isoformat(timespec="milliseconds")
