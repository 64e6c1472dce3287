"""Whether what is served reads prompts as training did, and ends where it ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol

from ftreg.errors import UsageError, differ_at, shown
from ftreg.models.chat_template import Chat, Messages, special_tokens
from ftreg.records.artefact import Cause, ParityFinding
from ftreg.records.turns import TOOLS, as_request

_SHOWN = 8
"""Tokens that are shown from just before the first difference on."""
_COUNTED = 3
"""Prompts for which the server is asked how many tokens it really took."""


class Server(Protocol):
    """What is asked of a server; each but the last returns None for what it does not tell.

    A request is a chat as OpenAI's API has it: `messages`, and `tools` if there are any.
    """

    def context(self) -> int | None:
        """Return how many tokens a prompt and its answer may have."""

    def render(self, request: Mapping[str, Any]) -> str | None:
        """Return a chat as text."""

    def tokens(self, request: Mapping[str, Any]) -> list[int] | None:
        """Return the token ids of a chat."""

    def ends_at(self, token: int, *, after: list[int]) -> bool | None:
        """Whether an output ends at a token."""

    def likeliest(self, prompt: list[int], *, most: int, letter: int) -> dict[int, float] | None:
        """Return the tokens that are likeliest to follow, with their log-probabilities."""

    def prompt_tokens(self, request: Mapping[str, Any]) -> int:
        """Return how many tokens a chat has that is answered."""


@dataclass(frozen=True, slots=True)
class ParityPrompt:
    """A chat by the id of its row, or by what it is there to show."""

    name: str
    messages: Messages


def probes(chat: Chat) -> list[ParityPrompt]:
    """Return chats that show what a dataset's rows may not: turns, roles, tokens that are spelt.

    A template that refuses one in training, or leaves the tools out, is not asked for it.
    """
    special = " ".join(list(special_tokens(chat.tokenizer).values())[:5])
    user = {"role": "user", "content": "Hello, how are you?"}
    answer = {"role": "assistant", "content": "I am well."}
    place = {"type": "string", "description": 'A town, or "here".'}
    tool = {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"place": place}, "required": ["place"]},
    }
    tools = {"role": TOOLS, "tools": [{"type": "function", "function": tool}]}
    turns: dict[str, Messages] = {
        "a system turn": [{"role": "system", "content": "Be brief."}, user],
        "three turns": [user, answer, {"role": "user", "content": "And now? 1234"}],
        "special tokens in a text": [{"role": "user", "content": f"{special} Hello"}],
        "spaces, lines and scripts": [
            {"role": "user", "content": "a  b\n\n\tc 100,000 I'LL naïve 你好 🙂"}
        ],
        "a tool": [tools, user],
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
    read = [(prompt, chat.prompt(prompt.messages)) for prompt in prompts]
    read.sort(key=lambda pair: len(pair[1]))  # what is cut off then comes last
    context, alike = server.context(), False
    for number, (prompt, ours) in enumerate(read, start=1):
        finding, told = _difference(chat, prompt, ours, server)
        looked = not told or number <= _COUNTED or number == len(read)
        if finding is None and looked and (context is None or len(ours) < context):
            finding = _miscounted(chat, prompt, ours, server, alike=alike)
        alike |= finding is None
        if finding is not None:
            known = found.get(finding.cause, finding)
            found[finding.cause] = replace(known, prompts=known.prompts + 1)
        advance(number, len(read))
    longest, ours = read[-1]
    if context is not None and len(ours) + new_tokens > context:
        found["a context too short"] = ParityFinding(
            cause="a context too short",
            where=f"prompt {longest.name}",
            trained=f"{len(ours)} tokens and an answer of {new_tokens}",
            served=f"{context} tokens of context",
            prompts=1,
        )
    return list(found.values())


def _miscounted(
    chat: Chat, prompt: ParityPrompt, ours: list[int], server: Server, *, alike: bool
) -> ParityFinding | None:
    """Hold the number of tokens that an answered chat has against ours.

    Args:
        chat: of the checkpoint.
        prompt: the chat.
        ours: its token ids.
        server: has the artefact.
        alike: whether a shorter prompt has as many as it should, so that this one is cut off if it
            has fewer.
    """
    try:
        counted = server.prompt_tokens(as_request(prompt.messages))
    except UsageError as error:
        return _refused(prompt, error, server)
    if counted == len(ours):
        return None
    begin = chat.tokenizer.bos_token_id
    begins = begin is not None and ours[:1] == [begin]
    cause: Cause = "another chat template"
    if counted < len(ours) and alike:
        cause = "a context too short"
    elif counted == len(ours) + 1 and begin is not None:
        cause = "a doubled first token" if begins else "a first token too many"
    elif counted == len(ours) - 1 and begins:
        cause = "a missing first token"
    return ParityFinding(
        cause=cause,
        where=f"prompt {prompt.name}",
        trained=f"{len(ours)} tokens",
        served=f"{counted} tokens in a chat that is answered",
    )


def _refused(prompt: ParityPrompt, error: UsageError, server: Server) -> ParityFinding:
    """Return the finding of a chat that is refused.

    Raises:
        UsageError: the server refuses every chat: it has no such model, or is gone.
    """
    server.prompt_tokens(as_request([{"role": "user", "content": "Hello"}]))
    return ParityFinding(
        cause="another chat template",
        where=f"prompt {prompt.name}",
        trained="a chat that it takes",
        served=str(error),
    )


def _difference(
    chat: Chat, prompt: ParityPrompt, ours: list[int], server: Server
) -> tuple[ParityFinding | None, bool]:
    """Return what differs in a prompt's token ids, and whether the server tells these."""
    try:
        theirs = server.tokens(as_request(prompt.messages))
    except UsageError as error:
        return _refused(prompt, error, server), True
    if theirs is None or theirs == ours:
        return None, theirs is not None
    first = differ_at(ours, theirs)
    window = slice(max(0, first - 2), first - 2 + _SHOWN)
    pairs = zip_longest(ours[window], theirs[window])
    tokens = tuple(
        (window.start + at, _shown(chat, a), _shown(chat, b)) for at, (a, b) in enumerate(pairs)
    )
    finding = ParityFinding(
        cause=_cause(chat, prompt.messages, ours, theirs, server),
        where=f"prompt {prompt.name}, token {first}",
        trained=_shown(chat, ours[first]) if first < len(ours) else "the prompt's end",
        served=_shown(chat, theirs[first]) if first < len(theirs) else "the prompt's end",
        tokens=tokens,
    )
    return finding, True


