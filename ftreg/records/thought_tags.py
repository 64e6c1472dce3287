"""Thoughts in a text: what a reasoning model writes before its answer.

Models mark their thoughts with a pair of tags. Some have the opening tag in the prompt, so that the
output starts inside the thoughts. A truncated output has no closing tag, and no answer.
"""

import re
from collections.abc import Iterator

THOUGHT_TAGS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, and most
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("◁think▷", "◁/think▷"),  # Kimi
)


def _either(tags: tuple[str, str]) -> re.Pattern[str]:
    # A tag in backticks is quoted, and does not open or close anything.
    opening, closing = map(re.escape, tags)
    return re.compile(f"(?<!`)(?:(?P<opening>{opening})|{closing})(?!`)", re.IGNORECASE)


_EITHER = tuple(map(_either, THOUGHT_TAGS))


def answer_of(text: str) -> str:
    """Return a text without its thoughts; the text itself if it has none.

    Everything before a closing tag without an opening one is a thought too. If an unclosed opening
    tag starts a line, everything after it is dropped; elsewhere it is an ordinary word.
    """
    answer = text
    for tags in _EITHER:
        if tags.search(answer):
            answer = "".join(_outside(tags, answer))
    return text if answer == text else answer.strip()


def _outside(tags: re.Pattern[str], text: str) -> Iterator[str]:
    found = list(tags.finditer(text))
    begun: re.Match[str] | None = None
    kept: list[str] = []
    end = 0
    for tag in found:
        if tag["opening"] is None:
            if begun is None:
                kept.clear()
            begun, end = None, tag.end()
        elif begun is None:
            kept.append(text[end : tag.start()])
            begun = tag
    yield from kept
    if begun is None:
        yield text[end:]
    elif text[: begun.start()].rpartition("\n")[2].strip():
        yield text[begun.start() :]
