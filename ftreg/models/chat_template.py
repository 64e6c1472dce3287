"""Encode chats and decode token ids, with a tokenizer and its chat template.

Training and generation both use `Chat`: a prompt has the same tokens in both, and references are
decoded in the same way as outputs.
"""

import datetime
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.models.soundness import told_as
from ftreg.records.thought_tags import THOUGHT_TAGS, answer_of
from ftreg.records.turns import Turn, apart

GENERATION_CONFIG = "generation_config.json"
Messages = list[dict[str, Any]]
_CLOCK = "strftime_now"
_IDS = range(1 << 31)
# The strftime directives that every platform supports.
_DIRECTIVES = "aAwdbBmyYHIpMSfzZjUWcxX"
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


class Chat:
    """The chat template of a tokenizer.

    Args:
        tokenizer: has a chat template, or several named ones.
        template: the name of one of them; None for the default.
        date: ISO date that the template uses as the current one; None for today.

    Raises:
        UsageError: there is no such template.
    """

    def __init__(
        self, tokenizer: Any, *, template: str | None = None, date: str | None = None
    ) -> None:
        self.tokenizer = tokenizer
        templates = _templates(tokenizer)
        self._name = template or "default"
        if self._name not in templates:
            known = ", ".join(sorted(templates))
            raise UsageError(
                f"base.template: {place_of(tokenizer)} has no chat template {self._name!r}, but "
                f"{known}{did_you_mean(self._name, templates)}"
            )
        dated = _CLOCK in templates[self._name]
        self.date = (date or datetime.date.today().isoformat()) if dated else None
        self._hidden = _control_tokens(tokenizer)
        self.use(templates[self._name])

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines how a chat is rendered, besides the tokenizer's vocabulary."""
        return {"template": self.source, "date": self.date}

    def use(self, text: str) -> None:
        """Replace the template with another text; the tokenizer then saves that one."""
        self.source = text
        self._rendered = _at(self.date, text) if self.date else text
        if isinstance(self.tokenizer.chat_template, dict):
            self.tokenizer.chat_template = {**self.tokenizer.chat_template, self._name: text}
        else:
            self.tokenizer.chat_template = text

    def render(self, messages: Messages, *, answer_next: bool) -> str:
        """Return a chat as text, with the generation prompt if `answer_next`.

        Raises:
            UsageError: the template is broken, does not accept the chat, or uses something that
                transformers' sandbox forbids.
        """
        turns, tools = apart(messages)
        place, roles = place_of(self.tokenizer), ", ".join(item["role"] for item in messages)
        taken = f"does not take a chat of {roles}"
        with told_as(f"{place}: the model's chat template (chat_template.jinja) {taken}"):
            try:
                text = self.tokenizer.apply_chat_template(
                    turns,
                    tools=tools,
                    chat_template=self._rendered,
                    add_generation_prompt=answer_next,
                    tokenize=False,
                )
            except jinja2.TemplateSyntaxError as error:
                raise UsageError(
                    f"{place}: the model's chat template (chat_template.jinja, line "
                    f"{error.lineno}) {taken}: {error}"
                ) from error
        return str(text)

    def refuse_unshown(self, messages: Messages, text: str) -> None:
        """Refuse a chat from which the template leaves something out.

        Many templates ignore tools, or render only the last turns. The text must contain each
        turn's content, except for thoughts, and the name and the string arguments of each call. A
        chat of only system and user turns, without tools, is not checked.

        Args:
            messages: the chat.
            text: the chat as rendered, with the generation prompt.

        Raises:
            UsageError: something is missing; the message says what.
        """
        turns, tools = apart(messages)
        if not tools and all(turn["role"] in ("system", "user") for turn in turns):
            return
        lost = next((pair for pair in _wanted(turns) if not stands_in(text, pair[1])), None)
        if tools and self.render(turns, answer_next=True) == text:
            lost = ("the tools", ", ".join(tool["function"]["name"] for tool in tools))
        if lost is not None:
            raise UsageError(
                f"{place_of(self.tokenizer)}: the model's chat template (chat_template.jinja) "
                f"leaves out {lost[0]}: {shown(lost[1])}; take a base model whose template writes "
                "it, or another template of this one (base.template)"
            )

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text from `render`.

        Raises:
            UsageError: the tokenizer fails, as some do on some texts or with some settings.
        """
        with told_as(f"{place_of(self.tokenizer)}: the tokenizer cannot take {shown(text)}"):
            return list(self.tokenizer.encode(text, add_special_tokens=False))

    def prompt(self, messages: Messages) -> list[int]:
        """Return the token ids of a chat up to where the assistant's answer begins.

        Raises:
            UsageError: as `render`, `refuse_unshown` and `encode`; or the prompt is empty.
        """
        text = self.render(messages, answer_next=True)
        self.refuse_unshown(messages, text)
        ids = self.encode(text)
        if not ids:
            roles = ", ".join(item["role"] for item in messages)
            raise UsageError(
                f"{place_of(self.tokenizer)}: the model's chat template (chat_template.jinja) "
                f"writes nothing for a chat of {roles}; put in the template that the model was "
                "made with"
            )
        return ids

    def read(self, tokens: Sequence[int]) -> str:
        """Decode an output or a reference, without surrounding white space.

        Tokens that only structure the chat are left out.
        """
        kept = [token for token in tokens if token not in self._hidden]
        # Clean-up would remove the space in "a , b".
        text = self.tokenizer.decode(
            kept, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text).strip()


def _wanted(turns: Messages) -> Iterator[tuple[str, str]]:
    """Yield what the text must contain of turns, as pairs of description and text."""
    for turn in turns:
        yield f"what the {turn['role']} says", answer_of(turn["content"]).strip()
        yield from calls_in(turn)


def calls_in(turn: Turn) -> Iterator[tuple[str, str]]:
    """Yield names and string arguments of a turn's calls, as pairs of description and text."""
    for call in turn.get("tool_calls") or ():
        yield "the call of a function", call["function"]["name"]
        for name, value in call["function"]["arguments"].items():
            if isinstance(value, str):
                yield f"the argument {name} of a call", value


