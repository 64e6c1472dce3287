"""Parallel processes, little memory, and a judge server that is killed."""

import contextlib
import json
import os
import resource
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.torture.harness import Done, Part, Process, Suite, Trial, run
from tests.torture.world import Command, check, complaint, evaluations


def at_once(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Let two to eight processes promote, evaluate, freeze, train or report at once."""
    rounds = suite.some(4)
    items = [
        (what, number)
        for what in ("promote", "freeze one draft", "freeze drafts", "eval", "train", "report")
        for number in ((2, 4, 8) if suite.scale == 1 else (4,))
        for _ in range(rounds)
    ]
    suite.each(part, partial(_at_once, suite, dict(commands)), items)


def _at_once(suite: Suite, commands: dict[str, Command], item: tuple[str, int]) -> Trial:
    what, number = item
    label = f"{what}, {number} at once"
    with suite.copy() as folder:
        if what == "freeze drafts":
            _drafts(folder, number)
        arguments = {
            "promote": lambda i: ["promote", "AB"[i % 2], "--force", "--why", f"number {i}"],
            "freeze one draft": lambda i: commands["freeze"].arguments,
            "freeze drafts": lambda i: [
                "data",
                "freeze",
                f"datasets/colours/draft-{i}",
                "--root",
                "datasets",
            ],
            "eval": lambda i: ["eval", "checkpoints/b", "--no-gate", "--quiet"],
            "train": lambda i: ["train", "run.yaml", "-o", "checkpoints/new"],
            "report": lambda i: ["report", "B"],
        }[what]
        begun = [Process(arguments(i), cwd=folder) for i in range(number)]
        ended = [process.wait() for process in begun]
        failures = []
        for done in ended:
            failures += complaint(done, label=label, allowed={0, 2})
        failures += [f"{label}: {text}" for text in _judge_of(what, ended, folder)]
        command = commands.get(what)
        if command is not None and what in ("promote", "report"):
            failures += check(command, folder, label=label).failures
        return Trial({"processes": number}, failures)


def _drafts(folder: Path, number: int) -> None:
    import shutil

    for index in range(number):
        draft = folder / f"datasets/colours/draft-{index}"
        shutil.copytree(folder / "datasets/colours/draft", draft)
        rows = draft / "eval.jsonl"
        lines = rows.read_text(encoding="utf-8").splitlines()
        last = {**json.loads(lines[-1]), "id": f"of draft {index}"}
        rows.write_text("\n".join([*lines[:-1], json.dumps(last), ""]), encoding="utf-8")


def _judge_of(what: str, ended: list[Done], folder: Path) -> list[str]:
    from ftreg.data import load_dataset
    from ftreg.records.baseline import read_history
    from ftreg.records.evaluation.stored import read_evaluation

    codes = [done.code for done in ended]
    if what == "promote":
        history = read_history(folder / "baselines/colours.json")
        reasons = sorted(str(item["why"]) for item in history[1:])
        if reasons != sorted(f"number {i}" for i in range(len(ended))) or any(codes):
            return [f"the history has {reasons}, exit codes {codes}"]
    if what == "freeze one draft":
        versions = sorted(path.name for path in (folder / "datasets/colours").glob("v*"))
        if codes.count(0) != 1 or versions != ["v1", "v2"]:
            return [f"exit codes {codes}, versions {versions}"]
    if what == "freeze drafts":
        ids = set()
        for number in range(2, len(ended) + 2):
            dataset = load_dataset(f"colours@{number}", root=folder / "datasets")
            dataset.verify("eval", reread=True)
            rows = (dataset.folder / "eval.jsonl").read_text(encoding="utf-8").splitlines()
            ids.add(json.loads(rows[-1])["id"])
        if any(codes) or len(ids) != len(ended):
            return [f"exit codes {codes}, {len(ids)} of {len(ended)} drafts became versions"]
    if what == "eval":
        made = evaluations(folder)
        texts = {(path / "outputs.jsonl").read_bytes() for path in made}
        for path in made:
            read_evaluation(path)
        if any(codes) or len(made) != len(ended) or len(texts) != 1:
            return [f"exit codes {codes}, {len(made)} evaluations, {len(texts)} different"]
    if what == "train" and codes.count(0) != 1:
        return [f"exit codes {codes}: {[done.brief() for done in ended]}"]
    if what == "report" and any(codes):
        return [f"exit codes {codes}"]
    return []


def memory(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Limit each command's address space to a few MiB above its use at the start."""
    sizes = [0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    chosen = suite.choose(sizes, suite.some(len(sizes), least=3))
    items = [(command, size) for command in commands.values() for size in chosen]
    suite.each(part, partial(_little, suite), items)


def _little(suite: Suite, item: tuple[Command, int]) -> Trial:
    command, size = item
    label = f"{command.name} with {size} MiB of memory"
    with suite.copy() as folder:
        done = run(*command.arguments, cwd=folder, before=partial(_limit_memory, size))
        failures = []
        # A library in Rust or C++ may abort if an allocation fails.
        if done.code != -signal.SIGABRT:
            failures += complaint(done, label=label, allowed={2, command.code})
        outcome = {2: "refused", -signal.SIGABRT: "ended by a library"}.get(done.code, "done")
        failures += check(command, folder, label=label).failures
        return Trial({outcome: 1}, failures)


def _limit_memory(mebibytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def judge(suite: Suite, commands: Mapping[str, Command], part: Part) -> None:
    """Kill the judge's server after its n-th answer, then restart it and run again."""
    items = list(range(0, 9)) if suite.scale == 1 else [0, 3]
    suite.each(part, partial(_dying_judge, suite), items)


def _dying_judge(suite: Suite, answers: int) -> Trial:
    label = f"a judge that dies after {answers} answers"
    failures = []
    with suite.copy() as folder:
        place = folder / "judge-address"
        server = serve_judge(place, answers)
        url = await_address(place)
        arguments = [
            "eval", "checkpoints/b", "--no-gate", "--quiet",
            "-s", f"eval.scorers=[{{name: faithfulness, backend: judge, options: {{model: m, "
            f"base_url: '{url}', max_retries: 1, timeout: 5, concurrency: 1}}}}]",
        ]  # fmt: skip
        done = run(*arguments, cwd=folder)
        failures += complaint(done, label=label, allowed={0, 2})
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        for made in evaluations(folder):
            rows = [json.loads(line) for line in (made / "scores.jsonl").read_text().splitlines()]
            nulls = [row for row in rows if row["score"] is None]
            if any(not row["reason"] for row in nulls):
                failures.append(f"{label}: a score is null without a reason")
            if not nulls and answers < len(rows):
                failures.append(f"{label}: {len(rows)} scores of {answers} answers")
        place.unlink()
        port = int(url.rpartition(":")[2].partition("/")[0])
        server = serve_judge(place, 10_000, port=port)
        await_address(place)
        done = run(*arguments, cwd=folder)
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        failures += complaint(done, label=f"{label}, then is back", allowed={0})
        if done.code == 0:
            rows_text = (evaluations(folder)[-1] / "scores.jsonl").read_text()
            if any(json.loads(line)["score"] is None for line in rows_text.splitlines()):
                failures.append(f"{label}, then is back: a score is null")
    return Trial({"refused" if not answers else "stored": 1}, failures)


def serve_judge(place: Path, answers: int, *, port: int = 0) -> int:
    """Start a judge in a separate process, killed after `answers` answers (-1: never).

    Writes the judge's address to `place`, and returns the process id.
    """
    child = os.fork()
    if child:
        return child
    try:
        from tests import judge_server

        left = answers

        def script(chat: object) -> dict[str, object]:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return judge_server.gullible(chat)  # type: ignore[arg-type]

        with judge_server.serving(port=port) as server:
            server.script = script
            place.with_suffix(".new").write_text(server.url)
            place.with_suffix(".new").rename(place)
            signal.pause()
    finally:
        os._exit(1)


def await_address(place: Path) -> str:
    import time

    for _ in range(1000):
        if place.exists():
            return place.read_text()
        time.sleep(0.02)
    raise TimeoutError("the judge did not start")
