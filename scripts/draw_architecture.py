"""Draw packages ("rooms"), layers ("floors") and imports: docs/figures/architecture.svg.

The layers come from the import contract in pyproject.toml, the arrows from the imports that grimp
finds. An arrow has the colour of the floor it starts from, and is faint where it passes behind a
room.

    python scripts/draw_architecture.py
    python scripts/draw_architecture.py --check    # exits with 1 if the committed figure is another
"""

import argparse
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "figures" / "architecture.svg"

ABOUT = {
    "notebook": [],
    "optim": [],
    "__main__": [],
    "cli": ["reads arguments, calls one job, shows the result"],
    "jobs": ["what each command does, as one call from Python"],
    "generation": ["a checkpoint's", "outputs"],
    "training": ["from examples", "to a checkpoint"],
    "deploy": ["exports, held", "to their origin"],
    "why": ["what made", "it worse"],
    "scoring": ["scores, with", "evidence"],
    "report": ["terminal, HTML,", "JUnit"],
    "models": ["base models: find,", "load, adapt"],
    "data": ["dataset versions", "and their rows"],
    "gate": ["statistics and", "verdict, no I/O"],
    "records": ["what is on disk: samples, manifest, evaluation, baseline"],
    "config": ["the YAML: sections, policy, names of classes"],
    "services": ["clients of chat servers, telemetry, trackers, package indexes"],
    "files": ["bytes on disk: atomic writes, locks, caches"],
    "errors": ["the user's mistakes, with their exit codes"],
    "process": ["memory limit, signals"],
}
"""Each room's purpose, in lines. Rooms on one floor are drawn in this order."""
SHOWN = {
    "__main__": "python -m ftreg",
    "notebook": "ftreg.notebook",
    "optim": "ftreg.optim",
}
GROUND = 2
"""Number of lowest floors, which all others import: a single arrow stands for these imports."""
WEIGHTS = {30: 5.5, 10: 3.6, 3: 2.2, 1: 1.2}
"""Least number of imports to arrow width. Coarse, so that the figure rarely changes."""

WIDTH, LEFT, RIGHT = 900, 44, 892
OUTSIDE = 60
"""Space left at both ends of a shared floor, for arrows to the floors below."""
APART = 6
"""Least distance between two straight arrows, so that they can be distinguished."""
COLOURS = ("grey", "grey", "text", "blue", "green", "purple", "vermillion", *("grey",) * 3)
"""Colour of each floor, and of the arrows that start from it."""
STYLE = """
svg{--text:#4d545b;--box:#f4f5f7;--grey:#868e96;--blue:#0072b2;--green:#00855f;--purple:#aa4a83;
--vermillion:#d55e00}
@media (prefers-color-scheme:dark){svg{--text:#c3c9cf;--box:#262a31;--grey:#7d858e;--blue:#56b4e9;
--green:#35c59b;--purple:#de8fbb;--vermillion:#f28c45}}
text{font:13.5px sans-serif;fill:var(--text);text-anchor:middle}
.room{font-weight:bold;font-size:16px}
.left{text-anchor:start}
rect{fill:var(--box);fill-opacity:.86;stroke-width:1.5px}
text.inside{stroke:var(--box);stroke-width:5px;stroke-linejoin:round;paint-order:stroke}
path{fill:none}
"""


@dataclass(frozen=True, slots=True)
class Box:
    """A room's position, in pixels; `alone` if its floor has no other room."""

    floor: int
    alone: bool
    left: float
    right: float
    top: float
    bottom: float

    @property
    def middle(self) -> float:
        """Horizontal centre."""
        return (self.left + self.right) / 2

    @property
    def level(self) -> float:
        """Vertical centre."""
        return (self.top + self.bottom) / 2


Arrow = tuple[str, str]
"""The importing room and the imported one."""


