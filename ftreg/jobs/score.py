"""Score a JSONL file of outputs made anywhere."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftreg.config import custom_code
from ftreg.config.load import validate
from ftreg.config.sections import ScorerConfig
from ftreg.errors import UsageError, shown
from ftreg.files import marked_yaml
from ftreg.files.store import read_jsonl
from ftreg.records.samples import Sample
from ftreg.scoring.factory import get_scorer
from ftreg.scoring.protocol import Scorer


def score_file(
    path: Path, *, scorers: list[str], backend: str | None = None
) -> list[dict[str, Any]]:
    """Return a row per scorer and line: id, scorer, score or None, reason, evidence.

    Keys of a line other than id, input, output, reference and context are left alone.

    Args:
        path: the JSONL file.
        scorers: names, or mappings in YAML as `eval.scorers` has them:
            `"{name: equals, options: {mode: exact}}"`.
        backend: for the scorers that name none themselves.

    Raises:
        UsageError: a broken line, a missing key, an id or a scorer that stands twice, an unknown
            scorer or option, or custom code where it is forbidden.
    """
    configs = [_config(text) for text in scorers]
    names = [config.name for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--scorer: {name} stands twice; scores are told apart by its name")
    for config in configs:
        for option, named in (("scorer", config.name), ("backend", config.backend or backend)):
            if named is not None and custom_code.names_code(named):
                custom_code.refuse(named, place=f"--{option}")
    samples = _samples(path)
    made = {config.name: _scorer(config, backend) for config in configs}
    rows = []
    for name, scorer in made.items():
        for sample, score in zip(samples, scorer.score(samples), strict=True):
            rows.append(
                {
                    "id": sample.id,
                    "scorer": name,
                    "score": score.value,
                    "reason": score.reason,
                    "evidence": [dict(item) for item in score.evidence],
                }
            )
    return rows


def judge_tokens(rows: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many tokens a judge read and wrote for these rows; the cache's answers cost 0."""
    costs = [item["judge"] for row in rows for item in row["evidence"] if "judge" in item]
    return (
        sum(cost["prompt_tokens"] for cost in costs),
        sum(cost["completion_tokens"] for cost in costs),
    )


def _config(text: str) -> ScorerConfig:
    if not text.lstrip().startswith("{"):
        return ScorerConfig(name=text)
    document = marked_yaml.parse(text, Path("--scorer"))
    return validate(ScorerConfig, document, where="--scorer")


def _scorer(config: ScorerConfig, backend: str | None) -> Scorer:
    for key in ("name", "backend"):
        if key in config.options:
            raise UsageError(f"--scorer: {config.name}: {key} does not belong into options")
    return get_scorer(config.name, backend=config.backend or backend, **config.options)


def _samples(path: Path) -> list[Sample]:
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        place = f"{path}:{number}"
        for key in ("id", "output"):
            if not isinstance(row.get(key), str):
                raise UsageError(f"{place}: {key!r} has to be a text; found {shown(row.get(key))}")
        if row["id"] in seen:
            raise UsageError(
                f"{place}: the id {shown(row['id'])} stands here for the second time "
                f"(first on line {seen[row['id']]})"
            )
        seen[row["id"]] = number
        reference = row.get("reference")
        alternatives = [reference] if isinstance(reference, str) else reference or []
        if not isinstance(alternatives, list) or not all(
            isinstance(item, str) for item in alternatives
        ):
            raise UsageError(f"{place}: 'reference' has to be a text or a list of texts")
        for key in ("input", "context"):
            if not isinstance(row.get(key), str | None):
                raise UsageError(f"{place}: {key!r} has to be a text")
        samples.append(
            Sample(
                id=row["id"],
                input=row.get("input") or "",
                output=row["output"],
                reference=tuple(alternatives) or None,
                context=row.get("context"),
            )
        )
    if not samples:
        raise UsageError(f"{path}: no rows")
    return samples
