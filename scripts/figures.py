"""What the figures of the documentation share: their look, and one SVG for light and dark.

The SVG has colours for a light page, and a style sheet that takes others where the page, or the
system, is dark. It has no background of its own.
"""

from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

FIGURES = Path(__file__).parent.parent / "docs" / "figures"

TEXT, LINES, FAINT = "#4d545b", "#9aa0a6", "#dfe2e5"
# Okabe and Ito's colours, which colour-blind readers tell apart (Wong 2011, Nature Methods 8:441).
BLUE, GREEN, VERMILLION, PURPLE, GREY = "#0072b2", "#00855f", "#d55e00", "#aa4a83", "#868e96"
_DARK = {
    TEXT: "#c3c9cf",
    LINES: "#767d85",
    FAINT: "#3a3f47",
    BLUE: "#56b4e9",
    GREEN: "#35c59b",
    VERMILLION: "#f28c45",
    PURPLE: "#de8fbb",
    GREY: "#7d858e",
}


def save(chart: Any, name: str) -> Path:
    """Draw a chart into `docs/figures/NAME.svg`."""
    spec = (
        chart.properties(background="transparent", padding=8)
        .configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=TEXT,
            titleColor=TEXT,
            titleFontWeight="normal",
            labelFontSize=11.5,
            titleFontSize=12,
            domainColor=LINES,
            tickColor=LINES,
            gridColor=FAINT,
        )
        .configure_title(
            color=TEXT, fontSize=12.5, fontWeight="bold", anchor="start", frame="group", offset=8
        )
        .configure_legend(labelColor=TEXT, titleColor=TEXT, labelFontSize=12, titleFontSize=12)
        .to_dict()
    )
    svg = str(vl_convert.vegalite_to_svg(spec))
    rules = "".join(
        f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}'
        for light, dark in _DARK.items()
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    head, _, rest = svg.partition(">")
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / f"{name}.svg"
    path.write_text(f"{head}>{style}{rest}\n", encoding="utf-8")
    return path


def lines(
    rows: list[dict[str, Any]],
    *,
    title: str,
    x: alt.X,
    y: alt.Y,
    colours: dict[str, str],
    dashed: tuple[str, ...] = (),
    width: int = 200,
    height: int = 170,
) -> alt.Chart:
    """A panel of lines: `rows` have `x`, `y` and `line`, the name of the line they belong to."""
    shown = alt.Legend(title=None, orient="top", symbolStrokeWidth=3, symbolSize=300)
    names = list(colours)
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=2.2, clip=True)
        .encode(
            x,
            y,
            color=alt.Color(
                "line:N", scale=alt.Scale(domain=names, range=list(colours.values())), legend=shown
            ),
            strokeDash=alt.StrokeDash(
                "line:N",
                scale=alt.Scale(
                    domain=names, range=[[6, 5] if name in dashed else [1, 0] for name in names]
                ),
                legend=shown,
            ),
        )
        .properties(width=width, height=height, title=title)
    )
