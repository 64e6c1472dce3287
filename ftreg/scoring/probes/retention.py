"""Retention: how well a model still foretells texts that have nothing to do with the task."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ftreg.errors import UsageError
from ftreg.files.store import digest, read_jsonl
from ftreg.records.samples import Score
from ftreg.scoring.probes.questions import Answered, packaged_rows


class Retention:
    """exp(-mean loss per token) of general texts, an example a text.

    It is the geometric mean of the probabilities that the model gives to the tokens of a text, the
    inverse of its perplexity: 0.1 where the model hesitates as if between ten tokens.

    Args:
        texts: a JSONL file of your own with a `text` in each row, and perhaps an `id`; None takes
            150 packaged ones.

    Raises:
        UsageError: the file cannot be read, has no texts, or names two of them alike.
    """

    name = "retention"
    version = 1
    asks: Literal["loss"] = "loss"

    def __init__(self, *, texts: str | None = None) -> None:
        self.items = _packaged() if texts is None else _read(texts)

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready identity that makes two evaluations comparable."""
        return {
            "name": self.name,
            "version": self.version,
            "texts": len(self.items),
            "digest": digest(list(self.items.items())),
            "levels": None,
        }

    def judge(self, replies: Sequence[Answered]) -> list[Score]:
        """Return the score of each text; None where it is too short to have a loss."""
        return [_score(each) for each in replies]


def _score(found: Answered) -> Score:
    if found.loss is None:
        return Score(None, "the text has fewer than two tokens, and so no loss")
    evidence = ({"loss": round(found.loss, 4), "tokens": found.tokens},)
    if not math.isfinite(found.loss):
        return Score(None, f"the loss of the text is {found.loss}")
    return Score(math.exp(-max(found.loss, 0.0)), None, evidence)


def _packaged() -> dict[str, str]:
    return {row["id"]: row["text"] for row in packaged_rows("texts.jsonl")}


def _read(texts: Any) -> Mapping[str, str]:
    """Read the user's own texts."""
    if not isinstance(texts, str) or not texts:
        raise UsageError(f"retention: texts must be the path of a JSONL file, found {texts!r}")
    found: dict[str, str] = {}
    for number, row in read_jsonl(Path(texts)):
        place = f"{texts}:{number}"
        text, name = row.get("text"), row.get("id", f"text-{number}")
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{place}: retention needs a `text` that is not empty")
        if not isinstance(name, str):
            raise UsageError(f"{place}: the id must be a string, found {name!r}")
        if name in found:
            raise UsageError(f"{place}: the id {name!r} stands there again")
        found[name] = text
    if not found:
        raise UsageError(f"{texts}: retention needs texts, and there are none")
    return found
