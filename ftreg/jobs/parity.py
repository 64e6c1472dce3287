"""Check that an artefact matches its checkpoint: its contents, and what a server returns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftreg.data import load_dataset
from ftreg.errors import ExitCode, UsageError
from ftreg.jobs.export import open_checkpoint
from ftreg.jobs.generate import EvalEvents, SilentEval
from ftreg.records.artefact import ParityFinding, read_artefact
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.printed import Printed, printed
from ftreg.records.turns import as_request
from ftreg.services.chat.server_tokens import ChatServer
from ftreg.services.llama_cpp import LlamaCpp, serving

if TYPE_CHECKING:
    from ftreg.deploy.served_alike import ParityPrompt, Server
    from ftreg.models.chat_template import Chat

_ROWS = 4
"""Number of prompts whose log-probabilities are compared."""
_LIKELIEST = 10
"""Tokens of each prompt."""
# Mean absolute difference of log-probabilities, in nats, that rounding of weights and of
# llama.cpp's cache (fp16) cannot explain. Coarser types have no such bound.
_MOST_NATS = {"f32": 0.05, "f16": 0.05, "bf16": 0.15, "q8_0": 0.3}
_UNKNOWN_NATS = 0.3
"""The same for a server that does not report its precision."""


@printed
class Parity(Printed):
    """What `ftreg parity --json` prints, whether it exits with 0 or 3."""

    checkpoint: Path
    """Path of the checkpoint's folder."""
    artefact: str
    """Path of the file or folder, or address of the server."""
    alike: bool
    """Whether no difference was found."""
    precision: str | None
    """The type of most weights; null for a server, whose weights are not accessible."""
    prompts: int
    """Prompts whose token ids were compared."""
    nats: float | None
    """Mean absolute difference of log-probabilities of the likeliest tokens; null if they were
    not compared."""
    not_compared: tuple[str, ...]
    """What the server does not report: `weights`, `token ids` (only their number is compared),
    `end tokens`, `context`, `log-probabilities`; empty for a file or folder."""
    findings: tuple[ParityFinding, ...]
    """The differences, with the likely cause."""

    @property
    def exit_code(self) -> ExitCode:
        """The command's exit code."""
        return ExitCode.OK if self.alike else ExitCode.UNDECIDED


@dataclass(frozen=True, slots=True)
class _Subject:
    checkpoint: Checkpoint
    chat: "Chat"
    prompts: "list[ParityPrompt]"
    ends: list[int]
    letter: int


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server, and how to send requests to it."""

    address: str
    """For example http://127.0.0.1:8080, with or without /v1."""
    model: str | None = None
    """The server's name for the checkpoint; None is its only model."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key."""


def compare_artefact(
    checkpoint_folder: Path,
    artefact: Path | RunningServer,
    *,
    dataset: str | None = None,
    base: str | None = None,
    events: EvalEvents | None = None,
) -> Parity:
    """Compare an artefact with its checkpoint.

    Args:
        checkpoint_folder: a checkpoint with its manifest.
        artefact: a GGUF file, a folder of merged weights, or a running server, for which only what
            it reports can be compared.
        dataset: dataset version whose prompts are compared; default: the evaluation split of the
            one that the checkpoint was trained on.
        base: a folder that may contain the base model of adapters.
        events: receives progress.

    Raises:
        UsageError: the checkpoint, the artefact or the dataset is invalid, or llama.cpp is not
            installed or cannot load the file.
    """
    events = events or SilentEval()
    if isinstance(artefact, Path) and not artefact.exists():
        raise UsageError(
            f"{artefact}: no such file; parity takes a GGUF file, a folder of merged weights, or "
            "the address of a server such as http://127.0.0.1:8080"
        )
    checkpoint = open_checkpoint(checkpoint_folder, base=base, events=events)
    subject = _subject(checkpoint, dataset)
    named = artefact.address if isinstance(artefact, RunningServer) else str(artefact)
    with _opened(subject, artefact, events) as (findings, precision, server):
        found, nats, lacking = _served(subject, server, precision, events)
    return Parity(
        checkpoint=checkpoint.folder,
        artefact=named,
        alike=not (findings or found),
        precision=precision if isinstance(artefact, Path) else None,
        prompts=len(subject.prompts),
        nats=nats,
        not_compared=(*(["weights"] if isinstance(artefact, RunningServer) else []), *lacking),
        findings=(*findings, *found),
    )


def _subject(checkpoint: Checkpoint, dataset: str | None) -> _Subject:
    from ftreg.deploy.served_alike import ParityPrompt, letter_of, probes
    from ftreg.models.trained_chat import end_tokens, trained_chat

    config = checkpoint.manifest.config.dataset
    version = load_dataset(dataset or config.version, root=Path(config.root))
    chat = trained_chat(checkpoint)
    try:
        prompts = [
            ParityPrompt(row.id, version.card.prompt.messages(row))
            for row in version.split(config.eval_split)[: config.max_eval_examples]
        ]
    except ValueError as error:
        raise UsageError(f"{version.folder}: {error}") from error
    return _Subject(
        checkpoint,
        chat,
        [*prompts, *probes(chat)],
        end_tokens(checkpoint, chat),
        letter_of(chat),
    )


