"""Fuzz every file reader with atheris: only documented errors may be raised.

    pip install '.[fuzz]'
    python scripts/fuzz.py --seconds 120 --output runs/fuzz

Each reader runs in a separate process, on a corpus that this script creates; libFuzzer's corpus is
kept below `--output`, and the next run starts from it. An input that raises an error other than
ftreg's own, or takes 20 s of CPU time, 10 minutes in all or more than 2 GiB, is kept as `crash-*`,
`timeout-*` or `oom-*`, and the script exits with 1. `--reader NAME` runs one reader; `--input FILE`
shows what a reader returns for one file.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "tests" / "records" / "schema-1"
MOST_SECONDS = 20
"""CPU seconds for one input; wall-clock time would depend on other load."""
MOST_WAITING = 600
MOST_MIB = 2048
LONGEST = 16_384
"""Most bytes of a fuzzed input; limits on larger ones have their own tests."""

CONFIG = """\
base: {model: tiny}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-3, betas: [0.9, 0.99]}
train: &t {batch_size: 4, seeds: [1, 2]}
lora: {r: 8}
eval:
  scorers: [equals, {name: rubric, options: {criteria: "Good?", scale: [1, 5]}}]
gate: {margin: 0.03, margins: {equals: 0.1}, cohorts: [parity]}
"""
CARD = """\
name: colours
version: 1
license: MIT
description: Colours.
source: A test.
prompt: {user: "{context} {input}", system: null}
cohorts: [parity]
cluster: group
splits: {eval: {file: eval.jsonl, rows: 2, sha256: %s}}
""" % ("a" * 64)
RUBRIC = """\
{name: rubric, options: {criteria: "Is it polite?", scale: [1, 5],
 examples: [{output: "Hi.", score: 4, explanation: ok, input: Greet.}],
 base_url: "http://127.0.0.1:9/v1", model: m}}"""
ROW = {"id": "a", "input": "Which?", "context": "It is red.", "reference": ["red", "It is red."],
       "tags": {"parity": "odd", "group": "g"}, "critical": True}  # fmt: skip
OUTPUT = {"id": "a", "input": "Which?", "output": "red", "reference": "red", "context": "c"}
TABLE = 'id,input,reference,tags.parity\na,"Which, ""one""?\nTwo lines",red,odd\nb,é,,even\n'
SPANS = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "desk"}}]},
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "t",
                            "spanId": "s0",
                            "attributes": [
                                {
                                    "key": "retrieval.documents.0.document.content",
                                    "value": {"stringValue": "It is red."},
                                }
                            ],
                        },
                        {
                            "traceId": "t",
                            "spanId": "s1",
                            "events": [{"attributes": []}],
                            "attributes": [
                                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                {
                                    "key": "gen_ai.input.messages",
                                    "value": {
                                        "arrayValue": {
                                            "values": [
                                                {
                                                    "kvlistValue": {
                                                        "values": [
                                                            {
                                                                "key": "role",
                                                                "value": {"stringValue": "user"},
                                                            },
                                                            {
                                                                "key": "content",
                                                                "value": {"stringValue": "Which?"},
                                                            },
                                                        ]
                                                    }
                                                }
                                            ]
                                        }
                                    },
                                },
                                {
                                    "key": "gen_ai.output.messages",
                                    "value": {
                                        "stringValue": '[{"role":"assistant","content":"red"}]'
                                    },
                                },
                                {"key": "app.n", "value": {"intValue": "7"}},
                            ],
                        },
                    ]
                }
            ],
        }
    ]
}
TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"\r\n", b"\t", b"\x00", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\\u202e", b"\xe2\x80\xa8", b"\x1b[2J",
    b"NaN", b"-Infinity", b".nan", b"1e999", b"9" * 500, b"-0", b"true", b"null", b"~", b"*a",
    b"&a ", b"<<: ", b"? ", b"- ", b"--- ", b"%YAML 1.1", b"!!python/object:a.b ", b"!!binary ",
    b"!!int ", b"!!set ", b"|\n ", b"''", b"[" * 200, b'{"a":' * 200, b"- " * 400, b"# ",
    b"id", b"input", b"name", b"scores", b"extends: ", b"schema_version", b"\xf0\x9f\x91\xa9",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader: its valid inputs (`seeds`), and the function that reads one input in a folder.

    An error message about the input must contain `file`.
    """

    name: str
    seeds: tuple[bytes, ...]
    file: str
    read: Callable[[bytes, Path], Any]


