"""Chats as others write them, as turns of `role` and `content`.

Read are OpenAI's fine-tuning format (`messages`, `tools`, and the older `functions`), TRL's
(`messages`, or `prompt` and `completion` as lists of turns), and ShareGPT's (`conversations` of
`from` and `value`). `ftreg.data.chat_checks` then checks what came out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ftreg.errors import UsageError, shown
from ftreg.files.reading import parse_json
from ftreg.records.turns import SYSTEM_ROLES

COLUMNS = ("messages", "conversations", "conversation")
"""Columns that hold a chat, the first that is there."""
PAIR = ("prompt", "completion")
"""Columns that hold a chat in two parts."""
TOOL_COLUMNS = ("tools", "functions")
"""Columns that hold the tools of a chat."""
# What ShareGPT's `from` and others call the roles.
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
_CALLING = ("function_call", "tool_call")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_KEPT = ("role", "content", "tool_calls", "tool_call_id", "name")
_READ = (*_KEPT, *_THOUGHTS, "from", "value", "function_call", "weight")
_PREFERENCES = ("chosen", "rejected")


def is_turns(value: Any) -> bool:
    """Whether a value is a list of turns, in any form that is read."""
    return (
        isinstance(value, Sequence)
        and bool(value)
        and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    )


def chat_of(row: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
    """Return the turns of a row by the columns that others have, and these; None without any."""
    for column in COLUMNS:
        if row.get(column) is not None:
            return row[column], (column,)
    prompt, completion = (parsed_if_json(row.get(column)) for column in PAIR)
    if is_turns(prompt):
        answer = {"role": "assistant", "content": completion}
        return [*prompt, *(completion if is_turns(completion) else [answer])], PAIR
    return None, ()


def refuse_preferences(row: Mapping[str, Any], *, place: str) -> None:
    """Refuse rows of preferences, of which no answer is the right one by itself.

    Raises:
        UsageError: it is one; says what can be done.
    """
    if all(row.get(column) is not None for column in _PREFERENCES):
        raise UsageError(
            f"{place}: 'chosen' and 'rejected' are rows of preferences, which ftreg does not train "
            "on; --map messages=chosen takes the chosen chats"
        )


def turns_of(value: Any, *, padded: bool, place: str) -> tuple[list[dict[str, Any]], set[str]]:
    """Return turns in OpenAI's form, and the keys of theirs that were not taken.

    Args:
        value: the turns as they are in the source, or JSON of them.
        padded: a null stands where a turn lacks a key, as Parquet has it.
        place: file and line, for the message.

    Raises:
        UsageError: it is no list of turns, or one holds what cannot be read (an image).
    """
    value = parsed_if_json(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UsageError(f"{place}: a chat is a list of turns, found {shown(value)}")
    turns, ignored = [], set()
    for number, item in enumerate(value):
        where = f"{place}: messages[{number}]"
        if not isinstance(item, Mapping):
            raise UsageError(f"{where} must be a mapping with a role, found {shown(item)}")
        turns.append(_turn(without_nulls(item) if padded else item, place=where))
        ignored |= {str(key) for key, held in item.items() if key not in _READ and held}
    if turns and turns[0].get("role") in SYSTEM_ROLES and not turns[0].get("content"):
        turns.pop(0)
    return turns, ignored


def tools_of(value: Any, *, padded: bool) -> Any:
    """Return tools, which many keep as JSON in a text; None where there are none."""
    found = parsed_if_json(value)
    return (without_nulls(found) if padded else found) or None


def _turn(given: Mapping[str, Any], *, place: str) -> dict[str, Any]:
    if given.get("weight") == 0:
        raise UsageError(
            f"{place}: weight 0 leaves a turn without loss, which ftreg does by train.loss_on for "
            "all rows alike; remove the key"
        )
    called = str(given.get("role", given.get("from", ""))).strip()
    role = _ROLES.get(called.lower(), called.lower())
    content = given.get("content", given.get("value"))
    turn: dict[str, Any] = {"role": role, "content": _text(content, place=place)}
    if called in _CALLING:
        turn |= {"content": "", "tool_calls": _calls(content, place=place)}
    elif given.get("tool_calls"):
        turn["tool_calls"] = _calls(given["tool_calls"], place=place)
    elif given.get("function_call"):  # OpenAI's before it had tools
        turn["tool_calls"] = _calls([given["function_call"]], place=place)
    for key in ("tool_call_id", "name"):
        if given.get(key) is not None:
            turn[key] = given[key]
    if role not in ("user", "tool"):
        turn.pop("name", None)
    thoughts = next((given[key] for key in _THOUGHTS if given.get(key)), None)
    if thoughts is not None and role == "assistant":
        turn["content"] = f"<think>\n{thoughts}\n</think>\n\n{turn['content'] or ''}".rstrip()
    return {key: held for key, held in turn.items() if held is not None}


def _text(content: Any, *, place: str) -> Any:
    """The text of a content in parts; anything else as it is."""
    if not isinstance(content, Sequence) or isinstance(content, str):
        return content
    texts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind not in ("text", "str") or not isinstance(text, str):
            raise UsageError(f"{place}: its content holds {shown(kind)}; only texts are read")
        texts.append(text)
    return "\n".join(texts)


def _calls(value: Any, *, place: str) -> list[Any]:
    """Calls as a list; one that is a text is JSON."""
    found = parsed_if_json(value)
    if isinstance(found, str):
        raise UsageError(f"{place}: a call must be JSON, found {shown(found)}")
    calls = found if isinstance(found, list) else [found]
    return [parsed_if_json(call) for call in calls]


def parsed_if_json(value: Any) -> Any:
    """What JSON in a text holds, if that is a list or a mapping; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return parse_json(value, place="a column")
        except UsageError:
            return value
    return value


def without_nulls(value: Any) -> Any:
    """A value without the keys that are null, however deep."""
    if isinstance(value, Mapping):
        return {key: without_nulls(held) for key, held in value.items() if held is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value
