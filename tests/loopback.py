"""A server on this machine that speaks OpenAI Chat, OpenAI Responses and Anthropic Messages.

It answers with one fixed text (or a tool call, when the request offers tools), streamed when
asked, or with vectors, and remembers every request as it came over the wire.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw or b"null")


def _embeddings(body: JSON) -> JSON:
    """A vector for each text, the last one first."""
    width = body.get("dimensions") or 8
    rows = [
        {"index": i, "embedding": [float(b) - 128 for b in sha256(text.encode()).digest()[:width]]}
        for i, text in enumerate(body["input"])
    ]
    return {"object": "list", "data": rows[::-1], "model": body["model"]}


@dataclass
class Loopback:
    """The server. `faults` are statuses to answer with first; while `gate` is shut all wait."""

    answer: str = "an answer"
    seen: list[Seen] = field(default_factory=list)
    faults: deque[int] = field(default_factory=deque)
    gate: threading.Event = field(default_factory=threading.Event)
    embeddings: Callable[[JSON], Any] = _embeddings

    def __enter__(self) -> Self:
        self.gate.set()
        handler = type("Handler", (_Handler,), {"loopback": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def bodies(self) -> list[Any]:
        return [one.body for one in self.seen]

    def take(self) -> list[Seen]:
        """All that was seen since the last time."""
        taken, self.seen[:] = list(self.seen), []
        return taken


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    loopback: Loopback

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        seen = Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, raw)
        self.loopback.seen.append(seen)
        self.loopback.gate.wait(10)
        if self.loopback.faults:
            status = self.loopback.faults.popleft()
            self._send(status, {"error": {"type": "api_error", "message": f"status {status}"}})
            return
        if self.path.endswith("/embeddings") and isinstance(seen.body, dict):
            self._send(200, self.loopback.embeddings(seen.body))
            return
        speak = _speaker(self.path.partition("?")[0])
        if speak is None:
            self._send(200, {"data": [], "object": "list", "input_tokens": 3, "model": "m"})
        elif seen.body.get("stream"):
            self._stream(speak.stream(seen.body, self.loopback.answer))
        else:
            self._send(200, speak.whole(seen.body, self.loopback.answer))

    def _send(self, status: int, body: JSON) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.send_header("retry-after-ms", "1")
        self._end_headers()
        self.wfile.write(raw)

    def _stream(self, events: Iterator[tuple[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self._end_headers()
        for name, data in events:
            text = data if isinstance(data, str) else json.dumps(data)
            head = f"event: {name}\n" if name else ""
            self.wfile.write(f"{head}data: {text}\n\n".encode())

    def _end_headers(self) -> None:
        # a connection kept alive would outlive the event loop of the test that opened it
        self.send_header("connection", "close")
        self.close_connection = True
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read `seen` instead."""


def _speaker(path: str) -> Any:
    ends = {"/chat/completions": Chat, "/responses": Responses, "/v1/messages": Messages}
    return next((speaker for end, speaker in ends.items() if path.endswith(end)), None)


def _call(body: JSON) -> str:
    """The name of the first tool that is offered and not yet answered."""
    if not body.get("tools") or "tool_result" in json.dumps(body) or '"tool"' in json.dumps(body):
        return ""
    tool = body["tools"][0]
    return str(tool.get("name") or tool["function"]["name"])


