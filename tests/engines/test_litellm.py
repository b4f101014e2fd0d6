"""Our callback in LiteLLM's real proxy; where the proxy is not installed nothing is tested."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback

JSON = dict[str, Any]

NEEDED = ("litellm", "fastapi", "apscheduler", "semver", "orjson", "multipart")

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="LiteLLM's proxy is not installed"
)

KEY = "sk-a-key-of-this-machine-alone-0123456789"
PATIENCE = 180
"""Seconds that the proxy has to start: it imports for long."""

SETTINGS = """
model_list:
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_base: "{url}/v1", api_key: k}}
  - model_name: claude-opus-5
    litellm_params: {{model: anthropic/claude-opus-5, api_base: "{url}", api_key: k}}
litellm_settings: {{callbacks: compress.callback}}
general_settings: {{master_key: "{key}"}}
"""
CALLBACK = """
from tersely.middleware.callback_litellm import TerselyCallback

callback = TerselyCallback(["json"], budget=0.4)
"""

ROWS = [{"id": f"ORD-{i:04}", "state": "sent", "total": f"{i}.10"} for i in range(200)]
TABLE = json.dumps(ROWS, indent=2)


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: Loopback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a proxy in front of a server on this machine."""
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "config.yaml").write_text(SETTINGS.format(url=server.url, key=KEY))
    (folder / "compress.py").write_text(CALLBACK)
    port = free_port()
    start = "from litellm_cli.main import proxy_server; proxy_server()"
    asked = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    root = str(Path(__file__).resolve().parents[2])
    own = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": root, "NO_PROXY": "*"}
    with (folder / "log").open("wb") as log:
        run = subprocess.Popen(
            [sys.executable, "-c", start, *asked],
            cwd=folder,
            env={**os.environ, **own},
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(PATIENCE * 4):
            assert run.poll() is None, (folder / "log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"{url}/health/liveliness", timeout=2):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        yield url
    finally:
        run.terminate()
        run.wait(30)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def post(url: str, body: JSON) -> Any:
    sent = urllib.request.Request(
        url,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    with urllib.request.urlopen(sent, timeout=60) as answer:
        return json.load(answer)


def chat() -> JSON:
    function = {"name": "orders", "arguments": '{"state": "sent"}'}
    call = {"id": "call_7", "type": "function", "function": function}
    return {
        "model": "gpt-4o",
        "messages": [
            {"role": "user", "content": "What was paid for ORD-0123?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_7", "content": TABLE},
        ],
    }


def test_chat_is_compressed_and_calls_keep_their_results(proxy: str, server: Loopback) -> None:
    body = chat()
    server.take()
    answer = post(f"{proxy}/v1/chat/completions", body)
    assert answer["choices"][0]["message"]["content"] == server.answer
    (seen,) = [one.body for one in server.take() if one.path.endswith("chat/completions")]
    asked, called, given = seen["messages"]
    assert asked == body["messages"][0]
    assert called["tool_calls"] == body["messages"][1]["tool_calls"]
    assert given["tool_call_id"] == "call_7"
    assert len(given["content"]) < len(TABLE) / 2
    assert "ORD-0123" in given["content"] and "123.10" in given["content"]


def test_what_was_sent_is_sent_the_same_again(proxy: str, server: Loopback) -> None:
    body = chat()
    post(f"{proxy}/v1/chat/completions", body)
    body["messages"] += [
        {"role": "assistant", "content": "123.10."},
        {"role": "user", "content": "And for ORD-0007?"},
    ]
    post(f"{proxy}/v1/chat/completions", body)
    *_, first, second = [
        one.body["messages"] for one in server.take() if one.path.endswith("chat/completions")
    ]
    assert second[:3] == first


def test_messages_of_anthropic_are_compressed(proxy: str, server: Loopback) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "orders", "input": {"state": "sent"}}
    found = {"type": "tool_result", "tool_use_id": "toolu_1", "content": TABLE}
    body = {
        "model": "claude-opus-5",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "What was paid for ORD-0123?"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [found]},
        ],
    }
    server.take()
    post(f"{proxy}/v1/messages", body)
    (seen,) = [one.body for one in server.take() if one.path.endswith("/messages")]
    assert seen["messages"][1]["content"][0]["id"] == "toolu_1"
    (given,) = seen["messages"][2]["content"]
    assert given["tool_use_id"] == "toolu_1"
    text = given["content"] if isinstance(given["content"], str) else given["content"][0]["text"]
    assert len(text) < len(TABLE) / 2 and "ORD-0123" in text
