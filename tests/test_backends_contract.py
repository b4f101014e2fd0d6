"""All backends keep one contract: the local engine, and each engine's dialect over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backend_contract import EITHER, BackendContract, asked, one
from engine_double import WAYS, playing
from script_server import Server, event, refused, said, serving, streams

from tersely.backends.http import HttpBackend
from tersely.backends.local import LocalBackend
from tersely.contracts import Backend
from tersely.errors import BackendError, ConfigError, ContextLengthError


def told(engine: str, server: Server, **settings: Any) -> HttpBackend:
    return HttpBackend(base_url=server.url, model="m", engine=engine, pause=0, **settings)


class TestDialects(BackendContract):
    @pytest.fixture(params=sorted(WAYS))
    def answers(self, request: Any) -> Iterator[Backend]:
        with playing(request.param) as server:
            yield told(request.param, server)


@pytest.mark.model
class TestLocal(BackendContract):
    @pytest.fixture
    def answers(self, smollm2: Path) -> Backend:
        return LocalBackend(precision="float32")


# --- which engine it is ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", sorted(WAYS))
async def test_an_engine_is_recognised_by_its_endpoints(engine: str) -> None:
    with playing(engine) as server:
        backend = HttpBackend(base_url=server.url, model="m")
        found = backend.recognised()
        assert found.engine == engine
        assert found.parallel == (4 if engine == "llama.cpp" else 8)
        assert await backend.arecognised() == found
        assert not server.calls


def test_slots_tell_of_llama_cpp_whoever_owns_the_model() -> None:
    with serving() as server:
        server.pages = {"/v1/models": [], "/props": {"total_slots": 2}}
        found = HttpBackend(base_url=server.url, model="m").recognised()
    assert (found.engine, found.parallel) == ("llama.cpp", 2)


@pytest.mark.parametrize("page", [{"data": []}, {"data": [7]}, {"data": 7}, "words"])
def test_a_server_that_tells_nothing_stays_what_it_was_set_to_be(page: Any) -> None:
    with serving() as server:
        server.pages = {"/v1/models": page}
        backend = told("sglang", server)
        assert backend.recognised() == backend


def test_nobody_there_cant_be_recognised() -> None:
    with pytest.raises(BackendError, match="the server failed"):
        HttpBackend(base_url="http://127.0.0.1:9/v1", model="m").recognised()


# --- what is sent and read -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "fields"),
    [
        ("vllm", {"structured_outputs": {"grammar": EITHER}, "repetition_penalty": 1.2}),
        ("sglang", {"ebnf": EITHER, "repetition_penalty": 1.2}),
        ("llama.cpp", {"grammar": EITHER, "repeat_penalty": 1.2, "repeat_last_n": 8192}),
        ("llama-cpp-python", {"grammar": EITHER, "repeat_penalty": 1.2}),
    ],
)
def test_wishes_are_spelt_as_the_engine_reads_them(engine: str, fields: dict[str, Any]) -> None:
    with playing(engine) as server:
        one(told(engine, server), asked(grammar=EITHER, repetition_penalty=1.2))
        (body,) = server.bodies
    assert body.items() >= fields.items()


@pytest.mark.parametrize("engine", ["openai", "transformers"])
async def test_nothing_is_sent_when_one_of_many_asks_too_much(engine: str) -> None:
    with serving() as server:
        backend = told(engine, server)
        many = [asked(), asked(grammar=EITHER)]
        with pytest.raises(ConfigError, match="set `engine`"):
            backend.complete(many)
        with pytest.raises(ConfigError, match="grammar"):
            await backend.acomplete(many)
        with pytest.raises(ConfigError, match="grammar"):
            await anext(backend.astream(many[1]))
        assert not server.calls


def test_what_is_set_goes_before_the_engines_ways() -> None:
    backend = HttpBackend(
        base_url="http://x", model="m", can=frozenset({"grammar", "stream"}), prefill="prefix"
    )
    assert backend.capabilities == {"stream", "parallel", "prefill"}, "no way to ask for a grammar"


def test_cached_tokens_are_read_from_either_place() -> None:
    with playing("llama.cpp") as server:
        assert one(told("llama.cpp", server), asked()).cached_tokens == 7
        both = said("x") | {"timings": {"cache_n": 7}}
        both["usage"] = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 3}}
        server.script = [lambda handler, _: handler.answer(200, both)]
        assert one(told("llama.cpp", server), asked()).cached_tokens == 3


@pytest.mark.parametrize(("code", "passes"), [(503, True), (400, False), ("odd", False)])
def test_an_error_within_a_stream_tells_whether_it_may_pass(code: Any, passes: bool) -> None:
    error = f'data: {{"error": {{"message": "no", "code": "{code}"}}}}\n\n'
    if isinstance(code, int):
        error = error.replace(f'"{code}"', str(code))
    with serving() as server:
        server.script = [streams([event("a"), error.encode()])]
        with pytest.raises(BackendError) as caught:
            [*told("llama.cpp", server).stream(asked())]
    assert caught.value.retryable is passes


@pytest.mark.parametrize("engine", sorted(WAYS))
def test_each_engines_words_for_a_prompt_too_long_are_known(engine: str) -> None:
    with serving() as server:
        server.script = [refused(400, WAYS[engine].too_long)]
        with pytest.raises(ContextLengthError):
            one(told(engine, server), asked())
