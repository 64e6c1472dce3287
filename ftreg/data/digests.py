"""Cached digests of files: an unchanged file is not read again."""

import json
import os
import time
from pathlib import Path

from ftreg.files.cache.table import Table
from ftreg.files.cache.untouched import file_state, is_settled
from ftreg.files.store import file_digest


def remembered_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, from the cache if the file is unchanged.

    If the cache cannot be used, the file is read.
    """
    table, name = Table("digests"), os.path.realpath(path)
    before = file_state(path)
    known = table.get_many([name]).get(name)
    if known is not None:
        *state, sha256 = json.loads(known)
        if state == before:
            return str(sha256)
    began = time.time_ns()
    found = file_digest(path)
    # A file written during or just before the read may be written again without a visible change.
    if before == file_state(path) and is_settled(before, began):
        table.put_many({name: json.dumps([*before, found]).encode()})
    return found
