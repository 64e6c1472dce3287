"""Read outputs made elsewhere, and match them with dataset rows.

A row needs only an id and an output. Files of other programs are recognized by their keys: batch
files of vLLM and OpenAI, samples of lm-evaluation-harness, logs of inspect, results of promptfoo
and test runs of deepeval.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftreg.data.sources.readers import open_source
from ftreg.data.sources.span_messages import loose
from ftreg.errors import UsageError, shown
from ftreg.files.reading import LARGEST_RECORD, LONGEST_LINE, parse_json, read_text
from ftreg.files.store import file_digest, read_jsonl
from ftreg.records.samples import Example, Output
from ftreg.records.turns import said

_MOST_NAMED = 5
_UNKNOWN = "unknown"
_TABLES = (".csv", ".tsv", ".parquet")
# Finish reasons of other programs for an output that was cut by a limit.
_CUT = ("length", "max_tokens", "model_length")
_ENDED = ("stop", "eos", "tool_calls")
_INPUTS = ("input", "question", "prompt", "query")


class _UnusableError(Exception):
    """A record has no model output; the message says what it has instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOutput:
    """An output as it is in a file.

    `id` is the id of its example, None if the file has none; `input` is the example's text, if
    given. `place` is the file and the line or record, for messages.
    """

    place: str
    id: str | None
    input: str | None
    text: str
    finish: str
    tokens: int | None


@dataclass(frozen=True, slots=True)
class _Form:
    """The format of a program: how its records are recognized, and what is read from them."""

    name: str
    knows: Callable[[Mapping[str, Any]], bool]
    take: Callable[[Mapping[str, Any]], dict[str, Any]]
    twice: str = "keep one of them"
    """What to do if a row has two outputs."""


@dataclass(frozen=True, slots=True)
class GivenOutputs:
    """The outputs of a file, in order; `form` is the name of their format."""

    path: Path
    form: str
    sha256: str | None
    outputs: Sequence[GivenOutput]
    twice: str


def read_given_outputs(path: Path) -> GivenOutputs:
    """Read a file of outputs: JSONL, JSON, CSV, TSV, Parquet or inspect's `.eval`.

    Raises:
        UsageError: it cannot be read, its format is unknown, or a record has no output; names the
            record.
    """
    form: _Form | None = None
    found = []
    for place, row in _records(path):
        if form is None:
            form = _form_of(row, place)
        try:
            taken = {"id": None, "input": None, "finish": None, "tokens": None, **form.take(row)}
        except _UnusableError as error:
            raise UsageError(f"{place}: {error}") from error
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{place}: this record is not from {form.name}, but the first one is ({error!r})"
            ) from error
        if not isinstance(taken["text"], str):
            raise UsageError(f"{place}: the output must be a string; found {shown(taken['text'])}")
        found.append(
            GivenOutput(
                place=place,
                id=taken["id"],
                input=taken["input"] if isinstance(taken["input"], str) else None,
                text=taken["text"],
                finish=_finish(taken["finish"]),
                tokens=taken["tokens"] if isinstance(taken["tokens"], int) else None,
            )
        )
    if form is None:
        raise UsageError(f"{path}: no rows")
    sha256 = file_digest(path) if path.is_file() else None  # a pipe can only be read once
    return GivenOutputs(path, form.name, sha256, found, form.twice)


def match_outputs(
    given: GivenOutputs, split: Iterable[Example], rows: Iterable[Example], *, name: str
) -> list[Output]:
    """Return the output of each row, in row order.

    A row's output is the one with its id. An output whose id is not in the split is matched by its
    input, if exactly one example has that text.

    Args:
        given: the outputs.
        split: all examples that may have outputs; outputs of others are errors.
        rows: the wanted rows.
        name: the dataset version and the split, for messages.

    Raises:
        UsageError: an output matches no row, two different outputs match one row, id and input
            match different rows, or a row has no output.
    """
    ids, by_input = set(), dict[str, str | None]()
    for example in split:
        ids.add(example.id)
        text = example.input.strip()
        by_input[text] = None if text in by_input else example.id
    found: dict[str, GivenOutput] = {}
    for output in given.outputs:
        owner = _owner(output, ids, by_input, name=name)
        first = found.setdefault(owner, output)
        if first.text != output.text:
            raise UsageError(
                f"{output.place}: a second, different output for the row {shown(owner)} (the "
                f"first: {first.place}); {given.twice}"
            )
    wanted = [example.id for example in rows]
    lacking = [each for each in wanted if each not in found]
    if lacking:
        raise UsageError(
            f"{given.path}: {len(lacking)} of {len(wanted)} rows of {name} have no output here: "
            f"{_some(lacking)}; an empty output counts as an output"
        )
    return [_output(each, found[each]) for each in wanted]


