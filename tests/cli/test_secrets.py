"""The key of a judge and an engine stands nowhere: a canary through the whole way of a release.

Whoever answers repeats the key in all that it says, and everything that is left is searched: files
of the workspace and the cache, what commands print, logs, spans and trackers.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Cli, Result
from tests.judge_server import Chat, Server, completion, serving, verdicts
from tests.services.test_telemetry import Collector, collector  # noqa: F401 - a fixture

CANARY = "sk-canary-7f3a9d51c0ffee"
NOWHERE = "http://127.0.0.1:9/v1"


def read(body: dict[str, Any]) -> Any:
    """A judge's chat has a fence; what the engine asks for has none."""
    return Chat(body) if len(body["messages"]) > 1 else body


def telling(chat: Any) -> dict[str, Any]:
    """Answer well, and repeat the key wherever there is room for a text."""
    if isinstance(chat, Chat):
        return completion(verdicts(chat, lambda point, text: True).replace("I looked", CANARY))
    return completion(f"It is red, said {CANARY}.") | {"model": f"m-{CANARY}"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        found.reads, found.script = read, telling
        yield found


@pytest.fixture
def checked(
    cli: Cli, workspace: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    """The command line; after the test, nothing that it left may hold the key."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("JUDGE_KEY", CANARY)
    said: list[str] = []

    def run(*arguments: object) -> Result:
        done = cli(*arguments)
        said.extend((done.out, done.err))
        return done

    yield run
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in "\n".join([*said, caplog.text])
    assert CANARY not in repr([vars(record) for record in caplog.records])


def settings(config: Path, server: Server, **changes: Any) -> Path:
    """Let a server write the outputs and judge them, both with the key."""
    data = yaml.safe_load(config.read_text("utf-8").replace("1e-3", "0.001"))
    options = {"base_url": server.url, "model": "m", "api_key_env": "JUDGE_KEY", "max_retries": 0}
    data["train"] |= {"max_steps": 1, "report_to": ["tensorboard"]}
    data["eval"] = {
        "max_new_tokens": 4,
        "engine": {"name": "openai", **options} | changes.get("engine", {}),
        "scorers": [
            {
                "name": "faithfulness",
                "backend": "judge",
                "options": options | changes.get("judge", {}),
            }
        ],
    }
    path = config.with_name("keyed.yaml")
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.mark.filterwarnings("ignore")
def test_the_key_is_used_on_the_whole_way_and_left_nowhere(
    checked: Cli,
    config: Path,
    server: Server,
    collector: Collector,  # noqa: F811
) -> None:
    keyed = settings(config, server)
    assert checked("train", keyed, "-o", "checkpoints/a").code == 0
    assert checked("eval", "a", "--bootstrap").code == 0
    assert checked("promote", "latest").code == 0
    for command in (
        ["eval", "a", "--json", "--junit", "v.xml", "--markdown", "v.md"],
        ["gate", "baseline", "latest"],
        ["gate", "baseline", "latest", "--json"],
        ["compare", "latest", "latest", "--json", "--markdown", "c.md"],
        ["report", "latest"],
        ["baseline", "colours", "--json"],
        ["checkpoints", "show", "a"],
        ["reproduce", "a", "--json"],
        ["doctor", "--json"],
    ):
        done = checked(*command)
        assert done.code in (0, 2, 3), done  # 2 where the machine is not to the doctor's liking
    assert server.authorizations == {f"Bearer {CANARY}"}
    outputs = "".join(path.read_text() for path in Path("evaluations").glob("*/outputs.jsonl"))
    assert "It is red, said [api key]." in outputs  # the server did repeat it
    scores = "".join(path.read_text() for path in Path("evaluations").glob("*/scores.jsonl"))
    assert "[api key] at point 1." in scores
    assert collector.spans
    assert CANARY not in repr([(span.attributes, span.events) for span in collector.spans])
    assert CANARY not in repr([log.body for log in collector.logs])


REFUSALS = [
    ("echo", "answered 401"),
    ((403, {}, f'{{"error": {{"message": "not {CANARY}"}}}}'), "answered 403"),
    ((302, {"Location": f"http://127.0.0.1:9/?key={CANARY}"}, CANARY), "answered 302"),
    ((200, {}, f"<html>{CANARY}"), "not a chat completion"),
    ("drop", "no answer from base_url"),
]


@pytest.mark.parametrize(("misdeed", "message"), REFUSALS, ids=[text for _, text in REFUSALS])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_server_that_refuses_the_key_and_repeats_it(
    misdeed: Any, message: str, options: tuple[str], checked: Cli, config: Path, server: Server
) -> None:
    Path("rows.jsonl").write_text('{"id": "a", "output": "It is red.", "context": "It is red."}\n')
    judge = {"base_url": server.url, "model": "m", "api_key_env": "JUDGE_KEY", "max_retries": 0}
    scorer = json.dumps({"name": "faithfulness", "backend": "judge", "options": judge})
    server.probe = misdeed
    done = checked("score", "rows.jsonl", "--scorer", scorer, *options)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("part", ["engine", "judge"])
def test_nobody_there_and_a_fault_of_ours_repeat_no_key(
    part: str, checked: Cli, config: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = settings(config, server, **{part: {"base_url": NOWHERE}})
    assert checked("train", keyed, "-o", "checkpoints/a", "-q").code == 0
    done = checked("eval", "a", "--no-gate")
    assert done.code == 2
    assert "no answer from base_url" in done.err

    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("a fault that nobody foresaw")

    # In the midst of a request, where the key is in a header of a frame on the stack.
    monkeypatch.setattr("urllib3.connectionpool.HTTPConnectionPool._make_request", broken)
    done = checked("eval", "a", "--no-gate", "--json")
    assert done.code == 70
    assert "Traceback" in done.err


@pytest.mark.parametrize("place", ["base_url", "api_key_env"])
def test_a_key_in_the_wrong_place_of_a_configuration_is_not_repeated(
    place: str, checked: Cli, config: Path, server: Server
) -> None:
    """The file itself holds it then, and the author is told to remove it."""
    wrong = {"base_url": f"http://me:{CANARY}@127.0.0.1:9/v1", "api_key_env": CANARY}[place]
    for part in ("engine", "judge"):
        keyed = settings(config, server, **{part: {place: wrong}})
        done = checked("train", keyed, "-o", "checkpoints/a", "-q")
        assert (done.code, f"{place} must be" in done.err) == (2, True)
        keyed.unlink()
    assert not Path("checkpoints").exists()
