"""What was computed once: kept in memory, and on disk where there is a store."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

from ftreg.scoring.backends.vector_store import FloatArray, VectorStore

_Asked = TypeVar("_Asked")


def key_of(*parts: str) -> str:
    """Return a short key for some texts, in order; lone surrogates are told apart too."""
    total = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()


class Remembered:
    """Vectors by key, each computed once in the life of the process or of the store.

    Args:
        store: keeps them on disk; None for none.
        most: how many are kept in memory.
    """

    def __init__(self, store: VectorStore | None, *, most: int) -> None:
        self._store = store
        self._most = most
        self._known: dict[str, FloatArray] = {}
        self._lock = threading.Lock()

    def get(
        self,
        wanted: Mapping[str, _Asked],
        compute: Callable[[Sequence[_Asked]], Iterable[FloatArray]],
    ) -> dict[str, FloatArray]:
        """Return the vector of each key.

        Args:
            wanted: what each key stands for.
            compute: returns a vector for each of what is not known yet, in order.
        """
        with self._lock:
            missing = wanted.keys() - self._known.keys()
            fresh = self._store.get(missing) if self._store is not None and missing else {}
            left = [key for key in wanted if key in missing and key not in fresh]
            computed = compute([wanted[key] for key in left]) if left else ()
            made = dict(zip(left, computed, strict=True))
            if self._store is not None and made:
                self._store.put(made)
            fresh |= made
            found = {key: fresh[key] if key in fresh else self._known[key] for key in wanted}
            self._known |= fresh
            while len(self._known) > self._most:
                del self._known[next(iter(self._known))]
            return found
