"""Metrics of the evaluate library as scorers, with scripts that lie in the workspace."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftreg.errors import UsageError
from ftreg.scoring import Sample, Score, get_scorer
from tests.conftest import Cli, rows_of

SCRIPT = """
import datasets
import evaluate


class {name}(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="",
            features=datasets.Features(
                {{"predictions": datasets.Value({kind!r}), "references": {references}}}
            ),
        )

    def _compute(self, predictions, references{more}):
        print("chatter")
        prediction, reference = predictions[0], references[0]
        return {result}
"""


def write_metric(
    result: str,
    *,
    name: str = "share",
    kind: str = "string",
    references: str | None = None,
    more: str = "",
) -> str:
    folder = Path("metrics") / name
    folder.mkdir(parents=True, exist_ok=True)
    text = SCRIPT.format(
        name=name.title(), result=result, kind=kind, more=more,
        references=references or f"datasets.Value({kind!r})",
    )  # fmt: skip
    (folder / f"{name}.py").write_text(text)
    return f"evaluate:{folder}"


def one(name: str, output: str = "ab", reference: Any = "a", **options: Any) -> Score:
    sample = Sample(id="1", input="", output=output, reference=reference)
    return get_scorer(name, **options).score([sample])[0]


SHARE = '{"share": prediction.count(reference) / len(prediction), "length": len(prediction)}'


@pytest.fixture
def share(workspace: Path) -> str:
    return write_metric(SHARE)


def test_a_value_of_the_result_is_the_score(share: str) -> None:
    score = one(share, "abba", "b", key="share")
    assert score.value == 0.5
    assert score.evidence == ({"reference": "b", "result": {"share": 0.5, "length": 4.0}},)


def test_the_scale_maps_the_value(share: str) -> None:
    assert one(share, "abcde", key="length", scale=10).value == 0.5
    outside = one(share, "abcde", key="length")
    assert outside.value is None
    assert "length is 5, outside 0 to 1; set the option scale" in (outside.reason or "")
    assert outside.evidence[0]["result"]["length"] == 5.0


def test_of_several_references_the_best_counts_each_on_its_own(share: str) -> None:
    score = one(share, "abbc", ["a", "b", "x"], key="share")
    assert (score.value, score.evidence[0]["reference"]) == (0.5, "b")
    assert "no reference" in (one(share, reference=None, key="share").reason or "")


@pytest.mark.parametrize(
    "feature", ["datasets.Sequence(datasets.Value('string'))", "[datasets.Value('string')]"]
)
def test_a_metric_that_takes_several_references_gets_them_together(
    feature: str, workspace: Path
) -> None:
    name = write_metric(
        '{"known": weight * (prediction in reference)}', name="member", references=feature,
        more=", weight=1.0",
    )  # fmt: skip
    assert one(name, "b", ["a", "b"]).value == 1.0
    assert one(name, "b", ["a", "b"], weight=0.25).value == 0.25
    assert one(name, "c", ["a", "b"]).value == 0.0


def test_a_metric_of_numbers_gets_numbers_or_nothing(workspace: Path) -> None:
    name = write_metric(
        '{"near": 1 / (1 + abs(prediction - reference))}', name="near", kind="int64"
    )
    assert one(name, " 4 ", "7").value == 0.25
    score = one(name, "four", "7")
    assert score.value is None
    assert "ValueError" in (score.reason or "")


@pytest.mark.parametrize("result", ['float("nan")', 'float("inf")', "None", '"good"', "1 / 0"])
def test_what_is_no_number_is_null(result: str, workspace: Path) -> None:
    name = write_metric(f'{{"value": 1.0 if prediction == "1" else {result}}}', name="odd")
    assert one(name, "1", "1").value == 1.0
    score = one(name, "2", "1")
    assert score.value is None
    assert score.reason


def test_the_description_has_the_script_and_the_options(share: str) -> None:
    described = get_scorer(share, key="share").describe()
    assert json.loads(json.dumps(described)) == described
    assert get_scorer(share, key="length").describe() != described
    assert get_scorer(share, key="share", scale=2).describe() != described
    write_metric(SHARE.replace("prediction.count", "1 + prediction.count"))
    assert get_scorer(share, key="share").describe()["script"] != described["script"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"needs the option key: .*share, length"),
        ({"key": "shar"}, "did you mean share"),
        ({"key": "share", "scale": 0}, "scale"),
        ({"key": "share", "scale": "100"}, "scale"),
        ({"key": "share", "sclae": 100}, "did you mean scale"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str, share: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_scorer(share, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evaluate", "write evaluate:exact_match"),
        ("evaluate:", "write evaluate:exact_match"),
        ("evaluate:./no/such", "cannot load this metric"),
    ],
)
def test_a_metric_that_is_not_there_is_named(name: str, message: str, workspace: Path) -> None:
    with pytest.raises(UsageError, match=message):
        get_scorer(name)


def test_a_script_that_cannot_score_is_refused_at_once(workspace: Path) -> None:
    name = write_metric("prediction.no_such()", name="broken")
    with pytest.raises(UsageError, match=r"fails on the output '1'.*AttributeError"):
        get_scorer(name)
    path = Path("metrics/alone/alone.py")
    path.parent.mkdir()
    script = SCRIPT.format(
        name="Alone", kind="string", references='datasets.Value("string")', more="", result="{}"
    )
    path.write_text(script.replace('"references"', '"sources"'))
    with pytest.raises(UsageError, match="compares predictions, sources"):
        get_scorer("evaluate:metrics/alone")


def test_score_through_the_command_line(share: str, cli: Cli) -> None:
    rows = [{"id": "a", "output": "abba", "reference": ["b"]}, {"id": "b", "output": "abba"}]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("score", "in.jsonl", "--scorer", f"{{name: '{share}', options: {{key: share}}}}")
    assert done.code == 0, done
    found = [json.loads(line) for line in done.out.splitlines()]  # the metric's chatter is not here
    assert [(row["scorer"], row["score"]) for row in found] == [(share, 0.5), (share, None)]


def test_eval_through_the_command_line(cli: Cli, config: Path) -> None:
    name = write_metric('{"both": len(prediction) + len(reference)}', name="both")
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    scorers = json.dumps([{"name": name, "options": {"key": "both", "scale": 1000}}])
    done = cli("eval", "checkpoints/a", "--no-gate", "-s", f"eval.scorers={scorers}")
    assert done.code == 0, done
    (folder,) = Path("evaluations").iterdir()
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    outputs = [json.loads(line) for line in (folder / "outputs.jsonl").read_text().splitlines()]
    longest = [max(map(len, row["reference"])) for row in rows_of(8)]
    expected = [(len(row["output"]) + n) / 1000 for row, n in zip(outputs, longest, strict=True)]
    assert [row["score"] for row in rows] == expected
    bad = json.dumps([{"name": name, "options": {"key": "boht"}}])
    done = cli("eval", "checkpoints/a", "-s", f"eval.scorers={bad}")
    assert (done.code, "did you mean both" in done.err) == (2, True)
