"""The server as OpenAI's own SDK sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from served import serving

from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Chunk, Completion, Request
from tersely.errors import BackendError, ContextLengthError, ModelError

ALL = frozenset(
    {"alternatives", "grammar", "logprobs", "parallel", "prefill", "repetition_penalty", "stream"}
)
ASK: list[Any] = [{"role": "user", "content": "What is red?"}]
LIST: list[Any] = [{"role": "user", "content": "What are the benefits of sleep?"}]


def spoken(request: Request) -> Completion:
    """Three tokens, with what they might have been; the second one tells the seed."""
    tokens = ("One", f" {request.seed}", " three.")
    return Completion(
        text="".join(tokens),
        tokens=tokens,
        logprobs=(-0.1, -0.2, float("-inf")),
        alternatives=({"One": -0.1, "Two": -2.0},) * 3 if request.alternatives else (),
        prompt_tokens=7,
        cached_tokens=5,
        completion_tokens=3,
    )


def outlined(request: Request) -> str:
    if "Now the points" in request.prompt.text:
        return "1. Better memory\n2. Steady mood\n3. Healthy heart"
    return "Here is what is to be said about it. It is not much."


@pytest.fixture(scope="module")
def script() -> ScriptedBackend:
    return ScriptedBackend(spoken, capabilities=ALL)


@pytest.fixture(scope="module")
def url(script: ScriptedBackend) -> Iterator[str]:
    with serving(script, name="m") as base:
        yield base


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def points_url() -> Iterator[str]:
    with serving(ScriptedBackend(outlined), name="m") as base:
        yield base


@pytest.fixture
def points(points_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=points_url, api_key="none", max_retries=0) as made:
        yield made


class TestAnswers:
    def test_a_chat(self, client: openai.OpenAI, script: ScriptedBackend) -> None:
        made = client.chat.completions.create(
            model="m",
            messages=[{"role": "system", "content": "Be kind."}, *ASK],
            temperature=0.5,
            top_p=0.9,
            max_tokens=20,
            stop=["x", "y"],
            seed=4,
            extra_body={"repetition_penalty": 1.1, "grammar": 'root ::= "a"'},
        )
        request = script.requests[-1]
        assert made.object == "chat.completion"
        assert made.model == "m"
        assert made.choices[0].message.content == "One 4 three."
        assert made.choices[0].finish_reason == "stop"
        assert made.usage is not None
        assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (7, 3)
        assert made.usage.prompt_tokens_details is not None
        assert made.usage.prompt_tokens_details.cached_tokens == 5
        assert [leaf.role for leaf in request.prompt.leaves] == ["system", "user"]
        assert (request.temperature, request.top_p, request.max_tokens) == (0.5, 0.9, 20)
        assert (request.stop, request.seed) == (("x", "y"), 4)
        assert (request.repetition_penalty, request.grammar) == (1.1, 'root ::= "a"')

    def test_what_is_left_out_is_as_at_openai(
        self, client: openai.OpenAI, script: ScriptedBackend
    ) -> None:
        client.chat.completions.create(model="m", messages=ASK)
        request = script.requests[-1]
        assert (request.temperature, request.top_p, request.seed) == (1.0, 1.0, None)
        assert (request.max_tokens, request.raw) == (512, False)
        client.completions.create(model="m", prompt="Red is")
        assert (script.requests[-1].max_tokens, script.requests[-1].raw) == (16, True)

    def test_parts_of_text(self, client: openai.OpenAI, script: ScriptedBackend) -> None:
        parts: list[Any] = [{"type": "text", "text": "What"}, {"type": "text", "text": "is red?"}]
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": parts}])
        assert script.requests[-1].prompt.text == "What\n\nis red?"

    def test_several_choices_draw_by_seeds_of_their_own(self, client: openai.OpenAI) -> None:
        made = client.chat.completions.create(model="m", messages=ASK, n=3, seed=7)
        texts = [choice.message.content for choice in made.choices]
        assert texts == ["One 7 three.", "One 8 three.", "One 9 three."]
        assert [choice.index for choice in made.choices] == [0, 1, 2]
        assert made.usage is not None
        assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (7, 9)

    def test_texts(self, client: openai.OpenAI, script: ScriptedBackend) -> None:
        made = client.completions.create(model="m", prompt=["a", "b"], n=2, seed=0, logprobs=2)
        assert [choice.text for choice in made.choices] == [
            "One 0 three.",
            "One 1 three.",
            "One 0 three.",
            "One 1 three.",
        ]
        told = made.choices[0].logprobs
        assert told is not None and told.text_offset == [0, 3, 5]
        assert told.token_logprobs == [-0.1, -0.2, -9999.0]
        assert told.top_logprobs is not None and set(told.top_logprobs[0]) == {"One", "Two"}
        assert made.usage is not None and made.usage.prompt_tokens == 14
        assert [one.prompt.text for one in script.requests[-4:]] == ["a", "a", "b", "b"]

    def test_logprobs(self, client: openai.OpenAI) -> None:
        made = client.chat.completions.create(
            model="m", messages=ASK, seed=1, logprobs=True, top_logprobs=2
        )
        told = made.choices[0].logprobs
        assert told is not None and told.content is not None
        assert [one.token for one in told.content] == ["One", " 1", " three."]
        assert bytes(told.content[0].bytes or []) == b"One"
        assert [other.token for other in told.content[0].top_logprobs] == ["One", "Two"]

    def test_an_answer_that_is_begun(self, client: openai.OpenAI, script: ScriptedBackend) -> None:
        begun: list[Any] = [*ASK, {"role": "assistant", "content": "Blood"}]
        going_on = {"continue_final_message": True, "add_generation_prompt": False}
        client.chat.completions.create(model="m", messages=begun, extra_body=going_on)
        assert script.requests[-1].prompt.segments[-1].role == "assistant"
        client.chat.completions.create(model="m", messages=begun)
        assert script.requests[-1].prompt.segments[-1].role == "assistant"

    def test_json_objects_follow_a_grammar(
        self, client: openai.OpenAI, script: ScriptedBackend
    ) -> None:
        form: Any = {"type": "json_object"}
        client.chat.completions.create(model="m", messages=ASK, response_format=form)
        grammar = script.requests[-1].grammar
        assert grammar_takes(grammar, '{"a": [1, -2.5e3, "\\u00e4b\\n", {}], "b": null}')
        assert grammar_takes(grammar, "{}")
        for wrong in ("[1]", '{"a": 01}', '{"a" 1}', '{"a": "\n"}', '{"a": 1,}'):
            assert not grammar_takes(grammar, wrong)

    def test_what_was_ignored_is_named(self, client: openai.OpenAI) -> None:
        said: list[Any] = [{"role": "user", "content": "Hi", "name": "Ann"}]
        raw = client.chat.completions.with_raw_response.create(
            model="m", messages=said, user="u", store=True, frequency_penalty=0, tools=[]
        )
        assert raw.headers["x-tersely-ignored"] == "store, user, messages.name"
        plain = client.chat.completions.with_raw_response.create(model="m", messages=ASK)
        assert "x-tersely-ignored" not in plain.headers

    def test_models(self, client: openai.OpenAI) -> None:
        assert [model.id for model in client.models.list()] == ["m"]
        assert client.models.retrieve("m").owned_by == "tersely"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")

    def test_half_of_a_character_is_sent_as_a_question_mark(self, url: str) -> None:
        with serving(ScriptedBackend(lambda request: "a\ud800b"), name="m") as base:
            got = httpx.post(f"{base}/chat/completions", json={"model": "m", "messages": ASK})
        assert got.json()["choices"][0]["message"]["content"] == "a?b"


class TestStreams:
    def test_a_chat(self, client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(
            model="m", messages=ASK, seed=1, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        *said, last = chunks
        assert said[0].choices[0].delta.role == "assistant"
        assert "".join(one.choices[0].delta.content or "" for one in said) == "One 1 three."
        assert said[-1].choices[0].finish_reason == "stop"
        assert all(one.usage is None for one in said)
        assert last.choices == [] and last.usage is not None
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (7, 3)
        assert len({one.id for one in chunks}) == 1

    def test_no_usage_unless_asked(self, client: openai.OpenAI) -> None:
        *_, last = client.chat.completions.create(model="m", messages=ASK, stream=True)
        assert last.choices[0].finish_reason == "stop"

    def test_several_choices(self, client: openai.OpenAI) -> None:
        texts = {0: "", 1: "", 2: ""}
        ended = set()
        for chunk in client.chat.completions.create(
            model="m", messages=ASK, n=3, seed=0, stream=True
        ):
            (choice,) = chunk.choices
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ended.add(choice.index)
        assert texts == {i: f"One {i} three." for i in range(3)}
        assert ended == {0, 1, 2}

    @pytest.mark.parametrize("top", [0, 2])
    def test_logprobs(self, client: openai.OpenAI, top: int) -> None:
        told = []
        for chunk in client.chat.completions.create(
            model="m", messages=ASK, seed=1, stream=True, logprobs=True, top_logprobs=top
        ):
            if chunk.choices[0].logprobs:
                told += chunk.choices[0].logprobs.content or []
        assert [one.token for one in told] == ["One", " 1", " three."]
        assert [len(one.top_logprobs) for one in told] == [top] * 3

    @pytest.mark.parametrize("logprobs", [0, 2])
    def test_texts(self, client: openai.OpenAI, logprobs: int) -> None:
        text, offsets = "", []
        for chunk in client.completions.create(
            model="m", prompt="Red is", seed=1, stream=True, logprobs=logprobs
        ):
            text += chunk.choices[0].text
            if told := chunk.choices[0].logprobs:
                offsets += told.text_offset or []
        assert text == "One 1 three."
        assert offsets == [0, 3, 5]

    async def test_without_blocking(self, url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            made = await client.chat.completions.create(model="m", messages=ASK, seed=1)
            stream = await client.chat.completions.create(
                model="m", messages=ASK, seed=1, stream=True
            )
            text = "".join([one.choices[0].delta.content or "" async for one in stream])
        assert text == made.choices[0].message.content == "One 1 three."


class TestPoints:
    def test_whole(self, points: openai.OpenAI) -> None:
        made = points.chat.completions.create(model="m", messages=LIST, extra_body={"sot": "auto"})
        text, told = made.choices[0].message.content or "", made.model_extra["sot"]  # type: ignore[index]
        assert text.startswith("1. Better memory: Here is")
        assert told["route"] == "skeleton" and told["reason"] == ""
        assert [point["state"] for point in told["points"]] == ["whole"] * 3
        assert next(call["purpose"] for call in told["calls"]) == "skeleton"
        assert made.usage is not None
        assert made.usage.prompt_tokens == sum(call["prompt"] for call in told["calls"])
        assert made.usage.completion_tokens == sum(call["completion"] for call in told["calls"])

    @pytest.mark.parametrize("with_usage", [True, False])
    def test_streamed_in_order(self, points: openai.OpenAI, with_usage: bool) -> None:
        wishes: dict[str, Any] = {"sot": {"mode": "auto", "max_points": 2, "launch": "whole"}}
        *said, last = points.chat.completions.create(
            model="m",
            messages=LIST,
            stream=True,
            stream_options={"include_usage": with_usage},
            extra_body=wishes,
        )
        text = "".join(one.choices[0].delta.content or "" for one in said)
        assert text.index("1. Better") < text.index("2. Steady")
        assert "Healthy" not in text
        assert len(said) > 4
        assert last.model_extra["sot"]["route"] == "skeleton"  # type: ignore[index]
        assert (last.usage is not None) == with_usage
        assert not any("sot" in (one.model_extra or {}) for one in said)

    def test_a_gate_refuses(self, points: openai.OpenAI) -> None:
        made = points.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "Write a poem about the benefits of sleep."}],
            extra_body={"sot": True},
        )
        told = made.model_extra["sot"]  # type: ignore[index]
        assert (made.choices[0].message.content or "").startswith("Here is what")
        assert told["route"] == "plain" and "one piece" in told["reason"]

    @pytest.mark.parametrize("wish", [{"n": 2}, {"stop": "x"}])
    def test_what_can_not_be_in_points_is_plain(
        self, points: openai.OpenAI, wish: dict[str, Any]
    ) -> None:
        made = points.chat.completions.create(
            model="m", messages=LIST, extra_body={"sot": "auto", **wish}
        )
        assert made.model_extra["sot"]["route"] == "plain"  # type: ignore[index]
        with pytest.raises(openai.BadRequestError) as refused:
            points.chat.completions.create(
                model="m", messages=LIST, extra_body={"sot": "force", **wish}
            )
        assert refused.value.param == next(iter(wish))

    @pytest.mark.parametrize("wish", ["off", False, {"mode": "off"}])
    def test_off(self, points: openai.OpenAI, wish: Any) -> None:
        made = points.chat.completions.create(model="m", messages=LIST, extra_body={"sot": wish})
        assert "sot" not in (made.model_extra or {})

    def test_a_text(self, points: openai.OpenAI) -> None:
        made = points.completions.create(
            model="m",
            prompt="What are the benefits of sleep?",
            max_tokens=400,
            extra_body={"sot": {"mode": "force", "deadline": 60, "words": 30}},
        )
        assert made.model_extra["sot"]["calls"]  # type: ignore[index]

    @pytest.mark.parametrize(
        ("wish", "param"),
        [
            ("often", "sot.mode"),
            (7, "sot"),
            ({"max_points": 1}, "sot.max_points"),
            ({"deadline": -1}, "sot.deadline"),
            ({"router": {"head": "/etc/passwd"}}, "sot.router"),
            ({"words": 1}, "sot"),
        ],
    )
    def test_wrong_wishes(self, points: openai.OpenAI, wish: Any, param: str) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            points.chat.completions.create(model="m", messages=LIST, extra_body={"sot": wish})
        assert refused.value.param == param


class TestCompressing:
    MATERIAL = "The kettle is blue. It holds 1.7 litres. It stands in the kitchen. " * 60

    def asked(self) -> list[Any]:
        text = f"Context:\n{self.MATERIAL}\n\nQuestion: How much does the kettle hold?"
        return [{"role": "user", "content": text}]

    def test_messages(self, client: openai.OpenAI, script: ScriptedBackend) -> None:
        made = client.chat.completions.create(
            model="m", messages=self.asked(), extra_body={"tersely": True}
        )
        report = made.model_extra["tersely"]  # type: ignore[index]
        assert report["after"] < report["before"]
        assert len(script.requests[-1].prompt.text) < len(self.asked()[0]["content"])
        assert "How much does the kettle hold?" in script.requests[-1].prompt.text

    def test_a_text_by_named_stages(self, client: openai.OpenAI, script: ScriptedBackend) -> None:
        wishes = {"stages": ["truncate"], "budget": 50}
        *_, last = client.completions.create(
            model="m", prompt=self.MATERIAL, stream=True, extra_body={"tersely": wishes}
        )
        assert last.model_extra["tersely"]["after"] <= 50  # type: ignore[index]
        assert (
            script.requests[-1].prompt.text == self.MATERIAL[: len(script.requests[-1].prompt.text)]
        )

    def test_audit_changes_nothing(self, client: openai.OpenAI, script: ScriptedBackend) -> None:
        wishes = {"mode": "audit", "budget": 0.3}
        made = client.completions.create(
            model="m", prompt=self.MATERIAL, extra_body={"tersely": wishes}
        )
        assert made.model_extra["tersely"]["mode"] == "audit"  # type: ignore[index]
        assert script.requests[-1].prompt.text == self.MATERIAL

    @pytest.mark.parametrize(
        "wish",
        [
            {"stages": ["nope"]},
            {"stages": [{"llmlingua": {"model": "/etc"}}]},
            {"budget": "lots"},
            {"pipeline": "x.yaml"},
            7,
        ],
    )
    def test_wrong_wishes(self, client: openai.OpenAI, wish: Any) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="m", messages=ASK, extra_body={"tersely": wish})
        assert (refused.value.param or "").startswith("tersely")


class TestRefusals:
    @pytest.mark.parametrize(
        ("wish", "param"),
        [
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
            ({"tool_choice": "auto"}, "tool_choice"),
            ({"functions": [{"name": "f"}]}, "functions"),
            ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
            ({"response_format": {"type": "json_object"}, "grammar": "root ::="}, "grammar"),
            ({"modalities": ["text", "audio"]}, "modalities"),
            ({"audio": {"voice": "x"}}, "audio"),
            ({"logit_bias": {"1": 5}}, "logit_bias"),
            ({"frequency_penalty": 0.5}, "frequency_penalty"),
            ({"presence_penalty": True}, "presence_penalty"),
            ({"top_k": 5}, "top_k"),
            ({"reasoning_effort": "low"}, "reasoning_effort"),
            ({"temperature": -1}, "temperature"),
            ({"temperature": "hot"}, "temperature"),
            ({"top_p": 0}, "top_p"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": True}, "max_tokens"),
            ({"n": 0}, "n"),
            ({"n": 129}, "n"),
            ({"stop": [""]}, "stop[0]"),
            ({"seed": 2**70}, "seed"),
            ({"top_logprobs": 3}, "top_logprobs"),
            ({"stream": "yes"}, "stream"),
            ({"stream_options": {"include_all": True}}, "stream_options.include_all"),
            ({"nonsense": 1}, "nonsense"),
            ({"continue_final_message": True}, "continue_final_message"),
            ({"add_generation_prompt": False}, "add_generation_prompt"),
            ({"messages": []}, "messages"),
            ({"messages": "Hi"}, "messages"),
            ({"messages": ["Hi"]}, "messages[0]"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user"}]}, "messages[0].content"),
            (
                {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]},
                "messages[0].tool_calls",
            ),
            (
                {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
                "messages[0].content[0].type",
            ),
            (
                {"messages": [{"role": "user", "content": ["text"]}]},
                "messages[0].content[0].type",
            ),
        ],
    )
    def test_a_chat(self, client: openai.OpenAI, wish: dict[str, Any], param: str) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="m", messages=ASK, extra_body=wish)
        assert refused.value.param == param
        assert refused.value.type == "invalid_request_error"
        assert param.partition("[")[0] in refused.value.message

    @pytest.mark.parametrize("prompt", [[1, 2], [[1, 2]], [], [{}], ["a", 1]])
    def test_prompts_that_are_no_text(self, client: openai.OpenAI, prompt: Any) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="m", prompt=prompt)
        assert refused.value.param == "prompt"

    def test_too_many_answers(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="at most 128 answers"):
            client.completions.create(model="m", prompt=["a"] * 65, n=2)

    @pytest.mark.parametrize("wish", ["logprobs", "grammar", "repetition_penalty", "prefill"])
    def test_what_the_engine_can_not_do(self, points: openai.OpenAI, wish: str) -> None:
        body: dict[str, Any] = {
            "logprobs": {"logprobs": True},
            "grammar": {"grammar": 'root ::= "a"'},
            "repetition_penalty": {"repetition_penalty": 1.2},
            "prefill": {
                "continue_final_message": True,
                "messages": [*ASK, {"role": "assistant", "content": "A"}],
            },
        }[wish]
        with pytest.raises(openai.BadRequestError) as refused:
            points.chat.completions.create(model="m", messages=ASK, extra_body=body)
        assert refused.value.param == next(iter(body))
        assert wish in refused.value.message

    def test_another_model(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(model="gpt-9", messages=ASK)
        assert refused.value.code == "model_not_found"
        assert "m" in refused.value.message


def failing(error: Exception) -> ScriptedBackend:
    return ScriptedBackend(lambda request: error)


class TestFailures:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (ContextLengthError("too long"), 400, "context_length_exceeded"),
            (BackendError("out of memory; lower kv_tokens", retryable=True), 503, "unavailable"),
            (BackendError("broken"), 503, "unavailable"),
            (ModelError("no weights"), 503, "unavailable"),
        ],
    )
    def test_of_the_engine(self, error: Exception, status: int, code: str, stream: bool) -> None:
        with (
            serving(failing(error), name="m") as base,
            openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client,
            pytest.raises(openai.APIStatusError) as told,
        ):
            client.chat.completions.create(model="m", messages=ASK, stream=stream)
        assert (told.value.status_code, told.value.code) == (status, code)
        assert str(error) in told.value.message

    def test_only_what_may_pass_is_tried_again(self) -> None:
        for retryable, calls in ((True, 2), (False, 1)):
            backend = failing(BackendError("no", retryable=retryable))
            with (
                serving(backend, name="m") as base,
                openai.OpenAI(base_url=base, api_key="none", max_retries=1) as client,
                pytest.raises(openai.InternalServerError),
            ):
                client.chat.completions.create(model="m", messages=ASK, max_tokens=5)
            assert len(backend.requests) == calls

    def test_of_ours_tells_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        with serving(failing(ZeroDivisionError("secret")), name="m") as base:
            got = httpx.post(f"{base}/chat/completions", json={"model": "m", "messages": ASK})
        assert got.status_code == 500
        assert got.json()["error"]["type"] == "server_error"
        assert "secret" not in got.text
        assert "secret" in caplog.text

    def test_in_the_middle_of_a_stream(self) -> None:
        class Breaking(ScriptedBackend):
            async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
                yield Chunk(text="One ")
                raise BackendError("the model broke")

        got = ""
        with (
            serving(Breaking([]), name="m") as base,
            openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client,
            pytest.raises(openai.APIError, match="the model broke"),
        ):
            for chunk in client.chat.completions.create(model="m", messages=ASK, stream=True):
                got += chunk.choices[0].delta.content or ""
        assert got == "One "

    def test_an_answer_without_end(self) -> None:
        class Ending(ScriptedBackend):
            async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
                yield Chunk(text="One ")

        with (
            serving(Ending([]), name="m") as base,
            openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client,
            pytest.raises(openai.APIError, match="broke off"),
        ):
            list(client.chat.completions.create(model="m", messages=ASK, stream=True))

    @pytest.mark.parametrize("stream", [True, False])
    def test_an_answer_of_any_length_fits_where_a_long_prompt_leaves_room(
        self, stream: bool
    ) -> None:
        def short(request: Request) -> str | Exception:
            fits = request.max_tokens <= 100
            return "It fits." if fits else ContextLengthError("too long")

        backend = ScriptedBackend(short)
        with (
            serving(backend, name="m", max_tokens=800) as base,
            openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client,
        ):
            client.chat.completions.create(model="m", messages=ASK, stream=stream)
            assert backend.requests[-1].max_tokens == 100
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="m", messages=ASK, max_tokens=101)


def grammar_takes(grammar: str, text: str) -> bool:
    """Whether llguidance, reading bytes, takes a text as a whole answer."""
    import llguidance

    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokenizer, llguidance.grammar_from("gbnf", grammar))
    return bool(matcher.consume_tokens(list(text.encode())) and matcher.is_accepting())


def test_a_sequence_of_requests_shares_one_engine(url: str, script: ScriptedBackend) -> None:
    before = len(script.requests)

    def ask(seed: int) -> str | None:
        with openai.OpenAI(base_url=url, api_key="none") as client:
            made = client.chat.completions.create(model="m", messages=ASK, seed=seed)
            return made.choices[0].message.content

    with ThreadPoolExecutor(6) as pool:
        texts: Sequence[str | None] = list(pool.map(ask, range(12)))
    assert texts == [f"One {i} three." for i in range(12)]
    assert len(script.requests) == before + 12
