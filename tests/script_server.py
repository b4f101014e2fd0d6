"""A server on this machine that speaks the OpenAI-compatible API by a script, well and badly."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Plays the next step of the server's script, or answers what it was asked."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        self.answer(404 if page is None else 200, {} if page is None else page)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.calls.append((self.path, body, dict(self.headers)))
            step = self.server.script.pop(0) if self.server.script else self.server.play
        step(self, body)

    def answer(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def events(self, pieces: list[bytes], *, whole: bool = True) -> None:
        """Send each piece as a chunk of its own; without `whole` the stream breaks off."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


Step = Callable[[Handler, Any], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.script: list[Step] = []
        self.play: Step = good
        self.pages: dict[str, Any] = {}
        self.calls: list[tuple[str, Any, dict[str, str]]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def bodies(self) -> list[Any]:
        return [body for _, body, _ in self.calls]


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def said(content: str, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m-1"} | {
        "choices": [choice],
        "usage": USAGE,
    }


def good(handler: Handler, body: Any) -> None:
    text = "echo " + body["messages"][-1]["content"] if "messages" in body else "raw"
    handler.answer(200, said(text) if "messages" in body else said("", text=text, message=None))


def refused(status: int, message: str = "no", code: str | None = None, **headers: str) -> Step:
    error = {"error": {"message": message, "code": code, "type": "error"}}
    return lambda handler, _: handler.answer(status, error, **headers)


def sends(status: int, data: bytes) -> Step:
    return lambda handler, _: handler.answer(status, data)


def hangs_up(handler: Handler, _: Any) -> None:
    handler.close_connection = True


def event(text: str | None = None, **choice: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": None, **choice}
    part = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    return f"data: {json.dumps(part | {'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


END = [
    event(finish_reason="stop"),
    f"data: {json.dumps({'model': 'm-1', 'choices': [], 'usage': USAGE})}\n\n".encode(),
    b"data: [DONE]\n\n",
]


def streams(pieces: list[bytes], *, whole: bool = True) -> Step:
    return lambda handler, _: handler.events(pieces, whole=whole)
