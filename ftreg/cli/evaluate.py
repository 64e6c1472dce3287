"""`ftreg eval`."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ftreg.cli.gate import gate_and_show, read_policy, show_page
from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.errors import ExitCode, FtregError, UndecidedError, UsageError
from ftreg.records.layout import MANIFEST
from ftreg.records.workspace import Workspace

_REPORT_TO = "eval.report_to"


@command
def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Folder of a checkpoint or of replicas, or its name.",
            show_default=False,
            autocompletion=completion.checkpoints,
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset version name@N; default: the one it was trained on.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            help="What to hold it against: baseline, or an evaluation.",
            autocompletion=completion.references,
        ),
    ] = "baseline",
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Evaluate only.")] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write no HTML report; `ftreg report` makes it.")
    ] = False,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="End with 0 where there is no baseline yet.")
    ] = False,
    policy: options.Policy = None,
    junit: options.JUnit = None,
    markdown: options.Comment = None,
    overrides: options.Overrides = None,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Run a checkpoint over a dataset version, score it, and gate it.

    Example: ftreg eval checkpoints/lion --against baseline
    """
    from ftreg.config.load import override_config
    from ftreg.jobs.evaluate import evaluate as run_evaluation
    from ftreg.jobs.gate import evaluation_record
    from ftreg.jobs.report import write_html
    from ftreg.records.replicas import read_replicas
    from ftreg.report.terminal import evaluation_view

    workspace = Workspace.current()
    folder = workspace.checkpoint(checkpoint)
    replicas = read_replicas(folder)
    manifest, first = replicas.first.manifest, replicas.first.folder
    for change in overrides or []:
        if change.partition(".")[0].partition("=")[0] not in ("dataset", "eval", "gate"):
            raise UsageError(
                f"-s {change}: an evaluation reads the sections dataset, eval and gate; the others "
                "made the checkpoint, and cannot be changed after training"
            )
    changes = [*([f"dataset.version={dataset}"] if dataset else []), *(overrides or [])]
    config = override_config(manifest.config, overrides=changes, manifest=first / MANIFEST)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    if against not in ("baseline", "anchor"):
        workspace.evaluation(against)  # a name that is not there costs no minutes
    given = None if policy is None else read_policy(policy, None)  # and neither does a mistake here
    name = f"{folder.resolve().name}-{config.dataset.version.replace('@', '-')}-{stamp}"
    bases = (member.manifest.base for member in replicas.members)
    options.tell_of_trust(base.model for base in bases if base.trust_remote_code)
    if config.eval.report_to:
        from ftreg.jobs.track import check_mlflow

        check_mlflow(_REPORT_TO)
    with Bars(quiet=quiet) as bars:
        evaluation = run_evaluation(
            folder, config=config, folder=workspace.evaluations / name, events=bars
        )
    page = None if no_report else write_html(evaluation, workspace=workspace)
    if not as_json:
        options.show(False, value={}, text=evaluation_view(evaluation.header))
        options.say(f"\n{evaluation.folder}")
    with _tracked(evaluation, wanted=bool(config.eval.report_to)):
        if no_gate:
            show_page(page, as_json=as_json)
            if as_json:
                options.show_json(
                    evaluation_record(evaluation, page=page, reasons=[], exit_code=ExitCode.OK)
                )
            return
        try:
            gate_and_show(
                evaluation,
                against,
                policy=given or read_policy(None, evaluation),
                workspace=workspace,
                bootstrap=bootstrap,
                page=page,
                junit=junit,
                markdown=markdown,
                as_json=as_json,
            )
        except FtregError as error:  # no baseline, not comparable, ...: no verdict, but a result
            show_page(page, as_json=as_json)
            if as_json:
                reasons = [line.strip() for line in str(error).split("\n")]
                options.show_json(
                    evaluation_record(
                        evaluation, page=page, reasons=reasons, exit_code=error.exit_code
                    )
                )
            raise


@contextlib.contextmanager
def _tracked(evaluation: Any, *, wanted: bool) -> Iterator[None]:
    """Log the evaluation when the gate has ended, however it did; its exit code stands."""
    ended = None
    try:
        yield
    except (typer.Exit, UndecidedError) as end:
        ended = end
    if wanted:
        from ftreg.jobs.track import log_evaluation

        try:
            typer.echo(str(log_evaluation(evaluation, asked_by=_REPORT_TO)), err=True)
        except UsageError as error:
            typer.echo(
                f"note: {error}\n  The evaluation is kept; `ftreg track {evaluation.id}` logs it.",
                err=True,
            )
    if ended is not None:
        raise ended