def _file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes, Path], Any]:
    def reading(data: bytes, folder: Path) -> Any:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return reading


def _config(path: Path) -> Any:
    from ftreg.config import load_config
    from ftreg.files import marked_yaml

    return marked_yaml.dump(load_config(path).model_dump(mode="json"))


def _override(data: bytes, folder: Path) -> Any:
    from ftreg.config import load_config

    (folder / "run.yaml").write_text(CONFIG, encoding="utf-8")
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")  # as in an argument
    return load_config(folder / "run.yaml", overrides=[text])


def _policy(path: Path) -> Any:
    from ftreg.config.load import validate
    from ftreg.config.policy import GatePolicy
    from ftreg.files import marked_yaml

    return validate(GatePolicy, marked_yaml.read(path), where=str(path)).model_dump()


def _rubric(data: bytes, folder: Path) -> Any:
    from ftreg.config.load import validate
    from ftreg.config.sections import ScorerConfig
    from ftreg.files import marked_yaml
    from ftreg.files.store import digest
    from ftreg.scoring.rubric import Rubric
    from ftreg.services.chat.endpoint import Endpoint

    document = marked_yaml.parse(data.decode("utf-8", "surrogateescape"), Path("--scorer"))
    options = validate(ScorerConfig, document, where="--scorer").options
    judge = {field.name: options.pop(field.name) for field in fields(Endpoint)
             if field.name in options}  # fmt: skip
    Endpoint(**{"base_url": "", "model": "", **judge})
    known = {key: options[key] for key in ("criteria", "scale", "examples") if key in options}
    return digest(Rubric(backend=_Judge(), **{"criteria": "", **known}).describe())


