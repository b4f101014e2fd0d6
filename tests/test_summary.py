"""Summaries by any backend: their way, their length, what is kept of them, and what they cost."""

from __future__ import annotations

import os
import pydoc_data.topics as topics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_library import WORDS

from tersely.backends.scripted import ScriptedBackend
from tersely.compressors import cached
from tersely.compressors.portions import by_topic, portions
from tersely.compressors.summarise import Summarise
from tersely.compressors.summary_words import said
from tersely.compressors.topics import topics as topics_of
from tersely.contracts import Capability, Completion, Context, Request
from tersely.errors import BackendError, ConfigError, StageError
from tersely.middleware.drive import adrive, drive, stream
from tersely.middleware.pipeline import Pipeline
from tersely.plans import Listen, asked_together
from tersely.prompt import Prompt, Segment
from tersely.registry import plan, stage
from tersely.select import MARK
from tersely.summaries import Summary
from tersely.units import split

KETTLES = "The kettle of Ann holds 2 litres of water. It was bought in 2019 and it is blue."
BOATS = "The boat of Bob leaves Hamburg on Monday. It carries 40 tons of grain to Oslo."
BEES = "The bees of Carl make honey from heather. They do not fly when it rains."
TEXT = "\n\n".join([KETTLES, BOATS, BEES])
HAY = "\n\n".join(topics.topics[name] for name in ("with", "while", "lambda"))


def context(backend: Any = None, limit: int | None = None) -> Context:
    return Context(count=WORDS, backend=backend, limit=limit)


def asking(text: str = TEXT, question: str = "") -> Request:
    return Request(prompt=Prompt((Segment(text=text),), question=question))


def source_of(request: Request) -> str:
    """The text that a request holds."""
    return request.prompt.text.split("<text>\n")[-1].split("\n</text>")[0]


def first(request: Request) -> str:
    """The first sentence of what is to be summarised."""
    if "<summary>" in request.prompt.text and "<text>" not in request.prompt.text:
        return split(request.prompt.text.split("<summary>\n")[1], "sentence").texts[0]
    return split(source_of(request), "sentence").texts[0]


class Scribe(ScriptedBackend):
    """Summarises as it is told; its repr tells what it is."""

    def __init__(
        self, answer: Callable[[Request], Any] = first, *capabilities: Capability, name: str = ""
    ) -> None:
        super().__init__(answer, capabilities=frozenset(capabilities or ("parallel", "stream")))
        self.name = name

    def __repr__(self) -> str:
        return f"Scribe({self.name})" if self.name else super().__repr__()


def summary(backend: ScriptedBackend, request: Request | None = None, **settings: Any) -> Summary:
    made = plan("summarise", encoder="", **settings)
    found = drive(made.steps(request or asking(), context(backend)), backend)
    assert isinstance(found, Summary)
    return found


# ways


def test_what_fits_is_summarised_at_once() -> None:
    backend = Scribe()
    found = summary(backend, ratio=0.5)
    assert found.text == "The kettle of Ann holds 2 litres of water."
    assert found.account.route == "single"
    assert len(backend.requests) == 1
    assert TEXT in backend.requests[0].prompt.text
    assert found.account.source == len(TEXT.split())
    assert found.account.saved == found.account.source - found.account.made
    assert found.account.spent == sum(call.tokens for call in found.account.calls) > 0


def test_each_sentence_tells_what_it_rests_on() -> None:
    found = summary(Scribe(), ratio=0.5)
    (told,) = found.sentences
    start, end = told.sources[0]
    assert found.source[start:end] == told.text


def long(count: int = 60) -> str:
    return " ".join(f"Box {i} holds {i + 2} plates and a cup from shelf {i}." for i in range(count))


def test_long_texts_are_summarised_by_parts_side_by_side() -> None:
    backend = Scribe()
    text = long(120)
    found = summary(backend, asking(text), window=512, tokens=120)
    assert found.account.route == "map_reduce"
    assert len(backend.requests) >= 3
    assert " ".join(map(source_of, backend.requests)).split() == text.split()
    assert all(one.text in text for one in found.sentences)
    numbers = [text.index(one.text) for one in found.sentences]
    assert numbers == sorted(numbers)


