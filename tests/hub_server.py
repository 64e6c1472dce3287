"""A fake Hugging Face hub: it serves the files of a few folders as repositories.

It implements the requests of `huggingface_hub` and `datasets`; set `HF_ENDPOINT` to its address.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REVISIONS = {"main": "a" * 40, "v2": "b" * 40}
"""Revision to commit, the same for every repository; each commit has its own folder."""
GATED = "org/gated"
"""A gated repository whose terms have not been accepted."""
_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?P<rest>/.*)?")
_FILE = re.compile(r"/(?:datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with a folder per commit; `asked` lists (method, path)."""

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Mapping[str, Path]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(repositories: Mapping[str, Mapping[str, Path]]) -> Iterator[Hub]:
    """Serve folders by repository and commit until the block ends."""
    with Hub(repositories) as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        path = unquote(urlsplit(self.path).path)
        if match := _API.fullmatch(path):
            self._api(match["name"], match["rest"] or "", body)
        elif match := _FILE.fullmatch(path):
            self._file(match["name"], match["revision"], match["file"])
        else:
            self._json({"error": "no such page"}, 404)

    def _folder(self, name: str, revision: str) -> tuple[str, Path] | None:
        commit = REVISIONS.get(revision, revision)
        if name == GATED:
            self._json({"error": "accept its terms"}, 403, {"X-Error-Code": "GatedRepo"})
            return None
        folder = self.server.repositories.get(name, {}).get(commit)
        if folder is None:
            known = name in self.server.repositories
            code = "RevisionNotFound" if known else "RepoNotFound"
            self._json({"error": "not found"}, 404, {"X-Error-Code": code})
            return None
        return commit, folder

    def _api(self, name: str, rest: str, body: bytes) -> None:
        verb, _, more = rest.strip("/").partition("/")
        revision, _, below = more.partition("/")
        if (found := self._folder(name, revision or "main")) is None:
            return
        commit, folder = found
        entries = [_entry(folder, path) for path in _files(folder)]
        if verb in ("", "revision"):
            siblings = [{"rfilename": entry["path"]} for entry in entries]
            self._json({"id": name, "sha": commit, "siblings": siblings, "private": False})
        elif verb == "tree":
            self._json([entry for entry in entries if entry["path"].startswith(below)])
        elif verb == "paths-info":
            asked = _paths(body)
            self._json([entry for entry in entries if entry["path"] in asked])
        else:
            self._json({"error": "no such page"}, 404)

    def _file(self, name: str, revision: str, file: str) -> None:
        if (found := self._folder(name, revision)) is None:
            return
        commit, folder = found
        path = folder / file
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not path.is_file():
            self._json({"error": "none"}, 404, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        headers["ETag"] = f'"{_entry(folder, path)["oid"]}"'
        begin, status = 0, 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            begin, status, size = int(match[1]), 206, len(content)
            content = content[begin : int(match[2]) + 1 if match[2] else None]
            headers["Content-Range"] = f"bytes {begin}-{begin + len(content) - 1}/{size}"
        self._send(content, status, headers)

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(json.dumps(value).encode(), status, {**kind, **headers})

    def _send(self, content: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    oid = hashlib.sha1(content).hexdigest()
    name = path.relative_to(folder).as_posix()
    return {"type": "file", "path": name, "oid": oid, "size": len(content)}


def _paths(body: bytes) -> list[str]:
    try:
        return list(json.loads(body)["paths"])
    except ValueError:
        return parse_qs(body.decode()).get("paths", [])
