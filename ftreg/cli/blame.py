"""`ftreg blame`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ftreg.cli.shared import completion, options
from ftreg.cli.shared.command import command
from ftreg.cli.shared.progress import Bars
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from ftreg.jobs.blame import Blame, Proof

_SHOWN = 20
_Against = Annotated[
    str,
    typer.Option(help="baseline, anchor, or an evaluation.", autocompletion=completion.references),
]


@command
def blame(
    evaluation: options.EvaluationRef = "latest",
    against: _Against = "baseline",
    scorer: Annotated[
        str | None, typer.Option(help="Default: the one with the largest drop.")
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(help="Explain this example; may be repeated. Default: the largest drops."),
    ] = None,
    suspects: Annotated[
        int | None,
        typer.Option(min=1, help="How many rows to suspect; default: 5 % of all."),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=2, max=50, help="Runs without the suspects, and as many without random rows."
        ),
    ] = 3,
    no_proof: Annotated[
        bool, typer.Option("--no-proof", help="Only rank the rows; train nothing.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Continue even if nothing is certainly worse.")
    ] = False,
    no_custom_code: options.NoCustomCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Name training rows that made examples worse, proven by training without them.

    Exits with 0 whatever it finds, 3 if checkpoint or rows are gone or the two evaluations cannot
    be compared. After an interruption, the same command continues.

    Example: ftreg blame latest --no-proof
    """
    from ftreg.jobs.blame import BlameAsked, blame
    from ftreg.records.evaluation.stored import read_evaluation

    workspace = Workspace.current()
    asked = BlameAsked(
        scorer=scorer,
        examples=tuple(example or ()),
        suspects=suspects,
        seeds=0 if no_proof else seeds,
        anyway=anyway,
    )
    with Bars(quiet=quiet) as bars:
        found = blame(
            read_evaluation(workspace.evaluation(evaluation)),
            workspace=workspace,
            against=against,
            asked=asked,
            events=bars,
        )
    options.show(as_json, value=found, text="\n".join(_lines(found)))


def _lines(found: "Blame") -> list[str]:
    from ftreg.report.phrases import points

    lines = [f"{found.evaluation} against {found.against}, {found.scorer}"]
    if found.outcome == "not worse":
        return [
            *lines,
            "Nothing is certainly worse, so there is nothing to explain; --anyway continues, "
            "--example selects examples.",
        ]
    lines.append(
        f"{len(found.examples)} examples fell by {points(found.drop)} points on average; "
        f"{found.rows:,} training rows ranked by their gradients at {found.states} "
        f"state{'s' * (found.states != 1)} of the run."
    )
    if found.proof is not None:
        lines += _proof_lines(found.proof)
    many = len(found.suspects)
    lines += ["", _verdict(found)]
    lines += [
        f"  {item.id} ({item.harm:+.2f}): {_short(item.input)} -> {_short(item.reference)}"
        for item in found.suspects[:_SHOWN]
    ]
    if many > _SHOWN:
        lines.append(f"  and {many - _SHOWN} more (--json has all)")
    return lines


def _verdict(found: "Blame") -> str:
    many = len(found.suspects)
    return {
        "confirmed": f"confirmed: training without these {many} rows undoes the drop",
        "not confirmed": "not confirmed: training without them helps no more than without as many "
        f"random rows. This ranking of {many} rows proves nothing:",
        "not proven": f"not proven: a ranking of {many} rows by gradients alone, which is a guess:",
    }[found.outcome]


def _proof_lines(proof: "Proof") -> list[str]:
    from ftreg.report.phrases import points, signed

    low, high = proof.interval or (None, None)
    arms = (("them", proof.without_suspects), ("random rows", proof.without_random))
    lines = [
        f"  without {name}: {signed(arm.delta)} points from the baseline "
        f"({', '.join(map(signed, arm.by_seed))})"
        for name, arm in arms
    ]
    p_value = "" if proof.p is None else f"; p = {proof.p:.2g} of more than {points(proof.margin)}"
    gain = f"  gain: {signed(proof.gain)} points ({signed(low)} to {signed(high)}){p_value}"
    return [f"Retrained, {len(proof.seeds)} seeds each:", *lines, gain]


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 48 else f"{words[:47]}\N{HORIZONTAL ELLIPSIS}"
