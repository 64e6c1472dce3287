"""Pages and notebook cells, made of headings, tables and sentences.

Texts are never taken for markup, and a page allows no script and no address.
"""

import base64
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ftreg.report.html import page_environment, policy_source
from ftreg.report.rendering import asset
from ftreg.report.text_sections import TextSection


def page(template: str, **shown: Any) -> str:
    """Return a self-contained page from a template that extends `page.html`."""
    style = asset("report.css") + asset("curves.css") + asset("page.css")
    policy = (
        f"default-src 'none'; style-src '{policy_source(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    found = page_environment().get_template(template)
    return found.render(style=Markup(style), policy=policy, **shown)


def sections_cell(sections: Sequence[TextSection], *, picture: str = "") -> str:
    """Return what a notebook shows of a result.

    Args:
        sections: the content.
        picture: an SVG shown above it.
    """
    encoded = base64.b64encode(picture.encode()).decode()
    found = page_environment().get_template("cell.html")
    return found.render(sections=sections, picture=encoded)
