"""What holds for every wrapped client: settings, overrides, errors, threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from first_words import CHAT_MESSAGES, FirstWords, first_words, shortened
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Loopback
from openai_calls import CHAT, ask, mode

import tersely
from tersely.errors import ConfigError
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.scope import Override
from tersely.middleware.wrap_call import under_way
from tersely.middleware.wrap_sdk import Outgoing
from tersely.middleware.wrapping import Wrapping

openai = pytest.importorskip("openai")


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    with openai.OpenAI(api_key="key", base_url=server.url, max_retries=2) as made:
        yield made


class TestSettings:
    def test_modes(self, server: Loopback, client: Any) -> None:
        for name, sent in (("off", CHAT), ("audit", CHAT), ("optimize", shortened(CHAT))):
            ask(tersely.wrap(client, first_words(), mode=name))
            assert server.take()[0].body == sent
            assert mode() == name

    def test_audit_tells_what_would_be_saved(self, server: Loopback, client: Any) -> None:
        ask(tersely.wrap(client, first_words(), mode="audit"))
        report = tersely.last_report()
        assert report is not None and report.saved > 0

    def test_who_goes_first(self, server: Loopback, client: Any) -> None:
        """The call, then the block around it, then `wrap`, then the pipeline."""
        pipeline = first_words(mode="off")
        ask(tersely.wrap(client, pipeline))
        assert mode() == "off"
        wrapped = tersely.wrap(client, pipeline, mode="audit")
        ask(wrapped)
        assert mode() == "audit"
        with tersely.override(mode="optimize"):
            ask(wrapped)
            assert mode() == "optimize"
            ask(wrapped, mode="off")
            assert mode() == "off"

    def test_budget(self, server: Loopback, client: Any) -> None:
        wrapped = tersely.wrap(client, first_words(), budget=100_000)
        ask(wrapped)
        assert server.take()[0].body == CHAT
        with tersely.override(budget=20):
            ask(wrapped)
        report = tersely.last_report()
        assert report is not None and report.limit == 20
        ask(wrapped, budget=30)
        report = tersely.last_report()
        assert report is not None and report.limit == 30

    def test_sessions(self, server: Loopback, client: Any) -> None:
        mine, around, asked = (uuid4().hex for _ in range(3))
        wrapped = tersely.wrap(client, first_words(), session=mine)
        ask(wrapped)
        with tersely.session(around) as block:
            ask(wrapped)
            ask(wrapped, session=asked)
            assert block.requests == 1
        for name in (mine, asked):
            with tersely.session(name) as session:
                assert session.requests == 1

    def test_a_pipeline_for_one_stretch(self, server: Loopback, client: Any) -> None:
        wrapped = tersely.wrap(client, first_words())
        with tersely.override(pipeline=Pipeline(FirstWords(words=2))):
            ask(wrapped)
        assert server.take()[0].body["messages"][-1]["content"] == "word0 word1"

    def test_wrapping_twice(self, server: Loopback, client: Any) -> None:
        once = tersely.wrap(client, first_words())
        twice = tersely.wrap(once, Pipeline(FirstWords(words=2)))
        assert type(twice) is type(once)
        with tersely.session(uuid4().hex) as session:
            ask(twice)
        assert session.requests == 1
        assert server.take()[0].body["messages"][-1]["content"] == "word0 word1"
        ask(once)
        assert server.take()[0].body == shortened(CHAT)

    def test_copies_keep_the_settings(self, server: Loopback, client: Any) -> None:
        wrapped = tersely.wrap(client, first_words(), mode="audit")
        for made in (wrapped.copy(), wrapped.with_options(timeout=9), copy.copy(wrapped)):
            ask(made)
            assert mode() == "audit"


class TestOneCall:
    @pytest.mark.parametrize("name", ["off", "audit", "optimize"])
    def test_wishes_never_leave(self, server: Loopback, client: Any, name: str) -> None:
        wrapped = tersely.wrap(client, first_words(), mode=name)
        extra = {"tersely": {"question": "the weather"}, "top_k": 3}
        wrapped.chat.completions.create(**CHAT, extra_body=extra)
        wrapped.post("/chat/completions", body={**CHAT, "tersely": None}, cast_to=object)
        assert extra == {"tersely": {"question": "the weather"}, "top_k": 3}
        assert all("tersely" not in body for body in server.bodies)
        assert server.bodies[0]["top_k"] == 3

    def test_everything_that_can_be_asked(self, server: Loopback, client: Any) -> None:
        wrapped = tersely.wrap(client, first_words())
        ask(wrapped, mode="optimize", budget=30, question="what?", session="all", strict=False)
        assert server.take()[0].body == shortened(CHAT)

    @pytest.mark.parametrize(
        ("wishes", "said"),
        [
            ({"mode": "fast"}, "'fast'"),
            ({"budget": 0}, "was 0"),
            ({"session": ""}, "session"),
            ({"budgets": 1}, "budget"),
            ("off", "takes a mapping of settings, was 'off'"),
        ],
    )
    def test_wrong_wishes_send_nothing(
        self, server: Loopback, client: Any, wishes: Any, said: str
    ) -> None:
        for name in ("off", "optimize"):
            wrapped = tersely.wrap(client, first_words(), mode=name)
            with pytest.raises(ConfigError, match=said):
                wrapped.chat.completions.create(**CHAT, extra_body={"tersely": wishes})
        assert server.seen == []

    async def test_wrong_wishes_in_async(self, server: Loopback) -> None:
        async with openai.AsyncOpenAI(api_key="key", base_url=server.url) as client:
            with pytest.raises(ConfigError, match="fast"):
                await tersely.wrap(client, first_words()).chat.completions.create(
                    **CHAT, extra_body={"tersely": {"mode": "fast"}}
                )
        assert server.seen == []


def test_nothing_is_held_after_a_request(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    ask(wrapped)
    server.faults.append(400)
    with pytest.raises(openai.BadRequestError):
        ask(wrapped)
    assert under_way() is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(["messages", "model", "a", "b"]), JSON)


@settings(max_examples=100)
@given(BODIES, st.none() | BODIES, st.sampled_from([[], CHAT_MESSAGES]))
def test_the_body_reaches_the_wire_as_the_sdk_would_send_it(
    body: dict[str, Any], extra: dict[str, Any] | None, messages: list[Any]
) -> None:
    """Whatever lies in the body and in `extra_body`: the same, but shortened and without wishes."""
    body = {**body, "messages": messages} if messages else body
    options = openai._models.FinalRequestOptions.construct(
        method="post",
        url="/chat/completions",
        json_data=body,
        extra_json=extra and {**extra, "tersely": {}},
    )
    wrapping = Wrapping(first_words(), Override())
    outgoing = Outgoing.of(options, wrapping)
    assert outgoing is not None
    ran = wrapping.run(outgoing.body, outgoing.wishes, surface=outgoing.surface)
    sent = outgoing.with_body(ran.output)
    merged = {**sent["json_data"], **(sent["extra_json"] or {})}
    assert merged == shortened({**body, **(extra or {})})
    assert list(merged) == list({**body, **(extra or {})})
