"""Output for CI: JUnit XML, and GitHub's annotations and job summary."""

import re
from pathlib import Path
from typing import Literal

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from ftreg.files.store import write_text
from ftreg.gate import Row, Verdict
from ftreg.report import phrases
from ftreg.report.annotations import annotation
from ftreg.report.characters import spelt

# Characters that XML 1.0 does not allow, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_COMMENT_BYTES = 65_536
_SUMMARY_BYTES = 1_000_000


def write_junit(path: Path, verdict: Verdict, *, candidate: str) -> None:
    """Write one test case per scorer and slice.

    There is a failure if, and only if, the exit code is not 0: a CI that reads only this file stops
    whatever the exit code stops. A regression fails. An undecided row that must pass fails too,
    unless the policy lets the verdict through; in that case, or if it need not pass, it is skipped.
    Each critical example that got worse is a separate failed case, and so is anything else that
    prevents a pass.

    Raises:
        UsageError: the file cannot be written.
    """
    suite = TestSuite(_xml(f"ftreg gate: {candidate}"))
    for row in verdict.rows:
        suite.add_testcase(_case(row, let_through=verdict.let_through))
    for drop in verdict.critical:
        case = TestCase(_xml(f"critical example {drop.id}"), _xml(drop.scorer))
        before, after = phrases.points(drop.baseline), phrases.points(drop.candidate)
        case.result = [Failure(f"got worse: {before} to {after}", "regression")]
        suite.add_testcase(case)
    if verdict.exit_code and not any(_failed(case) for case in suite):
        case = TestCase("verdict", "gate")
        case.result = [Failure(_xml("; ".join(verdict.reasons)), verdict.outcome)]
        suite.add_testcase(case)
    document = JUnitXml("ftreg")
    document.add_testsuite(suite)
    write_text(path, '<?xml version="1.0" encoding="UTF-8"?>\n' + document.tostring().decode())


def _failed(case: TestCase) -> bool:
    return any(isinstance(result, Failure) for result in case.result)


def _case(row: Row, *, let_through: bool) -> TestCase:
    name = row.cohort if row.against == "baseline" else f"{row.cohort}, against the anchor"
    case = TestCase(_xml(name), _xml(row.scorer))
    if row.outcome == "pass":
        return case
    message = _xml(
        f"delta {phrases.signed(row.delta)} {phrases.interval(row)}, "
        f"margin {phrases.points(row.margin)}" + (f"; {row.note}" if row.note else "")
    )
    stops = row.outcome == "regression" or (row.gated and not let_through)
    case.result = [Failure(message, row.outcome) if stops else Skipped(message)]
    return case


def _xml(text: str) -> str:
    return _NOT_XML.sub(lambda found: spelt(found[0]), text)


def annotations(verdict: Verdict, *, baseline: Path | None) -> list[str]:
    """Return a GitHub annotation per reason: an error if the job stops, else a warning.

    Args:
        verdict: a pass has no annotations.
        baseline: the baseline's file, which they point at; None if it was another evaluation.
    """
    if verdict.outcome == "pass":
        return []
    level: Literal["error", "warning"] = "error" if verdict.exit_code else "warning"
    title = f"ftreg gate: {verdict.outcome}"
    return [annotation(level, reason, title=title, file=baseline) for reason in verdict.reasons]


def append_summary(path: Path, report: str) -> None:
    """Append a Markdown report to the file that GitHub shows as the job's summary.

    Other steps write to the same file, so it is not replaced. GitHub drops a summary of more than
    1 MiB, so a longer report is truncated.
    """
    with path.open("a", encoding="utf-8") as stream:
        stream.write(shortened(report, most=_SUMMARY_BYTES) + "\n")


def write_comment(path: Path, report: str) -> None:
    """Write a Markdown report as the body of a pull request comment, truncated to GitHub's limit.

    GitHub's limit is 65,536 characters. Counting bytes, the text always fits.

    Raises:
        UsageError: the file cannot be written.
    """
    write_text(path, shortened(report, most=_COMMENT_BYTES))


def shortened(report: str, *, most: int) -> str:
    """Return a report of at most `most` bytes of UTF-8, cut after a line, with a note."""
    if len(report.encode()) <= most:
        return report
    note = "\n\n*The report is longer than GitHub takes and ends here; report.md has all of it.*"
    room = most - len(note)
    kept = report.encode()[:room].decode(errors="ignore")
    return kept[: kept.rfind("\n")].rstrip() + note
