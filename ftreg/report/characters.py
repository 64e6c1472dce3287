"""Characters that nobody sees, or that do something where a text is shown.

Texts of data and models pass through files unchanged. Where they are shown (a terminal, a page, a
report) an escape sequence must not move the cursor, nor a mark turn a line around.
"""

import re

# Control characters but tab and newline; marks that turn a text around; widths of nothing; halves.
UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]"
)


# Other spaces than these mean something in their scripts.
_SPACES = re.compile("[ \\t\\r\\n\\f\\v]+")


def one_line(text: str) -> str:
    """Return a text without line breaks, tabs and spaces beside each other."""
    return _SPACES.sub(" ", text).strip(" ")


def spelt(character: str) -> str:
    """How one character is shown that cannot be: its number in brackets."""
    return f"\N{LEFT CEILING}U+{ord(character):04X}\N{RIGHT FLOOR}"


def visible(text: str) -> str:
    """Spell out the characters of a text that nobody would see, or that would do something."""
    return UNSEEN.sub(lambda found: spelt(found[0]), text)


def inert_json(text: str) -> str:
    """Return JSON of the same value, in which such characters are escapes.

    So are the brackets of `##[command]`, which runners of CI heed wherever it stands.
    """
    text = text.replace("##[", "##\\u005b")
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
