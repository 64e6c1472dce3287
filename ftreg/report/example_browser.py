"""The data of the report's example browser: an index for filtering, and chunks of texts.

The index is read when the page opens, a chunk only when one of its examples is shown or searched.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftreg.errors import cut
from ftreg.files.store import damaged
from ftreg.records.evaluation.stored import read_findings, read_outputs
from ftreg.records.samples import Example
from ftreg.records.turns import asked_in, said
from ftreg.report import phrases
from ftreg.report.material import Material, Side

EXAMPLES_PER_CHUNK = 100
"""Examples whose texts are read together."""

_LONGEST_QUESTION = 120
"""Characters of an input that stand beside its id in the list."""
_LONGEST_TEXT = 20_000
"""Characters of a text that the page shows; the whole of it is in the files."""
# The key of the point in each kind of evidence; evidence without one is shown unchanged.
_KINDS = ("claim", "statement", "key_point")
_COLUMNS = ("support", "best", "checks")


def index(material: Material) -> dict[str, Any]:
    """Return what the browser filters and sorts by, JSON-ready, with one column per property.

    `asked` has the beginning of each input; `of` has the positions of each example's cohorts in
    `cohorts`; scores are in [0, 1] or null.
    """
    evaluation = material.evaluation
    ids = list(evaluation.cohorts)
    cohorts = sorted(
        {f"{tag}={value}" for tags in evaluation.cohorts.values() for tag, value in tags.items()}
    )
    place = {name: position for position, name in enumerate(cohorts)}
    names = list(evaluation.scores)

    def columns(side: Side | None) -> list[list[float | None]] | None:
        if side is None:
            return None
        return [[side.scores.get(name, {}).get(key) for key in ids] for name in names]

    card = material.dataset.card if material.dataset else None
    inputs = {example.id: _question(example) for example in material.examples}
    return {
        "ids": ids,
        "asked": [cut(" ".join(inputs.get(key, "").split()), _LONGEST_QUESTION) for key in ids],
        "critical": [key in evaluation.critical for key in ids],
        "cohorts": cohorts,
        "of": [
            [place[f"{tag}={value}"] for tag, value in evaluation.cohorts[key].items()]
            for key in ids
        ],
        "scorers": [{"name": name, "title": phrases.scorer_title(name)} for name in names],
        "candidate": columns(material.candidate),
        "baseline": columns(material.baseline),
        "labels": {side: phrases.named(item.header["checkpoint"])
                   for side, item in material.sides.items()},
        "code": card is not None and card.context_from == "input",
        "chunk": EXAMPLES_PER_CHUNK,
    }  # fmt: skip


def chunks(material: Material) -> Iterator[dict[str, Any]]:
    """Yield the texts of each hundred examples, JSON-ready.

    `texts` are the distinct texts, which `examples` refer to by position. Inputs, contexts and
    references need the dataset; outputs and evidence need the evaluation.

    Raises:
        UsageError: a row of an evaluation is damaged.
    """
    ids = list(material.evaluation.cohorts)
    rows = {example.id: example for example in material.examples}
    folders = {side: item.folder for side, item in material.sides.items()}
    known = set(ids)
    outputs = {
        side: read_outputs(folder, known) if folder else {} for side, folder in folders.items()
    }
    findings = {side: _findings(folder, known) for side, folder in folders.items()}
    for start in range(0, len(ids), EXAMPLES_PER_CHUNK):
        texts: dict[str, int] = {}
        examples = []
        for key in ids[start : start + EXAMPLES_PER_CHUNK]:
            sides = {
                side: {
                    **_output(outputs[side].get(key), texts),
                    "findings": findings[side].get(key, {}),
                }
                for side in material.sides
            }
            examples.append({**_asked(rows.get(key), texts), **sides})
        yield {"texts": list(texts), "examples": examples}


def _question(example: Example) -> str:
    """An example's question; for a chat, the user's first and last messages."""
    first, *more = asked_in(example.messages) or [example.input]
    return f"{first} \u2026 {more[-1]}" if more else first


def _asked(example: Example | None, texts: dict[str, int]) -> dict[str, Any]:
    if example is None:
        return {}
    return {
        "input": _kept(example.input, texts),
        **({"chat": _turns(example, texts)} if example.messages else {}),
        "context": None if example.context is None else _kept(example.context, texts),
        "references": [_kept(text, texts) for text in example.references],
    }


def _turns(example: Example, texts: dict[str, int]) -> list[dict[str, Any]]:
    """The tools of a chat, then its turns: the speaker and the text."""
    turns = [{"role": turn["role"], "text": _kept(said(turn), texts)} for turn in example.asked]
    if example.tools:
        declared = "\n".join(map(_declared, example.tools))
        turns.insert(0, {"role": "tools", "text": _kept(declared, texts)})
    return turns


def _declared(tool: Mapping[str, Any]) -> str:
    """A function as one line: its name, its parameters' names, and its description."""
    function = tool["function"]
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    names = ", ".join(map(str, properties or ()))
    about = function.get("description")
    return f"{function['name']}({names})" + (f": {about}" if about else "")


def _output(row: Mapping[str, Any] | None, texts: dict[str, int]) -> dict[str, Any]:
    if row is None:
        return {}
    return {"output": _kept(row["output"], texts), "cut": row.get("finish") == "length"}


def _kept(text: str, texts: dict[str, int]) -> int:
    more = len(text) - _LONGEST_TEXT
    if more > 0:
        text = (
            f"{text[:_LONGEST_TEXT]}\n[{more:,} more characters; the whole text is in the row of "
            "this id in outputs.jsonl, or in the dataset's file]"
        )
    return texts.setdefault(text, len(texts))


def _findings(folder: Path | None, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Example id to scorer to its reason and evidence, if any."""
    found: dict[str, dict[str, Any]] = {}
    if folder is None:
        return found
    for (scorer, name), row in read_findings(folder, ids).items():
        with damaged(folder, kind="evaluation"):
            evidence = [_evidence(item) for item in row["evidence"]]
            if evidence or row.get("reason"):
                found.setdefault(name, {})[scorer] = {
                    "reason": row.get("reason"),
                    "evidence": evidence,
                }
    return found


def _evidence(item: Mapping[str, Any]) -> dict[str, Any]:
    """One point with its evidence; `more` is everything else that the scorer says."""
    kind = next((name for name in _KINDS if isinstance(item.get(name), str)), None)
    if kind is None:
        return {"more": _plain(dict(item))}
    more = {key: value for key, value in item.items() if key not in (kind, *_COLUMNS)}
    support, best = item.get("support"), item.get("best")
    return {
        "kind": kind,
        "point": cut(item[kind], _LONGEST_TEXT),
        "support": support if isinstance(support, int | float) and math.isfinite(support) else None,
        "best": cut(best, _LONGEST_TEXT) if isinstance(best, str) else None,
        "checks": [str(check) for check in item.get("checks") or ()],
        **({"more": _plain(more)} if more else {}),
    }


def _plain(value: Any) -> Any:
    """A value that JSON can represent: a number that is not finite becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return cut(value, _LONGEST_TEXT)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
