"""`ftreg eval --outputs`: outputs that were made elsewhere are an evaluation like any other."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, Result, rows_of, write_dataset

Row = dict[str, Any]
RIGHT = {row["id"]: row["reference"][0] for row in rows_of(80)}
ASKED = {row["id"]: row["input"] for row in rows_of(80)}


@pytest.fixture
def evaluate(cli: Cli, workspace: Path) -> Callable[..., Result]:
    """Evaluate a file of outputs on 80 rows of colours."""
    write_dataset(workspace / "sample_datasets", evaluation=rows_of(80))

    def run(file: str, *arguments: object, name: str = "theirs") -> Result:
        given = ("--outputs", file, "--dataset", "colours@1", "--name", name)
        return cli("eval", *given, "--scorer", "equals", *arguments)

    return run


def _lines(name: str, rows: list[Row]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def _plain(name: str, outputs: dict[str, str]) -> str:
    return _lines(name, [{"id": key, "output": text} for key, text in outputs.items()])


def _header(pattern: str = "theirs-*") -> Row:
    (path,) = Path("evaluations").glob(f"{pattern}/evaluation.json")
    return dict(json.loads(path.read_text("utf-8")))


def test_outputs_are_gated_promoted_compared_and_reported(
    evaluate: Callable[..., Result], cli: Cli
) -> None:
    done = evaluate(_plain("ours.jsonl", RIGHT), "--bootstrap", name="ours")
    assert done.code == 0, done
    assert cli("promote", "latest").code == 0
    worse = {key: text if int(key[1:]) % 3 else "pink" for key, text in RIGHT.items()}
    done = evaluate(_plain("theirs.jsonl", worse), "--markdown", "comment.md", "--json")
    assert done.code == 1, done
    by_cohort = {row["cohort"]: row["candidate_mean"] for row in done.json["rows"]}
    assert by_cohort["all"] == pytest.approx(53 / 80)
    assert set(by_cohort) == {"all", "parity=even", "parity=odd"}
    text = Path("comment.md").read_text("utf-8")
    assert "theirs (recipe unknown) may not replace ours (recipe unknown)" in text
    assert "made elsewhere, and read from theirs.jsonl (rows)" in text
    assert "A recipe is unknown where ftreg did not train." in text
    page = next(Path("evaluations").glob("theirs-*/report.html")).read_text("utf-8")
    assert "recipe unknown" in page
    header = _header()
    assert header["checkpoint"]["recipe"] == {"recipe": "unknown"}
    assert header["checkpoint"]["lr"] is None
    assert header["generation"]["source"]["file"] == "theirs.jsonl"
    compared = cli("compare", "baseline", "latest", "--json", "--routes", "routes.yaml")
    assert compared.code == 0, compared
    labels = [item["label"] for item in compared.json["evaluations"]]
    assert labels == ["ours (recipe unknown)", "theirs (recipe unknown)"]
    for command in (["rescore", "latest"], ["report", "latest", "-o", "page.html"],
                    ["baseline", "colours"], ["power", header["id"]]):  # fmt: skip
        assert cli(*command).code == 0, command
    assert cli("promote", header["id"]).code == 2
    assert cli("promote", header["id"], "--force", "--why", "a test").code == 0


def test_the_identity_is_that_of_the_outputs(evaluate: Callable[..., Result]) -> None:
    rows = list(RIGHT.items())
    assert evaluate(_plain("a.jsonl", RIGHT), "--no-gate", name="a").code == 0
    assert evaluate(_plain("b.jsonl", dict(rows[::-1])), "--no-gate", name="b").code == 0
    assert evaluate(_plain("c.jsonl", RIGHT | {"e7": "x"}), "--no-gate", name="c").code == 0
    first, again, other = (_header(f"{n}-*")["checkpoint"]["identity"] for n in "abc")
    assert first == again != other


def _batch(key: str, text: str) -> Row:
    choice = {"index": 0, "message": {"role": "assistant", "content": text},
              "finish_reason": "length" if key == "e1" else "stop"}  # fmt: skip
    body = {"choices": [choice], "usage": {"completion_tokens": 3}}
    response = {"status_code": 200, "body": body}
    return {"id": "vllm-1", "custom_id": key, "response": response, "error": None}


def _harness(key: str, text: str) -> Row:
    doc = {"id": key, "input": ASKED[key]}
    return {"doc_id": int(key[1:]), "doc": doc, "target": "", "arguments": {}, "resps": [[text]],
            "filtered_resps": [text.upper()], "filter": "none", "exact_match": 0.0}  # fmt: skip


def _inspect(key: str, text: str) -> Row:
    parts = [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": text}]
    message = {"role": "assistant", "content": parts}
    output = {"model": "m", "choices": [{"message": message, "stop_reason": "stop"}]}
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED[key]}]
    # A sample without an id of its own is numbered from 1.
    return {"id": 1 + int(key[1:]), "epoch": 1, "input": asked, "target": "", "output": output}


def _promptfoo(key: str, text: str) -> Row:
    return {"promptIdx": 0, "testIdx": 0, "vars": {"question": ASKED[key]}, "success": True,
            "response": {"output": text, "tokenUsage": {"completion": 2}}}  # fmt: skip


def _deepeval(key: str, text: str) -> Row:
    return {"name": f"test_case_{key}", "input": ASKED[key], "actualOutput": text, "order": 0}


def _row(key: str, text: str) -> Row:
    return {"id": key, "output": text}


def _json(wrap: Callable[[list[Row]], Any]) -> Callable[[list[Row]], str]:
    def write(rows: list[Row]) -> str:
        Path("outputs.json").write_text(json.dumps(wrap(rows)), encoding="utf-8")
        return "outputs.json"

    return write


def _log(rows: list[Row]) -> str:
    with zipfile.ZipFile("log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        for row in rows:
            archive.writestr(f"samples/{row['id']}_epoch_1.json", json.dumps(row))
    return "log.eval"


def _csv(rows: list[Row]) -> str:
    lines = [f'{row["id"]},"{row["output"]}"' for row in rows]
    Path("outputs.csv").write_text("\n".join(["id,output", *lines]) + "\n", encoding="utf-8")
    return "outputs.csv"


@pytest.mark.parametrize(
    ("form", "make", "write"),
    [
        ("a batch of vLLM", _batch, lambda rows: _lines("x.jsonl", rows)),
        ("lm-evaluation-harness", _harness, lambda rows: _lines("samples_a.jsonl", rows * 2)),
        ("inspect", _inspect, _json(lambda rows: {"version": 2, "eval": {}, "samples": rows})),
        ("inspect", _inspect, _log),
        ("promptfoo", _promptfoo, _json(lambda rows: {"results": {"results": rows}})),
        ("promptfoo", _promptfoo, lambda rows: _lines("x.jsonl", rows)),
        ("deepeval", _deepeval, _json(lambda rows: {"testCases": rows})),
        ("rows", _row, _json(lambda rows: rows)),
        ("rows", _row, _csv),
    ],
)
def test_what_others_write_is_read(
    form: str,
    make: Callable[[str, str], Row],
    write: Callable[[list[Row]], str],
    evaluate: Callable[..., Result],
) -> None:
    """The rows may come in any order; each of ten is wrong, so that a shifted row would show."""
    texts = {key: "pink" if int(key[1:]) % 10 == 7 else text for key, text in RIGHT.items()}
    done = evaluate(
        write([make(key, text) for key, text in list(texts.items())[::-1]]), "--no-gate"
    )
    assert done.code == 0, done
    header = _header()
    assert header["generation"]["source"]["form"] == form
    (folder,) = Path("evaluations").iterdir()
    rows = [json.loads(line) for line in (folder / "outputs.jsonl").read_text().splitlines()]
    assert {row["id"]: row["output"] for row in rows} == texts
    assert header["generation"]["cut_off"] == {"a batch of vLLM": 1, "inspect": 0}.get(form)


def test_calls_of_functions_are_outputs(evaluate: Callable[..., Result]) -> None:
    """As a served checkpoint's are; and an id that is a number is the row of that name."""
    shutil.rmtree("sample_datasets")
    write_dataset(Path("sample_datasets"), evaluation=[{**rows_of(1)[0], "id": "7"}])
    function = {"name": "track", "arguments": '{"parcel": 7}'}
    message = {"role": "assistant", "content": None,
               "tool_calls": [{"id": "c", "type": "function", "function": function}]}  # fmt: skip
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    batch = {"custom_id": "7", "response": {"status_code": 200, "body": {"choices": [choice]}}}
    call = {"id": "c", "function": "track", "arguments": {"parcel": 7}}
    theirs = {"role": "assistant", "content": "", "tool_calls": [call]}
    sample = {"id": "7", "output": {"choices": [{"message": theirs, "stop_reason": "tool_calls"}]}}
    wanted = '<tool_call>\n{"name": "track", "arguments": {"parcel": 7}}\n</tool_call>'
    for name, row in (("a", batch), ("b", sample), ("c", {"id": 7, "output": wanted})):
        done = evaluate(_lines("x.jsonl", [row]), "--no-gate", name=name)
        assert done.code == 0, done
        (path,) = Path("evaluations").glob(f"{name}-*/outputs.jsonl")
        assert json.loads(path.read_text())["output"] == wanted


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([_row("e0", "a")], "79 of 80 rows of colours@1 (eval) have no output here: e1, e2, e3"),
        ([_row("x", "a")], "outputs.jsonl:1: the id 'x' is none of colours@1 (eval)"),
        ([_row("e0", "a"), _row("e0", "b")], ":2: a second, different output for the row 'e0'"),
        ([{"id": "e0", "output": None}], ":1: the output must be a string; found None"),
        ([{"id": 0.5, "output": "a"}], ":1: 'id' must be a string; found 0.5"),
        ([{"id": "e0", "output": "a", "input": ASKED["e3"]}], "but the input to 'e3'"),
        ([{"text": "a"}], "unknown format of outputs"),
        ([_batch("e0", "a") | {"error": {"code": "timeout"}}], "the request failed"),
        ([_harness("e0", "a") | {"resps": [[[-1.5, False]]]}], "a likelihood and no text"),
        ([_inspect("e0", "a") | {"error": {"message": "no key"}}], "the sample failed"),
        ([_promptfoo("e0", "a") | {"response": {"error": "429"}}], "there is no output: '429'"),
        ([_batch("e0", "a"), _row("e1", "a")], ":2: this record is not from a batch of vLLM"),
        ([], "no rows"),
    ],
)
def test_what_cannot_be_an_evaluation_is_refused(
    rows: list[Row], said: str, evaluate: Callable[..., Result]
) -> None:
    done = evaluate(_lines("outputs.jsonl", rows))
    assert done.code == 2, done
    assert said in " ".join(done.err.split())
    assert not list(Path().glob("evaluations/*/evaluation.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--outputs", "o.jsonl", "--dataset", "colours@1"], "--outputs needs --name"),
        (["tiny", "--outputs", "o.jsonl", "--name", "a"], "remove one of them"),
        (["tiny", "--name", "a"], "--name needs --outputs"),
        ([], "name a checkpoint or a model, or a file of outputs"),
        (["--outputs", "o.jsonl", "--name", "a"], "name the dataset version"),
        (["--outputs", "o.jsonl", "--name", "../a", "--dataset", "colours@1"], "../a"),
        (["--outputs", "o.jsonl", "--name", "a", "--dataset", "colours@1", "-s", "base.model=x"],
         "this was not trained by ftreg"),
        (["--outputs", "no.jsonl", "--name", "a", "--dataset", "colours@1"], "no.jsonl: no such"),
        (["--outputs", "no.eval", "--name", "a", "--dataset", "colours@1"], "no.eval: no such"),
        (["--outputs", "o.jsonl", "--name", "a", "--dataset", "colours@1", "--until-decided",
          "--against", "latest"], "the outputs already exist"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_go_together(
    arguments: list[str], said: str, evaluate: Callable[..., Result], cli: Cli
) -> None:
    _plain("o.jsonl", RIGHT)
    if "--until-decided" in arguments:
        assert evaluate("o.jsonl", "--no-gate").code == 0
    done = cli("eval", *arguments)
    assert done.code == 2, done
    assert said in " ".join(done.err.split())


def test_settings_come_from_the_baseline_a_file_and_options(
    evaluate: Callable[..., Result], cli: Cli
) -> None:
    file = _plain("o.jsonl", RIGHT)
    given = ("--outputs", file, "--dataset", "colours@1")
    Path("eval.yaml").write_text(
        "eval: {scorers: [{name: equals, options: {mode: contains}}, json_schema]}\n"
        "gate: {margin: 0.3, margins: {equals: 0.2, faithfulness: 0.1}, constant: [equals]}\n"
        "optimizer: {name: lion}\n"
    )
    done = cli("eval", *given, "--name", "a", "--config", "eval.yaml", "--scorer", "equals",
               "--bootstrap")  # fmt: skip
    assert done.code == 0, done
    assert "gate.margins.faithfulness is left out: no scorer of that name" in done.err
    header = _header("a-*")
    assert [item["name"] for item in header["scorer_configs"]] == ["equals"]
    assert header["scorers"]["equals"]["options"]["mode"] == "contains"  # as it is configured
    assert (header["policy"]["margin"], header["policy"]["margins"]) == (0.3, {"equals": 0.2})
    assert cli("promote", "latest").code == 0
    done = cli("eval", *given, "--name", "b")
    assert done.code == 0, done
    assert f"evaluated like {header['id']}" in done.err
    assert _header("b-*")["policy"] == header["policy"]
    assert cli("eval", *given, "--name", "e", "--no-gate").code == 0  # to be gated later
    assert _header("e-*")["policy"] == header["policy"]
    assert cli("eval", *given, "--name", "c", "--scorer", "equals:exact").code == 3
    assert _header("c-*")["scorers"]["equals"]["options"]["mode"] == "exact"
    for option, said in (
        (("--scorer", "equals:exat"), "exat"),
        (("--scorer", "faithfulness:exact"), "faithfulness has no modes (equals"),
        (("--scorer", "equals", "--scorer", "equals:exact"), "duplicate scorer 'equals'"),
        (("--config", "none.yaml"), "none.yaml"),
        (("-s", "gate.margins.equls=0.1"), "did you mean equals?"),
    ):
        done = cli("eval", *given, "--name", "d", *option)
        assert done.code == 2, done
        assert said in done.err
    Path("eval.yaml").write_text("evall: {}\n")
    done = cli("eval", *given, "--name", "d", "--config", "eval.yaml")
    assert done.code == 2
    assert "eval.yaml:1: 'evall' is not a section of a configuration; did you mean" in done.err
