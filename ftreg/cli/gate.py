"""`ftreg gate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.verdicts import report_files, show_result
from ftreg.errors import UsageError
from ftreg.records.workspace import Workspace, names_file

if TYPE_CHECKING:
    from ftreg.jobs.attest import Attest

_Baseline = Annotated[
    str,
    typer.Argument(
        help="baseline, anchor, an evaluation, or a file of scores.",
        autocompletion=completion.references,
    ),
]
_Candidate = Annotated[
    str,
    typer.Argument(
        help="The evaluation to judge, latest, or another file of scores.",
        autocompletion=completion.evaluations,
    ),
]


@command
def gate(
    baseline: _Baseline,
    candidate: _Candidate,
    policy: options.Policy = None,
    junit: options.JUnit = None,
    markdown: options.Comment = None,
    attest: Annotated[
        Path | None,
        typer.Option(help="Write the verdict as an in-toto statement over digests of its inputs."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Private key (PEM) that signs the statement.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Decide whether a candidate may replace the baseline.

    Exits with 0 for a pass, 1 for a regression, 3 if undecided. For outputs made elsewhere, both
    sides are files written by `ftreg score`.

    Example: ftreg gate baseline latest
    """
    reports = report_files(junit=junit, comment=markdown)
    signing = _attest(attest, key)
    settings = options.given_policy(policy)
    if names_file(baseline) or names_file(candidate):
        from ftreg.jobs.gate_files import gate_files

        if signing is not None:
            raise UsageError("--attest needs evaluations, not files of scores")

        result = gate_files(Path(baseline), Path(candidate), policy=settings, reports=reports)
    else:
        from ftreg.jobs.gate_and_report import gate_and_report
        from ftreg.records.evaluation.stored import read_evaluation

        workspace = Workspace.current()
        evaluation = read_evaluation(workspace.evaluation(candidate))
        result = gate_and_report(
            evaluation,
            baseline,
            workspace=workspace,
            policy=settings,
            reports=reports,
            asked=signing,
        )
    show_result(result, as_json=as_json)
    raise typer.Exit(int(result.exit_code))


def _attest(file: Path | None, key: Path | None) -> "Attest | None":
    if file is None:
        if key is not None:
            raise UsageError("--key needs --attest FILE, the statement that it signs")
        return None
    from ftreg.jobs.attest import Attest
    from ftreg.records.attestation import read_signer

    return Attest(file=file, signer=None if key is None else read_signer(key))