class _Judge:
    """A judge that only has a description."""

    def describe(self) -> dict[str, Any]:
        return {"name": "judge"}

    def ask(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def _card(path: Path) -> Any:
    from ftreg.data.card import read_card

    return read_card(path.parent).digest


def _mapping(path: Path) -> Any:
    from ftreg.data.sources.mapping import parse_mapping

    return parse_mapping([], path)


def _rows(path: Path) -> Any:
    from ftreg.data.row_checks import read_examples, row_of
    from ftreg.files.store import write_jsonl

    return write_jsonl(path.with_suffix(".out"), map(row_of, read_examples(path)))


def _outputs(path: Path) -> Any:
    from ftreg.files.store import write_jsonl
    from ftreg.jobs.score import score_file

    return write_jsonl(path.with_suffix(".out"), score_file(path, scorers=["equals"]).rows or ())


def _import(form: str | None = None) -> Callable[[Path], Any]:
    def reading(path: Path) -> Any:
        from ftreg.data.sources.importing import import_version

        root = path.parent / "imported"
        shutil.rmtree(root, ignore_errors=True)
        return import_version(
            "set",
            {"eval": str(path)},
            root=root,
            mapping={"reference": "output"} if form else {},
            facts={"license": "MIT"},
            form=form,
        )

    return reading


def _manifest(data: bytes, folder: Path) -> Any:
    from ftreg.files.store import canonical_json
    from ftreg.records.recipe import recipe_of
    from ftreg.records.replicas import read_replicas

    (folder / "ftreg.json").write_bytes(data)
    return canonical_json(recipe_of(read_replicas(folder).first.manifest))


def _history(path: Path) -> Any:
    from ftreg.report.history import read_steps

    return read_steps(path.parent)


def _table(path: Path) -> Any:
    from ftreg.files.cache.table import Table

    table = Table("outputs")
    table.path = path
    before = table.get_many(_KEPT)
    table.put_many({"after": b"1"})
    after = table.get_many([*_KEPT, "after"])
    assert before.items() <= _KEPT.items()
    assert after.items() <= {**_KEPT, "after": b"1"}.items()
    return sorted(after)


def _workspace(folder: Path) -> tuple[Path, Path]:
    """Copy a stored workspace; returns the folders of its evaluation and of its baselines."""
    for name in ("evaluations", "baselines"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(RECORDS / name, folder / name)
    (evaluation,) = (folder / "evaluations").iterdir()
    return evaluation, folder / "baselines"


def _judged(name: str) -> Callable[[bytes, Path], Any]:
    """Gate, report and promote with one of the records replaced."""

    def reading(data: bytes, folder: Path) -> Any:
        from ftreg.jobs.gate_and_report import gate_and_report
        from ftreg.jobs.promote import promote, promotions
        from ftreg.jobs.report import write_html
        from ftreg.records.evaluation.stored import read_evaluation
        from ftreg.records.workspace import Workspace
        from ftreg.report.terminal import baseline_view, console, evaluation_view, verdict_view

        where, baselines = _workspace(folder)
        path = baselines / "colours.json"
        target = path if name == "colours.json" else where / name
        target.write_bytes(data)
        workspace = Workspace(folder)
        evaluation = read_evaluation(where)
        screen = console()
        screen.file = (folder / "screen").open("w", encoding="utf-8")
        with screen.file:
            if name == "gate.json":
                write_html(evaluation, workspace=workspace)
                return promote(evaluation, workspace=workspace)
            screen.print(evaluation_view(evaluation.header))
            result = gate_and_report(evaluation, workspace=workspace)
            view = verdict_view(
                result.verdict, baseline=result.baseline, candidate=result.candidate
            )
            screen.print(view)
            found = promotions("colours", workspace=workspace)
            screen.print(baseline_view(found.header, found.history, looks=found.looks))
            return promote(evaluation, workspace=workspace, force=True, why="fuzzing")

    return reading


def readers() -> dict[str, Reader]:
    """Return every reader by name, with its seeds."""
    (evaluation,) = (RECORDS / "evaluations").iterdir()
    row, output, spans = (json.dumps(item) for item in (ROW, OUTPUT, SPANS))
    found = [
        Reader("config", (CONFIG.encode(),), "run.yaml", _file("run.yaml", _config)),
        Reader("override", (b"optimizer.lr=1e-4", b"train={seed: 1}"), "-s", _override),
        Reader("policy", (b"margin: 0.03\nmargins: {equals: 0.1}\ncohorts: all\n",), "policy.yaml",
               _file("policy.yaml", _policy)),
        Reader("rubric", (RUBRIC.encode(),), "", _rubric),
        Reader("card", (CARD.encode(),), "dataset.yaml", _file("dataset.yaml", _card)),
        Reader("mapping", (b"input: question\ntags: {level: grade}\n",), "map.yaml",
               _file("map.yaml", _mapping)),
        Reader("dataset", (f"{row}\n".encode(),), "eval.jsonl", _file("eval.jsonl", _rows)),
        Reader("outputs", (f"{output}\n".encode(),), "outputs.jsonl",
               _file("outputs.jsonl", _outputs)),
        Reader("csv", (TABLE.encode(),), "", _file("rows.csv", _import())),
        Reader("jsonl", (f"{row}\n".encode(),), "", _file("rows.jsonl", _import())),
        Reader("otlp", (spans.encode(), json.dumps(SPANS, indent=1).encode()), "",
               _file("spans.json", _import("otel"))),
        Reader("parquet", (_parquet(),), "", _file("rows.parquet", _import())),
        Reader("manifest", ((RECORDS / "checkpoints/a/ftreg.json").read_bytes(),), "", _manifest),
        Reader("history", (b'{"step":1,"loss":2.5,"lr":0.1,"grad_norm":null,"step_size":0.1}\n',),
               "history.jsonl", _file("history.jsonl", _history)),
        Reader("table", (_kept_table(),), "", _file("outputs.sqlite", _table)),
        Reader("evaluation", ((evaluation / "evaluation.json").read_bytes(),), "",
               _judged("evaluation.json")),
        Reader("output-rows", ((evaluation / "outputs.jsonl").read_bytes(),), "",
               _judged("outputs.jsonl")),
        Reader("score-rows", ((evaluation / "scores.jsonl").read_bytes(),), "",
               _judged("scores.jsonl")),
        Reader("baseline", ((RECORDS / "baselines/colours.json").read_bytes(),), "",
               _judged("colours.json")),
        Reader("gate-record", (_gate_record(),), "", _judged("gate.json")),
    ]  # fmt: skip
    return {reader.name: reader for reader in found}


def _parquet() -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([ROW, ROW | {"id": "b"}]), sink)
    return sink.getvalue()


_KEPT = {"a": "é".encode(), "b": b"3" * 5000}


def _kept_table() -> bytes:
    from ftreg.files.cache.table import Table

    with tempfile.TemporaryDirectory() as folder:
        table = Table("outputs")
        table.path = Path(folder, "outputs.sqlite")
        table.put_many(_KEPT)
        return table.path.read_bytes()


def _gate_record() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (evaluation,) = (RECORDS / "evaluations").iterdir()
        _judged("evaluation.json")((evaluation / "evaluation.json").read_bytes(), Path(folder))
        record = json.loads(
            (Path(folder) / "evaluations" / evaluation.name / "gate.json").read_bytes()
        )
        del record["digest"]  # otherwise every mutated input would fail the digest check
        return json.dumps(record).encode()


def attempt(reader: Reader, data: bytes, folder: Path) -> str | None:
    """Read one input; returns the error message if it was rejected, else None.

    Raises:
        Exception: an undocumented error, or a message without the file's name: a fault.
    """
    from ftreg.errors import FtregError, UsageError

    try:
        reader.read(data, folder)
    except UsageError as error:
        message = str(error)
        if reader.file not in message:
            raise AssertionError(f"the message does not name {reader.file}: {message}") from error
        return message
    except (FtregError, OSError) as error:  # a command exits with 2 on an OSError too
        return str(error)
    return None


def _fuzz(name: str, *, seconds: int, output: Path) -> None:
    """Run libFuzzer in this process; it does not return."""
    import atheris

    corpus = output / name
    with tempfile.TemporaryDirectory(dir=_memory()) as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        # Modules imported here are instrumented; readers import when they read.
        with atheris.instrument_imports(include=["ftreg", "yaml"]):
            reader = readers()[name]
            for index, seed in enumerate(reader.seeds):
                (corpus / f"seed-{index}").write_bytes(seed)
                attempt(reader, seed, folder)
        words = corpus.with_suffix(".dict")
        escaped = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
        words.write_text("".join(f'"{token}"\n' for token in escaped), encoding="ascii")
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={seconds}",
                f"-max_len={LONGEST}",
                f"-timeout={MOST_WAITING}",
                f"-report_slow_units={MOST_WAITING}",
                f"-rss_limit_mb={MOST_MIB}",
                f"-artifact_prefix={corpus.parent}/{reader.name}-",
                f"-dict={words}",
                "-print_final_stats=1",
                "-seed=1",
                str(corpus),
            ],
            lambda data: _in_time(reader, data, folder),
        )
        atheris.Fuzz()


