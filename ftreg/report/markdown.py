"""The Markdown report of a gate: for a pull request, a job summary, or a reader."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ftreg.checkpoint import recipe_differences
from ftreg.evaluation import Evaluation
from ftreg.gate import Row, Verdict
from ftreg.report import words

_MOST_EXAMPLES = 5
_LONGEST_TEXT = 300


def gate_report(
    verdict: Verdict,
    *,
    baseline: Mapping[str, Any],
    candidate: Evaluation,
    baseline_scores: Mapping[str, Mapping[str, float | None]],
    baseline_outputs: Mapping[str, str] | None = None,
) -> str:
    """Write the report.

    Args:
        verdict: of the candidate.
        baseline: its evaluation's header.
        candidate: the evaluation that was gated.
        baseline_scores: for the examples that dropped most.
        baseline_outputs: the baseline's outputs where they are at hand; a baseline in git has
            scores only.
    """
    header = candidate.header
    parts = [
        f"# {words.OUTCOME_WORDS[verdict.outcome]}",
        words.headline(verdict, baseline=baseline, candidate=header),
        *([_bullets(verdict.reasons)] if verdict.reasons else []),
        "## Deltas by scorer",
        "In points of 100, candidate minus baseline.",
        _scorer_table(verdict),
        *_cohort_section(verdict),
        *_recipe_section(baseline["checkpoint"], header["checkpoint"]),
        *_worst_section(candidate, baseline_scores, baseline_outputs or {}),
        "## Provenance",
        _bullets(
            [
                f"dataset {header['dataset']['version']}, split {header['dataset']['split']}, "
                f"{header['dataset']['rows']} rows, digest `{header['dataset']['digest'][:12]}`",
                f"baseline evaluation `{baseline['id']}`, candidate evaluation `{header['id']}`",
                f"generation: {header['generation']['decoding']}, "
                f"{header['generation']['precision']}, at most "
                f"{header['generation']['max_new_tokens']} new tokens, "
                f"{header['generation']['cut_off']} outputs cut off there",
                "one training seed per checkpoint: the noise of another seed is not covered by the "
                "intervals",
                f"ftreg {header['ftreg']}",
            ]
        ),
    ]
    return "\n\n".join(parts)


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot end its cell, nor be taken for HTML or markup."""
    flat = " ".join(text.split())
    for sign in "\\|`*_[]#":
        flat = flat.replace(sign, f"\\{sign}")
    return flat.replace("&", "&amp;").replace("<", "&lt;")


def _scorer_table(verdict: Verdict) -> str:
    confidence = f"{100 * verdict.policy['confidence']:g} % interval"
    headings = ["scorer", "n", "missing", "baseline", "candidate", "delta", confidence, "margin"]
    headings += ["detectable drop", "outcome", "note"]
    rows = [
        [
            row.scorer + (" (anchor)" if row.against == "anchor" else ""),
            str(row.n),
            str(row.missing_baseline + row.missing_candidate),
            words.points(row.baseline_mean),
            words.points(row.candidate_mean),
            words.signed(row.delta),
            words.interval(row),
            words.points(row.margin),
            words.points(row.detectable_drop),
            words.OUTCOME_WORDS[row.outcome],
            row.note,
        ]
        for row in words.primary_rows(verdict)
    ]
    return _grid(headings, rows)


def _cohort_section(verdict: Verdict) -> list[str]:
    cohorts = words.cohort_rows(verdict)
    if not cohorts:
        return []
    names = words.scorers(verdict.rows)

    def cell(row: Row | None) -> str:
        return "-" if row is None else f"{words.cohort_cell(row)} {words.interval(row)}"

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
        _grid(["cohort", "n", *names], rows),
    ]


def _recipe_section(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = recipe_differences(old["recipe"], new["recipe"])
    rows = [
        ["checkpoint", old["name"], new["name"]],
        *([key, _value(before), _value(after)] for key, before, after in found),
        ["loss at the last step", _value(old["last_loss"]), _value(new["last_loss"])],
    ]
    text = "Everything that differs between the two." if found else "The two recipes are the same."
    return ["## Recipes", text, _grid(["", "baseline", "candidate"], rows)]


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _worst_section(
    candidate: Evaluation,
    baseline_scores: Mapping[str, Mapping[str, float | None]],
    baseline_outputs: Mapping[str, str],
) -> list[str]:
    drops = []
    for scorer, column in candidate.scores.items():
        for name, value in column.items():
            before = baseline_scores.get(scorer, {}).get(name)
            if value is not None and before is not None and value < before:
                drops.append((value - before, scorer, name))
    if not drops:
        return []
    outputs = candidate.outputs()
    rows = [
        [
            name,
            f"{scorer} {words.signed(drop)}",
            _short(baseline_outputs.get(name, "(not stored)")),
            _short(outputs[name]),
        ]
        for drop, scorer, name in sorted(drops)[:_MOST_EXAMPLES]
    ]
    return [
        "## Examples that dropped most",
        _grid(["example", "drop", "baseline's output", "candidate's output"], rows),
    ]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
