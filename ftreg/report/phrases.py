"""Numbers and sentences worded the same in every report. Scores are in points, 0 to 100."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ftreg.config.policy import Collapse
from ftreg.gate import Row, Verdict
from ftreg.gate.decide import what_passed
from ftreg.gate.verdict import PRIMARY
from ftreg.records.evaluation.header import all_summaries, is_partial, stopped_after
from ftreg.records.manifest import Manifest

OUTCOME_WORDS = {"pass": "pass", "regression": "REGRESSION", "undecided": "undecided"}
# The sentence names at most this many of the deciding rows; the reasons below have all.
_MOST_CHANGES = 3
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
# In their authors' spelling.
_OPTIMIZERS = {
    "adafactor": "Adafactor", "adagrad": "AdaGrad", "adam": "Adam", "adamw": "AdamW",
    "lion": "Lion", "muon": "Muon", "rmsprop": "RMSProp",
    "schedule_free_adamw": "schedule-free AdamW", "sgd": "SGD",
}  # fmt: skip


def points(value: float | None) -> str:
    """A mean score in points: `0.8312` is `83.1`."""
    return "-" if value is None else f"{100 * value:.1f}"


def signed(value: float | None) -> str:
    """A delta in points, with its sign: `-0.024` is `-2.4`."""
    if value is None:
        return "-"
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def interval(row: Row) -> str:
    """The confidence interval of a row in points."""
    if row.interval is None:
        return "-"
    low, high = row.interval
    return f"[{signed(low)}, {signed(high)}]"


def confidence(verdict: Verdict) -> str:
    """The confidence of a verdict's intervals: `95 %`, or `99.9988 %` if looks are counted."""
    left = 1 - verdict.policy["confidence"] if verdict.level is None else verdict.level
    digits = max(0, 1 - math.floor(math.log10(100 * left)))
    return f"{f'{100 - 100 * left:.{digits}f}'.rstrip('0').rstrip('.')} %"


def more_sentences(verdict: Verdict) -> list[str]:
    """How often the rows have been looked at, and how many dropped far, if there is any."""
    return [said for said in (looks_sentence(verdict), _collapse_sentence(verdict)) if said]


def _collapse_sentence(verdict: Verdict) -> str | None:
    """How many examples dropped far, which a mean can hide; None if none did."""
    drop = (verdict.policy.get("collapse") or {}).get("drop", Collapse().drop)
    found = [
        f"{row.scorer} {row.collapsed} of {row.units}"
        for row in primary_rows(verdict)
        if row.collapsed and row.against == "baseline"
    ]
    fell = f"fell by {100 * drop:g} points or more (of clusters: that have one which did)"
    return f"{fell}: {', '.join(found)}" if found else None


def validation_sentence(manifest: Manifest) -> str:
    """A run's validation loss, and its consequences; empty if it has none."""
    training = manifest.training
    found = training.validation
    if found is None or found.best_loss is None or found.last_loss is None:
        return ""
    said = f"validation loss {found.best_loss:.3f} after step {found.best_step}, the lowest"
    if found.last_loss != found.best_loss:
        said += f"; {found.last_loss:.3f} at the last"
    if training.stopped_early:
        said += f"; stopped early, {manifest.schedule['total_steps']} steps were asked for"
    if (by := training.kept_by) is not None and training.kept_step is not None:
        mean = by.means[training.kept_step]
        said += f"; the weights are those of step {training.kept_step}, by {by.scorer}: {mean:.3f}"
    elif training.kept_step not in (None, training.steps):
        said += f"; the weights are those of step {training.kept_step}"
    return said


def parted_sentence(manifest: Manifest) -> str:
    """That a run's two losses diverged, which is overfitting; empty if they did not."""
    found = manifest.training.validation
    if found is None or found.parted_after is None:
        return ""
    return (
        f"since step {found.parted_after} the validation loss has risen while the training loss "
        "fell: the run is overfitting"
    )


def looks_sentence(verdict: Verdict) -> str | None:
    """How often the rows have been looked at, and the consequences; None if unknown."""
    looks = verdict.looks
    if looks is None:
        return None
    said = f"the {_ordinal(looks.number)} candidate judged on these rows"
    for side, count in (("baseline", looks.chosen_from), ("anchor", looks.anchor_from)):
        if count > 1:
            said += (
                f"; the {side} was chosen from {count} seen on them: p values of a drop from it "
                f"count {count} times"
            )
    if verdict.level is not None:
        said += (
            f"; the error budget of all looks is spent: a pass is decided by intervals of "
            f"{confidence(verdict)}"
        )
    return said


def _ordinal(number: int) -> str:
    teens = 10 <= number % 100 < 20
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if teens else ending}"