def _cause(
    chat: Chat, messages: Messages, ours: list[int], theirs: list[int], server: Server
) -> Cause:
    """Name what most likely makes the tokens of a prompt differ."""
    begin = chat.tokenizer.bos_token_id
    if begin is not None and theirs[:1] == [begin] and theirs[1:] == ours:
        return "a doubled first token" if ours[:1] == [begin] else "a first token too many"
    if begin is not None and ours[:1] == [begin] and theirs == ours[1:]:
        return "a missing first token"
    rendered = chat.render(messages, answer_next=True)
    text = server.render(as_request(messages)) or chat.tokenizer.decode(theirs)
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
        return chat.prompt(messages) == server.tokens(as_request(messages))
    except UsageError:
        return False


def _shown(chat: Chat, token: int | None) -> str:
    if token is None:
        return ""
    text = chat.tokenizer.convert_ids_to_tokens(token)
    return f"{token} {shown(chat.tokenizer.decode([token]) if text else 'no such token')}"


def end_differences(chat: Chat, ends: Sequence[int], server: Server) -> list[ParityFinding] | None:
    """Return the end tokens at which the served model goes on writing; None if none can be forced.

    Each is forced upon it, so that it is seen and not read off a key.
    """
    prompt = chat.prompt([{"role": "user", "content": "Hello"}])
    stopped = {token: server.ends_at(token, after=prompt) for token in ends}
    if None in stopped.values():
        return None
    return [
        ParityFinding(
            cause="a missing end token",
            where=f"token {_shown(chat, token)}",
            trained="ends an output",
            served="is written, and the output goes on",
        )
        for token, ended in stopped.items()
        if not ended
    ]


def letter_of(chat: Chat) -> int:
    """Return a token that is a whole character."""
    return chat.encode("a")[-1]


def answered(model: Any, ids: Sequence[int], tokens: Sequence[int]) -> dict[int, float]:
    """Return a model's log-probabilities, in nats, of tokens that may follow a prompt."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([list(ids)])).logits[0, -1].float().log_softmax(-1)
    return {token: float(logits[token]) for token in tokens}
