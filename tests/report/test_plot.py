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
    "Loss per token, in nats",
    "Learning rate",
    "Gradient norm before clipping",
    "Mean change of a weight / learning rate",
)
SVG = "{http://www.w3.org/2000/svg}"
NO_NUMBER = re.compile(r"nan|inf|None|undefined", re.IGNORECASE)


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
    return ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]


class Panel:
    """What one panel of a picture shows, read back by means of its own axes."""

    def __init__(self, node: ElementTree.Element) -> None:
        self.title = next("".join(text.itertext()) for text in node.iter(f"{SVG}text"))
        self._paths = [
            (path.get("class", ""), path.get("d", "")) for path in node.iter(f"{SVG}path")
        ]
        self._up = self._marks(node, "up", "y", -3.5)
        self._across = self._marks(node, "across", "x", 0)

    @staticmethod
    def _marks(
        node: ElementTree.Element, name: str, axis: str, moved: float
    ) -> list[tuple[float, float]]:
        return [
            (float(text.get(axis, "")) + moved, number_of(text.text or ""))
            for text in node.iter(f"{SVG}text")
            if text.get("class") == name
        ]

    def strokes(self, name: str) -> list[list[tuple[float, float]]]:
        """Each stroke of the paths of a class, as positions."""
        drawn = "".join(d for found, d in self._paths if found == name)
        return [
            [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+),([-\d.]+)", stroke)]
            for stroke in drawn.split("M")[1:]
        ]

    def values(self, name: str) -> dict[int, float]:
        """Step to value, of the paths of a class; the axes have to be linear."""
        return {
            round(interpolate(x, self._across)): interpolate(y, self._up)
            for stroke in self.strokes(name)
            for x, y in stroke
        }

    def gaps(self) -> list[int]:
        """The steps that are marked."""
        return [
            round(interpolate(float(d[1 : d.index(",")]), self._across))
            for name, d in self._paths
            if name == "gap"
        ]


def number_of(text: str) -> float:
    """The number that a label stands for."""
    text = text.replace("\N{MINUS SIGN}", "-").replace(",", "")
    return 1000 * float(text[:-1]) if text.endswith("k") else float(text)


def interpolate(place: float, marks: Sequence[tuple[float, float]]) -> float:
    (start, low), (end, high) = marks[0], marks[-1]
    return low + (place - start) / (end - start) * (high - low)


def panels_of(svg: str) -> list[Panel]:
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return [Panel(group) for group in groups if group.get("class") == "curves"]


def test_the_validation_loss_is_drawn_on_the_axes_of_the_loss() -> None:
    measured = {5: 2.9, 10: 1.5, 15: 1.7}
    svg = draw_history(steps_of(15, validation_loss={**measured, 12: None}), title="a\nb")
    (group,) = (
        node
        for node in ElementTree.fromstring(svg).iter(f"{SVG}g")
        if node.get("class") == "candidate validation" and len(node) > 1
    )
    (loss,) = (panel for panel in panels_of(svg) if panel.title == PANELS[0])
    (drawn,) = (path.get("d", "") for path in group if path.get("class") == "dots")
    found = {
        round(interpolate(float(x), loss._across)): interpolate(float(y), loss._up)
        for x, y in re.findall(r"([-\d.]+),([-\d.]+)", drawn)
    }
    assert found == pytest.approx(measured, abs=0.02)
    assert {"training", "validation"} <= set(texts(svg))
    assert "validation" not in texts(draw_history(steps_of(15), title="a\nb"))


@pytest.mark.parametrize("count", [1, 2, 60, 61, 100_000])
def test_any_number_of_steps_is_drawn(count: int) -> None:
    svg = draw_history(steps_of(count), title="adamw lr 1e-4\nsome data")
    shown = texts(svg)
    assert "adamw lr 1e-4" in shown
    assert "some data" in shown
    found = panels_of(svg)
    assert [panel.title for panel in found] == list(PANELS)
    assert len(svg) < 100_000
    for panel in found:
        strokes = panel.strokes("median" if count > 1 or "Loss" not in panel.title else "faint")
        strokes += panel.strokes("faint") + panel.strokes("dots")
        points = [point for stroke in strokes for point in stroke]
        assert points
        assert all(52 <= x <= 432 and 8 <= y <= 162 for x, y in points)
        assert bool(panel.strokes("dots")) == (count <= 60)


def test_a_picture_says_what_it_shows_and_follows_light_and_dark() -> None:
    svg = draw_history(steps_of(40), title="a <b> & \u202ec\nsome data")
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    named = {node.get("id"): node.text or "" for node in root if node.get("id")}
    assert root.get("aria-labelledby", "").split() == list(named)
    assert named["title"] == "a <b> & ⌈U+202E⌋c"
    assert "Learning rate by optimizer step, from 9.76e-5 to" in named["desc"]
    light, _, dark = (root.findtext(f"{SVG}style") or "").partition(
        "@media (prefers-color-scheme: dark)"
    )
    for rule in (".paper", ".candidate", "text", ".grid"):
        colours = [re.search(rf"{re.escape(rule)} {{[^}}]*(#\w+)", part) for part in (light, dark)]
        assert None not in colours
        assert colours[0][1] != colours[1][1]
    assert not re.search(r"<script|href|url\(|var\(|<image", svg)


