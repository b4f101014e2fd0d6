"""Overrides, sessions and the latest report: each thread and task has its own, and hands it on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from first_words import CHAT_MESSAGES, first_words
from hypothesis import given, settings
from hypothesis import strategies as st

import tersely
from tersely.errors import ConfigError
from tersely.middleware import scope
from tersely.middleware.scope import Override

PIPELINE = first_words()


def work(words: int) -> None:
    """A request whose report tells it from others: it has so many words."""
    PIPELINE.run([{"role": "user", "content": "a " * words}], surface="openai-chat", model="gpt-4o")


def told() -> int | None:
    report = tersely.last_report()
    return report.before if report else None


class TestLastReport:
    def test_threads_do_not_see_each_other(self) -> None:
        meet = threading.Barrier(4)

        def one(words: int) -> int | None:
            work(words)
            meet.wait()
            return told()

        with ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(one, (10, 20, 30, 40)))
        assert len(set(seen)) == 4 and None not in seen

    def test_a_new_thread_has_none(self) -> None:
        work(10)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(told).result() is None

    async def test_tasks_do_not_see_each_other(self) -> None:
        meet = asyncio.Barrier(4)

        async def one(words: int) -> int | None:
            work(words)
            await meet.wait()
            return told()

        seen = await asyncio.gather(*(one(words) for words in (10, 20, 30, 40)))
        assert len(set(seen)) == 4 and None not in seen

    async def test_a_sibling_that_asked_nothing_is_told_nothing(self) -> None:
        done = asyncio.Event()

        async def busy() -> None:
            work(77)
            done.set()

        async def idle() -> int | None:
            await done.wait()
            return told()

        before = told()
        _, seen = await asyncio.gather(busy(), idle())
        assert seen == before
        assert told() not in (None, before)  # but who started both knows

    async def test_tasks_and_threads_hand_it_to_their_starter(self) -> None:
        seen = [told()]
        await asyncio.create_task(asyncio.to_thread(work, 55))
        seen.append(told())
        await asyncio.to_thread(work, 66)
        seen.append(told())
        assert len(set(seen)) == 3 and None not in seen[1:]

    async def test_tasks_and_threads_take_it_along(self) -> None:
        async def child() -> int | None:
            return told()

        work(10)
        assert told() is not None
        assert await asyncio.create_task(child()) == told()
        assert await asyncio.to_thread(told) == told()

    async def test_a_pool_thread_forgets_whom_it_worked_for(self) -> None:
        async def one(what: Callable[[], Any]) -> Any:
            tersely.last_report()
            return await asyncio.to_thread(what)

        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        before = told()
        await asyncio.create_task(one(lambda: work(88)))
        assert await asyncio.create_task(one(told)) == before

    def test_a_copied_context_is_the_same_thread(self) -> None:
        def inside() -> None:
            copy_context().run(work, 10)
            assert told() is not None

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()

    def test_after_the_loop_it_is_still_told(self) -> None:
        async def main() -> int | None:
            work(33)
            return told()

        assert asyncio.run(main()) == told() is not None

    def test_off_is_told_too(self) -> None:
        with tersely.override(mode="off"):
            work(10)
        report = tersely.last_report()
        assert report is not None and report.mode == "off"


class TestOverride:
    def test_inner_ones_go_first_and_end(self) -> None:
        with tersely.override(mode="audit", strict=True):
            with tersely.override(mode="off"):
                assert scope.current_override() == Override(mode="off", strict=True)
            assert scope.current_override() == Override(mode="audit", strict=True)
        assert scope.current_override() == Override()

    def test_it_ends_when_an_error_passes(self) -> None:
        with pytest.raises(KeyError), tersely.override(mode="off"):
            raise KeyError
        assert scope.current_override() == Override()

    def test_other_threads_are_not_touched(self) -> None:
        with tersely.override(mode="off"), ThreadPoolExecutor(1) as pool:
            assert pool.submit(scope.current_override).result() == Override()

    async def test_tasks_and_threads_started_inside_have_it(self) -> None:
        async def child() -> Override:
            return scope.current_override()

        outside = asyncio.create_task(child())
        with tersely.override(mode="off"):
            inside = asyncio.create_task(child())
            threaded = await asyncio.to_thread(scope.current_override)
        assert await outside == Override()
        assert await inside == threaded == Override(mode="off")

    @pytest.mark.parametrize(
        ("wishes", "said"),
        [
            ({"mode": "fast"}, "mode must be one of off, audit, optimize, was 'fast'"),
            ({"mode": ["off"]}, "mode must be one of"),
            ({"budget": -5}, "must be above 0, was -5"),
            ({"budget": "much"}, "'much'"),
            ({"question": 7}, "a question is a text, was 7"),
            ({"strict": "yes"}, "strict is True or False, was 'yes'"),
            ({"session": ""}, "a session's name is a text that is not empty, was ''"),
            ({"session": 7}, "was 7"),
            ({"modes": "off"}, "no setting named 'modes'; nearest: mode"),
            ({3: "off"}, "no setting named '3'"),
        ],
    )
    def test_wrong_wishes(self, wishes: dict[Any, Any], said: str) -> None:
        with pytest.raises(ConfigError) as raised:
            Override.of(wishes)
        assert said in str(raised.value)

    @settings(max_examples=100)
    @given(
        st.lists(
            st.builds(
                Override,
                mode=st.sampled_from([None, "off", "audit"]),
                question=st.none() | st.text(max_size=3),
                strict=st.none() | st.booleans(),
            ),
            min_size=3,
            max_size=3,
        )
    )
    def test_the_first_wish_holds(self, wishes: list[Override]) -> None:
        a, b, c = wishes
        merged = a.over(b).over(c)
        assert merged == a.over(b.over(c))
        for name in ("mode", "question", "strict"):
            given_ = [getattr(w, name) for w in wishes if getattr(w, name) is not None]
            assert getattr(merged, name) == (given_[0] if given_ else None)


class TestSession:
    def test_the_same_name_is_the_same_session_in_every_thread(self) -> None:
        def enter() -> Any:
            with tersely.session("shared") as session:
                return session

        with ThreadPoolExecutor(4) as pool:
            found = {id(pool.submit(enter).result()) for _ in range(8)}
        assert found == {id(enter())}

    async def test_tasks_are_in_the_session_they_were_started_in(self) -> None:
        async def child() -> Any:
            return scope.current_session()

        with tersely.session("one") as one:
            inside = asyncio.create_task(child())
            threaded = await asyncio.to_thread(scope.current_session)
            with tersely.session("two") as two:
                assert scope.current_session() is two
            assert scope.current_session() is one
        assert scope.current_session() is None
        assert await inside is threaded is one

    def test_it_holds_the_account(self) -> None:
        with tersely.session("account") as session:
            PIPELINE.run(CHAT_MESSAGES, model="gpt-4o")
            assert session.requests == 1 and session.saved > 0
            assert session.report == tersely.last_report()

    def test_the_one_unused_for_longest_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scope, "KNOWN_SESSIONS", 2)
        first = scope.session_named("lru 1")
        second = scope.session_named("lru 2")
        assert scope.session_named("lru 1") is first
        scope.session_named("lru 3")
        assert scope.session_named("lru 1") is first
        assert scope.session_named("lru 2") is not second
