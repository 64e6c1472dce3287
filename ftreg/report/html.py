"""The HTML report: one self-contained file that runs only its own script.

Model output is untrusted. In the page's text Jinja2 escapes it, and characters that are invisible
or would reverse the text are spelled out; in the data no character can end the enclosing element.
The page's Content-Security-Policy allows its own script and style by their digest, and no address.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from ftreg.data.cohorts import cohort_sizes
from ftreg.files.store import digest
from ftreg.gate import Verdict
from ftreg.records.evaluation.header import is_partial, recipe_known, stopped_after
from ftreg.records.recipe import recipe_differences
from ftreg.report import curves, deltas, distributions, example_browser, phrases
from ftreg.report.axis import label
from ftreg.report.characters import UNSEEN
from ftreg.report.material import Material
from ftreg.report.noise_line import noise_line
from ftreg.report.rendering import asset, template_environment

# Characters that could end a `script` element, and others better not raw in the file.
_NOT_IN_DATA = re.compile(f"[<>&]|{UNSEEN.pattern}")


def html_report(material: Material) -> Iterator[str]:
    """Yield the report's parts, in order. The same material gives the same bytes.

    Raises:
        UsageError: a row of an evaluation is damaged.
    """
    style, script = asset("report.css") + asset("curves.css"), asset("report.js")
    yield from (
        page_environment()
        .get_template("report.html")
        .generate(
            style=Markup(style),
            script=Markup(script),
            policy=(
                f"default-src 'none'; script-src '{policy_source(script)}'; "
                f"style-src '{policy_source(style)}'; img-src data:; base-uri 'none'; "
                "form-action 'none'"
            ),
            index=example_browser.index(material),
            chunks=example_browser.chunks(material),
            **_shown(material),
        )
    )


def _shown(material: Material) -> dict[str, Any]:
    verdict, header = material.verdict, material.candidate.header
    runs = {side: item.history for side, item in material.sides.items() if item.history}
    return {
        "m": material,
        "header": header,
        "headline": _headline(material),
        "reasons": _reasons(verdict),
        "sure": phrases.confidence(verdict) if verdict else None,
        "forest": deltas.forest(verdict) if verdict and verdict.rows else None,
        "heat": _heat(material, verdict),
        "recipes": _recipes(material),
        "unknown_recipe": not all(
            recipe_known(item.header["checkpoint"]) for item in material.sides.values()
        ),
        "runs": curves.panels(runs) if runs else [],
        "hint": curves.HINT,
        "spreads": distributions.distributions(
            {side: item.scores for side, item in material.sides.items()}
        ),
        "sizes": _sizes(material),
        "costs": phrases.cost_table(verdict) if verdict else [],
        "noise": _noise(material),
        "stopped": stopped_after(header) if is_partial(header) else "",
    }  # fmt: skip


def _noise(material: Material) -> list[str]:
    """Which noise was measured, and which is not covered."""
    if material.verdict is None or material.baseline is None:
        return []
    floor = noise_line(material.baseline.header, material.candidate.header)
    said = phrases.seeds_sentence(material.verdict)
    known = [item for item in (said, *phrases.more_sentences(material.verdict), floor) if item]
    return [f"{item[0].upper()}{item[1:]}." for item in known]


def _headline(material: Material) -> str:
    if material.verdict is not None and material.baseline is not None:
        return phrases.headline(
            material.verdict,
            baseline=material.baseline.header,
            candidate=material.candidate.header,
        )
    return phrases.scores_sentence(material.candidate.header)


def _reasons(verdict: Verdict | None) -> list[str]:
    """Why it did not pass, except the critical examples, which the page lists with links."""
    if verdict is None or verdict.outcome == "pass":
        return []
    critical = {f"the critical example {drop.id!r}" for drop in verdict.critical}
    return [text for text in verdict.reasons if not any(name in text for name in critical)]


def _heat(material: Material, verdict: Verdict | None) -> deltas.Heat:
    if verdict is not None and verdict.rows:
        return deltas.delta_heat(verdict)
    return deltas.score_heat(material.candidate.scores, material.evaluation.cohorts)


def _recipes(material: Material) -> list[tuple[str, Any, Any]]:
    """The differences between the recipes, or the complete recipe if there is only one."""
    new = material.candidate.header["checkpoint"]["recipe"]
    if material.baseline is None:
        return [(key, None, value) for key, value in new.items()]
    return recipe_differences(material.baseline.header["checkpoint"]["recipe"], new)


def _sizes(material: Material) -> dict[str, dict[str, int]]:
    """Split to cohort to rows, for the evaluated split."""
    if material.dataset is None:
        return {}
    split = material.candidate.header["dataset"]["split"]
    return {split: cohort_sizes(material.dataset, split)}


def policy_source(text: str) -> str:
    """Return a style or script as a source of a Content-Security-Policy: its SHA-256."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache(maxsize=1)
def page_environment() -> jinja2.Environment:
    """Return the renderer of pages, with the filters and names of their templates."""
    found = template_environment(_FILTERS)
    found.globals["OUTCOMES"] = phrases.OUTCOME_WORDS
    return found


def embed(value: Any) -> Markup:
    """JSON that is safe in a `script` element: it contains no markup and no lone surrogates."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(_NOT_IN_DATA.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _setting(value: Any) -> str:
    """A setting's value in the usual notation."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return label(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


_FILTERS: dict[str, Callable[..., Any]] = {
    "embed": embed,
    "points": lambda value: phrases.typographic(phrases.points(value)),
    "signed": lambda value: phrases.typographic(phrases.signed(value)),
    "interval": lambda row: phrases.typographic(phrases.interval(row)),
    "setting": _setting,
    "scorer": phrases.scorer_title,
    "named": phrases.named,
    "pretty": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    "digest": digest,
}
