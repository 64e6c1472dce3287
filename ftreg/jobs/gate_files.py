"""Gate two files of scores written by `ftreg score`, for outputs made elsewhere."""

from pathlib import Path
from typing import Any

from ftreg.config.policy import GatePolicy
from ftreg.errors import UndecidedError, UsageError
from ftreg.files.store import read_jsonl
from ftreg.gate import compare
from ftreg.jobs.gate_result import GateResult, Reports
from ftreg.records.evaluation.comparable import rows_of_one_side
from ftreg.records.samples import Cell, Scores


def read_score_file(path: Path) -> Scores:
    """Return scorer to example id to score in [0, 1], or None if there is a reason instead.

    Raises:
        UsageError: no file, no rows, or a line that is not a score; gives file and line.
    """
    scores: dict[str, dict[str, Cell]] = {}
    for number, row in read_jsonl(path):
        place = f"{path}:{number}"
        for key in ("id", "scorer"):
            if not isinstance(row.get(key), str):
                raise UsageError(
                    f"{place}: {key!r} must be a string; this line is not from `ftreg score`, "
                    "which makes a file of scores from outputs: ftreg score OUTPUTS --scorer NAME "
                    "-o SCORES"
                )
        score = row.get("score")
        if (
            "score" not in row
            or isinstance(score, bool)
            or not isinstance(score, int | float | None)
        ):
            raise UsageError(f"{place}: 'score' must be a number in [0, 1] or null")
        if score is not None and not 0 <= score <= 1:
            raise UsageError(f"{place}: the score {score} is not in [0, 1]")
        column = scores.setdefault(row["scorer"], {})
        if row["id"] in column:
            raise UsageError(f"{place}: {row['scorer']} scores {row['id']!r} again")
        column[row["id"]] = score
    if not scores:
        raise UsageError(f"{path}: no rows")
    return scores


def gate_files(
    baseline: Path,
    candidate: Path,
    *,
    policy: GatePolicy | None = None,
    reports: Reports | None = None,
) -> GateResult:
    """Compare two files of scores, paired by example id. Writes nothing except a JUnit file.

    Args:
        baseline: JSONL written by `ftreg score`.
        candidate: the same, for the outputs to judge.
        policy: default: all settings have their defaults.
        reports: only `junit` is written; the others require evaluations.

    Raises:
        UsageError: a file is not a file of scores, the policy needs cohorts, which such files do
            not have, or `reports` has a comment. UndecidedError: they have different scorers or
            examples; says which.
    """
    reports = reports or Reports()
    if reports.comment is not None:
        raise UsageError("--markdown: a report requires evaluations, but these are only scores")
    old, new = read_score_file(baseline), read_score_file(candidate)
    found = [
        f"scorers in {place} only: {', '.join(sorted(only))}"
        for only, place in (
            (old.keys() - new.keys(), baseline),
            (new.keys() - old.keys(), candidate),
        )
        if only
    ]
    found += rows_of_one_side(old, new, places=(str(baseline), str(candidate)))
    if found:
        lines = "\n  ".join(found)
        raise UndecidedError(
            f"{candidate} cannot be compared with {baseline}:\n  {lines}\n"
            "Score the same examples with the same scorers."
        )
    verdict = compare(old, new, policy)
    if reports.junit is not None:
        from ftreg.report.ci import write_junit

        write_junit(reports.junit, verdict, candidate=str(candidate))
    return GateResult(baseline=_header(baseline), candidate=_header(candidate), verdict=verdict)


def _header(path: Path) -> dict[str, Any]:
    """Return what a report calls a side that is not an evaluation: its file."""
    return {"id": str(path), "checkpoint": {"name": path.name}}
