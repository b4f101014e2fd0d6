"""LiteLLM's functions and its callback send compressed prompts, once."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from first_words import CHAT_MESSAGES, LONG, RESPONSES_INPUT, SHORT, first_words, shortened
from loopback import Loopback

import tersely
from tersely.errors import ConfigError, MissingExtra

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network
litellm: Any = pytest.importorskip("litellm")

from tersely.middleware.callback_litellm import TerselyCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own


@pytest.fixture(scope="module", autouse=True)
def no_loop_stays() -> Iterator[None]:
    """LiteLLM makes event loops for its logs, and leaves them open."""
    made: list[asyncio.AbstractEventLoop] = []
    policy = type(asyncio.get_event_loop_policy())
    new = policy.new_event_loop

    def noted(self: Any) -> asyncio.AbstractEventLoop:
        made.append(new(self))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "new_event_loop", noted)
        yield
    for loop in made:
        if not loop.is_running():
            loop.close()


def bodies(server: Loopback) -> list[Any]:
    return [seen.body for seen in server.take()]


def chat(server: Loopback, **settings: Any) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o",
        "messages": copy.deepcopy(CHAT_MESSAGES),
        "api_base": f"{server.url}/v1",
        "api_key": "key",
        **settings,
    }


def answers(server: Loopback, **settings: Any) -> dict[str, Any]:
    asked = chat(server, input=copy.deepcopy(RESPONSES_INPUT), **settings)
    del asked["messages"]
    return asked


USES: dict[str, Callable[[Callable[[Any], Any], Loopback], Any]] = {
    "completion": lambda wrap, server: wrap(litellm.completion)(**chat(server)),
    "positional": lambda wrap, server: wrap(litellm.completion)(
        "openai/gpt-4o", CHAT_MESSAGES, api_base=f"{server.url}/v1", api_key="key"
    ),
    "streamed": lambda wrap, server: list(wrap(litellm.completion)(**chat(server, stream=True))),
    "responses": lambda wrap, server: wrap(litellm.responses)(**answers(server)),
    "router": lambda wrap, server: wrap(router(server).completion)("mine", CHAT_MESSAGES),
}


def router(server: Loopback) -> Any:
    asked = {key: value for key, value in chat(server).items() if key != "messages"}
    return litellm.Router(model_list=[{"model_name": "mine", "litellm_params": asked}])


@pytest.mark.parametrize("use", USES)
def test_every_function(server: Loopback, use: str) -> None:
    USES[use](lambda function: function, server)
    plain = bodies(server)
    USES[use](lambda function: tersely.wrap(function, first_words()), server)
    sent = bodies(server)
    assert LONG in str(plain) and SHORT in str(sent)
    assert sent == shortened(plain)
    report = tersely.last_report()
    assert report is not None and report.saved > 0


@pytest.mark.parametrize("function", ["acompletion", "aresponses"])
async def test_every_async_function(server: Loopback, function: str) -> None:
    asked = chat if function == "acompletion" else answers
    await tersely.wrap(getattr(litellm, function), first_words())(**asked(server))
    (body,) = bodies(server)
    assert SHORT in str(body) and LONG not in str(body)
    report = tersely.last_report()
    assert report is not None and report.exact and report.saved > 0


def test_a_call_may_ask_for_something_else(server: Loopback) -> None:
    completion = tersely.wrap(litellm.completion, first_words())
    completion(**chat(server), tersely={"mode": "off"})
    completion(**chat(server), extra_body={"tersely": {"mode": "off"}, "top_k": 3})
    sent = bodies(server)
    assert all(LONG in str(body) and "tersely" not in body for body in sent)
    assert sent[1]["top_k"] == 3


def test_what_is_given_is_not_changed(server: Loopback) -> None:
    asked = chat(server)
    before = json.dumps(asked)
    tersely.wrap(litellm.completion, first_words())(**asked)
    assert json.dumps(asked) == before


def test_wrapping_again_gives_the_new_settings(server: Loopback) -> None:
    once = tersely.wrap(litellm.completion, first_words())
    tersely.wrap(once, first_words(), mode="off")(**chat(server))
    assert once.__name__ == "completion" and once.__doc__ == litellm.completion.__doc__
    assert LONG in str(bodies(server))


def test_other_functions_and_points_can_not_be_had() -> None:
    with pytest.raises(ConfigError, match="a function of LiteLLM's"):
        tersely.wrap(litellm.embedding)
    with pytest.raises(ConfigError, match="sot can't take"):
        tersely.wrap(litellm.completion, sot="auto")


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> TerselyCallback:
    made = TerselyCallback(first_words())
    monkeypatch.setattr(litellm, "callbacks", [made])
    return made


@pytest.mark.parametrize("function", ["acompletion", "aresponses"])
async def test_the_callback(server: Loopback, callback: TerselyCallback, function: str) -> None:
    asked = chat if function == "acompletion" else answers
    await getattr(litellm, function)(**asked(server))
    (body,) = bodies(server)
    assert SHORT in str(body) and LONG not in str(body)


async def test_the_callback_on_a_router(server: Loopback, callback: TerselyCallback) -> None:
    await router(server).acompletion("mine", copy.deepcopy(CHAT_MESSAGES))
    (body,) = bodies(server)
    assert SHORT in str(body) and LONG not in str(body)


async def test_a_prompt_is_compressed_once(server: Loopback, callback: TerselyCallback) -> None:
    """The proxy asks the callback first, then calls the function that asks it again."""
    with tersely.session(uuid4().hex) as session:
        data = await callback.async_pre_call_hook(None, None, chat(server), "acompletion")
        assert data["messages"][-1]["content"] == SHORT
        await litellm.acompletion(**data)
        assert session.requests == 1
        await tersely.wrap(litellm.acompletion, first_words())(**chat(server))
        assert session.requests == 2
    assert all(SHORT in str(body) for body in bodies(server))


async def test_other_calls_are_left_alone(callback: TerselyCallback) -> None:
    data = {"model": "m", "input": [LONG]}
    assert await callback.async_pre_call_hook(None, None, data, "aembedding") is data


async def test_anthropic_messages_of_the_proxy(callback: TerselyCallback) -> None:
    said = [
        {"role": "user", "content": "What is the weather?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": LONG}],
        },
    ]
    data = {"model": "claude-sonnet-5", "messages": said, "max_tokens": 9}
    made = await callback.async_pre_call_hook(None, None, data, "anthropic_messages")
    assert made == shortened(data) and data["messages"] is said


async def test_a_failure_sends_it_on(callback: TerselyCallback) -> None:
    data = {"model": "gpt-4o", "messages": "no list"}
    assert await callback.async_pre_call_hook(None, None, data, "acompletion") == data


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tersely.middleware.callback_litellm")
    monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", None)
    with pytest.raises(MissingExtra, match=r"tersely\[litellm\]"):
        import_module("tersely.middleware.callback_litellm")
