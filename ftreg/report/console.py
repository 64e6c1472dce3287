"""Consoles with our styles only: characters in data that affect a terminal are spelled out."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ftreg.report.characters import visible


class InertConsole(Console):
    """A console on which no text can move the cursor, ring the bell, or reverse a line."""

    def render_str(self, text: str, *args: Any, **named: Any) -> Text:
        """Render a string."""
        return super().render_str(visible(text), *args, **named)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything. A text here has one style, which is kept."""
        if (
            isinstance(renderable, Text)
            and (shown := visible(renderable.plain)) != renderable.plain
        ):
            copy = renderable.blank_copy(shown)
            return super().render(copy, options)
        return super().render(renderable, options)
