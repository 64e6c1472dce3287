"""The answers of a judge, kept on disk: a file per question, so that asking again costs nothing."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftreg.errors import UsageError
from ftreg.files.cache.entries import trim
from ftreg.files.cache.folder import cache_folder, limit_of, touch
from ftreg.files.store import digest, read_json, write_record

_SCHEMA = 1
_KIND = "judge's answer"
_BETWEEN_LOOKS = 1000
"""Answers that are written until the size of the cache is looked at again; each takes a block."""


class AnswerCache:
    """Answers by what was asked: endpoint, model, parameters, prompt and texts.

    Args:
        identity: what is the same for every question.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self._identity = dict(identity)
        self._written = 0
        limit_of("judge")  # a wrong limit is told of before anything is asked

    def get(self, question: Mapping[str, Any]) -> str | None:
        """Return the answer to a question, or None; a file that is broken counts as none."""
        path = self._path(question)
        try:
            found = read_json(path, kind=_KIND, schema=_SCHEMA).get("answer")
        except UsageError:
            return None
        touch(path)
        return found if isinstance(found, str) else None

    def put(self, question: Mapping[str, Any], answer: str) -> None:
        """Keep an answer; a disk that takes none costs money, and should not cost the scores."""
        with contextlib.suppress(UsageError):
            write_record(self._path(question), {"schema_version": _SCHEMA, "answer": answer})
            if self._written % _BETWEEN_LOOKS == 0:
                trim("judge")
            self._written += 1

    def _path(self, question: Mapping[str, Any]) -> Path:
        key = digest({**self._identity, "question": dict(question)})
        return cache_folder("judge", key[:2], f"{key}.json")