_Opened = tuple[list[ParityFinding], str | None, "Server"]


@contextmanager
def _opened(
    subject: _Subject, artefact: Path | RunningServer, events: EvalEvents
) -> Iterator[_Opened]:
    """Yield the stored differences, the type of the weights, and the server for the artefact."""
    if isinstance(artefact, RunningServer):
        server = _running(subject, artefact)
        yield [], server.precision() if isinstance(server, LlamaCpp) else None, server
    elif artefact.is_dir():
        yield _folder(subject, artefact, events)
    else:
        with _file(subject, artefact, events) as opened:
            yield opened


def _running(subject: _Subject, artefact: RunningServer) -> "Server":
    llama = LlamaCpp(artefact.address.rstrip("/").removesuffix("/v1"))
    if llama.is_there():
        return llama
    return ChatServer(
        artefact.address,
        model=artefact.model,
        key=artefact.api_key_env,
        letter=(subject.letter, subject.chat.tokenizer.decode([subject.letter]).strip()),
    )


def _folder(subject: _Subject, folder: Path, events: EvalEvents) -> _Opened:
    from ftreg.deploy.folder_alike import (
        FolderPlan,
        LoadedFolder,
        StoredFolder,
        folder_differences,
    )
    from ftreg.deploy.merged_folder import Settings
    from ftreg.deploy.merging import Merged

    weights = Merged(subject.checkpoint)
    plan, stored = FolderPlan(weights, Settings(weights)), StoredFolder(folder)
    events.phase("reading the artefact")
    found = folder_differences(
        plan, stored, read_artefact(folder), advance=_teller(events, "comparing tensors")
    )
    return found, stored.precision, LoadedFolder(folder, date=subject.chat.date)


@contextmanager
def _file(subject: _Subject, path: Path, events: EvalEvents) -> Iterator[_Opened]:
    from ftreg.deploy.gguf_writing import plan_gguf
    from ftreg.deploy.stored_alike import stored_differences
    from ftreg.models.gguf_reading import GgufFile

    plan, file = plan_gguf(subject.checkpoint), GgufFile(path)
    events.phase("reading the artefact")
    found = stored_differences(
        plan, file, read_artefact(path), advance=_teller(events, "comparing tensors")
    )
    longest = max(len(subject.chat.prompt(prompt.messages)) for prompt in subject.prompts)
    needed = longest + subject.checkpoint.manifest.config.eval.max_new_tokens
    with serving(path, context=min(needed, file.context)) as server:
        yield found, file.precision, server


def _served(
    subject: _Subject, server: "Server", precision: str | None, events: EvalEvents
) -> tuple[list[ParityFinding], float | None, list[str]]:
    """Return the served differences, the log-probability distance, and what was not reported."""
    from ftreg.deploy.served_alike import end_differences, prompt_differences

    found = prompt_differences(
        subject.chat,
        subject.prompts,
        server,
        new_tokens=subject.checkpoint.manifest.config.eval.max_new_tokens,
        advance=_teller(events, "comparing prompts"),
    )
    ends = end_differences(subject.chat, subject.ends, server)
    nats, differing = _log_probabilities(subject, server, precision, events)
    hello = as_request([{"role": "user", "content": "Hello"}])
    lacking = {
        "token ids": server.tokens(hello) is None,
        "end tokens": ends is None,
        "context": server.context() is None,
        "log-probabilities": nats is None,
    }
    found += [*(ends or ()), *differing]
    return found, nats, [name for name, lacks in lacking.items() if lacks]


def _log_probabilities(
    subject: _Subject, server: "Server", precision: str | None, events: EvalEvents
) -> tuple[float | None, list[ParityFinding]]:
    """Compare continuations of a few prompts, given the token ids that training would use."""
    from ftreg.deploy.served_alike import answered
    from ftreg.models.pretrained import load_checkpoint_model

    events.phase("loading the checkpoint")
    gaps: list[float] = []
    context, model = server.context(), None
    worst = ("", 0.0)
    for prompt in subject.prompts[:_ROWS]:
        ids = subject.chat.prompt(prompt.messages)
        if context is not None and len(ids) >= context:
            continue
        theirs = server.likeliest(ids, most=_LIKELIEST, letter=subject.letter)
        if theirs is None:
            return None, []
        model = model or load_checkpoint_model(subject.checkpoint)
        ours = answered(model, ids, list(theirs))
        gap = sum(abs(ours[token] - value) for token, value in theirs.items()) / len(theirs)
        worst = max(worst, (prompt.name, gap), key=lambda item: item[1])
        gaps.append(gap)
    nats = sum(gaps) / len(gaps) if gaps else 0.0
    bound = _UNKNOWN_NATS if precision is None else _MOST_NATS.get(precision)
    if bound is None or nats <= bound:
        return nats, []
    return nats, [
        ParityFinding(
            cause="other log-probabilities",
            where=f"prompt {worst[0]}",
            trained="the checkpoint's, of the likeliest tokens",
            served=f"{worst[1]:.2g} nats apart; {precision or 'rounding'} explains at most "
            f"{bound:g}",
        )
    ]


def _teller(events: EvalEvents, what: str) -> Callable[[int, int], None]:
    return lambda done, total: events.progress(what, done, total)
