"""Tokenised rows, cached as a memory-mapped Arrow file.

The same rows are tokenised only once, and memory use does not grow with their number.
"""

import importlib.metadata
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock

from ftreg.config.sections import LossOn, Thoughts
from ftreg.data import DatasetVersion, Split
from ftreg.files.cache.entries import trim
from ftreg.files.cache.folder import cache_folder, limit_of, touch
from ftreg.files.cache.sealed import is_whole, written_whole
from ftreg.files.store import digest, file_digest
from ftreg.models.assistant_turn import AssistantTurn, RenderedExample
from ftreg.models.save import save_pretrained
from ftreg.training.batching.examples import (
    SCHEMA,
    TokenisedExamples,
    record_batches,
    token_pairs,
)

# Part of the cache key: increase it when the same rows give other tokens or another layout.
_FORMAT = 3
_LIBRARIES = ("transformers", "tokenizers", "jinja2")


def prepare_examples(
    rows: Split,
    *,
    dataset: DatasetVersion,
    split: str,
    turn: AssistantTurn,
    max_length: int,
    thoughts: Thoughts = "keep",
    loss_on: LossOn = "all_turns",
    advance: Callable[[], None] = lambda: None,
) -> TokenisedExamples:
    """Return the tokenised rows, from the cache if possible.

    Processes that train together may all call it: one tokenises while the others wait.

    Args:
        rows: the first rows of the split, or all of them.
        dataset: the dataset version, which has the prompt.
        split: name of the split that the rows belong to.
        turn: the assistant's turn in the tokenizer's chat template.
        max_length: maximum tokens of an example.
        thoughts: whether to keep the thoughts in references.
        loss_on: which assistant turns of a chat carry loss.
        advance: called after each tokenised example.

    Raises:
        UsageError: as for `token_pairs`; nothing is cached then.
    """
    key = {
        **_identity_of(rows, dataset, split, turn),
        "thoughts": thoughts,
        "loss_on": loss_on,
        "max_length": max_length,
    }
    path = cache_folder("prepared", f"{digest(key)}.arrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    limit_of("prepared")  # reports an invalid limit before anything is tokenised
    # Opening also needs the lock, since `ftreg clean` takes it to remove a file.
    with FileLock(f"{path}.lock"):
        # Nothing would report a wrong token, so every byte is verified, as for the split itself.
        made = not is_whole(path)
        if made:
            pairs = token_pairs(
                rows,
                turn=turn,
                prompt=dataset.card.prompt,
                max_length=max_length,
                thoughts=thoughts,
                loss_on=loss_on,
                advance=advance,
            )
            write_prepared(path, pairs)
        touch(path)
        found = open_prepared(path)
    if made:
        trim("prepared")
    return found


def _identity_of(
    rows: Split, dataset: DatasetVersion, split: str, turn: AssistantTurn
) -> dict[str, Any]:
    """Return what determines the tokens of rows, apart from the training settings."""
    return {
        "format": _FORMAT,
        "split": dataset.card.splits[split].sha256,
        "rows": len(rows),
        "prompt": dataset.card.prompt.model_dump(),
        "tokenizer": _tokenizer_identity(turn.chat.tokenizer),
        "chat": turn.chat.identity,
        "stops": sorted(turn.stops),
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def write_prepared(
    path: Path, pairs: Iterable[RenderedExample | tuple[list[int], list[int]]]
) -> None:
    """Write examples as an Arrow file, with its digest in a separate file."""
    with (
        written_whole(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        for batch in record_batches(pairs):
            writer.write_batch(batch)


def open_prepared(path: Path) -> TokenisedExamples:
    """Memory-map a file of `write_prepared`."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return TokenisedExamples(reader.get_batch(i) for i in range(reader.num_record_batches))


def _tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    """Return everything that determines a tokenizer's ids, independent of its location."""
    cls = type(tokenizer)
    with tempfile.TemporaryDirectory() as name:
        # The saved files define it: vocabulary, merges, special tokens, chat template.
        save_pretrained(tokenizer, name)
        folder = Path(name)
        files = {
            path.relative_to(folder).as_posix(): file_digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    return {"class": f"{cls.__module__}:{cls.__qualname__}", "files": files}
