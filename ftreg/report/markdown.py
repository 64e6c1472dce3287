"""The Markdown report of a gate, for a pull request, a job summary, or a reader."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ftreg.errors import cut
from ftreg.gate import Row, Verdict
from ftreg.records.evaluation.header import (
    is_partial,
    made_elsewhere,
    recipe_known,
    stopped_after,
)
from ftreg.records.evaluation.stored import Evaluation
from ftreg.records.recipe import recipe_differences
from ftreg.report import phrases
from ftreg.report.characters import one_line, visible
from ftreg.report.noise_line import noise_line
from ftreg.report.worst import Drop, DropSide

_LONGEST_TEXT = 300
_BREAK = re.compile(r"\r\n|\r|\n")
# What GitHub and GitLab turn into a link or a mention, anywhere in the text. Escapes do not
# prevent it, because they process the rendered page.
_LIVE = re.compile(
    r"(?<!\w)@(?=\w)|@(?=[\w-]+\.\w)|#(?=\d)"
    r"|:(?=//)|(?<=mailto):|(?<=xmpp):|(?<=www)\.|(?<=GH)-(?=\d)"
    r"|!(?=\d)|(?<!\w)%(?=\d)|&amp;(?=\d)",  # GitLab's merge requests, milestones and epics
    re.IGNORECASE,
)
_MARKUP = re.compile(r"[\\|`*_\[\]#~$]")


def gate_report(
    verdict: Verdict,
    *,
    baseline: Mapping[str, Any],
    candidate: Evaluation,
    worst: Sequence[Drop],
) -> str:
    """Write the report.

    Args:
        verdict: of the candidate.
        baseline: its evaluation's header.
        candidate: the evaluation that was gated.
        worst: the examples that dropped most.
    """
    header = candidate.header
    dataset = header["dataset"]
    parts = [
        f"# {phrases.OUTCOME_WORDS[verdict.outcome]}",
        escaped(phrases.headline(verdict, baseline=baseline, candidate=header)),
        *([_bullets(map(escaped, verdict.reasons))] if verdict.reasons else []),
        *([f"The evaluation {stopped_after(header)}."] if is_partial(header) else []),
        "## Deltas by scorer",
        "In points of 100, candidate minus baseline.",
        _scorer_table(verdict),
        *filter(None, [noise_line(baseline, header)]),
        *_cost_section(verdict),
        *_seed_section(verdict),
        *_cohort_section(verdict),
        *_recipe_section(baseline["checkpoint"], header["checkpoint"]),
        *_worst_section(worst),
        "## Provenance",
        _bullets(
            [
                f"dataset {escaped(dataset['version'])}, split {escaped(dataset['split'])}, "
                f"{phrases.rows_evaluated(header)}, digest `{dataset['digest'][:12]}`",
                f"baseline evaluation {escaped(baseline['id'])}, "
                f"candidate evaluation {escaped(header['id'])}",
                *_generation(baseline, header),
                phrases.seeds_sentence(verdict),
                *phrases.more_sentences(verdict),
                f"ftreg {escaped(str(header.get('ftreg', 'of a version that is not recorded')))}",
            ]
        ),
    ]
    return "\n\n".join(parts)


def _generation(baseline: Mapping[str, Any], header: Mapping[str, Any]) -> list[str]:
    """How the candidate's outputs were made, and where this is unknown."""
    how = header["generation"]
    sides = {"baseline": baseline, "candidate": header}
    known = [] if made_elsewhere(header) else [
        f"generation: {_engine(how)}, {escaped(how['decoding'])}, "
        f"{escaped(how['precision'])} precision, at most "
        f"{how['max_new_tokens']} new tokens, {how['cut_off']} outputs cut off there"
    ]  # fmt: skip
    sources = {side: item["generation"].get("source") for side, item in sides.items()}
    return known + [
        f"the {side}'s outputs were made elsewhere, and read from {escaped(source['file'])} "
        f"({source['form']}): how they were decoded is not known, and was not compared"
        for side, source in sources.items()
        if source is not None
    ]


def _engine(generation: Mapping[str, Any]) -> str:
    server, artefact = generation.get("server"), generation.get("artefact")
    if artefact is not None:
        how = {"manifest": "by its manifest", "metadata": "by its metadata"}
        paired = how.get(artefact["paired_by"], "by the word of who evaluated it")
        return (
            f"{generation['engine']}, {_cell(artefact['file'])} "
            f"({artefact['bytes'] / 1e6:,.1f} MB, digest `{artefact['digest'][:12]}`), "
            f"of the checkpoint {paired}"
        )
    if server is None:
        return escaped(str(generation["engine"]))
    return (
        f"{generation['engine']}, model {_cell(server['model'])} at {_cell(server['host'])} "
        "(whether it has the checkpoint's weights was not checked)"
    )


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. The text of a cell cannot be taken for markup."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot end its cell or be taken for HTML or markup; a newline becomes a break."""
    lines = (escaped(line) for line in _BREAK.split(text))
    return "<br>".join(line for line in lines if line)