class Chat:
    @staticmethod
    def whole(body: JSON, answer: str) -> JSON:
        message: JSON = {"role": "assistant", "content": answer}
        if name := _call(body):
            function = {"name": name, "arguments": '{"city": "Bern"}'}
            call = {"id": "call_1", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return _chat(body, "chat.completion", choice) | {"usage": usage}

    @staticmethod
    def stream(body: JSON, answer: str) -> Iterator[tuple[str, Any]]:
        deltas: list[JSON] = [{"role": "assistant", "content": ""}]
        if name := _call(body):
            function = {"name": name, "arguments": '{"city": "Bern"}'}
            call = {"index": 0, "id": "call_1", "type": "function", "function": function}
            deltas.append({"tool_calls": [call]})
        else:
            deltas += [{"content": piece} for piece in _pieces(answer)]
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield "", _chat(body, "chat.completion.chunk", choice)
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield "", _chat(body, "chat.completion.chunk", last)
        yield "", "[DONE]"


def _chat(body: JSON, kind: str, choice: JSON) -> JSON:
    head = {"id": "chat_1", "object": kind, "created": 1, "model": body.get("model", "m")}
    return head | {"choices": [choice]}


class Responses:
    @staticmethod
    def whole(body: JSON, answer: str) -> JSON:
        return _response(body, [_output(body, answer)], "completed")

    @staticmethod
    def stream(body: JSON, answer: str) -> Iterator[tuple[str, Any]]:
        done = _output(body, answer)
        events: list[JSON] = [
            {"type": "response.created", "response": _response(body, [], "in_progress")}
        ]
        place = {"item_id": done["id"], "output_index": 0}
        if done["type"] == "function_call":
            empty = done | {"arguments": "", "status": "in_progress"}
            events.append({"type": "response.output_item.added", "output_index": 0, "item": empty})
            said = {"type": "response.function_call_arguments.delta", **place}
            events.append(said | {"delta": done["arguments"]})
        else:
            empty = done | {"content": [], "status": "in_progress"}
            events.append({"type": "response.output_item.added", "output_index": 0, "item": empty})
            place |= {"content_index": 0}
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            events.append({"type": "response.content_part.added", **place, "part": part})
            for piece in _pieces(answer):
                said = {"type": "response.output_text.delta", **place, "logprobs": []}
                events.append(said | {"delta": piece})
            said = {"type": "response.output_text.done", **place, "logprobs": []}
            events.append(said | {"text": answer})
            part = part | {"text": answer}
            events.append({"type": "response.content_part.done", **place, "part": part})
        events.append({"type": "response.output_item.done", "output_index": 0, "item": done})
        whole = _response(body, [done], "completed")
        events.append({"type": "response.completed", "response": whole})
        for number, event in enumerate(events):
            yield event["type"], event | {"sequence_number": number}


def _output(body: JSON, answer: str) -> JSON:
    if body.get("tools") and "function_call_output" not in json.dumps(body):
        call = {"name": body["tools"][0]["name"], "arguments": '{"city": "Bern"}'}
        return {"type": "function_call", "id": "fc_1", "call_id": "call_1"} | call
    part = {"type": "output_text", "text": answer, "annotations": [], "logprobs": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return message | {"content": [part]}


def _response(body: JSON, output: list[JSON], status: str) -> JSON:
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": body.get("model", "m")}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    details = {
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
    counted = {"usage": usage | details} if output else {}
    return head | rest | counted | {"output": output, "status": status}


class Messages:
    @staticmethod
    def whole(body: JSON, answer: str) -> JSON:
        return _message(body, [_block(body, answer)], "end_turn")

    @staticmethod
    def stream(body: JSON, answer: str) -> Iterator[tuple[str, Any]]:
        block = _block(body, answer)
        if block["type"] == "tool_use":
            start = block | {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        else:
            start = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(answer)]
        events: list[JSON] = [
            {"type": "message_start", "message": _message(body, [], None)},
            {"type": "content_block_start", "index": 0, "content_block": start},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 1},
            },
            {"type": "message_stop"},
        ]
        for event in events:
            yield event["type"], event


def _block(body: JSON, answer: str) -> JSON:
    if name := _call(body):
        return {"type": "tool_use", "id": "toolu_1", "name": name, "input": {"city": "Bern"}}
    return {"type": "text", "text": answer}


def _message(body: JSON, content: list[JSON], stop: str | None) -> JSON:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", "m")}
    usage = {"input_tokens": 1, "output_tokens": 1}
    return head | {"content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def _pieces(text: str) -> list[str]:
    half = len(text) // 2
    return [text[:half], text[half:]]
