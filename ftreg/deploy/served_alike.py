"""Whether a served model reads prompts as training did, and stops at the same tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol

from ftreg.errors import UsageError, differ_at, shown
from ftreg.models.chat_template import Chat, Messages, special_tokens
from ftreg.records.artefact import Cause, ParityFinding
from ftreg.records.turns import TOOLS, as_request

_SHOWN = 8
"""Tokens shown, starting just before the first difference."""
_COUNTED = 3
"""Prompts for which the server is asked how many tokens it counted in an actual answer."""


class Server(Protocol):
    """The queries to a server. All but the last return None if the server does not tell.

    A request is a chat in the form of OpenAI's API: `messages`, and `tools` if there are any.
    """

    def context(self) -> int | None:
        """Return the maximum number of tokens of a prompt and its answer."""

    def render(self, request: Mapping[str, Any]) -> str | None:
        """Return a chat as text."""

    def tokens(self, request: Mapping[str, Any]) -> list[int] | None:
        """Return the token ids of a chat."""

    def ends_at(self, token: int, *, after: list[int]) -> bool | None:
        """Whether an output ends at a token."""

    def likeliest(self, prompt: list[int], *, most: int, letter: int) -> dict[int, float] | None:
        """Return the likeliest next tokens, with their log-probabilities."""

    def prompt_tokens(self, request: Mapping[str, Any]) -> int:
        """Return the number of tokens that the server counts in a chat that it answers."""


@dataclass(frozen=True, slots=True)
class ParityPrompt:
    """A chat, named by the id of its row or by what it tests."""

    name: str
    messages: Messages


def probes(chat: Chat) -> list[ParityPrompt]:
    """Return chats that cover what a dataset's rows may not: turns, roles, spelt-out tokens.

    Chats that the template refuses, or whose tools it omits, are skipped.
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
    """Compare the token ids of prompts; keep the first prompt for each cause, and count them.

    Args:
        chat: of the checkpoint.
        prompts: the chats.
        server: serves the artefact.
        new_tokens: maximum length of an answer.
        advance: called with the number of prompts compared and the total.
    """
    found: dict[Cause, ParityFinding] = {}
    read = [(prompt, chat.prompt(prompt.messages)) for prompt in prompts]
    read.sort(key=lambda pair: len(pair[1]))  # truncated prompts then come last
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
    """Compare the number of tokens that the server counts in an answered chat with ours.

    Args:
        chat: of the checkpoint.
        prompt: the chat.
        ours: its token ids.
        server: serves the artefact.
        alike: whether the number was right for a shorter prompt: with fewer tokens, this one was
            then truncated.
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
    """Return the finding for a chat that the server refuses.

    Raises:
        UsageError: the server refuses every chat: it does not have the model, or is down.
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
    """Return the difference in a prompt's token ids, and whether the server reports them."""
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
    """Name the likely cause of a difference between the tokens of a prompt."""
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
    # llama.cpp puts a system turn into the user's if the template does not support one.
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
    """Return the end tokens that do not stop the served model; None if none can be forced.

    Each token is forced on the model, so that its behaviour is tested rather than its settings.
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
    """Return a token that is a complete character."""
    return chat.encode("a")[-1]


def answered(model: Any, ids: Sequence[int], tokens: Sequence[int]) -> dict[int, float]:
    """Return a model's log-probabilities, in nats, of tokens after a prompt."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([list(ids)])).logits[0, -1].float().log_softmax(-1)
    return {token: float(logits[token]) for token in tokens}