def _output(owner: str, given: GivenOutput) -> Output:
    return Output(id=owner, text=given.text, finish=given.finish, tokens=given.tokens)


def _owner(
    output: GivenOutput, ids: set[str], by_input: Mapping[str, str | None], *, name: str
) -> str:
    """Return the id of the row that an output answers."""
    by_text = None if output.input is None else by_input.get(output.input.strip())
    if output.id in ids:
        if by_text not in (None, output.id):
            raise UsageError(
                f"{output.place}: the id belongs to the row {shown(output.id)} of {name}, but the "
                f"input to {shown(by_text)}; is this another dataset version?"
            )
        return str(output.id)
    if by_text is not None:
        return by_text
    what = "it has no id" if output.id is None else f"the id {shown(output.id)} is none"
    also = "" if output.input is None else ", nor has a single row its input"
    raise UsageError(
        f"{output.place}: {what} of {name}{also}; select the dataset version that was answered "
        "with --dataset NAME@N"
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield location and content of each record of a file."""
    ending = path.suffix.lower()
    if ending in _TABLES:
        source = open_source(str(path), split="outputs")
        for number, row in source.rows():
            empty = {"output": ""} if row.get("output", "") is None else {}  # a CSV has no null
            yield source.place(number), {**row, **empty}
    elif ending == ".eval":
        yield from _archived(path)
    elif ending == ".json":
        text = read_text(path, most=LARGEST_RECORD, kind="file of outputs")
        content = parse_json(text, place=str(path), first_line=1)
        for number, row in enumerate(_list_in(content, path), start=1):
            if not isinstance(row, Mapping):
                raise UsageError(f"{path}: record {number} is not a JSON object: {shown(row)}")
            yield f"{path}: record {number}", row
    else:
        for number, row in read_jsonl(path):
            yield f"{path}:{number}", row


def _list_in(content: Any, path: Path) -> Sequence[Any]:
    """Return the records of a JSON document: a list, or from inspect, deepeval or promptfoo."""
    for key in ("results", "samples", "testCases", "test_cases"):
        for _ in range(2):  # promptfoo's results are in `results` of `results`
            if isinstance(content, Mapping) and key in content:
                content = content[key]
    if not isinstance(content, list):
        raise UsageError(
            f"{path}: no list of outputs in this JSON document; it must be a list of rows with id "
            "and output, a log of inspect, results of promptfoo, or a test run of deepeval"
        )
    return content


def _archived(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the samples of inspect's own log file, an archive with a file for each."""
    way_out = "convert it: inspect log convert --to json"
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.startswith("samples/")]
            for name in sorted(names):
                place = f"{path}: {name}"
                if archive.getinfo(name).file_size > LONGEST_LINE:
                    raise UsageError(f"{place}: too large for one sample")
                text = archive.read(name).decode()
                row = parse_json(text, place=place)
                if not isinstance(row, Mapping):
                    raise UsageError(f"{place}: not a JSON object")
                yield place, row
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: cannot read this log of inspect: {error}; {way_out}") from error


def _form_of(row: Mapping[str, Any], place: str) -> _Form:
    for form in _FORMS:
        if form.knows(row):
            return form
    known = ", ".join(form.name for form in _FORMS[:-1])
    raise UsageError(
        f"{place}: unknown format of outputs: a row must have 'id' and 'output', or be one of "
        f"{known}; found the keys {', '.join(map(str, row)) or 'of none'}"
    )


def _finish(told: Any) -> str:
    return "length" if told in _CUT else "stop" if told in _ENDED else _UNKNOWN


