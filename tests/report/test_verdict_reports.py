"""What a gate tells: worst examples, annotations, and what is made of older and newer records."""

import itertools
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ftreg.gate import GatePolicy, compare
from ftreg.report.ci import write_junit
from ftreg.report.markdown import escaped
from ftreg.report.phrases import more_sentences
from tests.conftest import Cli, rewrite_rows, rows_of, write_dataset


@pytest.fixture
def checkpoint(cli: Cli, config: Path) -> str:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    return "checkpoints/a"


def _evaluated(cli: Cli, change: Any, *arguments: str) -> Path:
    """An evaluation whose rows of outputs and scores are changed, as another checkpoint's."""
    before = set(Path("evaluations").glob("*"))
    assert cli("eval", "checkpoints/a", "--no-gate", *arguments).code == 0
    (folder,) = set(Path("evaluations").glob("*")) - before
    for name in ("outputs", "scores"):
        rewrite_rows(
            folder / f"{name}.jsonl", lambda rows: [{**row, **change(row)} for row in rows]
        )
    return folder


def _side(output: str, score: float, **point: Any) -> Any:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        worst = row["id"] == "e3"
        if "scorer" not in row:
            return {"output": output if worst else "as before"}
        if row["scorer"] != "equals":
            return {"score": 0.5, "reason": None}
        value = {"score": score if worst else 0.9, "reason": None}
        return {**value, "evidence": [point] if worst and point else []}

    return change


def _drop(cli: Cli) -> tuple[Path, Path]:
    good = _side("It is white.", 0.9, claim="It is white.", support=0.97, best="Item 3 is white.")
    bad = _side(
        "<b>pink</b> | @property\nand so on", 0.1, claim="*Pink*.", support=0.12,
        best="Item 3 is black.", checks=["name"],
    )  # fmt: skip
    return _evaluated(cli, good), _evaluated(cli, bad)


def test_the_worst_examples_stand_side_by_side_with_their_evidence(
    cli: Cli, checkpoint: str
) -> None:
    baseline, candidate = _drop(cli)
    assert cli("promote", baseline).code == 0
    assert cli("gate", "baseline", candidate).code != 0
    report = (candidate / "report.md").read_text()
    worst = report.partition("## Examples that dropped most")[2].partition("\n## ")[0]
    assert worst.count("### ") == 1
    for line in (
        "### e3",
        "**input:** Which colour has item 3?",
        "**reference:** black / It is black.",
        "| output | It is white. | &lt;b>pink&lt;/b> \\| <code>@</code>property<br>and so on |",
        "| equals -80.0 | 90.0 | 10.0 |",
        '| evidence | supported (97.0): "It is white."; nearest: "Item 3 is white." | '
        'not supported (12.0): "\\*Pink\\*.", against it: name; nearest: "Item 3 is black." |',
    ):
        assert line in worst.splitlines(), worst


def test_a_page_shows_the_beginning_of_a_long_text(
    cli: Cli, checkpoint: str, workspace: Path
) -> None:
    rows = rows_of(4)
    for row in rows:
        row["reference"] = "blue " * 100_000
    write_dataset(workspace / "datasets", name="long", evaluation=rows)
    assert cli("eval", checkpoint, "--dataset", "long@1", "--no-gate").code == 0
    assert cli("report", "latest", "-o", "page.html").code == 0
    page = Path("page.html").read_text()
    assert len(page) < 1_000_000
    assert "[480,000 more characters; the whole text is in" in page


def test_nothing_in_a_text_is_live() -> None:
    """Neither a link, a mention, a reference to an issue nor markup; a version stays readable."""
    text = "`see` https://evil.x, www.evil.x, a@b.cc, @you, GH-12, o/r#4, <b>&lt; ferry@2 *x*"
    text += " g/p!1, %2, &3; 5%6"
    assert escaped(text) == (
        "\\`see\\` https<code>:</code>//evil.x, www<code>.</code>evil.x, a<code>@</code>b.cc, "
        "<code>@</code>you, GH<code>-</code>12, o/r<code>#</code>4, &lt;b>&amp;lt; ferry@2 \\*x\\*"
        " g/p<code>!</code>1, <code>%</code>2, <code>&amp;</code>3; 5%6"
    )


