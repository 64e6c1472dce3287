"""Chats in other formats, converted to turns of `role` and `content`.

The supported formats are OpenAI's fine-tuning format (`messages`, `tools`, and the older
`functions`), TRL's (`messages`, or `prompt` and `completion` as lists of turns), and ShareGPT's
(`conversations` of `from` and `value`). `ftreg.data.chat_checks` then checks the result.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ftreg.errors import UsageError, shown
from ftreg.files.reading import parse_json
from ftreg.records.turns import SYSTEM_ROLES

COLUMNS = ("messages", "conversations", "conversation")
"""Columns that contain a chat; the first existing one is used."""
PAIR = ("prompt", "completion")
"""Columns that contain a chat in two parts."""
TOOL_COLUMNS = ("tools", "functions")
"""Columns that contain the tools of a chat."""
# Names of roles in ShareGPT's `from` and other formats.
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
    """Whether a value is a list of turns, in any supported format."""
    return (
        isinstance(value, Sequence)
        and bool(value)
        and all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value)
    )


def chat_of(row: Mapping[str, Any]) -> tuple[Any, Sequence[str]]:
    """Return the turns of a row from the first known columns, and their names; None without any."""
    for column in COLUMNS:
        if row.get(column) is not None:
            return row[column], (column,)
    prompt, completion = (parsed_if_json(row.get(column)) for column in PAIR)
    if is_turns(prompt):
        answer = {"role": "assistant", "content": completion}
        return [*prompt, *(completion if is_turns(completion) else [answer])], PAIR
    return None, ()


def refuse_preferences(row: Mapping[str, Any], *, place: str) -> None:
    """Reject preference rows, in which neither answer is correct in itself.

    Raises:
        UsageError: it is a preference row; suggests a solution.
    """
    if all(row.get(column) is not None for column in _PREFERENCES):
        raise UsageError(
            f"{place}: 'chosen' and 'rejected' are preferences, which ftreg does not train on; "
            "use the chosen chats with --map messages=chosen"
        )


def turns_of(value: Any, *, padded: bool, place: str) -> tuple[list[dict[str, Any]], set[str]]:
    """Return turns in OpenAI's format, and the keys that were not used.

    Args:
        value: the turns as they are in the source, or as JSON.
        padded: whether missing keys of a turn are nulls, as in Parquet.
        place: file and line, for the message.

    Raises:
        UsageError: it is not a list of turns, or a turn contains something unsupported (an image).
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
    """Return tools, which are often JSON in a string; None if there are none."""
    found = parsed_if_json(value)
    return (without_nulls(found) if padded else found) or None


def _turn(given: Mapping[str, Any], *, place: str) -> dict[str, Any]:
    if given.get("weight") == 0:
        raise UsageError(
            f"{place}: weight 0 leaves a turn without loss, which ftreg only supports for all "
            "rows, with train.loss_on; remove the key"
        )
    called = str(given.get("role", given.get("from", ""))).strip()
    role = _ROLES.get(called.lower(), called.lower())
    content = given.get("content", given.get("value"))
    turn: dict[str, Any] = {"role": role, "content": _text(content, place=place)}
    if called in _CALLING:
        turn |= {"content": "", "tool_calls": _calls(content, place=place)}
    elif given.get("tool_calls"):
        turn["tool_calls"] = _calls(given["tool_calls"], place=place)
    elif given.get("function_call"):  # OpenAI's format before tools
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
    """Return the text of content in parts; any other value unchanged."""
    if not isinstance(content, Sequence) or isinstance(content, str):
        return content
    texts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind not in ("text", "str") or not isinstance(text, str):
            raise UsageError(f"{place}: its content holds {shown(kind)}; only text is supported")
        texts.append(text)
    return "\n".join(texts)


def _calls(value: Any, *, place: str) -> list[Any]:
    """Return calls as a list; a string is parsed as JSON."""
    found = parsed_if_json(value)
    if isinstance(found, str):
        raise UsageError(f"{place}: a call must be JSON, found {shown(found)}")
    calls = found if isinstance(found, list) else [found]
    return [parsed_if_json(call) for call in calls]


def parsed_if_json(value: Any) -> Any:
    """Return the list or mapping in a JSON string; any other value unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return parse_json(value, place="a column")
        except UsageError:
            return value
    return value


def without_nulls(value: Any) -> Any:
    """Return a value without null keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_nulls(held) for key, held in value.items() if held is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value
