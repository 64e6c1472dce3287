"""Characters that are invisible, or that affect how a text is displayed.

Files keep the texts of data and models unchanged. Where they are displayed (a terminal, a page, a
report), an escape sequence must not move the cursor, and a mark must not reverse a line.
"""

import re

# Control characters except tab and newline; bidirectional marks; zero widths; surrogates.
UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)


# Other spaces have a meaning in their scripts.
_SPACES = re.compile("[ \\t\\r\\n\\f\\v]+")


def one_line(text: str) -> str:
    """Return a text with line breaks, tabs and runs of spaces collapsed."""
    return _SPACES.sub(" ", text).strip(" ")


def spelt(character: str) -> str:
    """How a character that cannot be displayed is shown: its number in brackets."""
    return f"\N{LEFT CEILING}U+{ord(character):04X}\N{RIGHT FLOOR}"


def visible(text: str) -> str:
    """Spell out the characters of a text that are invisible or would affect the display."""
    return UNSEEN.sub(lambda found: spelt(found[0]), text)


def inert_json(text: str) -> str:
    """Return JSON of the same value, with such characters escaped.

    So are the brackets of `##[command]`, which CI runners obey anywhere in the output.
    """
    text = text.replace("##[", "##\\u005b")
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
