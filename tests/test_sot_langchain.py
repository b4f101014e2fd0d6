"""Points side by side through LangChain: its chat models, our backends as such, and decorators."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from first_words import LONG, first_words
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableLambda
from little_sot import Writer
from points_server import FORM, JOINED, PLAIN, QUESTION, TOOL, Provider, why
from script_server import Server

import tersely
from tersely.errors import ConfigError

langchain_openai = pytest.importorskip("langchain_openai")


@pytest.fixture
def server(provider: Provider) -> Server:
    return provider.server


class TestLangChain:
    @pytest.fixture
    def model(self, server: Server) -> Any:
        return langchain_openai.ChatOpenAI(model="gpt-4o", api_key="key", base_url=server.url)

    def test_a_message(self, provider: Provider, model: Any) -> None:
        wrapped = tersely.wrap(model, sot="auto")
        assert isinstance(wrapped, langchain_openai.ChatOpenAI)
        answer = wrapped.invoke([SystemMessage("Be kind."), HumanMessage(QUESTION)])
        assert isinstance(answer, AIMessage)
        assert answer.text == JOINED
        read, cached, made = provider.sums
        assert answer.usage_metadata == {
            "input_tokens": read,
            "output_tokens": made,
            "total_tokens": read + made,
            "input_token_details": {"cache_read": cached},
        }
        assert answer.response_metadata["model_name"] == "gpt-4o-2024"
        assert answer.response_metadata["sot"]["route"] == "skeleton"

    def test_pieces_in_their_order(self, provider: Provider, model: Any) -> None:
        whole: Any = None
        for chunk in tersely.sot(model).stream(QUESTION):
            whole = chunk if whole is None else whole + chunk
        assert whole.text == JOINED
        assert whole.usage_metadata["output_tokens"] == provider.sums[2]
        assert whole.response_metadata["finish_reason"] == "stop"

    async def test_async(self, provider: Provider, model: Any) -> None:
        wrapped = tersely.sot(model)
        assert (await wrapped.ainvoke(QUESTION)).text == JOINED
        assert "".join([chunk.text async for chunk in wrapped.astream(QUESTION)]) == JOINED
        account = tersely.sot.last_account()
        assert account is not None
        assert account.route == "skeleton"

    def test_who_watches_sees_one_call(self, provider: Provider, model: Any) -> None:
        from langchain_core.callbacks import get_usage_metadata_callback

        chain = RunnableLambda(lambda asked: asked) | tersely.sot(model)
        with get_usage_metadata_callback() as watched:
            assert [one.text for one in chain.batch([QUESTION])] == [JOINED]
        (usage,) = watched.usage_metadata.values()
        assert usage["output_tokens"] == provider.sums[2]

    def test_models_of_anthropic(self, provider: Provider, server: Server) -> None:
        langchain_anthropic = pytest.importorskip("langchain_anthropic")
        model = langchain_anthropic.ChatAnthropic(
            model="claude-x", api_key="key", base_url=server.url.removesuffix("/v1"), max_tokens=900
        )
        answer = tersely.sot(model).invoke(QUESTION)
        assert answer.text == JOINED
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["input_tokens"] == provider.sums[0]
        assert server.bodies[1]["max_tokens"] < 900

    def test_what_does_not_suit_goes_to_the_model(self, provider: Provider, model: Any) -> None:
        wrapped = tersely.sot(model)
        assert wrapped.bind_tools([TOOL]).invoke(QUESTION).text == PLAIN
        assert "tools" in why()
        assert wrapped.invoke(QUESTION, stop=["."]).text == PLAIN
        assert "stop at a string" in why()
        assert wrapped.invoke([HumanMessage(QUESTION), AIMessage("Well,")]).text == PLAIN
        assert "more than text" in why()
        bound = model.model_copy(update={"model_kwargs": {"response_format": FORM}})
        assert tersely.sot(bound).invoke(QUESTION).text == PLAIN
        assert "bound to response_format" in why()
        assert set(provider.purposes) == {"plain"}

    def test_what_fails_degrades(self, provider: Provider, model: Any) -> None:
        provider.texts["skeleton"] = 400
        assert tersely.sot(model).invoke(QUESTION).text == PLAIN
        assert "".join(chunk.text for chunk in tersely.sot(model).stream(QUESTION)) == PLAIN

    def test_models_that_give_no_pieces(self, server: Server) -> None:
        from langchain_core.language_models import BaseChatModel, FakeListChatModel

        class Whole(FakeListChatModel):
            _stream = BaseChatModel._stream
            _astream = BaseChatModel._astream

            def _call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
                asked = str(messages[-1].content)
                return "1. Rest\n2. Calm" if "Now the points" in asked else "It is said here."

        made = tersely.sot(Whole(responses=["x"]), "force").invoke(QUESTION)
        assert made.text == "1. Rest: It is said here.\n\n2. Calm: It is said here."

    def test_copies_and_pickles(self, provider: Provider, model: Any) -> None:
        wrapped = tersely.wrap(model, sot={"mode": "force", "points": 5, "deadline": 30})
        for one in (copy.copy(wrapped), wrapped.model_copy(), wrapped.with_retry()):
            assert one.invoke(QUESTION).text == JOINED
        settings = pickle.loads(pickle.dumps(wrapped._tersely)).settings
        assert settings.sot == wrapped._tersely.settings.sot


class TestBackend:
    def test_a_backend_is_a_runnable(self) -> None:
        writer = Writer()
        ask = tersely.sot(writer, max_tokens=600)
        assert ask.invoke(QUESTION).text == ask(QUESTION).text == JOINED
        assert ask.invoke([("system", "Be kind."), ("user", QUESTION)]).text == JOINED
        assert "".join(chunk.text for chunk in ask.stream(QUESTION)) == JOINED
        assert [one.text for one in ask.batch([QUESTION, QUESTION])] == [JOINED] * 2
        assert ask.invoke(QUESTION).usage_metadata["output_tokens"] > 40

    def test_a_cache_tells_askers_apart(self) -> None:
        asked = [tersely.sot(Writer(), mode)._get_llm_string() for mode in ("auto", "force")]
        assert asked[0] != asked[1]
        assert asked[0] == tersely.sot(Writer())._get_llm_string()

    async def test_without_blocking(self) -> None:
        ask = tersely.sot(Writer(), max_tokens=600)
        assert (await ask.ainvoke(QUESTION)).text == JOINED
        assert "".join([chunk.text async for chunk in ask.astream(QUESTION)]) == JOINED

    @pytest.mark.parametrize("mode", ["auto", "off"])
    def test_plain_answers(self, mode: Any) -> None:
        ask = tersely.sot(Writer(), mode)
        asked = "Write a poem on sleep." if mode == "auto" else QUESTION
        assert ask.invoke(asked).text == PLAIN
        assert "".join(chunk.text for chunk in ask.stream(asked)) == PLAIN

    def test_settings_of_one_call(self) -> None:
        ask = tersely.sot(Writer(), max_tokens=600)
        assert ask.invoke(QUESTION, max_tokens=40).text == PLAIN
        assert ask.invoke(QUESTION, stop=["#"]).text == PLAIN
        with pytest.raises(ConfigError, match="tools"):
            ask.invoke(QUESTION, tools=[TOOL])


class TestDecorator:
    def test_a_prompt_function_gives_the_answer(self) -> None:
        @tersely.sot(Writer(), max_tokens=600)
        def benefits(of: str) -> str:
            """What it is good for."""
            return f"What are the benefits of {of}?"

        assert benefits("sleep") == JOINED
        assert (benefits.__name__, benefits.__doc__) == ("benefits", "What it is good for.")

    def test_with_a_prompt_that_is_compressed(self) -> None:
        writer = Writer()

        @tersely.sot(writer, max_tokens=600)
        @tersely.optimize(pipeline=first_words(), context="notes")
        def benefits(notes: str) -> list[dict[str, str]]:
            asked = {"role": "user", "content": f"{notes}\n\n{QUESTION}"}
            return [asked]

        assert benefits(LONG) == JOINED
        assert all(LONG not in one.prompt.text for one in writer.requests)

    async def test_async_functions_and_methods(self) -> None:
        ask = tersely.sot(Writer(), max_tokens=600)

        class Prompts:
            @ask
            async def benefits(self, of: str) -> str:
                return f"What are the benefits of {of}?"

        assert await Prompts().benefits("sleep") == JOINED

    def test_functions_that_yield_are_refused(self) -> None:
        def many() -> Iterator[str]:
            yield QUESTION

        with pytest.raises(ConfigError, match="one prompt"):
            tersely.sot(Writer())(many)