def _in_time(reader: Reader, data: bytes, folder: Path) -> None:
    began = time.process_time()
    attempt(reader, data, folder)
    spent = time.process_time() - began
    assert spent < MOST_SECONDS, f"{spent:.0f} s of the processor"


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _run(reader: Reader, *, seconds: int, output: Path) -> dict[str, Any]:
    corpus = output / reader.name
    corpus.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--reader", reader.name, "--seconds", str(seconds)]
    command += ["--output", str(output), "--in-process"]
    log = output / f"{reader.name}.log"
    with log.open("wb") as stream:
        code = subprocess.run(command, stdout=stream, stderr=stream, check=False).returncode
    text = log.read_text(encoding="utf-8", errors="replace")

    def last(pattern: str) -> int:
        found = re.findall(pattern, text)
        return int(found[-1]) if found else 0

    return {
        "reader": reader.name,
        "inputs": last(r"stat::number_of_executed_units: *(\d+)"),
        "new": last(r"stat::new_units_added: *(\d+)"),
        "coverage": last(r"cov: (\d+)"),
        "slowest_s": last(r"stat::slowest_unit_time_sec: *(\d+)"),
        "peak_mib": last(r"stat::peak_rss_mb: *(\d+)"),
        "exit": code,
        "found": sorted(path.name for path in output.glob(f"{reader.name}-*-*")),
    }


def main() -> None:
    """Fuzz, and print a row per reader."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reader", action="append", help="a name; without it all of them")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--output", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--input", type=Path, help="show what --reader makes of this file")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    output = given.output.resolve()
    if given.in_process:
        _fuzz(given.reader[0], seconds=given.seconds, output=output)
        return
    known = readers()
    chosen = [known[name] for name in given.reader or known]
    if given.input is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(attempt(chosen[0], given.input.read_bytes(), Path(folder)) or "read")
        return
    rows = []
    for reader in chosen:
        rows.append(_run(reader, seconds=given.seconds, output=output))
        print(json.dumps(rows[-1]), flush=True)
    print("\n| reader | inputs | kept | branches | slowest | peak |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['reader']} | {row['inputs']:,} | {row['new']:,} | {row['coverage']:,} "
            f"| {row['slowest_s']} s | {row['peak_mib']} MiB |"
        )
    sys.exit(any(row["exit"] or row["found"] for row in rows))


if __name__ == "__main__":
    main()
