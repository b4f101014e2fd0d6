"""Same bytes in, same bytes out: what was sent once in a conversation is sent the same again."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_stages import AboutTheQuestion, Cut, Dice, Halve
from strategies import long_prose, prose

from tersely.budget import Budget
from tersely.middleware import scope
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.scope import Override
from tersely.middleware.session import FROZEN, Conversations, Session
from tersely.prompt import Prompt, Segment

JSON = dict[str, Any]

said = prose() | long_prose()
turn = st.tuples(
    said,
    st.sampled_from(("chat", "calls")),
    st.tuples(said, said).map(lambda pair: "\n\n".join(pair)),
)


def pipeline() -> Pipeline:
    """Takes every text, and what comes out depends on all others."""
    return Pipeline(Dice())


def openai_turn(i: int, user: str, how: str, result: str) -> list[JSON]:
    call = {"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{i}", "content": result},
    ]
    return [{"role": "user", "content": user}, *(calls if how == "calls" else [])]


def anthropic_turn(i: int, user: str, how: str, result: str) -> list[JSON]:
    found = {"type": "tool_result", "tool_use_id": f"c{i}", "content": result}
    calls: list[JSON] = [
        {"role": "assistant", "content": [{"type": "tool_use", "id": f"c{i}", "input": {"a": 1}}]},
        {"role": "user", "content": [found, {"type": "text", "text": user}]},
    ]
    return calls if how == "calls" else [{"role": "user", "content": user}]


SHAPES = {
    "openai-chat": openai_turn,
    "anthropic": anthropic_turn,
}


def growing(shape: str, turns: list[tuple[str, str, str]]) -> list[JSON]:
    """The requests of one conversation, each with all that was said before."""
    messages: list[JSON] = [] if shape == "anthropic" else [{"role": "system", "content": "Do."}]
    requests = []
    for i, (user, how, result) in enumerate(turns):
        messages += SHAPES[shape](i, user or "?", how, result or "!")
        requests.append({"model": "gpt-4o", "messages": copy.deepcopy(messages)})
        messages.append({"role": "assistant", "content": f"answer {i} to {user}"})
    return requests


def assert_monotone(sent: list[JSON]) -> None:
    for earlier, later in pairwise(sent):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]


@pytest.mark.parametrize("shape", SHAPES)
@given(turns=st.lists(turn, min_size=2, max_size=5))
@settings(max_examples=50)
def test_each_request_begins_with_the_one_before(shape: str, turns: list[Any]) -> None:
    line, named = pipeline(), Session("by name")
    requests = growing(shape, turns)
    assert_monotone([line.run(request).output for request in requests])
    assert_monotone([line.run(r, session=named).output for r in requests])


@given(turns=st.lists(turn, min_size=1, max_size=4))
@settings(max_examples=50)
def test_the_same_request_gives_the_same_bytes(turns: list[Any]) -> None:
    line = pipeline()
    request = growing("openai-chat", turns)[-1]
    assert line.run(request).output == line.run(copy.deepcopy(request)).output


def tool(question: str, output: str) -> JSON:
    said = [{"role": "user", "content": question}, {"role": "tool", "content": output}]
    return {"messages": said}


def then(request: JSON, *messages: tuple[str, str]) -> JSON:
    more = [{"role": role, "content": text} for role, text in messages]
    return {"messages": [*request["messages"], *more]}


def texts(request: JSON) -> list[str]:
    return [message["content"] for message in request["messages"]]


def test_a_new_question_does_not_change_what_was_sent() -> None:
    line = Pipeline(AboutTheQuestion())
    first = tool("which ship", "the ship and the night")
    assert texts(line.run(first).output)[1] == "ship"
    later = then(first, ("assistant", "this"), ("user", "which night"), ("tool", "ship or night"))
    result = line.run(later)
    assert texts(result.output)[1] == "ship"
    assert texts(result.output)[4] == "night"
    (frozen,) = [d for d in result.report.decisions if d.path == "messages[1].content"]
    assert (frozen.action, frozen.reason) == ("frozen", FROZEN)


def test_another_conversation_with_the_same_beginning_is_its_own() -> None:
    line = Pipeline(AboutTheQuestion())
    shared = {"messages": [{"role": "system", "content": "Be good."}]}
    line.run(then(shared, ("user", "which ship"), ("tool", "ship and night")))
    other = line.run(then(shared, ("user", "which night"), ("tool", "ship and night")))
    assert texts(other.output)[-1] == "night"


def test_a_text_by_itself_is_no_conversation() -> None:
    line = Pipeline(AboutTheQuestion())
    assert line.run(["ship and night"], question="ship").output == ["ship"]
    assert line.run(["ship and night"], question="night").output == ["night"]


def test_within_a_named_session_any_text_is_known_again() -> None:
    line = Pipeline(AboutTheQuestion())
    with scope.session("by name, here"):
        line.run(["ship and night"], question="ship")
        assert line.run(["ship and night"], question="night").output == ["ship"]


def test_a_breakpoint_that_comes_later_changes_nothing() -> None:
    line = Pipeline(AboutTheQuestion())
    first = tool("which ship", "the ship and the night")
    sent = line.run(first).output
    later = then(first, ("assistant", "this"))
    later["messages"][1] = later["messages"][1] | {"cache_control": {"type": "ephemeral"}}
    assert texts(line.run(later).output)[1] == texts(sent)[1] == "ship"


def test_the_arguments_of_a_call_are_not_mistaken_for_a_text_that_was_sent() -> None:
    line = Pipeline(Halve(kinds=("history",)))
    text = '{"a": 1, "b": 2} or so'
    call = {"function": {"name": "f", "arguments": text}}
    request = {
        "messages": [
            {"role": "assistant", "content": text},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
    }
    named = Session()
    outputs = [line.run(request, session=named).output["messages"] for _ in range(2)]
    assert outputs[0] == outputs[1]
    assert outputs[0][0]["content"] != text
    assert outputs[0][1]["tool_calls"] == [call]


def test_kept_tags_are_gone_each_time() -> None:
    line = Pipeline(Halve(kinds=("tool_output", "context")))
    doc = "Mind <keep>the gap</keep> and mind all the other things. " * 100
    first = {"messages": [{"role": "user", "content": f"Read:\n\n{doc}\n\nWhat now?"}]}
    sent = line.run(first).output
    assert "<keep>" not in texts(sent)[0]
    assert "the gap" in texts(sent)[0]
    assert texts(line.run(then(first, ("assistant", "a"))).output)[0] == texts(sent)[0]


def test_the_same_request_may_be_tried_with_another_budget() -> None:
    line = Pipeline(Cut())
    asked = [{"role": "user", "content": "one two three four " * 100}]
    generous, tight = (
        line.run(asked, wishes=Override(budget=Budget(tokens=tokens))).report
        for tokens in (300, 100)
    )
    assert generous.met
    assert tight.met
    assert tight.after <= 100 < generous.after


def test_thaw_forgets() -> None:
    line, named = Pipeline(AboutTheQuestion()), Session()
    line.run(["ship and night"], question="ship", session=named)
    named.thaw()
    assert line.run(["ship and night"], question="night", session=named).output == ["night"]


def test_a_session_keeps_account() -> None:
    line, named = Pipeline(Halve()), Session("s")
    results = [line.run([f"{i} one two three"], session=named) for i in range(3)]
    assert named.report is results[-1].report
    assert named.saved == sum(result.report.saved for result in results) > 0
    assert named.requests == 3


def test_threads_of_one_session_send_the_same_bytes() -> None:
    line, named = Pipeline(AboutTheQuestion()), Session()
    words = [f"w{i}" for i in range(40)]

    def ask(word: str) -> Any:
        return line.run([" ".join(words)], question=word, session=named).output

    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(ask, words))
    assert len({tuple(output) for output in outputs}) == 1
    assert named.requests == len(words)


def prompt(*texts: str) -> Prompt:
    parts = tuple(Segment(text=text, path=(i,)) for i, text in enumerate(texts))
    return Prompt(parts, turns=len(texts))


def test_who_was_first_decides_what_goes_out() -> None:
    session = Session()
    before = prompt("a b")
    assert session.remember(before, before.with_texts({0: "a"})).text == "a"
    assert session.remember(before, before.with_texts({0: "b"})).text == "a"
    assert session.remember(before, before).text == "a"


def test_the_conversation_unused_for_longest_goes_first() -> None:
    known = Conversations(size=2)
    sessions = [Session(str(i)) for i in range(3)]
    known.remember(prompt("0"), sessions[0])
    known.remember(prompt("1"), sessions[1])
    known.remember(prompt("0", "more"), sessions[0])
    known.remember(prompt("2"), sessions[2])
    assert len(known) == 2
    assert known.continued_by(prompt("0", "more", "yet")) is sessions[0]
    assert known.continued_by(prompt("2", "more")) is sessions[2]
    assert known.continued_by(prompt("1", "more")) not in sessions


def test_a_long_conversation_does_not_push_out_others() -> None:
    known = Conversations(size=2)
    short, long = Session(), Session()
    known.remember(prompt("short"), short)
    for i in range(1, 20):
        known.remember(prompt(*("x" * i)), long)
    assert known.continued_by(prompt("short", "more")) is short
    assert known.continued_by(prompt(*("x" * 10), "a branch")) is long


def test_an_empty_prompt_is_no_conversation() -> None:
    known = Conversations()
    session = Session()
    known.remember(Prompt(()), session)
    assert known.continued_by(Prompt(())) is not session


def test_the_longest_known_beginning_counts() -> None:
    known = Conversations()
    trunk, branch = Session(), Session()
    known.remember(prompt("a"), trunk)
    known.remember(prompt("a", "b"), branch)
    assert known.continued_by(prompt("a", "b", "c")) is branch
    assert known.continued_by(prompt("a", "x")) is trunk


def test_what_was_sent_is_no_part_of_a_pipelines_value() -> None:
    line = Pipeline(AboutTheQuestion(), budget=50)
    line.run(tool("which ship", "the ship and the night " * 40))
    for other in (Pipeline(AboutTheQuestion(), budget=50), pickle.loads(pickle.dumps(line))):
        assert other == line
        assert not other.conversations
    assert len(line.conversations) == 1


def test_the_same_text_twice_in_one_request_keeps_the_budget() -> None:
    text = "The kettle holds 1.7 litres. It is blue. It was made in Graz in 1998. " * 4
    pipeline = Pipeline("lexical", budget=60, model="gpt-4o")
    result = pipeline.run([text, text], question="How much does it hold?")
    assert result.report.met
    assert result.report.after <= 60
