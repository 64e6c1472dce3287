"""Connections whose answers end: after so many bytes, and after the time that one may take.

A read timeout alone bounds neither: a server that sends a byte now and then is never late, and one
that never stops fills the memory.
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
"""Bytes of an answer, its header too, and of its text when decompressed."""
_PIECE = 1 << 16


class TooLongError(Exception):
    """An answer has more bytes than it may; not an `HTTPError`, so that it is not asked again."""


class _Metered(io.RawIOBase):
    """What comes from a socket, counted and timed: header, body and whatever else it sends."""

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
    """An answer that ends."""

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp = io.BufferedReader(_Metered(self.fp.detach(), sock.gettimeout()))

    def read(self, amt: int | None = None) -> bytes:
        """Read all, or `amt` bytes, a piece at a time: memory is taken for what has come only.

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
            self.close()  # as http.client does: the connection is free for the next request
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
    """Let a manager make connections that are bounded; send `decode_content=False` with them."""
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def text_of(response: urllib3.BaseHTTPResponse) -> str:
    """Return the body as text; gzip and deflate, which nobody asked for, are undone in bounds.

    Raises:
        TooLongError: it would be longer than `LARGEST_ANSWER`.
        DecodeError: it is compressed in another way, or damaged.
    """
    data = response.data
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
        try:
            data = unpack.decompress(data, LARGEST_ANSWER)
        except zlib.error as error:
            raise DecodeError(f"its {encoding} is damaged") from error
        if unpack.unconsumed_tail:
            raise TooLongError
    elif encoding not in ("", "identity"):
        raise DecodeError(f"it is compressed with {encoding[:20]}, which was not asked for")
    return data.decode("utf-8", "replace")
