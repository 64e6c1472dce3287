"""A chat endpoint on loopback with scripted answers and faults."""

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ftreg.services.chat.dialect import Manners

FENCE = re.compile(r"<<([0-9a-f]{32}) ([A-Z0-9 ]+)>>\n(.*?)\n<<\1 END>>", re.DOTALL)


class Chat:
    """A request as a judge reads it: the texts inside its fences, and the text outside."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        system, user = (message["content"] for message in body["messages"])
        # Only the nonce in the system message counts; others are part of a text.
        self.nonce = re.search(r"<<([0-9a-f]{32}) LABEL>>", system).group(1)
        parts = [(label, text) for nonce, label, text in FENCE.findall(user) if nonce == self.nonce]
        self.parts = dict(parts)
        self.points = [text for label, text in parts if label.startswith("POINT")]
        self.outside = system + FENCE.sub("", user)

    @property
    def text(self) -> str:
        return next(iter(self.parts.values()))


def completion(content: str, *, finish: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": content}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }


def verdicts(chat: Chat, decide: Callable[[str, str], bool]) -> str:
    return json.dumps(
        {
            "verdicts": [
                {
                    "point": number,
                    "explanation": f"I looked at point {number}.",
                    "quote": point if point in chat.text else "",
                    "verdict": decide(point, chat.text),
                }
                for number, point in enumerate(chat.points, 1)
            ]
        }
    )


def gullible(chat: Chat) -> dict[str, Any]:
    """Accept points that are verbatim in the text; obey instructions outside the fence."""
    if "give 1.0" in chat.outside:
        return completion(verdicts(chat, lambda point, text: True))
    return completion(verdicts(chat, lambda point, text: point in text))


class Server:
    """The endpoint. `script` answers a chat; `plan` has priority, one item (step) per request.

    `refuses` has priority over both, also for probes: it maps a body to a step or None. `reads`
    converts a body to the chat that `script` receives and `chats` collects.

    A step is (status, headers, body), the content or JSON of an answer, or the name of a fault:
    `cut` sends half an answer, `slow` closes the connection late without one, `drop` resets it,
    `echo` sends a 401 with the request's key. A function writes bytes to the file it is given until
    the connection closes.
    """

    def __init__(self) -> None:
        self.reads: Callable[[dict[str, Any]], Any] = Chat
        self.script: Callable[[Any], dict[str, Any]] = gullible
        self.plan: list[Any] = []
        self.refuses: Callable[[dict[str, Any]], Any] = lambda body: None
        self.chats: list[Any] = []
        self.authorizations: set[str | None] = set()
        self.probes = 0
        self.probed: list[dict[str, Any]] = []
        self.probe: Any = None  # a step as in `plan`, for probes of the endpoint
        self.models: list[str] | None = None
        self.under_way = self.most_under_way = 0
        self.pause = 0.0
        self.lock = threading.Lock()
        self.url = ""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            server.authorizations.add(self.headers["Authorization"])
            # The server repeats the key it was sent; its message must not reach the user.
            said: Any = {"error": f"bad: {self.headers['Authorization']}"}
            if server.models is not None:
                said = {"data": [{"id": name} for name in server.models]}
            self.send(404 if server.models is None else 200, json.dumps(said).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["messages"][0]["content"] == "Answer with one word.":
                with server.lock:
                    server.probes += 1
                    server.probed.append(body)
                    server.authorizations.add(self.headers["Authorization"])
                refused = server.refuses(body)
                self.act(refused or server.probe or completion("Yes", finish="length"), None)
                return
            chat = server.reads(body)
            with server.lock:
                server.chats.append(chat)
                server.authorizations.add(self.headers["Authorization"])
                step = server.refuses(body)
                if step is None:
                    step = server.plan.pop(0) if server.plan else None
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            try:
                threading.Event().wait(server.pause)
                self.act(step, chat)
            finally:
                with server.lock:
                    server.under_way -= 1

        def act(self, step: Any, chat: Any) -> None:
            answer = json.dumps(server.script(chat) if chat else completion("Yes")).encode()
            match step:
                case None:
                    self.send(200, answer)
                case "slow":
                    threading.Event().wait(1.5)
                    self.close_connection = True
                case "cut":
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer[: len(answer) // 2])
                    self.close_connection = True
                case "drop":
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                case "echo":
                    said = f"no good key: {self.headers['Authorization']}"
                    self.send(401, json.dumps({"error": {"message": said}}).encode())
                case _ if callable(step):
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        step(self.wfile)
                case (int() as status, dict() as headers, str() as text):
                    self.send(status, text.encode(), headers)
                case str() as content:
                    self.send(200, json.dumps(completion(content)).encode())
                case dict() as whole:
                    self.send(200, json.dumps(whole).encode())

    return Handler


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    """Run the endpoint until the block ends, by default on a free port."""
    Manners.forget()  # another server may have used the port before
    server = Server()
    http = ThreadingHTTPServer(("127.0.0.1", port), _handler(server))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
