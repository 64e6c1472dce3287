"""What a chat template writes around the assistant's answer: a reference becomes an example here.

The template is asked once what it writes around a word that it cannot know. What stands before the
word is the prompt's, so that it carries no loss and is there when an output is generated; what
stands behind it ends the answer. Each reference then has to stand in its place, word for word.
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

# No template writes these of itself, and lower case leaves them as they are.
_ANSWER, _THOUGHT = "q7x0zk", "j4w9vb"
_TAG = "<think>"
_THINKING = f"{_TAG}\n{_THOUGHT}\n</think>{_ANSWER}"
_OFF = "add_generation_prompt = false"
# An empty thought, or the end of one, that a template writes where an answer begins.
_NO_THOUGHT = re.compile(
    "|".join(rf"(?:{re.escape(a)}\s*)?{re.escape(b)}\s*\Z" for a, b in THOUGHT_TAGS)
)
# Tokens that a message shows of what differs.
_MOST_TOKENS = 8


class RenderedExample(NamedTuple):
    """Token ids of an example: the prompt as generation has it, and the answer with its end.

    `earlier` are the answers within the prompt that carry loss too, each as the positions of its
    first token and of the one behind its end, in order.
    """

    prompt: list[int]
    answer: list[int]
    earlier: tuple[tuple[int, int], ...] = ()


class AssistantTurn:
    """The assistant's turn in a chat template.

    Where the template's own generation prompt is not what it writes before an answer, the template
    gets one that is: the checkpoint is saved with it, and every program that reads the checkpoint
    asks as training did. Other templates are left alone.

    Args:
        chat: whose template is looked at, and given another generation prompt if need be.
        system: the system turn that every chat begins with; None leaves it to the template.
        stops: token ids that end an output, beside the end-of-sequence token.
        thoughts: whether there are thoughts in the references. It is asked only where the template
            writes something else before an answer with thoughts than before one without.

    Raises:
        UsageError: the template does not write what the assistant says, or not behind the prompt.
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
        """Write a chat whose last turn is the reference.

        Args:
            messages: the turns before it.
            reference: the assistant's turn that answers, which may call functions.
            all_turns: the assistant's turns before it carry loss too.

        Raises:
            UsageError: what would carry loss is not the reference and its end; shows what is.
        """
        opened, said, text = self._written(messages, reference)
        prompt, answer = self._split(opened, text)
        self._refuse_another(said, answer[:-1])
        earlier = self._earlier(messages, opened, prompt) if all_turns else ()
        return RenderedExample(prompt, answer, tuple(earlier))

    def _written(self, messages: Messages, turn: Turn) -> tuple[str, str, str]:
        """Return a chat up to an answer, the answer as a text, and the chat up to its end."""
        opened = self.chat.render(messages, answer_next=True)
        self.chat.refuse_unshown(messages, opened)
        if turn.get("tool_calls"):
            said, text = self._calling(opened, messages, turn)
        else:
            said = str(turn["content"])
            text = self._text(opened, messages, said)
        return opened, said, text

    def _split(self, opened: str, text: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a prompt, and those of the answer behind it with its end."""
        prompt, whole = self.chat.encode(opened), self.chat.encode(text)
        if whole[: len(prompt)] == prompt:
            answer = whole[len(prompt) :]
        else:  # a token lies across; an output begins behind the prompt's own tokens
            answer = self.chat.encode(text[len(opened) :])
        if answer[-1:] != [self.end]:
            answer = [*answer, self.end]
        return prompt, answer

    def _calling(self, opened: str, messages: Messages, turn: Turn) -> tuple[str, str]:
        """Return what the template makes of a turn with calls, and the chat up to its end.

        Raises:
            UsageError: a call is not in it, or it stands elsewhere than behind the prompt.
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
        """Yield where the answers in a prompt begin and end, proven by what their tokens say.

        Raises:
            UsageError: the template writes an answer otherwise once the chat goes on.
        """
        for number, turn in enumerate(messages):
            if turn["role"] != "assistant":
                continue
            before, said, text = self._written(messages[:number], turn)
            asking = self.chat.encode(before)
            start = differ_at(asking, prompt)
            if start == len(asking) - 1:
                start += 1  # a token of white space lies across; it carries no loss
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

        Templates take white space off the ends, which no output is judged by. They leave thoughts
        out, or write an empty one where there is none: the reference is put into its place as it
        is. No other change is taken.
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
        """Refuse an answer that does not read as its reference, or that ends before its end."""
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
        """Return what the template writes before and behind an answer."""
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
        """Return what the template writes before thoughts and answer; None where it takes none."""
        try:
            head, _ = self._around(_THINKING)
        except UsageError:
            return None
        if _THOUGHT in head:
            opening = head.rfind(_TAG, 0, head.index(_THOUGHT))
            if opening < 0:
                return None
            head = head[:opening]
        return _NO_THOUGHT.sub("", head)  # the thoughts of the reference take its place

    def _begin_with(self, head: str) -> None:
        """See to it that the generation prompt ends as `head` does."""
        asked, plain = self._begun()
        if head.startswith(asked) and not head[len(asked) :].strip():
            return  # white space is of the answer's first token
        head = head.rstrip(" ")
        whole = self._write(self._question, _ANSWER)
        template = self.chat.source
        rest, source = head.removeprefix(asked), template.removesuffix("\n")
        mended = template.count(_OFF)
        ask = f"asked_{mended - 1}" if mended else "add_generation_prompt"
        if not head.startswith(asked):
            # Its own generation prompt is switched off, and this one written behind it.
            rest, ask = head.removeprefix(plain), f"asked_{mended}"
            source = f"{{%- set {ask} = add_generation_prompt %}}{{%- set {_OFF} %}}\n{source}"
        text = json.dumps(rest, ensure_ascii=False)
        self.chat.use(f"{source}{{% if {ask} %}}{{{{ {text} }}}}{{% endif %}}")
        if (self._begun()[0], self._write(self._question, _ANSWER)) != (head, whole):
            raise UsageError(self._not_behind())

    def _end_of(self, closing: str, stops: frozenset[int]) -> tuple[str, int]:
        """Return what is kept of the text behind an answer, and the token that ends it.

        The end is the first token of the closing that ends an output, or a special token right
        behind the answer; a template without either gets the end-of-sequence token.
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
        """The question with the template's generation prompt, and without."""
        asked, plain = (self.chat.render(self._question, answer_next=ask) for ask in (True, False))
        return asked, plain

    def _write(self, messages: Messages, answer: str, *, opened: str | None = None) -> str:
        """Return a chat with an answer.

        Some templates write the system turn into the user's only while that is the last one
        (Mistral's third version): it is gone once there is an answer. The prompt has it, so the
        prompt's beginning takes the place of what stands before the question.
        """
        turn = {"role": "assistant", "content": answer}
        full = self.chat.render([*messages, turn], answer_next=False)
        if opened is not None and full.startswith(opened):  # as most templates have it
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
        """Return which token is the first that differs, from 1, and both rows from it on."""
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
    """What is between the start and the end of a text; None where it does not have them."""
    if not text.startswith(start) or not text.endswith(end) or len(text) < len(start) + len(end):
        return None
    return text[len(start) : len(text) - len(end)]


def _canonical(text: str) -> str:
    """Some tokenizers compose letters and their accents, which are the same text either way."""
    return unicodedata.normalize("NFC", text)
