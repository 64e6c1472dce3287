"""The ledger of looks: the candidates judged on the rows of a dataset version.

`baselines/<dataset>.looks/` is next to the baseline in git and has one small file per look, so that
branches merge without conflicts. The contents of a file depend only on what was judged, and its
name on the contents: judging the same scores again, here or on another branch, writes the same
file.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from ftreg.files.cache.untouched import remembered
from ftreg.files.checking import check_record, documented
from ftreg.files.store import damaged, digest, read_json, write_record
from ftreg.records.evaluation.stored import Evaluation

LOOK_SCHEMA = 1
_NAME_LENGTH = 20


@documented
class Look(TypedDict):
    """One look: a candidate judged on the rows of a dataset version, whatever the verdict."""

    schema_version: int
    dataset: str
    """`name@N`."""
    dataset_digest: str
    """Of the dataset version."""
    split: str
    candidate: str
    """Id of the judged evaluation."""
    created: str
    """When the evaluation was made, ISO 8601 in UTC."""
    scores: str
    """Digest of its scores: equal scores are the same candidate."""
    baseline: str | None
    """Id of the evaluation that it was compared with; null if there was none yet."""


_LOOK = TypeAdapter(Look)


def looks_folder(file: Path) -> Path:
    """Return the folder of the looks that belong to a baseline's file."""
    return file.with_suffix(".looks")


def look_at(evaluation: Evaluation, *, baseline: str | None) -> Look:
    """Return the look that records judging an evaluation."""
    dataset = evaluation.header["dataset"]
    return {
        "schema_version": LOOK_SCHEMA,
        "dataset": dataset["version"],
        "dataset_digest": dataset["digest"],
        "split": dataset["split"],
        "candidate": evaluation.id,
        "created": evaluation.header["created"],
        "scores": digest(evaluation.scores),
        "baseline": baseline,
    }


def add_look(file: Path, look: Look) -> None:
    """Add a look to the ledger of a baseline's file; an existing one is left unchanged.

    Raises:
        UsageError: it cannot be written.
    """
    path = looks_folder(file) / f"{digest(look)[:_NAME_LENGTH]}.json"
    if not path.exists():
        write_record(path, look)


def read_looks(file: Path, dataset: Mapping[str, Any]) -> list[Look]:
    """Read the looks at the rows of a dataset version, in the candidates' chronological order.

    Args:
        file: the baseline's.
        dataset: as in an evaluation's header; its digest and split are used.

    Raises:
        UsageError: a look is damaged, or of a newer schema.
    """
    rows = (dataset["digest"], dataset["split"])
    return [look for look in all_looks(file) if (look["dataset_digest"], look["split"]) == rows]


def all_looks(file: Path) -> list[Look]:
    """Read the looks at the rows of every version, in the candidates' chronological order.

    Args:
        file: the baseline's.

    Raises:
        UsageError: a look is damaged, or of a newer schema.
    """
    folder = looks_folder(file)
    names = [path.name for path in folder.glob("[!.]*.json")]
    found = remembered(folder, names, _look, what="look 1")  # named by its contents
    return [
        cast(Look, look)
        for _, look in sorted(found.items(), key=lambda it: (it[1]["created"], it[0]))
    ]


def _look(path: Path) -> dict[str, Any]:
    record = read_json(path, kind="look", schema=LOOK_SCHEMA, sealed=True)
    with damaged(path, kind="look"):
        check_record(_LOOK, record)
    return record


def candidates_seen(looks: Iterable[Look]) -> int:
    """Return the number of candidates with distinct scores in some looks."""
    return len({look["scores"] for look in looks})