SEED_ERRORS = (
    "From seed to seed is the standard deviation of the mean score; the errors are standard errors "
    "of the delta, each as if the other level had no noise."
)


def seed_table(verdict: Verdict) -> list[dict[str, str]]:
    """The variance of each level by scorer, in points; empty if both sides have one seed."""
    return [
        {
            "scorer": row.scorer + (" (anchor)" if row.against == "anchor" else ""),
            "seeds": f"{row.baseline_seeds}, {row.candidate_seeds}",
            "base, from seed to seed": _noise(row.baseline_seed_deviation),
            "cand, from seed to seed": _noise(row.candidate_seed_deviation),
            "error of seeds": _noise(row.seed_error),
            "of examples": _noise(row.example_error),
        }
        for row in primary_rows(verdict)
        if row.baseline_seeds > 1 or row.candidate_seeds > 1
    ]


def _noise(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def seeds_sentence(verdict: Verdict) -> str:
    """Return which sides' seed noise the intervals cover, and which they do not."""
    rows = [row for row in verdict.rows if row.against == "baseline"]
    old = max((row.baseline_seeds for row in rows), default=1)
    new = max((row.candidate_seeds for row in rows), default=1)
    if old == new == 1:
        return (
            "one training seed per checkpoint: the noise of another seed is not covered by the "
            "intervals"
        )
    if old > 1 and new > 1:
        return (
            f"{old} training seeds of the baseline and {new} of the candidate, whose noise the "
            "intervals cover"
        )
    single, several, count = (
        ("baseline", "candidate", new) if old == 1 else ("candidate", "baseline", old)
    )
    return (
        f"one training seed of the {single}, and {count} of the {several}: the noise of another "
        f"seed of the {single} is not covered by the intervals"
    )


def rate(value: float) -> str:
    """A learning rate in the usual notation: `1e-4`, `2.5e-5`."""
    digits, _, exponent = f"{value:.3e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def recipe(checkpoint: Mapping[str, Any]) -> str:
    """A checkpoint in a few words, its optimizer and learning rate: `LoRA r 16, AdamW 1e-4`."""
    if checkpoint["lr"] is None:
        return "recipe unknown"
    name = str(checkpoint["optimizer"])
    words = f"{_OPTIMIZERS.get(name, name)} {rate(checkpoint['lr'])}"
    rank = (checkpoint.get("recipe") or {}).get("lora.r")
    return words if rank is None else f"LoRA r {rank}, {words}"


def told_apart(
    checkpoints: Mapping[str, Mapping[str, Any]], *, forms: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Label checkpoints in as few words as distinguish them.

    Labels are the recipes, and the `forms` of the weights if given. Those that share one also get
    the checkpoints' names (`adamw-2 (AdamW 1e-4)`), and if these are the same too, numbers in the
    order of the keys.
    """
    words = {
        key: f"{recipe(checkpoint)}{(forms or {}).get(key, '')}"
        for key, checkpoint in checkpoints.items()
    }
    unknown = [key for key, checkpoint in checkpoints.items() if checkpoint["lr"] is None]
    for alike in [*_alike(words), unknown] if len(unknown) == 1 else _alike(words):
        words |= {key: f"{checkpoints[key]['name']} ({words[key]})" for key in alike}
    for alike in _alike(words):
        words |= {key: f"{words[key]} #{number}" for number, key in enumerate(sorted(alike), 1)}
    return words


def _alike(words: Mapping[str, str]) -> list[list[str]]:
    """The keys that share their label with others."""
    found: dict[str, list[str]] = {}
    for key, said in words.items():
        found.setdefault(said, []).append(key)
    return [keys for keys in found.values() if len(keys) > 1]


def scorer_title(name: str) -> str:
    """A scorer's name in a sentence: `answer_relevancy` is `Answer relevancy`."""
    return name if re.search("[^a-z_]", name) else name.replace("_", " ").capitalize()


def typographic(text: str) -> str:
    """Numbers with a minus sign, and an en dash for a missing one, for a typeset page."""
    return _MINUS.sub("\N{MINUS SIGN}", "\N{EN DASH}" if text == "-" else text)


def _subject(header: Mapping[str, Any]) -> str:
    """A checkpoint's name in a sentence, or that of the file that was served."""
    artefact = header.get("generation", {}).get("artefact")  # a file of scores has no generation
    return str(artefact["file"]) if artefact else named(header["checkpoint"])


def headline(verdict: Verdict, *, baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    """The verdict in one sentence, for the person who decides on the release."""
    new, old = map(_subject, (candidate, baseline))
    if verdict.outcome == "pass":
        return f"{new} may replace {old}: {what_passed(verdict.policy['mode'])}."
    decided = [row for row in verdict.rows if row.outcome == verdict.outcome and row.gated]
    decided = decided or [row for row in verdict.rows if row.outcome == verdict.outcome]
    # Prefer the scorers over all examples; use a cohort or the anchor only if these say nothing.
    decisive = [row for row in primary_rows(verdict) if row in decided] or decided
    if verdict.outcome == "undecided":  # a missing score, say, is told by the reasons
        decisive = [row for row in decisive if row.interval and row.interval.low <= -row.margin]
    parts = [_change(row) for row in decisive[:_MOST_CHANGES] if row.delta is not None]
    if verdict.outcome == "regression" and verdict.critical:
        count = len({drop.id for drop in verdict.critical})
        parts.append(
            "1 critical example got worse" if count == 1 else f"{count} critical examples got worse"
        )
    may = f"{new} may not replace {old}"
    if verdict.outcome == "undecided":
        may = f"There is too little to tell whether {new} may replace {old}"
    if not parts:
        return f"{may}."
    parts += [
        f"{scorer_title(row.scorer)} {signed(row.delta)}"
        for row in primary_rows(verdict)
        if row not in decisive and row.against == "baseline" and row.delta is not None
    ]
    return f"{may}: {'; '.join(parts)}."


def _change(row: Row) -> str:
    """A deciding row: what changed, by how much, and how much is allowed."""
    where = "" if row.cohort == PRIMARY else f" ({row.cohort})"
    against = " against the anchor" if row.against == "anchor" else ""
    return (
        f"{scorer_title(row.scorer)}{where} {signed(row.delta)} points{against} {interval(row)}, "
        f"margin {points(row.margin)}"
    )


def scores_sentence(header: Mapping[str, Any]) -> str:
    """An evaluation in one sentence, if it is not compared."""
    means = "; ".join(
        f"{scorer_title(name)} {points(column['mean'])}"
        for name, column in all_summaries(header).items()
    )
    scored = f" scores, in points of 100: {means}" if means else " has no scores"
    return f"{named(header['checkpoint'])}{scored}."


def named(checkpoint: Mapping[str, Any]) -> str:
    """The recipe, and the checkpoint's name if that says more than the optimizer's.

    A file of scores has only its name.
    """
    if "optimizer" not in checkpoint:
        return str(checkpoint["name"])
    words = recipe(checkpoint)
    named_after = checkpoint["name"] == checkpoint["optimizer"]
    return words if named_after else f"{checkpoint['name']} ({words})"


def rows_evaluated(header: Mapping[str, Any]) -> str:
    """How many rows were evaluated, and whether these were all."""
    return stopped_after(header) if is_partial(header) else f"{header['dataset']['rows']} rows"


def primary_rows(verdict: Verdict) -> list[Row]:
    """The rows over all examples, those against the anchor last."""
    rows = [row for row in verdict.rows if row.cohort == PRIMARY]
    return sorted(rows, key=lambda row: row.against == "anchor")


def cohort_rows(verdict: Verdict) -> dict[str, dict[str, Row]]:
    """Cohort to scorer to row, cohorts of one tag together."""
    table: dict[str, dict[str, Row]] = {}
    for row in verdict.rows:
        if row.cohort != PRIMARY and row.against == "baseline":
            table.setdefault(row.cohort, {})[row.scorer] = row
    return dict(sorted(table.items()))


def scorers(rows: Iterable[Row]) -> list[str]:
    """The scorers of some rows, in order, each once."""
    return list(dict.fromkeys(row.scorer for row in rows))


def cost_table(verdict: Verdict) -> list[dict[str, str]]:
    """What answers cost, with a row for each cost that has a budget."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}"

    return [
        {
            "cost": row.name,
            "base": number(row.baseline),
            "cand": number(row.candidate),
            confidence(verdict): "-"
            if row.interval is None
            else f"[{number(row.interval.low)}, {number(row.interval.high)}]",
            "budget": number(row.budget),
            "outcome": OUTCOME_WORDS[row.outcome],
        }
        for row in verdict.costs
    ]


def scorers_of_cohorts(verdict: Verdict) -> list[str]:
    """The scorers that have cohorts. A probe of the model has none."""
    return scorers(row for row in verdict.rows if row.cohort != PRIMARY)


def cohort_cell(row: Row | None) -> str:
    """One cohort's delta by one scorer; `!` marks a regression, brackets an untested one."""
    if row is None or row.delta is None:
        return "-"
    if row.interval is None:
        return f"({signed(row.delta)})"
    mark = "!" if row.outcome == "regression" else ""
    return f"{signed(row.delta)}{mark}"
