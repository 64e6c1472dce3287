"""Whether an artefact is its checkpoint: what it holds, and what is served of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftreg.config import custom_code
from ftreg.config.code_named import TRUST, place_in_manifest
from ftreg.data import load_dataset
from ftreg.errors import ExitCode, UsageError
from ftreg.jobs.export import ExportEvents
from ftreg.records.artefact import ParityFinding, read_artefact
from ftreg.records.checkpoint import Checkpoint, read_checkpoint
from ftreg.records.layout import MANIFEST
from ftreg.records.printed import Printed, printed
from ftreg.services.llama_cpp import LlamaCpp, serving

if TYPE_CHECKING:
    from ftreg.deploy.gguf_writing import GgufPlan
    from ftreg.deploy.served_alike import ParityPrompt
    from ftreg.models.chat_template import Chat

_ROWS = 4
"""Prompts of which log-probabilities are compared."""
_LIKELIEST = 10
"""Tokens of each."""
# Mean absolute difference of log-probabilities, in nats, above which something else than the
# rounding of weights and of llama.cpp's cache (fp16) is at work. Coarser types have no such bound.
_MOST_NATS = {"f32": 0.05, "f16": 0.05, "bf16": 0.15, "q8_0": 0.3}


class _Silent(ExportEvents):
    """A listener that does nothing."""


@printed
class Parity(Printed):
    """What `ftreg parity --json` prints, whether it ends with 0 or with 3."""

    checkpoint: Path
    """Path of the checkpoint's folder."""
    artefact: str
    """Path of the file, or address of the server."""
    alike: bool
    """Whether nothing was found."""
    precision: str | None
    """The type of most of the weights; null of a server, whose weights cannot be seen."""
    prompts: int
    """Prompts whose token ids were compared."""
    nats: float | None
    """Mean absolute difference of log-probabilities of the likeliest tokens; null where they were
    not compared, since the tokens differ already."""
    findings: tuple[ParityFinding, ...]
    """What differs, with the likely cause."""

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        return ExitCode.OK if self.alike else ExitCode.UNDECIDED


@dataclass(frozen=True, slots=True)
class _Subject:
    checkpoint: Checkpoint
    plan: "GgufPlan | None"
    chat: "Chat"
    prompts: "list[ParityPrompt]"
    ends: list[int]


def compare_artefact(
    checkpoint_folder: Path,
    artefact: str,
    *,
    dataset: str | None = None,
    base: str | None = None,
    events: ExportEvents | None = None,
) -> Parity:
    """Hold an artefact against the checkpoint that it should be.

    Args:
        checkpoint_folder: a checkpoint with its manifest.
        artefact: a GGUF file, or the address of a llama.cpp server, of which only what it serves
            can be compared.
        dataset: dataset version whose prompts are compared; default: the one that it was trained
            on, its evaluation split.
        base: a folder where the base of adapters may lie.
        events: is told of the progress.

    Raises:
        UsageError: the checkpoint, the artefact or the dataset is wrong, llama.cpp is not installed
            or cannot load the file.
    """
    events = events or _Silent()
    found = read_checkpoint(checkpoint_folder)
    checkpoint = Checkpoint(found.folder, found.manifest, base)
    if checkpoint.manifest.base.trust_remote_code:
        place = place_in_manifest(checkpoint.folder / MANIFEST, TRUST)
        custom_code.refuse(
            f"what comes with the model {checkpoint.manifest.base.model}", place=place
        )
    served = artefact.startswith(("http://", "https://"))
    if not served and not Path(artefact).is_file():
        raise UsageError(
            f"{artefact}: there is no such file; parity takes a GGUF file, or the address of a "
            "llama.cpp server such as http://127.0.0.1:8080"
        )
    events.phase("checking the checkpoint")
    checkpoint.verify()
    subject = _subject(checkpoint, dataset, stored=not served)
    findings, precision = [], None
    if not served:
        stored, precision = _stored(subject, Path(artefact), events)
        findings += stored
    with _server(artefact, served=served, context=_needed(subject)) as server:
        found_there, nats = _served(subject, server, precision, events)
    findings += found_there
    return Parity(
        checkpoint=checkpoint.folder,
        artefact=artefact,
        alike=not findings,
        precision=precision,
        prompts=len(subject.prompts),
        nats=nats,
        findings=tuple(findings),
    )