def test_the_same_history_gives_the_same_bytes() -> None:
    history = steps_of(500)
    assert draw_history(history, title="a") == draw_history(history, title="a")


def test_a_spike_of_one_step_is_not_thinned_away() -> None:
    def highest(rows: Sequence[dict[str, Any]]) -> float:
        return max(panels_of(draw_history(rows, title="a"))[0].values("faint").values())

    assert highest(steps_of(50_000)) < 2.2
    assert highest(steps_of(50_000, loss={31_234: 12.0})) == pytest.approx(12, abs=0.1)


def test_wide_ranges_of_loss_and_norm_are_logarithmic_and_those_from_zero_are_not() -> None:
    wide = {key: {7: 1000.0, 8: 0.001} for key in ("loss", "grad_norm", "lr", "step_size")}
    shown = [panel.title for panel in panels_of(draw_history(steps_of(10, **wide), title="a"))]
    marked = [title.removesuffix(" (logarithmic)") for title in shown if "logarithmic" in title]
    assert marked == [PANELS[0], PANELS[2]]


def test_a_learning_rate_of_zero_has_no_ratio_and_is_no_fault_of_the_run() -> None:
    *_, moved = panels_of(draw_history(steps_of(10, lr={10: 0.0}), title="a"))
    assert list(moved.values("median")) == list(range(1, 10))
    assert moved.gaps() == []


@pytest.mark.parametrize("bad", ["nan", "inf", None, float("nan")])
def test_numbers_that_are_not_finite_are_gaps_and_marked(bad: object) -> None:
    svg = draw_history(steps_of(5000, loss={2500: bad}, grad_norm={2500: "inf"}), title="a")
    loss, rate, norm, size = panels_of(svg)
    for panel in (loss, norm):
        assert len(panel.strokes("faint")) == 2
    for panel in (rate, size):
        assert len(panel.strokes("median")) == 1
    for panel in (loss, rate, norm, size):
        assert panel.gaps() == [pytest.approx(2500, abs=10)]


def test_a_run_without_gaps_has_no_marks_and_one_of_gaps_alone_has_them_all() -> None:
    assert not any(panel.gaps() for panel in panels_of(draw_history(steps_of(500), title="a")))
    everything = dict.fromkeys(range(1, 11), "nan")
    svg = draw_history(steps_of(10, loss=everything, grad_norm=everything), title="a")
    loss, rate, *_ = panels_of(svg)
    assert loss.strokes("faint") == []
    assert rate.gaps() == list(range(1, 11))
    assert not NO_NUMBER.search("".join(re.findall(r' d="([^"]*)"', svg)))


def test_the_command_draws_what_the_history_holds(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-s", "train.max_steps=1", "-o", "checkpoints/a").code == 0
    rows = steps_of(40, loss={20: "nan"})
    history = "".join(json.dumps(row) + "\n" for row in rows)
    Path("checkpoints/a/history.jsonl").write_text(history)
    assert cli("checkpoints", "plot", "a").code == 0
    found = panels_of(Path("checkpoints/a/history.svg").read_text())
    assert [panel.title for panel in found] == list(PANELS)
    for row in rows:
        row["moved"] = row["step_size"] / row["lr"]
    for panel, key in zip(found, ("loss", "lr", "grad_norm", "moved"), strict=True):
        values = {row["step"]: row[key] for row in rows if row[key] != "nan"}
        largest = max(values.values())
        for name in ("dots", "faint" if key in ("loss", "grad_norm") else "median"):
            drawn = panel.values(name)
            assert drawn.keys() == values.keys()
            assert drawn == pytest.approx(values, abs=0.005 * largest)
        assert panel.gaps() == [20]
    assert [len(stroke) for stroke in found[0].strokes("faint")] == [19, 20]


def test_training_leaves_a_plot_that_is_not_part_of_the_checkpoint(cli: Cli, config: Path) -> None:
    done = cli("train", config, "-o", "checkpoints/a", "--json")
    assert done.code == 0, done
    shown = texts(Path("checkpoints/a/history.svg").read_text())
    assert "AdamW 1e-3" in shown
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


def test_plot_writes_where_it_is_told(cli: Cli, config: Path) -> None:
    assert cli("train", config, "-o", "checkpoints/a").code == 0
    folder = Path("checkpoints/a")
    (folder / "history.svg").unlink(missing_ok=True)
    done = cli("checkpoints", "plot", "a")
    assert done.code == 0, done
    assert done.out.strip() == "checkpoints/a/history.svg"
    ElementTree.parse(folder / "history.svg")
    assert cli("checkpoints", "plot", "a", "-o", "plots/a.svg").code == 0
    assert Path("plots/a.svg").read_bytes() == (folder / "history.svg").read_bytes()
    assert [path.name for path in Path("plots").iterdir()] == ["a.svg"]


@pytest.mark.parametrize(
    ("history", "output", "expected"),
    [
        (None, "a.png", "name a file that ends in .svg"),
        ("", "a.svg", "history.jsonl: damaged history: the history has no steps to draw"),
        ('{"step": 1}\n', "a.svg", "history.jsonl: damaged history: 'loss' is missing"),
        (None, "file/a.svg", "cannot write file/a.svg"),
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
