"""The engine `openai`: a server with OpenAI's chat API, such as vLLM, serves the checkpoint.

ftreg cannot check whether the server has the checkpoint's weights. Its outputs are cached under the
weights of the checkpoint's folder, so new weights never get old outputs.
"""

import datetime
import json
import threading
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

from ftreg.config.sections import EvalConfig
from ftreg.errors import FtregError, UsageError
from ftreg.files.store import digest
from ftreg.generation.outputs import Chats, Keep, Plan, Written, files_read
from ftreg.records.checkpoint import ModelFolder
from ftreg.records.turns import as_request, call_text
from ftreg.services.chat.client import ChatClient, ChatError, Reply

_VERSION = 1
"""Goes up when the outputs may change: what an older version wrote is then generated again."""


class RemoteEngine:
    """Generates with a server; no requests are sent if no output is missing.

    Args:
        checkpoint: verified; the server is assumed to serve it.
        config: engine and limit.
    """

    def __init__(self, checkpoint: ModelFolder, config: EvalConfig) -> None:
        self._checkpoint = checkpoint
        self._config = config
        self._endpoint = config.engine.endpoint(max_tokens=config.max_new_tokens)
        self._chats: Chats = []

    @property
    def host(self) -> str:
        """Name and port of the server."""
        return self._endpoint.host()

    def settings(self, repeat: int) -> dict[str, Any]:
        """Return everything that determines an output except its chat, as far as known."""
        manifest = self._checkpoint.manifest
        settings: dict[str, Any] = {
            "engine": "openai",
            "version": _VERSION,
            "base_url": self._endpoint.base_url,
            "model": self._endpoint.model,
            "weights": manifest.weights.digest,
            "files": files_read(manifest.files),
            "decoding": "greedy",
            "max_new_tokens": self._config.max_new_tokens,
        }
        return settings | self._date() | ({"repeat": repeat} if repeat else {})

    def plan(self, chats: Chats, repeat: int) -> Plan:
        """Return the keys of the chats; the server chooses its batches."""
        self._chats = chats
        return Plan([digest(messages) for _, messages in chats], [range(len(chats))], False)

    def write(
        self, positions: Sequence[int], *, keep: Keep, advance: Callable[[int], None]
    ) -> None:
        """Request the outputs of some chats, several at a time.

        Raises:
            UsageError: the server is unreachable, or does not return a usable answer to a chat
                after all attempts. Requests in progress are completed, and their outputs kept.
        """
        client = ChatClient(
            self._endpoint, exact=True
        )  # or they would not be greedy, or of a length
        failed = threading.Event()

        def ask(position: int) -> tuple[int, Written | FtregError | None]:
            if failed.is_set():
                return position, None
            name, messages = self._chats[position]
            try:
                asked = as_request(messages)
                reply = client.ask(asked["messages"], tools=asked.get("tools", ()))
                return position, _written(reply)
            except ChatError as error:
                failed.set()
                return position, UsageError(f"eval.engine: example {name!r}: {error}")
            except UsageError as error:
                failed.set()
                return position, error

        first: FtregError | None = None
        done = 0
        with ThreadPool(min(self._endpoint.concurrency, len(positions))) as pool:
            for position, found in pool.imap_unordered(ask, positions):
                if isinstance(found, Written):
                    keep([(position, found)])
                    done += 1
                    advance(done)
                elif found is not None and first is None:
                    first = found
        if first is not None:
            raise UsageError(
                f"{first}\n{done} of {len(positions)} outputs were written and are kept; run the "
                "same command again to continue."
            ) from first

    def describe(self, written: Sequence[Written]) -> dict[str, Any]:
        """Return what an evaluation records of the engine; the address without its path."""
        return {
            "engine": "openai",
            "decoding": "greedy",
            "max_new_tokens": self._config.max_new_tokens,
            "precision": "the server's",
            "batch_size": None,
            **self._date(),
            "server": {
                "host": self.host,
                "model": self._endpoint.model,
                "reported_models": sorted({item.model for item in written if item.model}),
                "weights_checked": False,
            },
        }

    def _date(self) -> dict[str, str]:
        """Today, if the chat template writes the date: ftreg cannot set the server's clock."""
        name = self._checkpoint.manifest.base_config.template
        file = f"additional_chat_templates/{name}.jinja" if name else "chat_template.jinja"
        path = self._checkpoint.tokenizer_folder / file
        dated = path.is_file() and "strftime_now" in path.read_text(encoding="utf-8")
        return {"template_date": datetime.date.today().isoformat()} if dated else {}


def _written(reply: Reply) -> Written:
    """Convert a reply to an output, as an engine in process would have written it.

    Raises:
        ChatError: it did not end the way outputs end.
    """
    finish = "stop" if reply.finish == "tool_calls" else reply.finish
    if finish not in ("stop", "length"):
        raise ChatError(
            f"the server ended the output for the reason {reply.finish!r}; an output ends with "
            "'stop' or 'length'"
        )
    tokens = reply.usage.completion_tokens if reply.usage else None
    calls = (call_text(name, _arguments(arguments)) for name, arguments in reply.calls)
    text = "\n".join(filter(None, [reply.text.strip(), *calls]))
    return Written(text, finish, tokens or None, reply.model)


def _arguments(text: str) -> Any:
    """The arguments of a call, or the text itself if it is not JSON: what a model wrote."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