def test_summaries_that_are_too_long_together_are_summarised_again() -> None:
    def half(request: Request) -> str:
        texts = split(source_of(request), "sentence").texts
        return " ".join(texts[: max(len(texts) // 3, 1)])

    backend = Scribe(half)
    found = summary(backend, asking(long(160)), window=512, tokens=100, retries=0)
    purposes = [call.purpose for call in found.account.calls]
    assert purposes[-1] == "summary of summaries"
    assert found.account.made <= 100


def test_few_parts_are_taken_one_after_the_other_where_nothing_is_parallel() -> None:
    backend = Scribe(first, "stream")
    found = summary(backend, asking(long(60)), window=512, tokens=60)
    assert found.account.route == "refine"
    told = [one.prompt.text for one in backend.requests]
    assert "<summary>" not in told[0]
    assert all("<summary>\nBox" in one for one in told[1:])


def test_topics_are_summarised_by_themselves_in_the_order_of_the_text() -> None:
    mixed = " ".join(
        f"{kind} number {i} was {verb}."
        for i in range(40)
        for kind, verb in (("Kettle", "filled with water"), ("Boat", "sailing to the harbour"))
    )
    backend = Scribe()
    found = summary(backend, asking(mixed), route="clusters", window=512, tokens=100)
    assert found.account.route == "clusters"
    assert len(backend.requests) >= 2


def test_both_drivers_give_the_same_and_show_it() -> None:
    import asyncio

    made = Summarise(encoder="", ratio=0.5)
    backend = Scribe()
    one = drive(made.steps(asking(), context(backend)), backend)
    other = asyncio.run(adrive(made.steps(asking(), context(backend)), backend))
    chunks = [*stream(made.steps(asking(), context(backend)), backend)]
    assert one == other == chunks[-1].completion
    assert "".join(chunk.text for chunk in chunks) == one.text


# questions


def _always(answer: str, _: Request) -> str:
    return answer


def test_nothing_is_said_where_nothing_helps() -> None:
    for answer in ("NONE", " none. ", "", "Nothing in the text helps."):
        found = summary(Scribe(partial(_always, answer)), asking(question="Who sings?"))
        assert found.text == ""
        assert found.account.notes == ("nothing in the text helps",)


def test_parts_that_do_not_help_are_left_out() -> None:
    answer = lambda request: first(request) if "Box 3 " in request.prompt.text else "NONE"  # noqa: E731
    backend = Scribe(answer)
    found = summary(backend, asking(long(120), "What is in box 3?"), window=512, tokens=90)
    assert found.text == "Box 0 holds 2 plates and a cup from shelf 0."
    assert all("What is in box 3?" in one.prompt.text for one in backend.requests)
    assert found.coverage < 1


# length


def test_a_summary_that_is_too_long_is_asked_for_again_shorter() -> None:
    def talks(request: Request) -> str:
        return f"{KETTLES} {BOATS}" if "Summarise" in request.prompt.text else "Ann has a kettle."

    backend = Scribe(talks)
    found = summary(backend, tokens=12)
    assert found.text == "Ann has a kettle."
    assert [call.purpose for call in found.account.calls] == ["summary", "shorter"]
    assert f"{KETTLES} {BOATS}" in backend.requests[1].prompt.text


@given(st.integers(1, 60), st.integers(0, 2), st.sampled_from(["auto", "refine", "clusters"]))
def test_no_length_is_ever_passed_and_no_sentence_cut(tokens: int, retries: int, way: str) -> None:
    backend = Scribe(lambda request: f"{BEES} {KETTLES}")
    found = summary(backend, tokens=tokens, retries=retries, route=way)
    assert found.account.made <= tokens
    whole = split(f"{TEXT} {BEES} {KETTLES}", "sentence").texts
    assert all(one in whole for one in split(found.text, "sentence").texts)


def test_an_answer_that_was_cut_off_loses_its_last_sentence() -> None:
    def cut(text: str) -> str:
        return said(Completion(text=text, finish_reason="length"))

    assert cut("It is blue. It was bou") == "It is blue."
    assert cut("It is blue. It was bought.") == "It is blue. It was bought."
    assert cut("It was bou") == ""
    assert said(Completion(text="Sure, here is the summary: It is blue.")) == "It is blue."
    assert said(Completion(text="<summary>It is blue.</summary>")) == "It is blue."


# the guard


def test_what_the_text_does_not_say_is_dropped() -> None:
    invented = "The kettle of Ann is blue. It was bought in 1999. Zorg drank from it."
    found = summary(Scribe(lambda _: invented), ratio=0.9)
    assert found.text == "The kettle of Ann is blue."
    assert [one.was for one in found.dropped] == ["It was bought in 1999.", "Zorg drank from it."]
    assert "1999" in found.dropped[0].reason
    bare = summary(Scribe(lambda _: invented), ratio=0.9, guard=False)
    assert bare.text == invented
    assert [one.fate for one in bare.sentences] == ["kept", "dropped", "dropped"]


def test_where_nothing_is_left_the_text_speaks_for_itself() -> None:
    found = summary(Scribe(lambda _: "Zorg drank 99 cups."), ratio=0.5)
    assert found.text
    assert all(one in split(TEXT, "sentence").texts for one in split(found.text, "sentence").texts)
    assert any("stand in" in note for note in found.account.notes)
    assert summary(Scribe(lambda _: "Zorg drank 99 cups."), fallback=False).text == ""


def test_a_summary_that_is_longer_than_the_text_is_refused() -> None:
    found = summary(Scribe(lambda _: f"{TEXT} {TEXT}"), ratio=0.4)
    assert found.account.made <= 0.4 * found.account.source
    assert any("refused" in note for note in found.account.notes)


def test_nothing_to_summarise() -> None:
    with pytest.raises(ConfigError, match="no open text"):
        summary(Scribe(), asking("  "))


# portions and topics


@given(st.text(" ab.\n!", max_size=400), st.integers(1, 40))
def test_portions_leave_nothing_out(text: str, size: int) -> None:
    found = portions(text, size, context())
    assert "".join("".join(found).split()) == "".join(text.split())
    for one in found:
        units = split(one, "sentence")
        assert len(one.split()) <= size or len(units) == 1


@given(st.lists(st.sampled_from(split(TEXT, "sentence").texts), min_size=1, max_size=30))
def test_topics_leave_nothing_out(texts: list[str]) -> None:
    found = by_topic(" ".join(texts), 20, "", context())
    assert sorted(" ".join(found).split()) == sorted(" ".join(texts).split())


def test_topics_are_those_of_a_graph_in_two_halves() -> None:
    near = np.full((6, 6), 0.05)
    halves = np.array([0, 1, 0, 1, 1, 0])
    near[halves[:, None] == halves[None, :]] = 0.9
    assert topics_of(near, 1, 4).tolist() in ([0, 1, 0, 1, 1, 0], [0] * 6)
    assert topics_of(near, 2, 4).tolist() == [0, 1, 0, 1, 1, 0]
    assert topics_of(np.ones((1, 1)), 3, 5).tolist() == [0]
    assert topics_of(np.zeros((4, 4)), 2, 3).max() <= 2


# plans that only ask


def test_plans_are_asked_together() -> None:
    backend = Scribe()
    calls: list[int] = []
    complete = backend.complete

    def counting(requests: Sequence[Request], /) -> list[Completion]:
        calls.append(len(requests))
        return complete(requests)

    backend.complete = counting  # type: ignore[method-assign]
    made = Summarise(encoder="", ratio=0.7)
    texts = [KETTLES, BOATS, BEES]
    found = asked_together([made.steps(asking(t), context(backend)) for t in texts], backend)
    assert [one.text for one in found] == [split(t, "sentence").texts[0] for t in texts]
    assert calls[0] == 3


def test_a_plan_that_listens_is_not_for_stages() -> None:
    def listens() -> Any:
        yield Listen(request=asking())

    with pytest.raises(StageError, match="Listen"):
        asked_together([listens()], Scribe())
    assert asked_together([], Scribe()) == []


# the stage


def staged(backend: Any, limit: int, text: str = HAY, question: str = "", **settings: Any) -> Any:
    one = stage("summary", encoder="", **{"megabytes": 0, **settings})
    talk = context(backend, limit)
    return one(Prompt((Segment(text=text),), question), talk), talk


def test_a_pipeline_puts_summaries_in_place_of_texts() -> None:
    line = Pipeline(
        [{"summary": {"encoder": "", "megabytes": 0}}], budget=0.5, backend=Scribe(first)
    )
    result = line.run(HAY)
    assert result.output == split(HAY, "sentence").texts[0]
    assert any("1 calls" in note for note in result.report.notes)


def test_a_pipeline_without_a_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a backend"):
        Pipeline("summary")


def test_texts_with_marked_passages_or_code_are_not_rewritten() -> None:
    backend = Scribe()
    code = f"{HAY}\n\n```python\nx = 1\n```\n"
    marked = Segment(text=HAY, spans=((10, 40),))
    one = stage("summary", encoder="", megabytes=0)
    made = one(Prompt((Segment(text=code), marked)), context(backend, 200))
    assert backend.requests == []
    assert HAY[10:40] in made.segments[1].text


def test_the_budget_is_met_when_the_summary_is_too_long() -> None:
    made, talk = staged(Scribe(source_of), 100)
    assert talk.tokens(made) <= 100


def test_where_nothing_helps_a_mark_is_left() -> None:
    made, _ = staged(Scribe(lambda _: "NONE"), 100, question="Who sings?")
    assert made.text == MARK


def test_it_is_not_made_where_it_cannot_pay() -> None:
    backend = Scribe()
    _, talk = staged(backend, 200, price=1)
    assert backend.requests == []
    assert any("would cost" in note for note in talk.said)
    staged(backend, 200, price=1, uses=10)
    assert len(backend.requests) == 1


def test_a_backend_that_fails_is_no_failure() -> None:
    made, talk = staged(Scribe(lambda _: BackendError("it is down")), 200)
    assert made.text == staged(None, 200)[0].text
    assert any("it is down" in note for note in talk.said)


def test_a_text_is_summarised_once(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"megabytes": 8, "folder": str(tmp_path)}
    cached.MEMORY.clear()
    backend = Scribe(first, name="one")
    made, _ = staged(backend, 200, **settings)
    cached.MEMORY.clear()  # as in another process
    again, talk = staged(backend, 200, **settings)
    assert again == made
    assert len(backend.requests) == 1
    assert any("used again" in note for note in talk.said)
    other = Scribe(first, name="other")
    staged(other, 200, **settings)
    staged(other, 200, question="What is a context manager?", **settings)
    assert len(other.requests) == 2


def test_who_does_not_tell_what_it_is_is_asked_each_time(tmp_path: Path) -> None:
    backend = Scribe()
    for _ in range(2):
        staged(backend, 200, megabytes=8, folder=str(tmp_path))
    assert len(backend.requests) == 2


ANOTHER = """
import sys
import test_summary as ours
scribe = ours.Scribe(ours.first, name="shared")
folder, number = sys.argv[1:]
for i in range(ours.WRITTEN):
    text = f"Text {i} of {number}. {ours.HAY}"
    ours.staged(scribe, 200, text, megabytes=8, folder=folder)
print(ours.staged(scribe, 200, megabytes=8, folder=folder)[0].text)
"""
WRITTEN = 12


def test_several_processes_share_what_was_made(tmp_path: Path) -> None:
    """Each writes many of its own, and all write the same one: none is lost, none is torn."""
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ANOTHER, str(tmp_path), str(number)],
            env=here,
            stdout=subprocess.PIPE,
        )
        for number in range(3)
    ]
    texts = [one.communicate(timeout=200)[0].decode().strip() for one in running]
    assert len(set(texts)) == 1
    cached.MEMORY.clear()
    late = Scribe(first, name="shared")
    assert staged(late, 200, megabytes=8, folder=str(tmp_path))[0].text == texts[0]
    for number in range(3):
        for i in range(WRITTEN):
            other = f"Text {i} of {number}. {HAY}"
            made = staged(late, 200, other, megabytes=8, folder=str(tmp_path))[0].text
            assert made == first(asking(f"<text>\n{other}"))
    assert late.requests == []


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="folder"):
        Pipeline(stage("summary", folder=str(tmp_path / "file" / "x")), backend=Scribe())


@pytest.mark.model
def test_the_embedded_model_says_nothing_that_the_text_does_not(smollm2: Path) -> None:
    from tersely.backends.local import LocalBackend
    from tersely.known import Known

    backend = LocalBackend(model="smollm2", precision="float32")
    found = drive(
        Summarise(encoder="", ratio=0.6, retries=0).steps(asking(), context(backend)), backend
    )
    assert isinstance(found, Summary)
    assert found.text
    known = Known.of(TEXT)
    assert all(not known.lacks(one) for one in split(found.text, "sentence").texts)
