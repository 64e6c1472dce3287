"""The `ftreg` command: its subcommands and global options."""

from typing import Annotated

import typer

import ftreg
from ftreg.cli import checkpoints, data, models, optim
from ftreg.cli.clean import clean
from ftreg.cli.compare import compare
from ftreg.cli.diff import diff
from ftreg.cli.doctor import doctor
from ftreg.cli.evaluate import evaluate
from ftreg.cli.gate import gate
from ftreg.cli.init import init
from ftreg.cli.power import power
from ftreg.cli.promote import baseline, promote
from ftreg.cli.report import report
from ftreg.cli.reproduce import reproduce
from ftreg.cli.schema import schema
from ftreg.cli.score import score
from ftreg.cli.track import track
from ftreg.cli.train import train

_EPILOG = (
    "Exit codes: 0 done or the gate passed; 1 a regression, training that diverged, or a "
    "checkpoint that was not reproduced; 2 wrong configuration, arguments or data; 3 undecided; "
    "70 a fault of ftreg; 130 interrupted."
)

app = typer.Typer(
    name="ftreg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ftreg {ftreg.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Fine-tune small language models, and gate each checkpoint against the one in production."""


app.command("init")(init)
app.command("doctor")(doctor)
app.command("train")(train)
app.command("reproduce")(reproduce)
app.command("eval")(evaluate)
app.command("score")(score)
app.command("gate")(gate)
app.command("compare")(compare)
app.command("report")(report)
app.command("track")(track)
app.command("power")(power)
app.command("diff")(diff)
app.command("promote")(promote)
app.command("baseline")(baseline)
app.command("clean")(clean)
app.command("schema")(schema)
app.add_typer(data.app, name="data")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(models.app, name="models")
app.add_typer(optim.app, name="optim")
