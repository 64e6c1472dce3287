"""A page, or the cell of a notebook, of headings, tables and sentences: text in, HTML out.

Nothing in it is taken for markup, and the page admits no script and no address.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from ftreg.report import phrases
from ftreg.report.rendering import asset, template_environment


@dataclass(frozen=True, slots=True)
class TextSection:
    """A heading, a table of text (cells may have several lines), and sentences below it."""

    title: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    sentences: Sequence[str] = ()


def sections_page(title: str, sections: Sequence[TextSection]) -> str:
    """Return a whole HTML page that needs nothing else."""
    return page("sections.html", title=title, sections=sections)


def page(template: str, **shown: Any) -> str:
    """Return a page of a template that extends `page.html`, whose style its policy admits."""
    style = asset("report.css") + asset("curves.css") + asset("page.css")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_sha256(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    found = _environment().get_template(template)
    return found.render(style=Markup(style), policy=policy, **shown)


def sections_cell(sections: Sequence[TextSection], *, picture: str = "") -> str:
    """Return what a notebook shows of a result.

    Args:
        sections: what is said.
        picture: an SVG, which stands above it.
    """
    encoded = base64.b64encode(picture.encode()).decode()
    return _environment().get_template("cell.html").render(sections=sections, picture=encoded)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    found = template_environment({"scorer": phrases.scorer_title})
    found.globals["OUTCOMES"] = phrases.OUTCOME_WORDS
    return found
