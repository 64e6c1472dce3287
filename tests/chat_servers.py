"""Fake vLLM, TGI and Ollama servers, since none of them can be installed beside this torch.

The APIs follow their documentation; the model is run by transformers.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Kind = Literal["vllm", "tgi", "ollama"]


class Served:
    """A model folder behind an API.

    `prefix` is put before every chat; `context` is the length in tokens to which prompts are cut
    (from the front and silently, as Ollama does); `ends` are the tokens that end an output.
    """

    def __init__(
        self, folder: Path, *, kind: Kind, prefix: str = "", context: int = 512, ends: set[int]
    ) -> None:
        self.kind, self.prefix, self.context, self.ends = kind, prefix, context, ends
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def text(self, asked: dict[str, Any]) -> str:
        return self.prefix + self.tokenizer.apply_chat_template(
            asked["messages"], tools=asked.get("tools"), add_generation_prompt=True, tokenize=False
        )

    def tokens(self, asked: dict[str, Any]) -> list[int]:
        found = self.tokenizer.encode(self.text(asked), add_special_tokens=False)
        return list(found[-self.context :] if self.kind == "ollama" else found)

    @torch.no_grad()
    def logits(self, ids: list[int]) -> torch.Tensor:
        return self.model(torch.tensor([ids])).logits[0, -1]

    def chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        prompt = self.tokens(asked)
        written: list[int] = []
        while len(written) < asked["max_tokens"] and not (self.ends & {*written}):
            logits = self.logits(prompt + written)
            for token, bias in asked.get("logit_bias", {}).items():
                logits[int(token)] += bias if self.kind == "vllm" else 0
            written.append(int(logits.argmax()))
        message = {"content": self.tokenizer.decode(written, skip_special_tokens=True)}
        finish = "stop" if self.ends & {*written} else "length"
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(written)}
        return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}

    def completion(self, asked: dict[str, Any]) -> dict[str, Any]:
        values, ids = self.logits(asked["prompt"]).log_softmax(-1).topk(asked["logprobs"])
        pairs = zip(ids.tolist(), values.tolist(), strict=True)
        top = {f"token_id:{token}": value for token, value in pairs}
        return {"choices": [{"text": "", "logprobs": {"top_logprobs": [top]}}]}

    def answer(self, path: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        match self.kind, path:
            case _, "/v1/models":
                length = {"max_model_len": self.context} if self.kind == "vllm" else {}
                return {"data": [{"id": "served", **length}]}
            case _, "/v1/chat/completions":
                return self.chat(asked)
            case "vllm", "/tokenize":
                found = self.tokens(asked)
                return {"tokens": found, "count": len(found), "max_model_len": self.context}
            case "vllm", "/v1/completions":
                return self.completion(asked)
            case "tgi", "/info":
                return {"max_total_tokens": self.context}
            case "tgi", "/chat_tokenize":
                tokens = [{"id": token, "text": "", "start": 0} for token in self.tokens(asked)]
                return {"tokenize_response": tokens, "templated_text": self.text(asked)}
        return None


@contextmanager
def serving_as(kind: Kind, folder: Path, *, ends: set[int], **how: Any) -> Iterator[str]:
    """Serve a model folder until the block ends; yields the address."""
    served = Served(folder, kind=kind, ends=ends, **how)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            self.reply(served.answer(self.path, {}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(served.answer(self.path, json.loads(body)))

        def reply(self, found: dict[str, Any] | None) -> None:
            data = json.dumps(found or {"error": "no such address"}).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
