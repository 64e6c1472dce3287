"""Whether what is served reads prompts as training did, and ends where it ended."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol

from ftreg.errors import UsageError, differ_at, shown
from ftreg.models.chat_template import Chat, Messages, special_tokens
from ftreg.records.artefact import Cause, ParityFinding

_SHOWN = 8
"""Tokens that are shown from just before the first difference on."""
_COUNTED = 3
"""Prompts for which the server is asked how many tokens it really took."""


class Server(Protocol):
    """What is asked of a server."""

    def context(self) -> int:
        """Return how many tokens a prompt and its answer may have."""

    def render(self, messages: Messages) -> str:
        """Return a chat as text."""

    def encode(self, text: str) -> list[int]:
        """Return the token ids of that text."""

    def ends_at(self, token: int, *, after: Sequence[int]) -> bool:
        """Whether an output ends at a token."""

    def prompt_tokens(self, messages: Messages) -> int:
        """Return how many tokens a chat has that is answered."""

    def likeliest(self, prompt: Sequence[int], *, most: int, letter: int) -> dict[int, float]:
        """Return the tokens that are likeliest to follow, with their log-probabilities."""


@dataclass(frozen=True, slots=True)
class ParityPrompt:
    """A chat by the id of its row, or by what it is there to show."""

    name: str
    messages: Messages


def probes(chat: Chat) -> list[ParityPrompt]:
    """Return chats that show what a dataset's rows may not: turns, roles, tokens that are spelt.

    A template that refuses one in training is not asked for it.
    """
    special = " ".join(list(special_tokens(chat.tokenizer).values())[:5])
    user = {"role": "user", "content": "Hello, how are you?"}
    answer = {"role": "assistant", "content": "I am well."}
    turns: dict[str, Messages] = {
        "a system turn": [{"role": "system", "content": "Be brief."}, user],
        "three turns": [user, answer, {"role": "user", "content": "And now? 1234"}],
        "special tokens in a text": [{"role": "user", "content": f"{special} Hello"}],
        "spaces, lines and scripts": [
            {"role": "user", "content": "a  b\n\n\tc 100,000 I'LL naïve 你好 🙂"}
        ],
    }
    found = []
    for name, messages in turns.items():
        try:
            chat.prompt(messages)
        except UsageError:
            continue
        found.append(ParityPrompt(name, messages))
    return found


def prompt_differences(
    chat: Chat,
    prompts: Sequence[ParityPrompt],
    server: Server,
    *,
    new_tokens: int,
    advance: Callable[[int, int], None],
) -> list[ParityFinding]:
    """Hold the token ids of prompts together; of each cause the first prompt is kept, and counted.

    Args:
        chat: of the checkpoint.
        prompts: the chats.
        server: has the artefact.
        new_tokens: most tokens of an answer.
        advance: is told how many of how many prompts are compared.
    """
    found: dict[Cause, ParityFinding] = {}
    context, longest = server.context(), ("", 0)
    for number, prompt in enumerate(prompts, start=1):
        ours = chat.prompt(prompt.messages)
        longest = max(longest, (prompt.name, len(ours)), key=lambda item: item[1])
        finding = _difference(chat, prompt, ours, server)
        if finding is None and number <= _COUNTED and len(ours) < context:
            finding = _miscounted(prompt, ours, server)
        if finding is not None:
            known = found.get(finding.cause, finding)
            found[finding.cause] = replace(known, prompts=known.prompts + 1)
        advance(number, len(prompts))
    name, length = longest
    if length + new_tokens > context:
        found["a context too short"] = ParityFinding(
            cause="a context too short",
            where=f"prompt {name}",
            trained=f"{length} tokens and an answer of {new_tokens}",
            served=f"{context} tokens of context",
            prompts=1,
        )
    return list(found.values())


def _miscounted(prompt: ParityPrompt, ours: list[int], server: Server) -> ParityFinding | None:
    counted = server.prompt_tokens(prompt.messages)
    if counted == len(ours):
        return None
    return ParityFinding(
        cause="another chat template",
        where=f"prompt {prompt.name}",
        trained=f"{len(ours)} tokens",
        served=f"{counted} tokens in a chat that is answered",
    )


def _difference(
    chat: Chat, prompt: ParityPrompt, ours: list[int], server: Server
) -> ParityFinding | None:
    try:
        text = server.render(prompt.messages)
    except UsageError as error:
        return ParityFinding(
            cause="another chat template",
            where=f"prompt {prompt.name}",
            trained="a chat that it takes",
            served=str(error),
        )
    theirs = server.encode(text)
    if theirs == ours:
        return None
    first = differ_at(ours, theirs)
    window = slice(max(0, first - 2), first - 2 + _SHOWN)
    pairs = zip_longest(ours[window], theirs[window])
    tokens = tuple(
        (window.start + at, _shown(chat, a), _shown(chat, b)) for at, (a, b) in enumerate(pairs)
    )
    return ParityFinding(
        cause=_cause(chat, prompt.messages, ours, text, server),
        where=f"prompt {prompt.name}, token {first}",
        trained=_shown(chat, ours[first]) if first < len(ours) else "the prompt's end",
        served=_shown(chat, theirs[first]) if first < len(theirs) else "the prompt's end",
        tokens=tokens,
    )


def _cause(chat: Chat, messages: Messages, ours: list[int], text: str, server: Server) -> Cause:
    """Name what most likely makes the tokens of a prompt differ."""
    theirs = server.encode(text)
    begin = chat.tokenizer.bos_token_id
    if begin is not None and theirs[:1] == [begin] and theirs[1:] == ours:
        return "a doubled first token" if ours[:1] == [begin] else "a first token too many"
    if begin is not None and ours[:1] == [begin] and theirs == ours[1:]:
        return "a missing first token"
    rendered = chat.render(messages, answer_next=True)
    if text.strip() == rendered.strip() or chat.encode(text) == ours:
        return "another tokenizer"
    others = [item for item in messages if item["role"] != "system"]
    # llama.cpp puts a system turn into the user's where the template has no place for it.
    if 0 < len(others) < len(messages) and _alike(chat, others, server):
        return "a dropped system turn"
    if chat.date is not None and chat.date[:4] in rendered:
        return "another date"
    return "another chat template"


def _alike(chat: Chat, messages: Messages, server: Server) -> bool:
    try:
        return chat.prompt(messages) == server.encode(server.render(messages))
    except UsageError:
        return False


def _shown(chat: Chat, token: int | None) -> str:
    if token is None:
        return ""
    text = chat.tokenizer.convert_ids_to_tokens(token)
    return f"{token} {shown(chat.tokenizer.decode([token]) if text else 'no such token')}"


def end_differences(chat: Chat, ends: Sequence[int], server: Server) -> Iterator[ParityFinding]:
    """Yield the end tokens at which the served model goes on writing.

    Each is forced upon it, so that it is seen and not read off a key.
    """
    prompt = chat.prompt([{"role": "user", "content": "Hello"}])
    for token in ends:
        if not server.ends_at(token, after=prompt):
            yield ParityFinding(
                cause="a missing end token",
                where=f"token {_shown(chat, token)}",
                trained="ends an output",
                served="is written, and the output goes on",
            )


def letter_of(chat: Chat) -> int:
    """Return a token that is a whole character."""
    return chat.encode("a")[-1]


def answered(model: Any, ids: Sequence[int], tokens: Sequence[int]) -> dict[int, float]:
    """Return a model's log-probabilities, in nats, of tokens that may follow a prompt."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([list(ids)])).logits[0, -1].float().log_softmax(-1)
    return {token: float(logits[token]) for token in tokens}
