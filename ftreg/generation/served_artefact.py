"""The engine `llama.cpp`: a GGUF file of the checkpoint, served on loopback while it generates."""

import importlib.metadata
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from ftreg.config.sections import EvalConfig
from ftreg.errors import UsageError
from ftreg.files.store import file_digest
from ftreg.generation.outputs import Chats, Keep, Plan, Written, files_read
from ftreg.generation.served import RemoteEngine
from ftreg.models.gguf_reading import GgufFile
from ftreg.records.artefact import CHECKPOINT_KEY, is_as_recorded, read_artefact
from ftreg.records.checkpoint import ModelFolder
from ftreg.services.chat.endpoint import Endpoint
from ftreg.services.llama_cpp import serving

_VERSION = 1
"""Goes up when the outputs may change: what an older version wrote is then generated again."""
_TURN = 64
"""Tokens that a chat template writes around a turn, at most."""
_PARALLEL = 4
"""Requests under way at once when outputs are written again: what concurrency does to them."""

Pairing = Literal["manifest", "metadata", "said"]
"""How it is known whose weights an artefact has: by the manifest beside it, whose digest it has; by
its own metadata, which a quantization of it keeps; or only by what the user said."""


def pairing(file: GgufFile, checkpoint: ModelFolder, *, digest: str) -> Pairing:
    """Return how it is known that a file with this digest has a checkpoint's weights.

    Raises:
        UsageError: it names another checkpoint, or has changed since it was exported.
    """
    identity = checkpoint.manifest.identity
    record = read_artefact(file.path)
    for place, other in (
        ("its manifest", record.checkpoint if record else None),
        ("its metadata", file.get(CHECKPOINT_KEY)),
    ):
        if other is not None and other != identity:
            raise UsageError(
                f"{file.path}: according to {place} this is an artefact of the checkpoint "
                f"{other[:12]}, but {checkpoint.folder} is {identity[:12]}; export it again"
            )
    if record is None:
        return "said" if file.get(CHECKPOINT_KEY) is None else "metadata"
    if not is_as_recorded(record, [digest]):
        raise UsageError(
            f"{file.path}: the file has changed since it was exported (its digest differs from its "
            "manifest's); export it again"
        )
    return "manifest"


class ServedArtefact(RemoteEngine):
    """Generates with llama.cpp, which is started when an output is missing.

    The main outputs are written one at a time, so that repeats of a request give the same output;
    repeated outputs are written several at a time.

    Args:
        checkpoint: verified.
        config: engine and limit.

    Raises:
        UsageError: the file is not a GGUF file, or belongs to another checkpoint.
    """

    def __init__(self, checkpoint: ModelFolder, config: EvalConfig) -> None:
        self._checkpoint, self._config = checkpoint, config
        self._file = GgufFile(Path(config.engine.artefact or ""))
        self._digest = file_digest(self._file.path)
        self.pairing = pairing(self._file, checkpoint, digest=self._digest)
        self._repeat = 0
        self._chats: Chats = []
        self._rate: float | None = None

    def settings(self, repeat: int) -> dict[str, Any]:
        """Return everything that determines an output except its chat."""
        return {
            "engine": "llama.cpp",
            "version": _VERSION,
            "library": importlib.metadata.version("xllamacpp"),
            "artefact": self._digest,
            "files": files_read(self._checkpoint.manifest.files),
            "decoding": "greedy",
            "max_new_tokens": self._config.max_new_tokens,
            **self._date(),
            **({"repeat": repeat} if repeat else {}),
        }

    def plan(self, chats: Chats, repeat: int) -> Plan:
        """Return the keys of the chats."""
        self._repeat = repeat
        return super().plan(chats, repeat)

    def write(
        self, positions: Sequence[int], *, keep: Keep, advance: Callable[[int], None]
    ) -> None:
        """Start llama.cpp, request the outputs of some chats, and stop it.

        Raises:
            UsageError: llama.cpp cannot serve the file, or does not return a usable answer.
        """
        parallel = _PARALLEL if self._repeat else 1
        tokens = 0

        def kept(items: Any) -> None:
            nonlocal tokens
            items = list(items)
            tokens += sum(item.tokens or 0 for _, item in items)
            keep(items)

        with serving(
            self._file.path,
            context=self._context(positions),
            threads=_threads(),
            parallel=parallel,
        ) as server:
            self._endpoint = Endpoint(
                base_url=f"{server.address}/v1",
                model=self._file.path.name,
                timeout=self._config.engine.timeout,
                max_retries=0,
                concurrency=parallel,
                max_tokens=self._config.max_new_tokens,
                place="eval.engine",
                speaker="server",
                direct=True,
            )
            begin = time.monotonic()
            super().write(positions, keep=kept, advance=advance)
            if not self._repeat:
                self._rate = tokens / (time.monotonic() - begin)

    def describe(self, written: Sequence[Written]) -> dict[str, Any]:
        """Return what an evaluation records of the engine and of the artefact."""
        return {
            "engine": "llama.cpp",
            "decoding": "greedy",
            "max_new_tokens": self._config.max_new_tokens,
            "precision": self._file.precision,
            "batch_size": None,
            **self._date(),
            "artefact": {
                "file": self._file.path.name,
                "digest": self._digest,
                "bytes": self._file.path.stat().st_size,
                "precision": self._file.precision,
                "checkpoint": self._checkpoint.manifest.identity,
                "paired_by": self.pairing,
                "tokens_per_second": None if self._rate is None else round(self._rate, 1),
                "library": f"xllamacpp {importlib.metadata.version('xllamacpp')}",
            },
        }

    def _context(self, positions: Sequence[int]) -> int:
        """Return the maximum number of tokens of a prompt and its answer: at most one per byte."""
        longest = max(
            sum(len(item["content"].encode()) + _TURN for item in self._chats[position][1])
            for position in positions
        )
        return min(self._file.context, longest + _TURN + self._config.max_new_tokens)


def _threads() -> int:
    """Return how many CPUs this process may use; no output depends on it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