def _subject(checkpoint: Checkpoint, dataset: str | None, *, stored: bool) -> _Subject:
    from ftreg.deploy.gguf_writing import plan_gguf
    from ftreg.deploy.served_alike import ParityPrompt, probes
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
        plan_gguf(checkpoint) if stored else None,
        chat,
        [*prompts, *probes(chat)],
        sorted(end_tokens(checkpoint, chat)),
    )


def _stored(
    subject: _Subject, artefact: Path, events: ExportEvents
) -> tuple[list[ParityFinding], str]:
    from ftreg.deploy.stored_alike import stored_differences
    from ftreg.models.gguf_reading import GgufFile

    assert subject.plan is not None
    events.phase("reading the artefact")
    file = GgufFile(artefact)
    found = stored_differences(
        subject.plan, file, read_artefact(artefact), advance=_teller(events, "comparing tensors")
    )
    return found, file.precision


def _needed(subject: _Subject) -> int:
    """How many tokens the longest prompt and its answer take."""
    longest = max(len(subject.chat.prompt(prompt.messages)) for prompt in subject.prompts)
    return longest + subject.checkpoint.manifest.config.eval.max_new_tokens


@contextmanager
def _server(artefact: str, *, served: bool, context: int) -> Iterator[LlamaCpp]:
    if served:
        yield LlamaCpp(artefact.removesuffix("/v1"))
        return
    from ftreg.models.gguf_reading import GgufFile

    with serving(Path(artefact), context=min(context, GgufFile(Path(artefact)).context)) as server:
        yield server


def _served(
    subject: _Subject, server: LlamaCpp, precision: str | None, events: ExportEvents
) -> tuple[list[ParityFinding], float | None]:
    from ftreg.deploy.served_alike import end_differences, prompt_differences

    found = prompt_differences(
        subject.chat,
        subject.prompts,
        server,
        new_tokens=subject.checkpoint.manifest.config.eval.max_new_tokens,
        advance=_teller(events, "comparing prompts"),
    )
    found += end_differences(subject.chat, subject.ends, server)
    nats, differing = _log_probabilities(subject, server, precision or server.precision(), events)
    return found + differing, nats


def _log_probabilities(
    subject: _Subject, server: LlamaCpp, precision: str, events: ExportEvents
) -> tuple[float, list[ParityFinding]]:
    """Compare what follows a few prompts, by the token ids that training would have given them."""
    from ftreg.deploy.served_alike import answered, letter_of
    from ftreg.models.pretrained import load_checkpoint_model

    events.phase("loading the checkpoint")
    model = load_checkpoint_model(subject.checkpoint)
    gaps: list[float] = []
    context = server.context()
    worst = ("", 0.0)
    for prompt in subject.prompts[:_ROWS]:
        ids = subject.chat.prompt(prompt.messages)
        if len(ids) >= context:
            continue
        theirs = server.likeliest(ids, most=_LIKELIEST, letter=letter_of(subject.chat))
        ours = answered(model, ids, list(theirs))
        gap = sum(abs(ours[token] - value) for token, value in theirs.items()) / len(theirs)
        worst = max(worst, (prompt.name, gap), key=lambda item: item[1])
        gaps.append(gap)
    nats = sum(gaps) / len(gaps) if gaps else 0.0
    bound = _MOST_NATS.get(precision)
    if bound is None or nats <= bound:
        return nats, []
    return nats, [
        ParityFinding(
            cause="other log-probabilities",
            where=f"prompt {worst[0]}",
            trained="the checkpoint's, of the likeliest tokens",
            served=f"{worst[1]:.2g} nats apart, where {bound:g} is what {precision} may make",
        )
    ]


def _teller(events: ExportEvents, what: str) -> Callable[[int, int], None]:
    return lambda done, total: events.progress(what, done, total)
