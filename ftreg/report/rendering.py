"""Templates and style sheets, for report pages and figures."""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from ftreg.report import phrases
from ftreg.report.characters import visible


def template_environment(filters: Mapping[str, Callable[..., Any]]) -> jinja2.Environment:
    """Return the renderer of `ftreg/report/templates`, which escapes texts and hides no character.

    Args:
        filters: the templates' filters, in addition to `minus`.
    """
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("ftreg.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown_text,
    )
    found.filters |= {"minus": phrases.typographic, **filters}
    return found


def asset(name: str) -> str:
    """Return the text of a file of `ftreg/report/assets`."""
    return files("ftreg.report").joinpath("assets", name).read_text(encoding="utf-8")


def _shown_text(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
