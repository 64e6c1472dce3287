"""Connections with bounded answers: a maximum size and a maximum duration.

A read timeout alone bounds neither: a server that sends a byte now and then never times out, and
one that never stops fills the memory.
"""

import http.client
import io
import socket
import time
import zlib
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import DecodeError

from ftreg.files.reading import MIB

LARGEST_ANSWER = 16 * MIB
"""Maximum bytes of an answer with its header, and of its decompressed text."""
_PIECE = 1 << 16


class TooLongError(Exception):
    """An answer is too long; not an `HTTPError`, so that the request is not retried."""


class _Metered(io.RawIOBase):
    """All data from a socket, counted and timed: header, body and anything else."""

    def __init__(self, source: io.RawIOBase, seconds: float | None) -> None:
        self._source = source
        self._left = LARGEST_ANSWER
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._source.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise TooLongError
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise TimeoutError("the answer takes too long")
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A bounded answer."""

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp = io.BufferedReader(_Metered(self.fp.detach(), sock.gettimeout()))

    def read(self, amt: int | None = None) -> bytes:
        """Read all, or `amt` bytes, in pieces: memory is allocated only for received data.

        Raises:
            http.client.IncompleteRead: it ended early.
        """
        pieces = []
        wanted = -1 if amt is None else amt
        while wanted and (piece := self.read1(_PIECE if wanted < 0 else min(_PIECE, wanted))):
            pieces.append(piece)
            wanted -= len(piece) if wanted > 0 else 0
        if wanted and self.length:
            raise http.client.IncompleteRead(b"".join(pieces), self.length)
        if amt is None:
            self.close()  # as http.client does: this frees the connection for the next request
        return b"".join(pieces)


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def bound(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Make a manager's connections bounded; send `decode_content=False` with them."""
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def text_of(response: urllib3.BaseHTTPResponse) -> str:
    """Return the body as text; unrequested gzip and deflate are decompressed within bounds.

    Raises:
        TooLongError: it would be longer than `LARGEST_ANSWER`.
        DecodeError: it is compressed in another way, or damaged.
    """
    data = response.data
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip header
        try:
            data = unpack.decompress(data, LARGEST_ANSWER)
        except zlib.error as error:
            raise DecodeError(f"its {encoding} is damaged") from error
        if unpack.unconsumed_tail:
            raise TooLongError
    elif encoding not in ("", "identity"):
        raise DecodeError(f"it is compressed with {encoding[:20]}, which was not requested")
    return data.decode("utf-8", "replace")