def _id(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _first(row: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _text_of(content: Any) -> str:
    """Return the text of a message, whose content may be in parts."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise _UnusableError(f"the answer has no text; found {shown(content)}")
    return content


def _answer(message: Mapping[str, Any]) -> str:
    """Return the assistant's text, and its function calls as most models write them."""
    if message.get("tool_calls"):
        return "\n".join(map(said, loose(message, "assistant")))
    return _text_of(message.get("content"))


def _from_batch(row: Mapping[str, Any]) -> dict[str, Any]:
    response = row["response"]
    if row.get("error") or response is None or response.get("status_code", 200) != 200:
        raise _UnusableError(f"the request failed: {shown(row.get('error') or response, most=200)}")
    choice = response["body"]["choices"][0]
    text = _text_of(choice["text"]) if "text" in choice else _answer(choice["message"])
    usage = response["body"].get("usage") or {}
    return {
        "id": _id(row["custom_id"]),
        "text": text,
        "finish": choice.get("finish_reason"),
        "tokens": usage.get("completion_tokens"),
    }


def _from_harness(row: Mapping[str, Any]) -> dict[str, Any]:
    doc = row.get("doc") or {}
    doc = doc if isinstance(doc, Mapping) else {}
    own, asked = _id(doc.get("id")), _first(doc, _INPUTS)
    text = row["resps"][0]
    text = text[0] if isinstance(text, list) else text
    if not isinstance(text, str):
        raise _UnusableError(
            f"a likelihood and no text ({shown(text)}); only generation tasks have outputs"
        )
    fallback = None if isinstance(asked, str) else _id(row["doc_id"])
    return {"id": own or fallback, "input": asked, "text": text}


def _from_inspect(row: Mapping[str, Any]) -> dict[str, Any]:
    if row.get("error"):
        raise _UnusableError(f"the sample failed: {shown(row['error'], most=200)}")
    output, asked = row["output"], row.get("input")
    if isinstance(asked, list):
        asked = next(
            (_text_of(item["content"]) for item in reversed(asked) if item.get("role") == "user"),
            None,
        )
    choice = output["choices"][0]
    return {
        "id": _id(row["id"]),
        "input": asked,
        "text": _answer(choice["message"]),
        "finish": choice.get("stop_reason"),
        "tokens": (output.get("usage") or {}).get("output_tokens"),
    }


def _from_promptfoo(row: Mapping[str, Any]) -> dict[str, Any]:
    response = row.get("response") or {}
    output = response.get("output")
    if output is None:
        why = response.get("error") or row.get("error")
        raise _UnusableError(f"there is no output: {shown(why, most=200)}")
    given = row.get("vars") or {}
    case = row.get("testCase") or {}
    metas = (given, case.get("metadata") or {}, row.get("metadata") or {})
    only = next(iter(given.values())) if len(given) == 1 else None
    return {
        "id": next((_id(meta["id"]) for meta in metas if "id" in meta), None),
        "input": _first(given, _INPUTS) or only,
        # If an output is JSON, promptfoo stores the parsed value.
        "text": output if isinstance(output, str) else json.dumps(output, ensure_ascii=False),
        "finish": response.get("finishReason"),
        "tokens": (response.get("tokenUsage") or {}).get("completion"),
    }


def _from_deepeval(row: Mapping[str, Any]) -> dict[str, Any]:
    meta = _first(row, ("additionalMetadata", "additional_metadata", "metadata")) or {}
    return {
        "id": _id(meta.get("id")) or _id(row.get("id")) or _id(row.get("name")),
        "input": row.get("input"),
        "text": _first(row, ("actualOutput", "actual_output")),
    }


def _from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    name = _id(row.get("id"))
    if name is None:
        raise _UnusableError(f"'id' must be a string; found {shown(row.get('id'))}")
    return {"id": name, "input": row.get("input"), "text": row.get("output"),
            "finish": row.get("finish"), "tokens": row.get("tokens")}  # fmt: skip


_FORMS = (
    _Form("a batch of vLLM", lambda row: {"custom_id", "response"} <= row.keys(), _from_batch),
    _Form(
        "lm-evaluation-harness",
        lambda row: {"doc_id", "resps"} <= row.keys(),
        _from_harness,
        "keep the rows of one of its repeats",
    ),
    _Form(
        "inspect",
        lambda row: isinstance(row.get("output"), Mapping) and "choices" in row["output"],
        _from_inspect,
        "evaluate one epoch at a time",
    ),
    _Form(
        "promptfoo",
        lambda row: "vars" in row and bool({"response", "testCase"} & row.keys()),
        _from_promptfoo,
        "keep the rows of one provider and one prompt",
    ),
    _Form(
        "deepeval", lambda row: bool({"actualOutput", "actual_output"} & row.keys()), _from_deepeval
    ),
    _Form("rows", lambda row: {"id", "output"} <= row.keys(), _from_row),
)
