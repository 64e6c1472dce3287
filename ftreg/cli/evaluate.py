"""`ftreg eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.cli.shared.verdicts import report_files, show_result
from ftreg.errors import UsageError
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.asked import OutputsFile
    from ftreg.jobs.evaluate_and_gate import Evaluated
    from ftreg.jobs.track import TrackedRun
    from ftreg.records.evaluation.stored import Evaluation

_Checkpoint = Annotated[
    str | None,
    typer.Argument(
        help="A checkpoint's folder or name, another model's folder, a packaged name, a hub id, or "
        "a GGUF file of a checkpoint.",
        autocompletion=completion.checkpoints,
    ),
]
_Outputs = Annotated[
    Path | None,
    typer.Option(help="Evaluate these outputs, made elsewhere, instead of a model."),
]
_Name = Annotated[str | None, typer.Option(help="The candidate's name, with --outputs.")]
_Config = Annotated[
    Path | None,
    typer.Option(help="YAML whose sections dataset, eval and gate are used."),
]
_Scorer = Annotated[
    list[str] | None,
    typer.Option(help="Use only this scorer, NAME or NAME:MODE; repeatable."),
]
_Dataset = Annotated[
    str | None,
    typer.Option(
        help="Dataset version name@N; default: the one it was trained on.",
        autocompletion=completion.datasets,
    ),
]
_Against = Annotated[
    str,
    typer.Option(
        help="Compare with this: baseline, or an evaluation.",
        autocompletion=completion.references,
    ),
]
_NoReport = Annotated[
    bool, typer.Option("--no-report", help="Write no HTML report; `ftreg report` can.")
]
_Bootstrap = Annotated[
    bool, typer.Option("--bootstrap", help="Exit with 0 if there is no baseline yet.")
]


_UntilDecided = Annotated[
    bool,
    typer.Option("--until-decided", help="Generate in blocks; stop when the gate has decided."),
]


class _Results(Bars):
    """Shows each result as soon as it is stored, even if a later step fails."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        super().__init__(quiet=quiet)
        self._as_json = as_json

    def evaluated(self, evaluation: "Evaluation") -> None:
        """Show the scores."""
        from ftreg.report.terminal import evaluation_view

        self.stop()
        if not self._as_json:
            options.draw(evaluation_view(evaluation.header))
            options.say(f"\n{evaluation.folder}")

    def gated(self, found: "Evaluated") -> None:
        """Show the verdict, or why there is none."""
        if found.gate is not None:
            show_result(found.gate, as_json=self._as_json)
        elif self._as_json:
            options.show_json(found.printed)
        else:
            if found.html is not None:
                typer.echo(f"report: {found.html}")
            if found.error is None:
                for reason in found.reasons:
                    options.say(reason)

    def tracked(self, run: "TrackedRun") -> None:
        """Say where the evaluation is logged."""
        typer.echo(str(run), err=True)


def _subject(checkpoint: str | None, outputs: Path | None, name: str | None) -> "str | OutputsFile":
    """Return the subject: a model, or outputs with a name."""
    from ftreg.jobs.asked import OutputsFile

    if outputs is None:
        if checkpoint is None:
            raise UsageError("name a checkpoint or a model, or a file of outputs with --outputs")
        if name is not None:
            raise UsageError("--name needs --outputs: a model already has a name")
        return checkpoint
    if checkpoint is not None:
        raise UsageError(
            f"{checkpoint} and --outputs {outputs}: existing outputs need no model; remove one of "
            "them"
        )
    if name is None:
        raise UsageError("--outputs needs --name: the name of the candidate that wrote them")
    return OutputsFile(outputs, name)


@command
def evaluate(
    checkpoint: _Checkpoint = None,
    outputs: _Outputs = None,
    name: _Name = None,
    dataset: _Dataset = None,
    config: _Config = None,
    scorer: _Scorer = None,
    against: _Against = "baseline",
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Evaluate only.")] = False,
    no_report: _NoReport = False,
    bootstrap: _Bootstrap = False,
    until_decided: _UntilDecided = False,
    of: Annotated[
        str | None,
        typer.Option(help="The checkpoint a GGUF file was made from, if it does not say."),
    ] = None,
    policy: options.Policy = None,
    junit: options.JUnit = None,
    markdown: options.Comment = None,
    overrides: options.Overrides = None,
    no_custom_code: options.NoCustomCode = False,
    debug: options.Debug = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Run a model on a dataset version, score its outputs, and gate it.

    Example: ftreg eval checkpoints/lion --against baseline
    """
    from ftreg.jobs.evaluate_and_gate import evaluate_and_gate

    with _Results(quiet=quiet, as_json=as_json) as results:
        found = evaluate_and_gate(
            _subject(checkpoint, outputs, name),
            workspace=Workspace.current(),
            dataset=dataset,
            config=config,
            scorers=scorer or (),
            overrides=overrides or (),
            against=None if no_gate else against,
            policy=options.given_policy(policy),
            bootstrap=bootstrap,
            until_decided=until_decided,
            of=of,
            reports=report_files(html=not no_report, junit=junit, comment=markdown),
            events=results,
        )
    if found.error is not None:
        raise found.error
    raise typer.Exit(int(found.exit_code))