def stands_in(text: str, wanted: str) -> bool:
    """Whether a text contains another one, verbatim or escaped as in JSON."""
    escaped = (json.dumps(wanted, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return wanted in text or any(item in text for item in escaped)


def _control_tokens(tokenizer: Any) -> frozenset[int]:
    """Return the token ids that decoding leaves out, as they only structure the chat.

    These are the tokens with a role (end, padding, ...) and the special tokens that a chat template
    writes around a question and its answer. Other special tokens are content that a model was
    trained to write (`<POS>`, `[TOOL_CALLS]`), and thought tags are kept for code that looks for
    thoughts.
    """
    form = "".join(_form_of(tokenizer, template) for template in _templates(tokenizer).values())
    roles = (getattr(tokenizer, f"{name}_token_id", None) for name in _ROLES)
    named = frozenset(int(token) for token in roles if token is not None)
    thoughts = {tag for tags in THOUGHT_TAGS for tag in tags}
    return named | {
        number
        for number, token in special_tokens(tokenizer).items()
        if token in form and token not in thoughts
    }


def _form_of(tokenizer: Any, template: str) -> str:
    """Return a sample chat as a template renders it; the template itself if that fails."""
    chat = [{"role": role, "content": "Hello"} for role in ("user", "assistant")]
    try:
        text = tokenizer.apply_chat_template(
            chat, chat_template=template, add_generation_prompt=True, tokenize=False
        )
    except Exception:  # `render` reports it when the template is used
        return template
    return str(text)


def special_tokens(tokenizer: Any) -> dict[int, str]:
    """Return the tokens that decoding can skip: token id to text."""
    return {
        number: token.content
        for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items()
        if token.special
    }


def stop_tokens(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Return the token ids that end an output: the tokenizer's and the generation config's."""
    return stop_ids(generation_config) | {int(tokenizer.eos_token_id)}


def stop_at(model: Any, end: int, *, stops: frozenset[int]) -> None:
    """Add the tokens that end an output to a model's configuration, where they are missing.

    Args:
        model: a transformers model, changed in place.
        end: the token that trained answers end with; listed first.
        stops: all token ids that end an output, including `end`.
    """
    ends = [end, *sorted(stops - {end})] if len(stops) > 1 else end
    if end not in stop_ids(model.config):
        model.config.eos_token_id = ends
    settings = model.generation_config
    if not stops <= stop_ids(settings):
        values = {**json.loads(settings.to_json_string()), "eos_token_id": ends}
        # transformers saves any values that it loaded, but refuses to save changed settings with
        # values that it warns about, which many published models have. So load the new settings.
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, GENERATION_CONFIG).write_text(json.dumps(values), encoding="utf-8")
            model.generation_config = type(settings).from_pretrained(folder)


def stop_ids(settings: Any) -> frozenset[int]:
    """Return the end tokens of a model's configuration; 0 is a valid one.

    Values that cannot be token ids, such as -1, are ignored.
    """
    stop = getattr(settings, "eos_token_id", None)
    several = stop if isinstance(stop, list | tuple) else [stop]
    return frozenset(token for token in several if type(token) is int and token in _IDS)


def _templates(tokenizer: Any) -> dict[str, str]:
    found = tokenizer.chat_template
    return dict(found) if isinstance(found, dict) else {"default": str(found)}


def place_of(tokenizer: Any) -> str:
    """Return where a tokenizer was loaded from, for messages."""
    return getattr(tokenizer, "name_or_path", "") or "the tokenizer"


def _at(date: str, template: str) -> str:
    """Return a template whose clock is fixed at the start of a day.

    transformers passes templates a time function that callers cannot replace; a macro of the same
    name overrides it. It is prefixed for rendering only.
    """
    moment = datetime.datetime.fromisoformat(date)
    shown = {f"%{key}": moment.strftime(f"%{key}") for key in _DIRECTIVES}
    # `%-d` and the like, without leading zeros; not every platform's strftime has them.
    bare = {f"%-{key[1]}": value.lstrip("0") or "0" for key, value in shown.items()}
    filters = "".join(f" | replace({key!r}, {value!r})" for key, value in {**bare, **shown}.items())
    # Jinja drops the line break after the tag: the template still begins at the start of a line.
    return f"{{%- macro {_CLOCK}(format) -%}}{{{{ format{filters} }}}}{{%- endmacro %}}\n{template}"
