"""What a CI reads: JUnit XML, and GitHub's annotations and job summary."""

import re
from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from ftreg.gate import Row, Verdict
from ftreg.report import words
from ftreg.store import write_text

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, verdict: Verdict, *, candidate: str) -> None:
    """Write one test case per scorer and slice.

    A regression fails, and so does an undecided row that has to pass: a CI that looks at nothing
    but this file stops what the exit code stops. A cohort that is undecided and need not pass is
    skipped. A critical example that got worse is a failed case of its own.

    Raises:
        UsageError: the file cannot be written.
    """
    suite = TestSuite(_xml(f"ftreg gate: {candidate}"))
    for row in verdict.rows:
        suite.add_testcase(_case(row))
    for drop in verdict.critical:
        case = TestCase(_xml(f"critical example {drop.id}"), drop.scorer)
        before, after = words.points(drop.baseline), words.points(drop.candidate)
        case.result = [Failure(f"got worse: {before} to {after}", "regression")]
        suite.add_testcase(case)
    document = JUnitXml("ftreg")
    document.add_testsuite(suite)
    write_text(path, '<?xml version="1.0" encoding="UTF-8"?>\n' + document.tostring().decode())


def _case(row: Row) -> TestCase:
    name = row.cohort if row.against == "baseline" else f"{row.cohort}, against the anchor"
    case = TestCase(_xml(name), _xml(row.scorer))
    if row.outcome == "pass":
        return case
    message = _xml(
        f"delta {words.signed(row.delta)} {words.interval(row)}, margin {words.points(row.margin)}"
        + (f"; {row.note}" if row.note else "")
    )
    stops = row.outcome == "regression" or row.gated
    case.result = [Failure(message, row.outcome) if stops else Skipped(message)]
    return case


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)


def annotations(verdict: Verdict) -> list[str]:
    """Return a GitHub workflow command per reason: an error, or a warning where undecided."""
    if verdict.outcome == "pass":
        return []
    level = "error" if verdict.outcome == "regression" else "warning"
    return [
        f"::{level} title=ftreg gate: {verdict.outcome}::{_escaped(reason)}"
        for reason in verdict.reasons
    ]


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def append_summary(path: Path, report: str) -> None:
    """Add a Markdown report to the file that GitHub shows as the job's summary.

    Other steps write to the same file, so it is added to and not replaced.
    """
    with path.open("a", encoding="utf-8") as stream:
        stream.write(report + "\n")