def read_floors() -> list[list[str]]:
    """Return the rooms by floor, highest first, from the contract."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (item["layers"] for item in contracts if item["type"] == "layers")
    order = list(ABOUT)
    return [sorted(map(str.strip, layer.split("|")), key=order.index) for layer in layers]


def read_arrows(floors: Sequence[Sequence[str]]) -> dict[Arrow, int]:
    """Return the number of imports of each arrow, without the lowest floors."""
    drawn = [room for floor in floors[:-GROUND] for room in floor]
    sys.path.insert(0, str(ROOT))  # grimp finds modules through the import path
    graph = grimp.build_graph("ftreg", cache_dir=None)
    counts: Counter[Arrow] = Counter()
    for module in graph.modules - {"ftreg"}:
        for imported in graph.find_modules_directly_imported_by(module) - {"ftreg"}:
            counts[module.split(".")[1], imported.split(".")[1]] += 1
    return {
        (above, below): counts[above, below]
        for above in drawn
        for below in drawn
        if above != below and counts[above, below]
    }


def place(floors: Sequence[Sequence[str]]) -> dict[str, Box]:
    """Return each room's box."""
    boxes, top = {}, 8.0
    for number, rooms in enumerate(floors):
        alone, many = len(rooms) == 1, len(rooms) > 2
        height = 76 if many else 32 if not number else 50
        left, right = (LEFT + OUTSIDE, RIGHT - OUTSIDE) if many else (LEFT, RIGHT)
        gap = 24
        width = (right - left + gap) / len(rooms)
        for index, room in enumerate(rooms):
            start = left + index * width
            boxes[room] = Box(number, alone, start, start + width - gap, top, top + height)
        below = floors[number + 1] if number + 1 < len(floors) else ()
        top += height + (72 if many and len(below) > 2 else 34)
    return boxes


