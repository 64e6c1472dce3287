"""Turn references into training examples, given what a chat template writes around an answer.

The template is rendered once with a placeholder as the answer. The text before the placeholder
belongs to the prompt: it carries no loss and is present at generation. The text after it ends the
answer. Each reference then has to appear verbatim in the placeholder's position.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ftreg.errors import UsageError, differ_at, shown
from ftreg.models.chat_template import Chat, Messages, calls_in, place_of, special_tokens, stands_in
from ftreg.records.thought_tags import THOUGHT_TAGS, answer_of
from ftreg.records.turns import SYSTEM_ROLES, Turn

# Placeholders that no template contains and that lower-casing does not change.
_ANSWER, _THOUGHT = "q7x0zk", "j4w9vb"
_TAG = "<think>"
_THINKING = f"{_TAG}\n{_THOUGHT}\n</think>{_ANSWER}"
_OFF = "add_generation_prompt = false"
# An empty thought, or the end of one, that a template writes at the start of an answer.
_NO_THOUGHT = re.compile(
    "|".join(rf"(?:{re.escape(a)}\s*)?{re.escape(b)}\s*\Z" for a, b in THOUGHT_TAGS)
)
# Most differing tokens that a message shows.
_MOST_TOKENS = 8


class RenderedExample(NamedTuple):
    """Token ids of an example: the prompt as at generation, and the answer with its end token.

    `earlier` are the answers within the prompt that carry loss too, in order, each as a half-open
    range of positions that includes the end token.
    """

    prompt: list[int]
    answer: list[int]
    earlier: tuple[tuple[int, int], ...] = ()


class AssistantTurn:
    """The assistant's turn in a chat template.

    If the template's generation prompt differs from what it writes before an answer, it is replaced
    with one that matches. The checkpoint is saved with the new template, so every program that
    reads the checkpoint prompts as in training. Other templates are left unchanged.

    Args:
        chat: its template is checked, and gets another generation prompt if needed.
        system: the system turn that every chat begins with; None leaves it to the template.
        stops: token ids that end an output, besides the end-of-sequence token.
        thoughts: whether the references contain thoughts; called only if the template begins
            answers with and without thoughts differently.

    Raises:
        UsageError: the template leaves out or changes the assistant's content, or does not write it
            right after the prompt.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        system: str | None = None,
        stops: frozenset[int] = frozenset(),
        thoughts: Callable[[], bool] = lambda: False,
    ) -> None:
        self.chat = chat
        turns = [("user", "Hello")] if system is None else [("system", system), ("user", "Hello")]
        self._question = [{"role": role, "content": text} for role, text in turns]
        place = place_of(chat.tokenizer)
        self._place = f"{place}: the model's chat template (chat_template.jinja)"
        head, self._closing = self._around(_ANSWER)
        thinking = self._before_thoughts()
        if thinking not in (None, head) and thoughts():
            head = str(thinking)
        self._begin_with(head)
        stops |= {int(chat.tokenizer.eos_token_id)}
        self._kept, self.end = self._end_of(self._closing, stops)
        self.stops = stops | {self.end}

    def example(
        self, messages: Messages, reference: Turn, *, all_turns: bool = False
    ) -> RenderedExample:
        """Return the tokens of a chat whose last turn is the reference.

        Args:
            messages: the turns before it.
            reference: the assistant's answer, which may call functions.
            all_turns: whether earlier turns of the assistant carry loss too.

        Raises:
            UsageError: the tokens that would carry loss are not the reference and its end; the
                message shows them.
        """
        opened, said, text = self._written(messages, reference)
        prompt, answer = self._split(opened, text)
        self._refuse_another(said, answer[:-1])
        earlier = self._earlier(messages, opened, prompt) if all_turns else ()
        return RenderedExample(prompt, answer, tuple(earlier))

    def _written(self, messages: Messages, turn: Turn) -> tuple[str, str, str]:
        """Return the chat up to an answer, the answer's text, and the chat up to its end."""
        opened = self.chat.render(messages, answer_next=True)
        self.chat.refuse_unshown(messages, opened)
        if turn.get("tool_calls"):
            said, text = self._calling(opened, messages, turn)
        else:
            said = str(turn["content"])
            text = self._text(opened, messages, said)
        return opened, said, text

    def _split(self, opened: str, text: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a prompt, and those of its answer with the end token."""
        prompt, whole = self.chat.encode(opened), self.chat.encode(text)
        if whole[: len(prompt)] == prompt:
            answer = whole[len(prompt) :]
        else:  # a token spans the boundary; outputs begin after the prompt's own tokens
            answer = self.chat.encode(text[len(opened) :])
        if answer[-1:] != [self.end]:
            answer = [*answer, self.end]
        return prompt, answer

    def _calling(self, opened: str, messages: Messages, turn: Turn) -> tuple[str, str]:
        """Return the text of a turn with calls, and the chat up to the turn's end.

        Raises:
            UsageError: a call is missing, or the turn does not follow the prompt.
        """
        full = self.chat.render([*messages, dict(turn)], answer_next=False)
        written = _between(opened, full, self._closing)
        if written is None:
            raise UsageError(self._not_behind())
        content = str(turn["content"]).strip()
        for what, wanted in (("what is said beside a call", content), *calls_in(turn)):
            if not stands_in(written, wanted):
                raise UsageError(
                    f"{self._place} leaves out {what}: {shown(wanted)}; take a base model whose "
                    "template writes calls, or another template of this one (base.template)"
                )
        return written, opened + written + self._kept

    def _earlier(
        self, messages: Messages, opened: str, prompt: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """Yield where the answers in a prompt begin and end, verified by decoding their tokens.

        Raises:
            UsageError: the template writes an answer differently once the chat continues.
        """
        for number, turn in enumerate(messages):
            if turn["role"] != "assistant":
                continue
            before, said, text = self._written(messages[:number], turn)
            asking = self.chat.encode(before)
            start = differ_at(asking, prompt)
            if start == len(asking) - 1:
                start += 1  # a white-space token spans the boundary; it carries no loss
            end = next((i for i in range(start, len(prompt)) if prompt[i] in self.stops), None)
            if (
                not opened.startswith(before)
                or start < len(asking)
                or end is None
                or _canonical(self.chat.read(prompt[start:end])) != _canonical(said.strip())
            ):
                raise UsageError(self._otherwise(number, self.chat.encode(text), prompt))
            yield start, end + 1

    def _otherwise(self, number: int, asked: Sequence[int], prompt: Sequence[int]) -> str:
        place, own, found = self._differing(asked, prompt)
        return (
            f"{self._place} writes turn {number + 1} otherwise, or without its end, once the chat "
            f"goes on: from token {place} on it is {found}, and was {own}. Loss on it would train "
            "what is never generated. Set train.loss_on: last_turn"
        )

    def _text(self, opened: str, messages: Messages, reference: str) -> str:
        """Return the chat up to the answer's end.

        Templates may strip white space, which scoring ignores. They may leave thoughts out, or
        write an empty one if there is none: then the reference is inserted verbatim.

        Raises:
            UsageError: the template changes the reference in another way.
        """
        full = self._write(messages, reference, opened=opened)
        for said in (reference, reference.lstrip(), reference.rstrip(), reference.strip()):
            between = _between(opened, full, said + self._closing)
            if between is not None and not between.strip():
                return full.removesuffix(self._closing) + self._kept
        bare = answer_of(reference)
        for ending in (bare, reference[reference.rfind(bare) :]):
            between = _between(opened, full, ending + self._closing)
            if between is not None and answer_of(f"{between}|").strip() == "|":
                return opened + reference + self._kept
        if not full.startswith(opened):
            raise UsageError(self._not_behind())
        written = self.chat.encode(full[len(opened) :].removesuffix(self._closing))
        place, wanted, found = self._differing(self.chat.encode(reference), written)
        raise UsageError(
            f"{self._place} changes the reference, so that something else would be learnt. "
            f"From token {place} on it is {wanted}, and the template {found}. Write the reference "
            "as the template does in a new dataset version, or take a template that leaves it as "
            "it is (base.template names another; or mend the base model's own)"
        )

    def _refuse_another(self, reference: str, body: list[int]) -> None:
        """Refuse an answer that does not decode to its reference, or that contains an end token."""
        ends = [token for token in body if token in self.stops]
        if ends:
            raise UsageError(
                f"its reference holds {shown(self._name(ends[0]))}, which ends an output: nothing "
                "behind it would ever be generated, and the template writes an end of its own. "
                "Remove it in a new dataset version"
            )
        said, wanted = self.chat.read(body), reference.strip()
        if not wanted:
            raise UsageError(
                f"its reference {reference!r} becomes no token but the end of the answer, so there "
                "is nothing to learn from it; give it a text in a new dataset version"
            )
        if said != wanted and _canonical(said) != _canonical(wanted):
            place = differ_at(said, wanted)
            tokens = " ".join(shown(self._name(token)) for token in body[:_MOST_TOKENS])
            more = " ..." if len(body) > _MOST_TOKENS else ""
            raise UsageError(
                f"its reference is not what its tokens say: from character {place + 1} on it is "
                f"{shown(wanted[place:])}, and they say {shown(said[place:])} (tokens: "
                f"{tokens}{more}). The tokenizer cannot write this text: use others in a new "
                "dataset version, or a base model that can"
            )

    def _around(self, answer: str) -> tuple[str, str]:
        """Return what the template writes before and after an answer."""
        full = self._write(self._question, answer)
        base = next((text for text in self._begun() if full.startswith(text)), None)
        if base is None:
            raise UsageError(self._not_behind())
        place = full.find(_ANSWER, len(base))
        if place < 0:
            raise UsageError(
                f"{self._place} does not write what the assistant says (or changes it), so there "
                "is nothing to learn from; use one that writes the assistant's content as it is"
            )
        return full[:place], full[place + len(_ANSWER) :]

    def _before_thoughts(self) -> str | None:
        """Return what the template writes before thoughts and answer; None if unsupported."""
        try:
            head, _ = self._around(_THINKING)
        except UsageError:
            return None
        if _THOUGHT in head:
            opening = head.rfind(_TAG, 0, head.index(_THOUGHT))
            if opening < 0:
                return None
            head = head[:opening]
        return _NO_THOUGHT.sub("", head)  # the reference's own thoughts replace it

    def _begin_with(self, head: str) -> None:
        """Make the generation prompt end as `head` does."""
        asked, plain = self._begun()
        if head.startswith(asked) and not head[len(asked) :].strip():
            return  # white space belongs to the answer's first token
        head = head.rstrip(" ")
        whole = self._write(self._question, _ANSWER)
        template = self.chat.source
        rest, source = head.removeprefix(asked), template.removesuffix("\n")
        mended = template.count(_OFF)
        ask = f"asked_{mended - 1}" if mended else "add_generation_prompt"
        if not head.startswith(asked):
            # Switch off its own generation prompt, and append this one.
            rest, ask = head.removeprefix(plain), f"asked_{mended}"
            source = f"{{%- set {ask} = add_generation_prompt %}}{{%- set {_OFF} %}}\n{source}"
        text = json.dumps(rest, ensure_ascii=False)
        self.chat.use(f"{source}{{% if {ask} %}}{{{{ {text} }}}}{{% endif %}}")
        if (self._begun()[0], self._write(self._question, _ANSWER)) != (head, whole):
            raise UsageError(self._not_behind())

    def _end_of(self, closing: str, stops: frozenset[int]) -> tuple[str, int]:
        """Return the part of the closing text to keep, and the token that ends an answer.

        The end is the first token of the closing that ends an output, or else a special token right
        after the answer, or else the end-of-sequence token.
        """
        tokenizer = self.chat.tokenizer
        texts = {name: token for token in stops if (name := self._name(token))}
        ends = [(closing.index(text), -len(text), text) for text in texts if text in closing]
        if not ends:
            texts = {text: token for token, text in special_tokens(tokenizer).items()}
            lead = len(closing) - len(closing.lstrip())
            ends = [(lead, -len(text), text) for text in texts if closing.startswith(text, lead)]
        place, _, text = min(ends, default=(len(closing), 0, ""))
        before = closing[:place]
        kept = "" if self.chat.read(self.chat.encode(before)) else before
        return kept + text, texts[text] if text else int(tokenizer.eos_token_id)

    def _begun(self) -> tuple[str, str]:
        """Return the question with the template's generation prompt, and without."""
        asked, plain = (self.chat.render(self._question, answer_next=ask) for ask in (True, False))
        return asked, plain

    def _write(self, messages: Messages, answer: str, *, opened: str | None = None) -> str:
        """Return a chat with an answer, as text.

        Some templates (Mistral's third version) merge the system turn into the user's only if that
        is the last one, so an answer makes it disappear. Then the text before the question is taken
        from the prompt, which has it.
        """
        turn = {"role": "assistant", "content": answer}
        full = self.chat.render([*messages, turn], answer_next=False)
        if opened is not None and full.startswith(opened):  # most templates
            return full
        asked = self.chat.render(messages, answer_next=False)
        question = messages[-1]["content"].strip()
        if full.startswith(asked) or not question:
            return full
        others = [item for item in messages if item["role"] not in SYSTEM_ROLES]
        alone = self.chat.render(others, answer_next=False)
        begin, alike = asked.rfind(question), alone.rfind(question)
        if begin >= 0 and asked[begin:] == alone[alike:] and full.startswith(alone):
            return asked[:begin] + full[alike:]
        return full

    def _name(self, token: int) -> str:
        return str(self.chat.tokenizer.decode([token], skip_special_tokens=False))

    def _differing(self, wanted: Sequence[int], found: Sequence[int]) -> tuple[int, str, str]:
        """Return the first differing position, from 1, and the tokens of both from there on."""
        place = differ_at(wanted, found)

        def names(tokens: Sequence[int]) -> str:
            part = tokens[place : place + _MOST_TOKENS]
            more = " ..." if len(tokens) > place + _MOST_TOKENS else ""
            return " ".join(shown(self._name(token)) for token in part) + more or "nothing"

        return place + 1, names(wanted), names(found)

    def _not_behind(self) -> str:
        return (
            f"{self._place} does not put the answer right behind the prompt, so the loss cannot be "
            "kept to the answer; use a template whose generation prompt begins the assistant's turn"
        )


def _between(start: str, text: str, end: str) -> str | None:
    """Return what is between the start and the end of a text; None if it lacks either."""
    if not text.startswith(start) or not text.endswith(end) or len(text) < len(start) + len(end):
        return None
    return text[len(start) : len(text) - len(end)]


def _canonical(text: str) -> str:
    """Return the text in NFC: some tokenizers compose letters and accents, which is no change."""
    return unicodedata.normalize("NFC", text)
