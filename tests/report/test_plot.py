"""The plot of a run's history."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ftreg.report.history_plot import draw_history
from tests.conftest import Cli

PANELS = (
    "loss per token",
    "learning rate",
    "gradient norm before clipping",
    "mean change of the weights / learning rate",
)


def steps_of(count: int, **changes: dict[int, Any]) -> list[dict[str, Any]]:
    """A made-up run; `changes` are values by key and step."""
    rows: list[dict[str, Any]] = [
        {
            "step": step,
            "loss": 1 + math.exp(-step / count) + 0.1 * math.sin(7 * step),
            "lr": 1e-4 * (1 - step / (count + 1)),
            "grad_norm": 1.5 + math.cos(3 * step),
            "step_size": 4e-5 * (1 - step / (count + 1)),
        }
        for step in range(1, count + 1)
    ]
    for key, values in changes.items():
        for step, value in values.items():
            rows[step - 1][key] = value
    return rows


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [node.text or "" for node in root.iter() if node.tag.endswith("text")]


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """The vertices of the drawn curves, the panel's own coordinates, each one's parts together."""
    found = []
    root = ElementTree.fromstring(svg)
    for node in root.iter():
        if node.get("aria-roledescription") == "line mark":
            numbers = re.findall(r"[ML]([-\d.]+),([-\d.]+)", node.get("d", ""))
            found.append([(float(x), float(y)) for x, y in numbers])
    return found


@pytest.mark.parametrize("count", [1, 2, 60, 61, 100_000])
def test_any_number_of_steps_is_drawn(count: int) -> None:
    svg = draw_history(steps_of(count), title="adamw lr 1e-4\nsome data")
    shown = texts(svg)
    assert "adamw lr 1e-4" in shown
    assert "some data" in shown
    for panel in PANELS:
        assert any(text.startswith(panel) for text in shown), panel
    assert not re.search(r"NaN|Infinity|undefined", svg)
    assert len(svg) < 300_000
    points = [point for line in lines(svg) for point in line]
    assert points
    assert all(0 <= x <= 640 and -1 <= y <= 121 for x, y in points)


def test_the_same_history_gives_the_same_bytes() -> None:
    history = steps_of(500)
    assert draw_history(history, title="a") == draw_history(history, title="a")


@pytest.mark.slow
def test_a_spike_of_one_step_is_not_thinned_away() -> None:
    def top(rows: Sequence[dict[str, Any]]) -> float:
        (loss, *_) = lines(draw_history(rows, title="a"))
        ys = [y for _, y in loss]
        return sorted(ys)[1] - min(ys)

    assert top(steps_of(50_000)) < 10
    assert top(steps_of(50_000, loss={31_234: 40.0})) > 80


@pytest.mark.slow
def test_numbers_that_are_not_finite_are_gaps_and_marked() -> None:
    for bad in ("nan", "inf", None, float("nan")):
        svg = draw_history(steps_of(5000, loss={2500: bad}, grad_norm={2500: "inf"}), title="a")
        assert not re.search(r"NaN|Infinity|undefined", svg)
        rules = [node for node in ElementTree.fromstring(svg).iter()
                 if node.get("aria-roledescription") == "rule mark"]  # fmt: skip
        assert len(rules) == len(PANELS)
    whole = draw_history(steps_of(5000), title="a")
    assert "rule mark" not in whole
    everything = dict.fromkeys(range(1, 11), "nan")
    nothing = draw_history(steps_of(10, loss=everything, grad_norm=everything), title="a")
    assert not re.search(r"NaN|Infinity|undefined", nothing)


def test_a_learning_rate_of_zero_does_not_break_the_ratio() -> None:
    svg = draw_history(steps_of(10, lr={10: 0.0}), title="a")
    assert not re.search(r"NaN|Infinity|undefined", svg)


def test_training_leaves_a_plot_that_is_not_part_of_the_checkpoint(cli: Cli, config: Path) -> None:
    done = cli("train", config, "-o", "checkpoints/a", "--json")
    assert done.code == 0, done
    shown = texts(Path("checkpoints/a/history.svg").read_text())
    assert "AdamW lr 1e-3" in shown
    assert any("colours@1, 3 steps" in text for text in shown)
    manifest = json.loads(Path("checkpoints/a/ftreg.json").read_text())
    assert "history.svg" not in manifest["files"]
    assert cli("checkpoints", "show", "a").code == 0
    Path("checkpoints/a/history.svg").unlink()
    assert cli("checkpoints", "show", "a").json["identity"] == manifest["identity"]


def test_a_plot_that_cannot_be_drawn_fails_nothing(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> str:
        raise RuntimeError("no font")

    monkeypatch.setattr("ftreg.report.history_plot.draw_history", broken)
    done = cli("train", config, "-o", "checkpoints/a")
    assert done.code == 0, done
    assert "history.svg could not be drawn: RuntimeError: no font" in done.err
    assert not Path("checkpoints/a/history.svg").exists()


def test_plot_writes_svg_or_png_where_it_is_told(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    folder = Path("checkpoints/a")
    (folder / "history.svg").unlink(missing_ok=True)
    done = cli("checkpoints", "plot", "a")
    assert done.code == 0, done
    assert done.out.strip() == "checkpoints/a/history.svg"
    ElementTree.parse(folder / "history.svg")
    assert cli("checkpoints", "plot", "a", "-o", "plots/a.png").code == 0
    assert Path("plots/a.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in Path("plots").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("history", "output", "expected"),
    [
        (None, "a.pdf", "name a file that ends in .svg or .png"),
        ("", "a.svg", "history.jsonl: damaged history: the history has no steps to draw"),
        ('{"step": 1}\n', "a.svg", "history.jsonl: damaged history: 'loss' is missing"),
        (None, "file/a.png", "cannot write file/a.png"),
    ],
)
def test_what_cannot_be_plotted_ends_with_2(
    history: str | None, output: str, expected: str, cli: Cli, config: Path
) -> None:
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "checkpoints/a").code == 0
    Path("file").write_text("x")
    if history is not None:
        Path("checkpoints/a/history.jsonl").write_text(history)
    done = cli("checkpoints", "plot", "a", "-o", output)
    assert done.code == 2, done
    assert expected in done.err
    assert "Traceback" not in done.err


def test_plot_of_nothing_ends_with_2(cli: Cli, config: Path) -> None:
    assert cli("checkpoints", "plot", "nowhere").code == 2
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "checkpoints/a").code == 0
    Path("checkpoints/a/history.jsonl").unlink()
    done = cli("checkpoints", "plot", "a")
    assert done.code == 2
    assert "history.jsonl" in done.err