def ends(arrows: Sequence[Arrow], boxes: dict[str, Box]) -> dict[Arrow, tuple[float, float]]:
    """Return where each arrow starts and ends, in pixels from the left.

    Rooms that share a floor have their arrows side by side, ordered by their other ends. A room
    alone on its floor takes an arrow at any place, so that the arrow is straight.
    """
    begins: dict[Arrow, float] = {}
    arrives: dict[Arrow, float] = {}
    for room, box in boxes.items():
        if box.alone:
            continue
        for side, found in ((0, begins), (1, arrives)):
            own = [arrow for arrow in arrows if arrow[side] == room]
            others = [boxes[arrow[1 - side]] for arrow in own]
            wanted = [(box if other.alone else other).middle for other in others]
            for index, (_, arrow) in enumerate(sorted(zip(wanted, own, strict=True)), start=1):
                found[arrow] = box.left + (box.right - box.left) * index / (len(own) + 1)
    straight: list[float] = []
    for side, found in ((1, begins), (0, arrives)):
        for arrow in found:
            if boxes[arrow[side]].alone:
                while any(abs(found[arrow] - x) < APART for x in straight):
                    found[arrow] += APART
                straight.append(found[arrow])
    outside = [arrow for arrow in arrows if arrow not in begins and arrow not in arrives]
    for index, arrow in enumerate(outside):
        inward = 14 + 15 * (index // 2)
        begins[arrow] = RIGHT - inward if index % 2 else LEFT + inward
    above, below = {**arrives, **begins}, {**begins, **arrives}
    return {arrow: (above[arrow], below[arrow]) for arrow in arrows}


def draw_arrow(x: tuple[float, float], y: tuple[float, float], *, imports: int, colour: str) -> str:
    """Return the SVG of an arrow from `(x[0], y[0])` down to `(x[1], y[1])`."""
    width = next(width for least, width in WEIGHTS.items() if imports >= least)
    head, half = 5 + 1.3 * width, 3 + 0.8 * width
    tip, neck = y[1] - 1, y[1] - head
    bend = (neck - y[0]) * 0.5
    line = f"M{x[0]:.0f},{y[0]:.0f}C{x[0]:.0f},{y[0] + bend:.0f} {x[1]:.0f},{neck - bend:.0f} "
    return (
        f'<path d="{line}{x[1]:.0f},{neck + 1:.0f}" '
        f'style="stroke:var(--{colour});stroke-width:{width}"/>'
        f'<polygon points="{x[1]:.0f},{tip:.0f} {x[1] - half:.1f},{neck:.1f} '
        f'{x[1] + half:.1f},{neck:.1f}" style="fill:var(--{colour})"/>'
    )


def draw_box(room: str, box: Box, *, colour: str) -> str:
    """Return the SVG of a room's box, with its name and purpose."""
    lines = ABOUT[room]
    y = box.level + 5.5 - 9.5 * len(lines)
    parts = [
        f'<rect x="{box.left:.0f}" y="{box.top:.0f}" width="{box.right - box.left:.0f}" '
        f'height="{box.bottom - box.top:.0f}" rx="6" style="stroke:var(--{colour})"/>',
        f'<text class="room inside" x="{box.middle:.0f}" y="{y:.0f}">'
        f"{escape(SHOWN.get(room, room))}</text>",
    ]
    for number, line in enumerate(lines, start=1):
        parts.append(
            f'<text class="inside" x="{box.middle:.0f}" y="{y + 19 * number:.0f}">'
            f"{escape(line)}</text>"
        )
    return "".join(parts)


def draw_ground(floors: Sequence[Sequence[str]], boxes: dict[str, Box]) -> list[str]:
    """Return the SVG of the single arrow from the floors above to the lowest ones."""
    x, line = 16, 'style="stroke:var(--grey);stroke-width:2.2"'
    head = 'style="fill:var(--grey)"'
    ground = [[boxes[room] for room in floor] for floor in floors[-GROUND:]]
    above = [boxes[rooms[0]] for rooms in floors[1:-GROUND]]
    parts = [f'<path d="M{x},{above[0].level:.0f}V{ground[-1][0].top - 17:.0f}" {line}/>']
    parts += [f'<path d="M{x},{box.level:.0f}H{box.left:.0f}" {line}/>' for box in above]
    for box in (box for rooms in ground for box in rooms):
        if box.alone:
            shaft = f"M{x},{box.level:.0f}H{LEFT - 8}"
            tip = f"M{LEFT - 1},{box.level:.0f}l-8,-5v10z"
        else:
            shaft = f"M{x},{box.top - 17:.0f}H{box.middle:.0f}v9"
            tip = f"M{box.middle:.0f},{box.top - 1:.0f}l-5,-8h10z"
        parts.append(f'<path d="{shaft}" {line}/><path d="{tip}" {head}/>')
    return parts


def draw_legend(y: float) -> list[str]:
    """Return the SVG of the legend: arrow width by number of imports."""
    parts, x = [f'<text class="left" x="{LEFT}" y="{y}">imports:</text>'], LEFT + 70
    for least, width in reversed(WEIGHTS.items()):
        parts.append(f'<path d="M{x},{y - 4}h28" style="stroke:var(--grey);stroke-width:{width}"/>')
        parts.append(f'<text class="left" x="{x + 36}" y="{y}">{least} or more</text>')
        x += 116
    parts.append(
        f'<text x="{RIGHT}" y="{y}" style="text-anchor:end">'
        "at the left: each floor may use the lowest two</text>"
    )
    return parts


def draw() -> str:
    """Return the figure as SVG."""
    floors = read_floors()
    boxes = place(floors)
    arrows = read_arrows(floors)
    x = ends(list(arrows), boxes)
    colour = {room: COLOURS[box.floor] for room, box in boxes.items()}
    height = max(box.bottom for box in boxes.values()) + 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        "<title>The rooms of ftreg on their floors, and the imports between them</title>",
        f"<style>{STYLE}</style>",
        *(
            draw_arrow(
                x[arrow],
                (boxes[arrow[0]].bottom, boxes[arrow[1]].top),
                imports=imports,
                colour=colour[arrow[0]],
            )
            for arrow, imports in arrows.items()
        ),
        *draw_ground(floors, boxes),
        *(draw_box(room, box, colour=colour[room]) for room, box in boxes.items()),
        *draw_legend(height - 10),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the figure, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if wrong")
    if not parser.parse_args().check:
        FIGURE.write_text(draw(), encoding="utf-8")
    elif FIGURE.read_text("utf-8") != draw():
        print(f"{FIGURE.name} is not what the imports say; run {Path(__file__).name}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
