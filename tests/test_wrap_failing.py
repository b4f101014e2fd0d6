"""What a wrapped client does when something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from first_words import LONG, first_words
from loopback import Loopback
from openai_calls import CHAT, ask

import tersely
from tersely.contracts import Context, StageModel
from tersely.errors import BudgetError, ConfigError, StageError, UnknownName
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt

openai = pytest.importorskip("openai")


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    with openai.OpenAI(api_key="key", base_url=server.url, max_retries=2) as made:
        yield made


class Broken(StageModel):
    """A stage that can't do its work."""

    name: ClassVar[str] = "broken"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        raise RuntimeError("no luck")


def test_open_by_default(server: Loopback, client: Any) -> None:
    ask(tersely.wrap(client, Pipeline(Broken())))
    assert server.take()[0].body == CHAT
    report = tersely.last_report()
    assert report is not None and "no luck" in " ".join(report.notes)


def test_a_body_that_cannot_be_read(server: Loopback, client: Any) -> None:
    body = {"model": "gpt-4o", "messages": 7}
    tersely.wrap(client, first_words()).post("/chat/completions", body=body, cast_to=object)
    assert server.take()[0].body == body
    report = tersely.last_report()
    assert report is not None and report.notes


def test_a_body_that_is_no_object(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    wrapped.post("/embeddings", body=[LONG], cast_to=object)
    assert server.take()[0].body == [LONG]


def test_strict_raises_and_sends_nothing(server: Loopback, client: Any) -> None:
    with pytest.raises(StageError, match="broken"):
        ask(tersely.wrap(client, Pipeline(Broken()), strict=True))
    with pytest.raises(BudgetError), tersely.override(strict=True, budget=3):
        ask(tersely.wrap(client, first_words()))
    assert server.seen == []


@pytest.mark.parametrize("thing", [object(), 7, "client", openai, openai.OpenAI, None, {}])
def test_what_cannot_be_wrapped(thing: Any) -> None:
    with pytest.raises(ConfigError, match=r"can't wrap a .*openai or anthropic.*LangChain"):
        tersely.wrap(thing, first_words())


def test_a_bound_model_is_named() -> None:
    from langchain_core.language_models import FakeListChatModel

    bound = FakeListChatModel(responses=["a"]).bind(stop=["b"])
    with pytest.raises(ConfigError, match=r"Binding.*before bind_tools"):
        tersely.wrap(bound, first_words())


def test_a_client_that_cannot_be_copied() -> None:
    class Mine(openai.OpenAI):  # type: ignore[misc,name-defined]
        def __init__(self, secret: str) -> None:
            super().__init__(api_key=secret)

    with Mine("key") as mine, pytest.raises(ConfigError, match=r"Mine.copy\(\) does not work"):
        tersely.wrap(mine, first_words())


@pytest.mark.parametrize("wrong", [{"mode": "fast"}, {"budget": 0}, {"session": ""}, {"strict": 1}])
def test_wrong_settings(client: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tersely.wrap(client, first_words(), **wrong)


def test_a_wrong_pipeline(client: Any) -> None:
    with pytest.raises(UnknownName, match="nearest"):
        tersely.wrap(client, "lexicall")
