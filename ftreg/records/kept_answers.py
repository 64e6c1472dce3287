"""Findings about an evaluation, stored in its folder: `slices.json` and `blame.json`.

Reports read them. They apply only to the scores whose digest they carry.
"""

from collections.abc import Mapping
from typing import Any

import ftreg
from ftreg.files.store import digest, read_json, write_record
from ftreg.records.evaluation.stored import Evaluation

SLICES = "slices.json"
BLAME = "blame.json"
_SCHEMA = 1


def keep_answer(evaluation: Evaluation, file: str, answer: Mapping[str, Any]) -> None:
    """Write an answer about an evaluation into its folder, replacing an older one.

    Raises:
        UsageError: it cannot be written.
    """
    about = {
        "schema_version": _SCHEMA,
        "ftreg": ftreg.__version__,
        "evaluation": evaluation.id,
        "scores": digest(evaluation.scores),
    }
    write_record(evaluation.folder / file, {**about, **answer}, create_folder=False)


def kept_answer(evaluation: Evaluation, file: str) -> Mapping[str, Any] | None:
    """Read an answer; None if there is none, or if it is about other scores.

    Raises:
        UsageError: the record is damaged, or of a newer schema.
    """
    path = evaluation.folder / file
    if not path.is_file():
        return None
    record = read_json(path, kind="answer about an evaluation", schema=_SCHEMA)
    return record if record.get("scores") == digest(evaluation.scores) else None