def test_a_checkpoints_name_frees_nothing(cli: Cli, checkpoint: str) -> None:
    name = Path(checkpoint).with_name("a` @you [x](y) `c")
    shutil.copytree(checkpoint, name)
    assert cli("eval", str(name), "--no-gate").code == 0
    assert cli("promote", "latest").code == 0
    assert cli("gate", "baseline", "latest").code in (0, 3)
    (report,) = Path("evaluations").glob("*/report.md")
    assert "@you" not in report.read_text()


def test_a_baseline_in_git_has_its_scores_alone(cli: Cli, checkpoint: str) -> None:
    baseline, candidate = _drop(cli)
    assert cli("promote", baseline).code == 0
    shutil.rmtree(baseline)
    assert cli("gate", "baseline", candidate).code != 0
    report = (candidate / "report.md").read_text()
    assert "a baseline in git has its scores alone" in report
    assert "| output | (not at hand) | &lt;b>pink" in report
    assert "| equals -80.0 | 90.0 | 10.0 |" in report


def test_a_comment_is_cut_to_what_github_takes(
    cli: Cli, checkpoint: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(200)
    for index, row in enumerate(rows):
        row["tags"]["parity"] = f"{index} {'löng ' * 100}"
    write_dataset(workspace / "datasets", version=2, evaluation=rows)
    evaluations = [
        _evaluated(cli, lambda row: {"score": 0.5, "reason": None}, "--dataset", "colours@2")
        for _ in "ab"
    ]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    done = cli("gate", *evaluations, "--markdown", "comment.md")
    assert done.code == 0, done
    report = (evaluations[1] / "report.md").read_text()
    comment = Path("comment.md").read_text()
    assert len(report.encode()) > 65_536 >= len(comment.encode()) > 60_000
    *lines, _, last = comment.splitlines()
    assert report.splitlines()[: len(lines)] == lines
    assert "ends here" in last
    assert Path("summary.md").read_text() == report.rstrip("\n") + "\n\n"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(workspace))


@pytest.mark.usefixtures("github")
def test_errors_become_annotations_that_point_at_the_line(
    cli: Cli, config: Path, workspace: Path
) -> None:
    text = (
        config.read_text().replace("batch_size: 4", "batch_sise: 4").replace("lr: 1e-3", "lr: -1")
    )
    folder = workspace / "a,b"
    folder.mkdir()
    (folder / "run.yaml").write_text(text)
    done = cli("train", folder / "run.yaml")
    assert done.code == 2
    lines = [line for line in done.err.splitlines() if line.startswith("::")]
    places = {line.rpartition(",title=")[0] for line in lines}
    wanted = [
        index
        for index, line in enumerate(text.splitlines(), 1)
        if "sise" in line or "lr: -1" in line
    ]
    assert places == {f"::error file=a%2Cb/run.yaml,line={number}" for number in wanted}
    assert all(",title=ftreg ended with 2::" in line for line in lines)


@pytest.mark.usefixtures("github")
def test_an_undecided_verdict_is_an_error_only_where_it_stops_the_job(
    cli: Cli, checkpoint: str
) -> None:
    assert (
        "::error title=ftreg ended with 3::baselines/colours.json: there is no"
        in cli("eval", checkpoint).err
    )
    first, second = (_evaluated(cli, _side("", 0.9)) for _ in range(2))
    assert cli("promote", first).code == 0
    place = "file=baselines/colours.json,title=ftreg gate%3A undecided::equals: "
    for allowed, code, level in (("false", 3, "error"), ("true", 0, "warning")):
        Path("policy.yaml").write_text(f"{{min_examples: 50, allow_undecided: {allowed}}}")
        done = cli("gate", "baseline", second, "--policy", "policy.yaml")
        assert done.code == code, done
        assert f"::{level} {place}" in done.err