def escaped(text: str) -> str:
    """One line of text that cannot be taken for HTML, markup, a link, or a mention.

    An output may contain `@property`, which must not notify the user of that name.
    """
    flat = visible(one_line(text)).replace("&", "&amp;").replace("<", "&lt;")
    parts = _LIVE.split(flat)
    broken = (f"<code>{sign}</code>" for sign in _LIVE.findall(flat))
    plain = [_MARKUP.sub(r"\\\g<0>", part) for part in parts]
    return "".join(part for pair in zip(plain, [*broken, ""], strict=True) for part in pair)


def _scorer_table(verdict: Verdict) -> str:
    confidence = f"{phrases.confidence(verdict)} interval"
    headings = ["scorer", "n", "missing", "baseline", "candidate", "delta", confidence, "margin"]
    headings += ["detectable drop", "outcome", "note"]
    rows = [
        [
            row.scorer + (" (anchor)" if row.against == "anchor" else ""),
            str(row.n),
            str(row.missing_baseline + row.missing_candidate),
            phrases.points(row.baseline_mean),
            phrases.points(row.candidate_mean),
            phrases.signed(row.delta),
            phrases.interval(row),
            phrases.points(row.margin),
            phrases.points(row.detectable_drop),
            phrases.OUTCOME_WORDS[row.outcome],
            row.note,
        ]
        for row in phrases.primary_rows(verdict)
    ]
    return grid(headings, rows)


def _cost_section(verdict: Verdict) -> list[str]:
    found = phrases.cost_table(verdict)
    if not found:
        return []
    return [
        "## Costs",
        "Less is better.",
        grid(list(found[0]), (list(row.values()) for row in found)),
    ]


def _seed_section(verdict: Verdict) -> list[str]:
    found = phrases.seed_table(verdict)
    if not found:
        return []
    sentence = f"In points of 100. {phrases.SEED_ERRORS}"
    return [
        "## Noise of seeds and examples",
        sentence,
        grid(list(found[0]), (list(row.values()) for row in found)),
    ]


def _cohort_section(verdict: Verdict) -> list[str]:
    cohorts = phrases.cohort_rows(verdict)
    if not cohorts:
        return []
    names = phrases.scorers_of_cohorts(verdict)

    def cell(row: Row | None) -> str:
        return "-" if row is None else f"{phrases.cohort_cell(row)} {phrases.interval(row)}"

    rows = [
        [
            cohort,
            str(max(row.n for row in by_scorer.values())),
            *(cell(by_scorer.get(name)) for name in names),
        ]
        for cohort, by_scorer in cohorts.items()
    ]
    return [
        "## Deltas by cohort",
        "`!` is a regression: significant after Holm's correction, and beyond the margin.",
        grid(["cohort", "n", *names], rows),
    ]


def _recipe_section(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = recipe_differences(old["recipe"], new["recipe"])
    rows = [
        ["checkpoint", old["name"], new["name"]],
        *([key, _value(before), _value(after)] for key, before, after in found),
        ["loss at the last step", _value(old["last_loss"]), _value(new["last_loss"])],
    ]
    text = "Everything that differs between the two." if found else "The two recipes are the same."
    if not (recipe_known(old) and recipe_known(new)):
        text = "A recipe is unknown where ftreg did not train. What is known to differ:"
    return ["## Recipes", text, grid(["", "baseline", "candidate"], rows)]


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _worst_section(worst: Sequence[Drop]) -> list[str]:
    if not worst:
        return []
    parts = ["## Examples that dropped most"]
    if all(drop.before is None for drop in worst):
        parts.append(
            "The baseline's outputs are not available: a baseline in git has its scores alone."
        )
    return [*parts, *(part for drop in worst for part in _drop(drop))]


def _drop(drop: Drop) -> list[str]:
    """One example: the question, both sides' answers, and the scorers' findings."""
    asked = [
        f"**{title}:** {escaped(cut(text, _LONGEST_TEXT))}" for title, text in drop.asked.items()
    ]
    rows = [["output", _output(drop.before), _output(drop.after)]]
    for scorer, before, after in drop.scores:
        rows.append([f"{scorer} {phrases.signed(after - before)}", phrases.points(before),
                     phrases.points(after)])  # fmt: skip
        found = [_evidence(side, scorer) for side in (drop.before, drop.after)]
        if any(found):
            rows.append(["evidence", *found])
    marks = ", critical" if drop.critical else ""
    return [
        f"### {escaped(drop.id)}{marks}",
        *asked,
        grid(["", "baseline", "candidate"], rows),
    ]


def _output(side: DropSide | None) -> str:
    return "(not at hand)" if side is None else cut(side.output, _LONGEST_TEXT)


def _evidence(side: DropSide | None, scorer: str) -> str:
    return "" if side is None else "\n".join(side.evidence.get(scorer, ()))
