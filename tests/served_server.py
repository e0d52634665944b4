"""A real HTTP server that speaks OpenAI's language, knows its probabilities by heart, and fails as it is told."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

VOCABULARY = 320
MODEL = "fake-model"

Plan = Callable[[int, dict[str, Any]], str | None]


def log_probs(prompt: object, vocabulary: int = VOCABULARY, sharp: float = 3.0) -> np.ndarray:
    """What the model thinks of the next token after a prompt: anything, but always the same."""
    seed = int.from_bytes(json.dumps(prompt).encode()[-64:].rjust(8, b" "), "big") % 2**63
    logits = sharp * np.random.default_rng(seed).normal(size=vocabulary)
    return np.asarray(logits - math.log(np.exp(logits).sum()))


class FakeServer(ThreadingHTTPServer):
    """Counts every request; `plan` says what goes wrong with the n-th (from 0)."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.plan: Plan = lambda number, body: None
        self.seen: list[dict[str, Any]] = []
        self.at: list[float] = []
        self.keys: Counter[str] = Counter()
        self.extensions = True
        self.names: Callable[[int], str] = lambda token: f"token_id:{token}"
        self.chat: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: {}
        self.under_way = self.most_under_way = 0
        self.slow = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is tested here."""

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        found = log_probs(body["prompt"])
        order = np.argsort(-found)
        listed = order[: body["logprobs"]].tolist()
        if self.extensions and "logprob_token_ids" in body:
            listed = [int(order[0]), *body["logprob_token_ids"]]
        tops = {self.names(token): float(found[token]) for token in listed}
        return {
            "id": "x", "object": "text_completion", "created": 0, "model": MODEL,
            "choices": [{
                "index": 0, "text": "?", "finish_reason": "length",
                "logprobs": {"tokens": [self.names(listed[0])], "token_logprobs": [float(found[listed[0]])],
                             "top_logprobs": [tops], "text_offset": [0]},
            }],
            "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1},
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, form: str, *values: object) -> None:
        pass

    def do_GET(self) -> None:
        self._json({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "us"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            number = len(server.seen)
            server.seen.append(body)
            server.at.append(time.monotonic())
            server.keys[str(self.headers.get("Authorization"))] += 1
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            time.sleep(server.slow)
            self._answer(number, body)
        finally:
            with server.lock:
                server.under_way -= 1

    def _answer(self, number: int, body: dict[str, Any]) -> None:
        fault = self.server.plan(number, body) or ""
        answer = self.server.completion(body) if self.path.endswith("/v1/completions") else self.server.chat(body)
        if fault.isdigit():
            self._json({"error": {"message": f"planned {fault}"}}, int(fault))
        elif fault.startswith("429 after "):
            self._json({"error": {"message": "slow down"}}, 429, {"Retry-After": fault.removeprefix("429 after ")})
        elif fault == "quota":
            self._json({"error": {"message": "no money left", "code": "insufficient_quota"}}, 429)
        elif fault == "drop":
            self.close_connection = True
        elif fault == "slow":
            time.sleep(1.0)
            self._json(answer)
        else:
            self._raw(*self._spoilt(fault, answer))

    def _spoilt(self, fault: str, answer: dict[str, Any]) -> tuple[bytes, float]:
        """The bytes of an answer under a fault, and the share of them that is sent."""
        changed = {
            "": answer,
            "cut": answer,
            "no logprobs": {**answer, "choices": [{**answer["choices"][0], "logprobs": None}]},
            "other model": {**answer, "model": "another-model"},
            "error within": {"error": {"message": "upstream failed"}},
            "no choices": {**answer, "choices": []},
        }
        whole = json.dumps(changed.get(fault, answer)).encode()
        if fault == "malformed":
            return whole[:-20], 1.0
        if fault == "nan":
            return whole.replace(b": -", b': NaN, "x": -', 1), 1.0
        assert fault in changed, fault
        return whole, 0.5 if fault == "cut" else 1.0

    def _json(self, document: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._raw(json.dumps(document).encode(), 1.0, status, headers)

    def _raw(self, body: bytes, send: float = 1.0, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: int(send * len(body))])
        if send < 1:
            self.wfile.flush()
            self.close_connection = True


@contextmanager
def running() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def chat_answer(text: str, places: list[dict[str, float]] | None = None, finish: str = "stop") -> dict[str, Any]:
    """An answer of the chat API; of each place the likeliest token was taken."""
    taken = [max(tops, key=lambda token: tops[token]) for tops in places or []]
    content = [
        {"token": token, "logprob": tops[token], "bytes": None,
         "top_logprobs": [{"token": other, "logprob": value, "bytes": None} for other, value in tops.items()]}
        for token, tops in zip(taken, places or [], strict=True)
    ]  # fmt: skip
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": MODEL,
        "choices": [{
            "index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text},
            "logprobs": {"content": content} if places else None,
        }],
        "usage": {"prompt_tokens": 100, "completion_tokens": max(len(taken), 3)},
    }  # fmt: skip
