"""Score a JSONL file of outputs from any source."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, cast

from ftreg.config import custom_code
from ftreg.config.load import validate
from ftreg.config.sections import ScorerConfig, Thoughts
from ftreg.data.chat_checks import check_messages
from ftreg.errors import UsageError, shown
from ftreg.files import marked_yaml
from ftreg.files.store import check_writable, read_jsonl, write_jsonl
from ftreg.jobs.score_rounds import make_scorer
from ftreg.records.evaluation.rows import Run, ScoreRow, score_rows
from ftreg.records.printed import OPTIONAL, Printed, printed
from ftreg.records.samples import Sample
from ftreg.records.turns import Turn, asked_in, before_answer
from ftreg.scoring.factory import FAMILIES, SCORERS, takes_option

_MOST_REASONS = 5


@printed
class JudgeTokens:
    """Tokens used by a judge; cached answers use none."""

    read: int
    """Tokens of the prompts."""
    written: int
    """Tokens of the answers."""


@printed
class ScoredFile(Printed):
    """What `ftreg score --json` prints."""

    file: Path | None
    """Path of the scores file; null without --output."""
    scores: int
    """Rows: one per example and scorer."""
    missing: int
    """Rows without a score."""
    judge_tokens: JudgeTokens
    """0 if no scorer uses a judge."""
    rows: tuple[ScoreRow, ...] | None = field(default=None, metadata=OPTIONAL)
    """Without --output, the rows that would be in the file."""


def score_file(
    path: Path,
    *,
    scorers: Sequence[str],
    backend: str | None = None,
    thoughts: Thoughts = "strip",
    output: Path | None = None,
) -> ScoredFile:
    """Score each line of a file by each scorer.

    Keys of a line other than id, input or messages, output, reference and context are ignored.

    Args:
        path: the JSONL file.
        scorers: names, or YAML mappings as in `eval.scorers`:
            `"{name: equals, options: {mode: exact}}"`.
        backend: for scorers that name none themselves.
        thoughts: whether scorers see text between `<think>` and `</think>` in an output: `strip`
            or `keep`.
        output: JSONL to write the scores to, a row per scorer and line.

    Returns:
        Counts; without `output`, the rows too: id, scorer, score in [0, 1] or None, reason,
        evidence.

    Raises:
        UsageError: a broken line, a missing key, a duplicate id or scorer, an unknown scorer or
            option, or forbidden custom code; `output` exists, or cannot be written. Or no row could
            be scored: `output` then has the reason for each.
    """
    if output is not None:
        check_writable(output)
    rows = _score_rows(path, scorers, backend=backend, thoughts=thoughts)
    if output is not None:
        write_jsonl(output, rows)
    if rows and all(row["score"] is None for row in rows):
        reasons = dict.fromkeys(f"{row['scorer']}: {row['reason']}" for row in rows)
        lines = "\n  ".join([*reasons][:_MOST_REASONS])
        kept = f" ({output} has each row's reason)" if output else ""
        raise UsageError(f"{path}: nothing could be scored{kept}:\n  {lines}")
    return ScoredFile(
        file=output,
        scores=len(rows),
        missing=sum(row["score"] is None for row in rows),
        judge_tokens=judge_tokens(item for row in rows for item in row["evidence"]),
        rows=rows if output is None else None,
    )


def _score_rows(
    path: Path, scorers: Sequence[str], *, backend: str | None, thoughts: Thoughts
) -> tuple[ScoreRow, ...]:
    configs = chosen_scorers(scorers, known=())
    for config in configs:
        refuse_custom_code(config, backend)
    samples = [sample for _, _, sample in read_samples(path)]
    made = {
        config.name: make_scorer(config, thoughts=thoughts, place="--scorer", backend=backend)
        for config in configs
    }
    scores = {name: scorer.score(samples) for name, scorer in made.items()}
    return cast(tuple[ScoreRow, ...], tuple(score_rows(samples, {None: Run((), scores)})))


def judge_tokens(evidence: Iterable[Mapping[str, Any]]) -> JudgeTokens:
    """Sum the judge's tokens from the evidence of scores."""
    costs = [item["judge"] for item in evidence if "judge" in item]
    return JudgeTokens(
        read=sum(cost["prompt_tokens"] for cost in costs),
        written=sum(cost["completion_tokens"] for cost in costs),
    )


