"""Digests of files, remembered: a file that has not been touched is not read again."""

import json
import os
import time
from pathlib import Path

from ftreg.files.cache.table import Table
from ftreg.files.cache.untouched import file_state, is_settled
from ftreg.files.store import file_digest


def remembered_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, from the cache where the file is untouched since.

    Where the cache cannot be used, the file is read.
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
    # A file that was written while it was read, or just before, may be written again unseen.
    if before == file_state(path) and is_settled(before, began):
        table.put_many({name: json.dumps([*before, found]).encode()})
    return found