def test_eval_takes_a_policy_too(cli: Cli, checkpoint: str) -> None:
    assert cli("promote", _evaluated(cli, lambda row: {})).code == 0
    Path("policy.yaml").write_text("{min_examples: 50, allow_undecided: true}")
    done = cli("eval", checkpoint, "--policy", "policy.yaml", "--json")
    assert done.json["policy"]["min_examples"] == 50
    assert (done.code, done.json["outcome"]) == (0, "undecided")


def test_rows_of_one_side_are_named(cli: Cli, checkpoint: str, workspace: Path) -> None:
    write_dataset(workspace / "datasets", version=2, evaluation=[*rows_of(2), *rows_of(7, "new")])
    assert cli("promote", _evaluated(cli, lambda row: {})).code == 0
    done = cli("gate", "baseline", _evaluated(cli, lambda row: {}, "--dataset", "colours@2"))
    assert done.code == 3
    assert "rows in the baseline only: e2, e3, e4, e5, e6 and 1 more" in done.err
    assert "rows in the candidate only: new0, new1, new2, new3, new4 and 2 more" in done.err


def test_what_fell_far_is_told_though_the_mean_rose() -> None:
    before = {f"e{at:03d}": 0.7 for at in range(100)}
    after = {name: 0.75 if at else 0.1 for at, name in enumerate(before)}
    verdict = compare({"tone": before}, {"tone": after})
    (said,) = more_sentences(verdict)
    assert said.startswith("fell by 50 points or more") and said.endswith(": tone 1 of 100")
    assert more_sentences(compare({"tone": before}, {"tone": before})) == []


def test_junit_fails_if_and_only_if_the_exit_code_does(tmp_path: Path) -> None:
    """A CI that reads nothing but JUnit stops what the exit code stops, whatever the policy."""
    generator = np.random.default_rng(0)
    names = [f"e{at:03d}" for at in range(80)]
    before = dict(zip(names, generator.uniform(0.3, 0.8, 80).tolist(), strict=True))
    noise = dict(zip(names, generator.normal(0, 0.08, 80).tolist(), strict=True))
    tags = {name: {"half": "ab"[at % 2]} for at, name in enumerate(names)}
    candidates = {
        "equal": before,
        "noisy": {name: score + noise[name] for name, score in before.items()},
        "somewhat worse": {name: score + noise[name] / 2 - 0.03 for name, score in before.items()},
        "far worse": {name: score - 0.2 for name, score in before.items()},
        "half worse": {
            name: score - 0.2 * (tags[name]["half"] == "b") for name, score in before.items()
        },
        "unscored": {**before, **dict.fromkeys(names[:30])},
    }
    policies: list[dict[str, Any]] = [
        {},
        {"margin": 0.08, "cohorts": "all", "min_examples": 40},
        {"max_leaked": 0.1},
        {"floors": {"tone": 0.6}},
    ]
    seen = set()
    for after, critical, asked, allowed, worse in itertools.product(
        candidates.values(), ((), names[:1]), policies, (False, True), (False, True)
    ):
        verdict = compare(
            {"tone": before}, {"tone": after},
            GatePolicy(**asked, allow_undecided=allowed, allow_worse=worse),
            cohorts=tags, critical=critical, anchor={"tone": before}, leaked=0.2, plan=False,
        )  # fmt: skip
        write_junit(tmp_path / "verdict.xml", verdict, candidate="a")
        (suite,) = ElementTree.parse(tmp_path / "verdict.xml").getroot()
        failures = len(suite.findall("testcase/failure"))
        assert (failures > 0) == (verdict.exit_code != 0), verdict
        assert suite.get("failures") == str(failures)
        seen.add((verdict.outcome, int(verdict.exit_code)))
    assert seen == {("pass", 0), ("regression", 1), ("undecided", 0), ("undecided", 3)}
