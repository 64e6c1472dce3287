"""An evaluation as a table: one row per example, or per example and seed for replicas."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ftreg.errors import UsageError
from ftreg.files.store import write_bytes
from ftreg.records.evaluation.rows import each_output, each_score
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.layout import OUTPUTS, SCORES
from ftreg.records.printed import Printed, printed

_ENDINGS = (".csv", ".parquet")
_OWN = ("id", "seed", "input", "references", "output", "finish", "tokens", "critical", "cluster")


@printed
class ExportedTable(Printed):
    """What `ftreg evaluations export --json` prints."""

    evaluation: str
    """Its id."""
    file: Path
    """Path of the table."""
    rows: int
    """One per example, of replicas one per example and seed."""
    columns: tuple[str, ...]
    """In order."""


def evaluation_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table.

    The columns are `id`, `seed` (for replicas), `input`, `references` (a list), `output`, `finish`,
    `tokens`, `critical`, `cluster`, a column per tag and per scorer, and `<scorer>_reason`, the
    reason for a missing score. Older evaluations have no input and references. A tag with the name
    of another column is `tag_<name>`.

    Raises:
        UsageError: a row of the evaluation is damaged.
    """
    scorers = list(evaluation.header["scorers"])
    taken = {*_OWN, *scorers, *(f"{name}_reason" for name in scorers)}
    found = {
        (row["id"], row.get("seed"), row["scorer"]): (row["score"], row["reason"])
        for _, row in each_score(evaluation.folder / SCORES)
    }
    for row in each_output(evaluation.folder / OUTPUTS):
        seed = row.get("seed")
        tags = row["cohorts"].items()
        line = {
            "id": row["id"],
            **({} if seed is None else {"seed": seed}),
            "input": row.get("input"),
            "references": row.get("reference"),
            **{key: row[key] for key in ("output", "finish", "tokens", "critical", "cluster")},
            **{f"tag_{tag}" if tag in taken else tag: value for tag, value in tags},
        }
        for name in scorers:
            line[name], line[f"{name}_reason"] = found.get((row["id"], seed, name), (None, None))
        yield line


def export_evaluation(evaluation: Evaluation, output: Path) -> ExportedTable:
    """Write an evaluation as CSV or Parquet, depending on the file's extension.

    In CSV, lists are JSON, and missing values are empty cells.

    Raises:
        UsageError: the extension is unknown, a row is damaged, or the file cannot be written.
    """
    ending = output.suffix.lower()
    if ending not in _ENDINGS:
        raise UsageError(f"{output}: the file name of a table must end in {' or '.join(_ENDINGS)}")
    rows = list(evaluation_rows(evaluation))
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    write = _csv if ending == ".csv" else _parquet
    write_bytes(output, [write(rows, columns)])
    return ExportedTable(evaluation=evaluation.id, file=output, rows=len(rows), columns=columns)


def _csv(rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
                for key, value in row.items()
            }
        )
    return stream.getvalue().encode("utf-8", "replace")


def _parquet(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    table = pa.table({key: [row.get(key) for row in rows] for key in columns})
    pq.write_table(table, stream)
    return stream.getvalue()