def chosen_scorers(texts: Sequence[str], *, known: Sequence[ScorerConfig]) -> list[ScorerConfig]:
    """Read the scorers given by --scorer options.

    Args:
        texts: see `read_scorer`.
        known: configured scorers: a bare name selects the one of that name.

    Raises:
        UsageError: one is not a scorer, is a duplicate, or is forbidden custom code.
    """
    configured = {config.name: config for config in known}
    chosen = [configured.get(text) or read_scorer(text) for text in texts]
    names = [config.name for config in chosen]
    for config in chosen:
        if names.count(config.name) > 1:
            raise UsageError(f"--scorer: duplicate scorer {config.name!r}; names must be unique")
        refuse_custom_code(config, None)
    return chosen


def read_scorer(text: str) -> ScorerConfig:
    """Read a scorer: its name, `NAME:MODE`, or a YAML mapping as in `eval.scorers`.

    Raises:
        UsageError: it is none of these, or the scorer has no modes.
    """
    if not text.lstrip().startswith("{"):
        return _with_mode(text)
    document = marked_yaml.parse(text, Path("--scorer"))
    return validate(ScorerConfig, document, where="--scorer")


def _with_mode(text: str) -> ScorerConfig:
    """Read the name and mode of a built-in scorer that has modes."""
    name, colon, mode = text.partition(":")
    if not colon or name not in SCORERS or name in FAMILIES:
        return ScorerConfig(name=text)
    modal = [each for each in SCORERS if each not in FAMILIES and takes_option(each, "mode")]
    if name not in modal:
        raise UsageError(f"--scorer {text}: {name} has no modes ({', '.join(modal)} have)")
    return ScorerConfig(name=name, options={"mode": mode})


def refuse_custom_code(config: ScorerConfig, backend: str | None) -> None:
    """Refuse a scorer or backend that is custom code, if custom code is forbidden.

    Raises:
        UsageError: it is forbidden.
    """
    for option, named in (("scorer", config.name), ("backend", config.backend or backend)):
        if named is not None and custom_code.names_code(named):
            custom_code.refuse(named, place=f"--{option}")


def read_samples(path: Path) -> list[tuple[int, dict[str, Any], Sample]]:
    """Read the rows of a JSONL file: line number, all keys, and the sample.

    Raises:
        UsageError: a broken line, a missing key, a duplicate id, or no rows.
    """
    samples: list[tuple[int, dict[str, Any], Sample]] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        place = f"{path}:{number}"
        for key in ("id", "output"):
            if not isinstance(row.get(key), str):
                raise UsageError(f"{place}: {key!r} must be a string; found {shown(row.get(key))}")
        if row["id"] in seen:
            raise UsageError(
                f"{place}: duplicate id {shown(row['id'])} (first on line {seen[row['id']]})"
            )
        seen[row["id"]] = number
        reference = row.get("reference")
        alternatives = [reference] if isinstance(reference, str) else reference
        alternatives = [] if alternatives is None else alternatives
        if not isinstance(alternatives, list) or not all(
            isinstance(item, str) for item in alternatives
        ):
            raise UsageError(
                f"{place}: 'reference' must be a string or a list of strings; found "
                f"{shown(reference)}"
            )
        for key in ("input", "context"):
            if not isinstance(row.get(key), str | None):
                raise UsageError(f"{place}: {key!r} must be a string")
        turns = _turns(row, place=place)
        sample = Sample(
            id=row["id"],
            input=row.get("input") or next(reversed(asked_in(turns)), ""),
            output=row["output"],
            reference=tuple(alternatives) or None,
            context=row.get("context"),
            messages=turns,
        )
        samples.append((number, row, sample))
    if not samples:
        raise UsageError(f"{path}: no rows")
    return samples


def _turns(row: Mapping[str, Any], *, place: str) -> Sequence[Turn]:
    """Return the turns of a chat before its answer; none if the row is not a chat."""
    if row.get("messages") is None:
        return ()
    return before_answer(check_messages(row["messages"], (), place=place))
