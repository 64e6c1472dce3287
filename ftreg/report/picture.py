"""Panels of curves as a self-contained SVG, without fonts, scripts or other files.

The style sheet has other colours for dark mode. Light colours are plain values, since programs
other than browsers support neither variables nor media queries.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import jinja2
from markupsafe import Markup

from ftreg.report.curves import Panel
from ftreg.report.rendering import asset, template_environment

_EDGE, _GAP = 16.0, 20.0
_HEADING, _LINE, _NAME = 26.0, 17.0, 20.0
# Width of an average letter in the legend, whose font the reader's system chooses.
_LETTER, _STROKE = 7.0, 30.0


def picture(
    heading: str,
    panels: Sequence[Panel],
    *,
    columns: int,
    subtitles: Sequence[str] = (),
    key: Mapping[str, str] | None = None,
    hint: str = "",
    style: str = "",
) -> str:
    """Draw panels of one size side by side, and return the SVG. Equal panels give equal bytes.

    Args:
        heading: the title.
        panels: at least one.
        columns: number of panels in a row.
        subtitles: lines below the heading.
        key: the name of a curve to its label in the legend.
        hint: a line below the panels.
        style: rules for the curves' names, in addition to those of a run.
    """
    frame = panels[0].frame
    left = _EDGE + frame.left
    top = _EDGE + _HEADING + _LINE * len(subtitles) + _GAP / 2
    keys, x = [], left
    for name, text in (key or {}).items():
        keys.append((x, name, text))
        x += _STROKE + _LETTER * len(text) + _GAP
    top += 1.5 * _LINE if keys else 0
    pitch = _NAME + frame.height + _GAP / 2
    placed = [
        (_EDGE + index % columns * (frame.width + _GAP), top + index // columns * pitch, panel)
        for index, panel in enumerate(panels)
    ]
    bottom = top + -(-len(panels) // columns) * pitch
    return (
        _environment()
        .get_template("picture.svg")
        .render(
            style=Markup(asset("curves.css") + asset("picture.css") + style),
            width=2 * _EDGE + columns * frame.width + (columns - 1) * _GAP,
            height=bottom + (_LINE if hint else 0) + _EDGE / 2,
            left=left,
            heading=heading,
            subtitles=[
                (_EDGE + _HEADING + _LINE * index, text) for index, text in enumerate(subtitles)
            ],
            keys=keys,
            key_y=top - _LINE,
            stroke=_STROKE,
            placed=placed,
            name=_NAME,
            hint=hint,
            hint_y=bottom + _LINE / 2,
        )
    )


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return template_environment({})
