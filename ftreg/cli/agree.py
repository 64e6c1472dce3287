"""`ftreg agree`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftreg.cli.shared import options
from ftreg.cli.shared.command import command
from ftreg.errors import UsageError, shown
from ftreg.files.marked_yaml import parse

if TYPE_CHECKING:
    from ftreg.jobs.agree import AgreementWithLabels


Labelled = Annotated[
    Path, typer.Argument(help="JSONL with id, input, output, reference or context, and labels.")
]
Label = Annotated[
    str, typer.Option(help="The key of a row's label: 0 to 1, true or false, yes or no.")
]
ScorerOptions = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="An option of the scorer or of its backend."),
]
Cluster = Annotated[
    str | None, typer.Option(help="The key that identifies dependent rows, such as a document.")
]
GoodFrom = Annotated[
    float, typer.Option(min=0.000001, max=1.0, help="Labels from this value on count as good.")
]
MinAuroc = Annotated[float, typer.Option(min=0.0, max=1.0, help="What the AUROC must exceed.")]
MinGain = Annotated[
    float,
    typer.Option(
        min=-1.0, max=1.0, help="What the gain over word overlap must exceed; -1: no bar."
    ),
]
MaxMissing = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Share of rows that may lack a score.")
]


@command
def agree(
    file: Labelled,
    label: Label,
    scorer: Annotated[str, typer.Option(help="A scorer, or a YAML mapping as in eval.scorers.")],
    backend: Annotated[str | None, typer.Option(help="Which backend judges the claims.")] = None,
    option: ScorerOptions = None,
    cluster: Cluster = None,
    good_from: GoodFrom = 0.5,
    min_auroc: MinAuroc = 0.7,
    min_gain: MinGain = 0.0,
    max_missing: MaxMissing = 0.0,
    plot: Annotated[Path | None, typer.Option(help="The .svg for a reliability plot.")] = None,
    no_custom_code: options.NoCustomCode = False,
    debug: options.Debug = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure how well a scorer agrees with your labels, and whether to trust it.

    Exits with 0 if it may be trusted on such rows, 3 if not, or if there are too few rows to tell.

    Example: ftreg agree labelled.jsonl --label good --scorer equals
    """
    from ftreg.gate.trust import TrustBars
    from ftreg.jobs.agree import agree
    from ftreg.report.reliability import agreement_view

    found = agree(
        file,
        label=label,
        scorer=scorer,
        backend=backend,
        options=_given(option or ()),
        cluster=cluster,
        good_from=good_from,
        bars=TrustBars(min_auroc=min_auroc, min_gain=min_gain, max_missing=max_missing),
        plot=plot,
    )
    text = agreement_view(
        found.agreement,
        found.criteria,
        trust=found.trust,
        heading=_heading(found),
        counts=list(_counts(found)),
        overlap_with=found.overlap_with,
    )
    options.show(as_json, value=found, text=text)
    if plot is not None and not as_json:
        options.say(f"\nwritten: {plot}")
    raise typer.Exit(found.exit_code)


def _given(texts: Sequence[str]) -> dict[str, Any]:
    """Read options of a scorer, the values in YAML."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        place = f"--option {name}"
        if not (equals and name.isidentifier()) or "\n" in value:
            raise UsageError(f"--option {shown(text)}: write an option as name=value")
        (found[name],) = parse(f"value: {value}", Path(place)).data.values()
    return found


def _heading(found: "AgreementWithLabels") -> str:
    backend = (found.scorer.get("backend") or {}).get("name")
    by = f" ({backend})" if backend else ""
    return f"{found.name}{by} held against {found.label} of {found.file}"


def _counts(found: "AgreementWithLabels") -> Iterator[str]:
    agreement = found.agreement
    of = f" in {agreement.clusters} clusters" if agreement.clusters is not None else ""
    yield (
        f"{agreement.rows} rows{of}, {agreement.good} of them good (label at least "
        f"{found.good_from:g})"
    )
    if found.unlabelled:
        yield f"{found.unlabelled} more have no label"
    if found.missing:
        yield f"{found.missing} more have a label and no score:"
        yield from (f"  {count} x {reason}" for reason, count in found.reasons.items())
    cost = found.judge_tokens
    if cost.read or cost.written:
        yield f"the judge read {cost.read} tokens and wrote {cost.written}"
