"""Kept outputs are scored anew, and nobody's history dies of a scorer's new version."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftreg.files.store import write_record
from ftreg.jobs import rescore as job
from ftreg.scoring.equals import Equals
from tests.conftest import Cli, Result, rewrite_rows, write_dataset
from tests.jobs.test_printed import errors
from tests.judge_server import serving

RECORDS = Path(__file__).parents[1] / "records"
BASELINE = Path("baselines/colours.json")
STUCK = 'constant: [equals, "tests.fakes:length_scorer"]'  # a random model is never right
LOOSE = f"{{mode: threshold, margin: 1, anchor_margin: 1, min_examples: 4, {STUCK}}}"


@pytest.fixture
def release_1(workspace: Path) -> Path:
    """What release 0.1 left: an evaluation, promoted and pinned, and its rows."""
    shutil.copytree(RECORDS / "schema-1", workspace, dirs_exist_ok=True)
    if not Path("datasets").exists():  # `config` has written it
        write_dataset(workspace / "datasets")
    Path("loose.yaml").write_text(LOOSE)
    (old,) = Path("evaluations").iterdir()
    return old


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def header_of(name: str) -> Any:
    return read(Path("evaluations") / name / "evaluation.json")


def change_header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    header = read(folder / "evaluation.json")
    header.pop("digest", None)
    change(header)
    write_record(folder / "evaluation.json", header)


def told(cli: Cli, text: str) -> list[Result]:
    """Run the commands that a message names, as they stand there."""
    found = re.findall(r"`(ftreg .*?)`|^ +(ftreg .*)$", text, re.MULTILINE)
    commands = [first or second for first, second in found]
    assert commands, text
    return [cli(*shlex.split(command)[1:]) for command in commands]


def test_a_baseline_of_release_0_1_is_scored_anew(cli: Cli, release_1: Path) -> None:
    before, promoted = content(release_1), read(BASELINE)
    done = cli("rescore", release_1, "--json")
    candidate = done.json["evaluations"][0]["evaluation"]
    gate = ("gate", "baseline", candidate, "--policy", "loose.yaml")
    refused = cli(*gate)
    assert refused.code == 3
    assert f"version: 1 in the baseline, {Equals.version} in the candidate" in refused.err
    assert f"`ftreg rescore {BASELINE}`" in refused.err
    (done,) = told(cli, refused.err)
    assert done.code == 0, done
    decided = cli(*gate)
    assert decided.code == 0, decided
    # Both results are there, and all that the history says.
    assert {name: data for name, data in content(release_1).items() if name in before} == before
    now = read(BASELINE)
    header = now["baseline"]["header"]
    assert (header["rescored_from"], header["scorers"]["equals"]["version"]) == (
        release_1.name, Equals.version,
    )  # fmt: skip
    assert header == {key: header_of(header["id"])[key] for key in header}
    assert now["anchor"] == now["baseline"]
    assert now["baseline"]["scores"]["equals"] == dict.fromkeys(
        promoted["baseline"]["scores"]["equals"], 0.0
    )  # its outputs are empty
    *history, last = now["history"]
    assert history == promoted["history"]
    (replaced,) = last["replaced"]
    assert (replaced["evaluation"], replaced["by"]) == (release_1.name, header["id"])
    assert replaced["scorers"]["equals"]["version"] == 1
    assert replaced["summary"] == promoted["baseline"]["header"]["summary"]
    assert len(json.dumps(last)) < 4000  # no scores by example: the file is for git
    assert cli("baseline", "colours", "--json").json["history"][-1] == last
    assert cli("promote", "latest", "--force", "--why", "goes on").code == 0


def test_a_baseline_without_outputs_names_the_way_out(
    cli: Cli, config: Path, release_1: Path
) -> None:
    config.write_text(re.sub("    - {name.*\n", "", config.read_text()))  # the scorers of then
    shutil.rmtree("checkpoints")
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    shutil.rmtree("evaluations")
    before = BASELINE.read_bytes()
    assert cli("eval", "a", "--no-gate").code == 0
    refused = cli("rescore", "baseline")
    assert refused.code == 2
    assert f"{release_1} is missing, and the file has scores without outputs" in refused.err
    assert BASELINE.read_bytes() == before
    assert [done.code for done in told(cli, refused.err)] == [0, 0]
    history = cli("baseline", "colours", "--json").json["history"]
    assert (len(history), history[-1]["forced"]) == (2, True)
    # The anchor, which had the same outputs, is the next to be named.
    refused = cli("rescore", "baseline")
    assert (refused.code, "the anchor cannot be rescored" in refused.err) == (2, True)
    assert [done.code for done in told(cli, refused.err)] == [0, 0, 0]
    assert cli("rescore", "baseline").code == 0
    assert cli("eval", "a", "--policy", "loose.yaml").code == 0


@pytest.mark.parametrize("seeds", [None, [1, 2]])
def test_an_evaluation_keeps_both_results(
    seeds: list[int] | None, cli: Cli, talking_config: Path
) -> None:
    more = () if seeds is None else ("-s", f"train.seeds={seeds}")
    assert cli("train", talking_config, "-o", "checkpoints/a", *more).code == 0
    scorers = [
        {"name": "equals", "options": {"mode": "contains"}},
        {"name": "tests.fakes:length_scorer", "options": {"limit": 30}},
    ]
    done = cli("eval", "a", "--no-gate", "--json", "-s", f"eval.scorers={json.dumps(scorers)}")
    assert done.code == 0, done
    old = Path("evaluations") / done.json["candidate"]
    before = content(old)
    printed = cli("rescore", "latest", "--json")
    assert printed.code == 0, printed
    assert errors("rescoring", printed.json) == []
    (found,) = printed.json["evaluations"]
    assert (found["rescored_from"], printed.json["baseline"]) == (old.name, None)
    new = Path("evaluations") / found["evaluation"]
    assert content(old) == before
    for name in ("outputs.jsonl", "scores.jsonl"):  # nothing has changed since
        assert (new / name).read_bytes() == before[name]
    first, second = read(old / "evaluation.json"), read(new / "evaluation.json")
    differing = {key for key in second if second[key] != first.get(key)}
    assert differing == {"id", "created", "rescored_from", "digest"}
    assert [item["before"] for item in found["scorers"]] == [
        item["after"] for item in found["scorers"]
    ]
    # It is one to be gated, reported, compared and promoted.
    assert cli("gate", old, "latest", "--policy", "any.yaml").code == 2
    Path("any.yaml").write_text(LOOSE)
    assert cli("gate", old, "latest", "--policy", "any.yaml").code == 0
    assert cli("report", "latest").code == 0
    # Of an older one, which does not keep how its scorers are set up, their descriptions tell: the
    # checkpoint's configuration was overridden. Where neither does, there is a way out.
    change_header(old, lambda header: header.pop("scorer_configs"))
    again = cli("rescore", old, "--json").json["evaluations"][0]["evaluation"]
    assert header_of(again)["scorers"] == second["scorers"]
    change_header(old, lambda header: header["scorers"]["equals"]["options"].update(mode="gone"))
    refused = cli("rescore", old)
    assert refused.code == 2
    assert "the scorer equals cannot be set up as before" in refused.err
    assert "`ftreg eval`" in refused.err


def test_a_judge_is_set_up_again(cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("JUDGE_KEY", "sk-canary-0123456789abcdef")
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    with serving() as server:
        options = {"base_url": server.url, "model": "m", "api_key_env": "JUDGE_KEY"}
        scorer = {"name": "completeness", "backend": "judge", "options": options}
        done = cli("eval", "a", "--no-gate", "--json", "-s", f"eval.scorers={json.dumps([scorer])}")
        assert done.code == 0, done
        server.authorizations.clear()
        assert cli("rescore", "latest").code == 0
        assert server.authorizations == {"Bearer sk-canary-0123456789abcdef"}
        old = Path("evaluations") / done.json["candidate"]
        change_header(old, lambda header: header.pop("scorer_configs"))
        assert cli("rescore", old).code == 0
    for path in Path("evaluations").rglob("*.json*"):
        assert "canary" not in path.read_text()


def test_thoughts_are_seen_as_they_were_or_as_one_says(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftreg.generation.in_process import LocalEngine

    assert cli("train", config, "-o", "checkpoints/a").code == 0
    written = LocalEngine.write

    def thinking(self: Any, positions: Any, *, keep: Any, advance: Any) -> None:
        def kept(pairs: Any) -> None:
            keep([(at, replace(item, text=f"<think>{at}</think>red")) for at, item in pairs])

        written(self, positions, keep=kept, advance=advance)

    monkeypatch.setattr(LocalEngine, "write", thinking)
    assert cli("eval", "a", "--no-gate", "-s", "eval.thoughts=keep").code == 0
    (old,) = Path("evaluations").iterdir()

    def mean(*more: str) -> tuple[str, float]:
        done = cli("rescore", old, "--json", *more).json["evaluations"][0]
        header = header_of(done["evaluation"])
        return header["thoughts"], header["summary"]["equals"]["mean"]

    assert mean() == ("keep", 0.0)
    assert mean("--thoughts", "strip") == ("strip", 0.25)
    change_header(old, lambda header: (header.pop("thoughts"), header.pop("thoughts_in")))
    assert cli("promote", old).code == 0
    refused = cli("gate", "baseline", "latest")
    assert refused.code == 3
    assert f"`ftreg rescore {BASELINE} --thoughts strip`" in refused.err
    (done,) = told(cli, refused.err)
    assert done.code == 0
    assert "cannot be compared" not in cli("gate", "baseline", "latest").err
    assert mean() == ("strip", 0.25)  # of before there was a choice


def test_the_anchor_is_scored_anew_with_its_baseline(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    for option in (["--anchor"], ["--force", "--why", "b"]):
        assert cli("eval", "a", "--no-gate").code == 0
        assert cli("promote", "latest", *option).code == 0
    sides = read(BASELINE)
    old = [sides[side]["header"]["id"] for side in ("baseline", "anchor")]
    assert old[0] != old[1]
    done = cli("rescore", BASELINE, "--json").json
    assert [item["rescored_from"] for item in done["evaluations"]] == old
    sides = read(BASELINE)
    new = [sides[side]["header"]["id"] for side in ("baseline", "anchor")]
    assert new == [item["evaluation"] for item in done["evaluations"]]
    pairs = [(item["evaluation"], item["by"]) for item in sides["history"][-1]["replaced"]]
    assert pairs == list(zip(old, new, strict=True))
    # Its scores are those of the file, or it is not the one that was promoted.
    path = Path("evaluations") / new[1] / "scores.jsonl"
    shutil.copytree(path.parent, "kept")
    rewrite_rows(path, lambda rows: [{**row, "score": 0.5} for row in rows])
    before = BASELINE.read_bytes()
    refused = cli("rescore", "baseline")
    assert refused.code == 2
    assert "has different scores from those promoted" in refused.err
    assert BASELINE.read_bytes() == before


def test_what_is_not_at_hand_is_named(cli: Cli, release_1: Path) -> None:
    before = set(Path("evaluations").iterdir())
    shutil.move("datasets", "elsewhere")
    refused = cli("rescore", "latest")
    assert refused.code == 2
    assert "there is no dataset version colours@1" in refused.err
    assert "`--root FOLDER`" in refused.err
    assert cli("rescore", "latest", "--root", "elsewhere").code == 0
    shutil.rmtree("elsewhere")
    write_dataset(Path("datasets"), evaluation=[{"id": "x", "input": "?", "reference": "y"}])
    changed = cli("rescore", release_1)
    assert (changed.code, "these are not the rows" in changed.err) == (2, True)
    assert len(set(Path("evaluations").iterdir()) - before) == 1
    for ref, message in (("bseline", "is not an evaluation"), ("loose.yaml", "loose.yaml")):
        done = cli("rescore", ref)
        assert (done.code, message in done.err) == (2, True), done
    shutil.copy(BASELINE, "baselines/other.json")
    several = cli("rescore", "baseline")
    assert several.code == 2
    assert "ftreg rescore baselines/other.json" in several.err
    shutil.rmtree("baselines")
    assert "there is no baseline" in cli("rescore", "baseline").err


def test_custom_code_is_refused_before_it_is_imported(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    assert cli("eval", "a", "--no-gate").code == 0
    refused = cli("rescore", "latest", "--no-custom-code")
    assert refused.code == 2
    assert "tests.fakes:length_scorer is code not shipped with ftreg" in refused.err
    assert len(list(Path("evaluations").iterdir())) == 1


def test_an_interruption_loses_nothing(
    cli: Cli, release_1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (BASELINE.read_bytes(), content(release_1))

    def interrupted(self: Any, samples: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Equals, "score", interrupted)
        assert cli("rescore", "baseline").code == 130
    assert (BASELINE.read_bytes(), content(release_1)) == before
    assert list(Path("evaluations").iterdir()) == [release_1]
    assert cli("rescore", "baseline").code == 0


def test_a_baseline_that_moves_meanwhile_is_left_alone(
    cli: Cli, release_1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = job.replace_entries

    def late(path: Path, scored: Any) -> None:
        assert cli("promote", "latest", "--anchor", "--force", "--why", "meanwhile").code == 0
        in_time(path, scored)

    monkeypatch.setattr(job, "replace_entries", late)
    done = cli("rescore", "baseline")
    assert done.code == 2
    assert "it was moved while its outputs were scored" in done.err
    assert read(BASELINE)["history"][-1]["why"] == "meanwhile"
