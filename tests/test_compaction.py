"""Older turns in one message: when, of what, and that the request stays one its provider takes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import talks
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage
from loopback import Loopback
from typer.testing import CliRunner

import tersely
from tersely.backends.scripted import ScriptedBackend
from tersely.errors import ConfigError
from tersely.history import HEAD
from tersely.middleware import adapters
from tersely.middleware.audit import audited
from tersely.middleware.cli import app
from tersely.middleware.compaction import Compaction
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.session import Session

each_surface = pytest.mark.parametrize("surface", talks.SURFACES)
any_surface = st.sampled_from(talks.SURFACES)

LONG = "It is a long story about nothing much, and it goes on and on for quite a while. "


def run(
    body: Any,
    limit: int = 1,
    *,
    session: Session | None = None,
    mode: Any = "optimize",
    **terms: Any,
) -> Result:
    given = {"limit": limit, "least": 0, "to": 1.0, "keep": 1, "words": "short"} | terms
    line = Pipeline(history=given, strict=True, mode=mode)
    return line.run(body, model="gpt-5", session=session)


def chat(count: int, *, extra: str = "") -> list[dict[str, Any]]:
    """So many turns of small talk with a wish each."""
    made: list[dict[str, Any]] = []
    for i in range(count):
        made.append({"role": "user", "content": f"Book seat {i}A, please.{extra}"})
        made.append({"role": "assistant", "content": LONG * 6})
    return made


def summary(output: Any) -> str:
    """The text that stands for older turns; "" where there is none."""
    nodes = output if isinstance(output, list) else output.get("messages") or output["input"]
    for node in nodes:
        text = node.content if isinstance(node, BaseMessage) else node.get("content")
        if isinstance(text, list):
            text = next((b.get("text", "") for b in text if "text" in b), "")
        if isinstance(text, str) and text.startswith(HEAD):
            return text
    return ""


# whatever is said


@given(any_surface, talks.turns, st.integers(1, 3), st.sampled_from([1, 60, 200, 100_000]))
@settings(max_examples=25)
def test_a_request_stays_one_that_its_provider_takes(
    surface: str, talk: list[talks.Turn], keep: int, limit: int
) -> None:
    body = talks.request(surface, talk)
    before = copy.deepcopy(body)
    assert talks.faults(surface, body) == []
    result = run(body, limit, keep=keep)
    assert talks.faults(surface, result.output) == []
    assert body == before, "the caller's request was changed"
    assert result.report.after <= result.report.before
    assert run(body, limit, keep=keep).output == result.output, "another time, another request"
    if limit == 100_000:
        assert result.output is body


@given(any_surface, talks.turns, st.integers(1, 3))
@settings(max_examples=25)
def test_the_last_exchanges_and_the_system_stay_as_they_are(
    surface: str, talk: list[talks.Turn], keep: int
) -> None:
    body = talks.request(surface, talk)
    output = run(body, keep=keep).output
    old, new = talks.messages(surface, body), talks.messages(surface, output)
    tail = sum([1, *talks.exchanges(surface, talk)[::-1]][:keep])
    assert all(a is b for a, b in zip(old[-tail:], new[-tail:], strict=False))
    if surface == "langchain" or surface == "openai-chat":
        assert new[0] is old[0]
    else:
        assert {k: v for k, v in output.items() if k not in ("messages", "input")} == {
            k: v for k, v in body.items() if k not in ("messages", "input")
        }


@given(any_surface, talks.turns)
@settings(max_examples=25)
def test_every_wish_of_the_users_stays_word_for_word(surface: str, talk: list[talks.Turn]) -> None:
    output = run(talks.request(surface, talk)).output
    read = adapters.adapter(surface).read(output)
    told = "\n".join(one.text for one in read.segments)
    for turn in talk:
        for wish in talks.WISHES:
            assert wish not in turn.user or wish in told


@given(talks.turns, st.integers(0, 300))
@settings(max_examples=15)
def test_a_session_sends_the_same_bytes_until_the_next_compaction(
    talk: list[talks.Turn], limit: int
) -> None:
    session, sent = Session("one"), []
    for until in range(1, len(talk) + 1):
        body = talks.request("openai-chat", talk[:until], f"Question {until}?")
        result = run(body, limit, session=session, keep=2)
        assert talks.faults("openai-chat", result.output) == []
        sent.append(result.output["messages"])
        done = [d.action for d in result.report.decisions if d.stage == "history"]
        if until > 1 and "compressed" not in done:  # nor an old result made short
            assert sent[-1][: len(sent[-2]) - 1] == sent[-2][:-1], "what was cached changed"
    wishes = [w for turn in talk[:-2] for w in talks.WISHES if w in turn.user]
    told = json.dumps(sent[-1], ensure_ascii=False)
    assert all(wish in told for wish in wishes)


# when


def test_nothing_happens_under_the_limit() -> None:
    body = chat(6)
    result = run(body, 100_000, session=Session("one"))
    assert result.output is body
    assert not [d for d in result.report.decisions if d.stage == "history"]


def test_the_report_tells_why_and_when_it_pays() -> None:
    result = run([*chat(6), {"role": "user", "content": "Go on"}], 500)
    told = [d for d in result.report.decisions if d.stage == "history"]
    assert [(d.action, d.path) for d in told] == [("compressed", "[0:12]")]
    assert "are over the limit of 500" in told[0].reason
    assert told[0].before > told[0].after > 0
    assert any("it pays at once" in note for note in result.report.notes)
    assert any("6 lines word for word" in note for note in result.report.notes)


def test_a_cold_cache_is_the_moment_to_compact() -> None:
    session = Session("one")
    body = [*chat(6), {"role": "user", "content": "Go on"}]
    size = run(body, 100_000).report.before
    limit = int(size * 1.5)
    assert run(body, limit, session=session).output is body
    assert run(body, limit, session=session).output is body, "the cache is warm"
    last = session.history.last
    assert last is not None
    session.history = type(session.history)(last=last - 301)
    result = run(body, limit, session=session)
    assert len(result.output) == 2
    assert "the cache is cold after 301 s" in result.report.decisions[0].reason
    far = Session("two")
    run(body, size * 3, session=far)
    far.history = type(far.history)(last=last - 301)
    assert run(body, size * 3, session=far).output is body, "it is less than half of the limit"


def test_a_warm_cache_is_rewritten_only_if_enough_calls_are_expected() -> None:
    rules = {"role": "system", "content": LONG * 60}
    body = [rules, *chat(40), {"role": "user", "content": "Go on"}]
    limit = int(run(body, 100_000).report.before * 1.5)
    for later, expected in ((1, 82), (500, 3)):
        session = Session("one")
        run(body, limit, session=session, later=later)
        made = run(body, limit, session=session, later=later)
        assert len(made.output) == expected


def test_what_would_be_too_short_to_be_cached_is_not_compacted() -> None:
    session, body = Session("one"), [*chat(40), {"role": "user", "content": "Go on"}]
    limit = int(run(body, 100_000).report.before * 1.5)
    run(body, limit, session=session, later=500)
    result = run(body, limit, session=session, later=500)
    assert result.output is body
    assert any("too short to be cached" in note for note in result.report.notes)


def test_little_is_not_worth_it() -> None:
    short = [{"role": "user", "content": f"Book seat {i}A."} for i in range(20)]
    result = run(short, 50)
    assert result.output is short
    assert any("as long as the turns themselves" in note for note in result.report.notes)
    body = [*chat(2), {"role": "user", "content": "Go on"}]
    limit = run(body, 100_000).report.before - 1
    refused = run(body, limit, least=0.99)
    assert refused.output is body
    assert any(f"fewer than {int(limit * 0.99)}" in note for note in refused.report.notes)


def test_what_spared_too_little_is_not_tried_at_every_turn() -> None:
    session = Session("one")
    short = [{"role": "user", "content": f"Book seat {i}A."} for i in range(20)]
    run(short, 50, session=session, least=0.2)
    result = run([*short, {"role": "user", "content": "And?"}], 50, session=session, least=0.2)
    assert any("tried before" in note for note in result.report.notes)


def test_auditing_tells_and_changes_nothing() -> None:
    session = Session("one")
    body = [*chat(6), {"role": "user", "content": "Go on"}]
    result = run(body, 100, session=session, mode="audit")
    assert result.output is body
    assert result.report.after < result.report.before
    assert session.history.held is None


def test_another_conversation_in_the_session_is_not_taken_for_the_last() -> None:
    session = Session("one")
    run([*chat(6), {"role": "user", "content": "Go on"}], 100, session=session)
    other = [
        {"role": "user", "content": "Something else."},
        {"role": "assistant", "content": "Yes"},
    ]
    assert (
        run([*other, {"role": "user", "content": "Go on"}], 9000, session=session).output[0]
        == (other[0])
    )
    session.thaw()
    assert session.history.last is None


def test_conversations_without_a_name_are_found_by_what_was_said() -> None:
    line = Pipeline(history={"limit": 500, "keep": 1, "words": "short"})
    body = [*chat(6), {"role": "user", "content": "Go on"}]
    first = line.run(body).output
    more = [*body, {"role": "assistant", "content": "Well."}, {"role": "user", "content": "And?"}]
    second = line.run(more).output
    assert second[:2] == first[:2]
    assert second[2:] == more[-2:]


# of what


def test_messages_that_hold_more_than_text_stay() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    seen = {"role": "user", "content": [{"type": "text", "text": "Look."}, picture]}
    kept = {"role": "user", "content": "Mind <keep>this  very   text</keep> always."}
    rule = {"role": "system", "content": "A rule in the midst."}
    body = [seen, *chat(4), kept, *chat(2), rule, {"role": "user", "content": "Go on"}]
    output = run(body).output
    assert [one for one in output if one in (seen, kept, rule)] == [seen, kept, rule]
    assert len(output) == 5
    assert summary(output)


def test_a_call_whose_result_is_a_picture_stays_with_it() -> None:
    called = {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}],
    }
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    shown = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{"type": "image", "source": source}],
    }
    body = {
        "model": "claude-opus-5",
        "messages": [
            *chat(4),
            {"role": "user", "content": "Look"},
            called,
            {"role": "user", "content": [shown]},
            *chat(3)[1:],
            {"role": "user", "content": "Go on"},
        ],
    }
    output = run(body).output
    assert talks.faults("anthropic", output) == []
    assert called in output["messages"]


def test_what_the_user_said_last_stays_through_a_long_way_of_an_agent() -> None:
    task = {"role": "user", "content": "Find the fault in src/app.py and mend it."}
    way: list[dict[str, Any]] = []
    for i in range(8):
        call = {"id": f"c{i}", "type": "function", "function": {"name": "run", "arguments": "{}"}}
        way.append({"role": "assistant", "content": LONG * 3, "tool_calls": [call]})
        way.append({"role": "tool", "tool_call_id": f"c{i}", "content": LONG * 6})
    output = run([*chat(2), task, *way], 100, keep=2).output
    assert output[1] == task
    assert output[2:] == way[-4:]
    assert talks.faults("openai-chat", output) == []


def test_a_cache_breakpoint_moves_to_the_message_that_stands_for_its_own() -> None:
    mark = {"type": "ephemeral"}
    marked = {
        "role": "user",
        "content": [{"type": "text", "text": "Book seat 9A.", "cache_control": mark}],
    }
    body = {"model": "claude-opus-5", "system": "Hi", "messages": [*chat(4), marked, *chat(2)[1:]]}
    body["messages"].append({"role": "user", "content": "Go on"})
    made = run(body).output["messages"]
    assert made[0]["content"][0]["cache_control"] == mark
    assert summary({"messages": made})


def test_functions_of_the_old_kind_stay_with_their_results() -> None:
    body = [
        *chat(3),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "7 seats"},
        {"role": "assistant", "content": LONG},
        {"role": "user", "content": "Go on"},
    ]
    output = run(body, 300).output
    assert len(output) == 2
    assert "call: f({})" in summary(output) and "gave: 7 seats" in summary(output)


def test_a_conversation_that_the_provider_holds_is_left_alone() -> None:
    body = {"model": "gpt-5", "input": "Go on", "previous_response_id": "resp_1"}
    assert run(body).output is body
    text = "One text. " * 50
    assert run(text).output == text


def test_other_stages_leave_the_summary_alone() -> None:
    body = [*chat(6), {"role": "user", "content": "Go on"}]
    stage = {"lexical": {"kinds": ["history", "question"]}}
    line = Pipeline([stage], budget={"tokens": 90}, history={"keep": 1, "least": 0})
    result = line.run(body, model="gpt-5")
    told = [d for d in result.report.decisions if d.path == "[0].content"]
    assert [(d.action, d.reason) for d in told] == [("locked", "it stands for the older turns")]


# what it costs


def test_what_a_model_was_asked_for_it_is_counted() -> None:
    backend = ScriptedBackend(lambda _: "The tale went on without any turn.")
    talk = [{"role": "assistant", "content": LONG * 90}, {"role": "user", "content": "Go on"}]
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}, *talk]}
    asked = Pipeline(history={"limit": 900, "keep": 1}, backend=backend, strict=True)
    cost, plain = (
        line.run(body, session=Session()).report.cost
        for line in (asked, Pipeline(history={"limit": 900, "keep": 1}))
    )
    assert cost is not None and plain is not None and backend.requests
    assert cost.calls > 0 == plain.calls
    told = audited([body], asked).models[0]
    assert told.tersely.calls == pytest.approx(cost.calls)
    assert told.tersely.cost == pytest.approx(cost.after)
    assert told.plain.calls == 0


# settings


def test_it_is_written_as_yaml_and_read_back() -> None:
    line = Pipeline(history={"limit": 900, "keep": 2, "writer": {"history": {"gist": 0.2}}})
    again = Pipeline.from_yaml(line.to_yaml())
    assert again.history == line.history
    assert "writer:" not in Pipeline(history=900).to_yaml()


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({}, "history needs a limit in tokens"),
        ({"limit": -1}, "limit"),
        ({"limit": 9, "writer": "histery"}, "no plan named 'histery'; nearest: history"),
        ({"limit": 9, "writer": 7}, "a writer is a plan"),
        ({"limit": 9, "prices": "/nowhere.yaml"}, "can't read the prices"),
        ({"limit": 9, "sort": 1}, "sort"),
    ],
)
def test_a_wrong_setting_is_told_when_the_pipeline_is_built(terms: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Pipeline(history=terms)


def test_history_belongs_to_the_outermost_pipeline() -> None:
    with pytest.raises(ConfigError, match="belongs to the outermost pipeline"):
        Pipeline([Pipeline(history=900)])


def test_a_writer_that_needs_a_backend_says_so() -> None:
    line = Pipeline(history={"limit": 50, "keep": 1, "writer": "summarise"}, strict=True)
    with pytest.raises(ConfigError, match="its writer asks a backend and there is none"):
        line.run([*chat(6), {"role": "user", "content": "Go on"}])


def test_the_command_line_compacts_by_a_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("history: {limit: 300, keep: 1, words: short}\n")
    body = [*chat(6), {"role": "user", "content": "Go on"}]
    (tmp_path / "chat.json").write_text(json.dumps({"model": "gpt-5", "messages": body}))
    done = CliRunner().invoke(
        app, ["compress", str(tmp_path / "chat.json"), "-p", str(tmp_path / "p.yaml")]
    )
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)["messages"]
    assert len(made) == 2 and made[0]["content"].startswith(HEAD)


def test_a_wrapped_client_sends_the_compacted_conversation(server: Loopback) -> None:
    from openai import OpenAI

    plain = OpenAI(base_url=f"{server.url}/v1", api_key="sk-test")
    client = tersely.wrap(plain, Pipeline(history={"limit": 300, "keep": 1, "words": "short"}))
    body: Any = [*chat(6), {"role": "user", "content": "Go on"}]
    client.chat.completions.create(model="gpt-5", messages=body)
    body += [{"role": "assistant", "content": "Well."}, {"role": "user", "content": "And?"}]
    client.chat.completions.create(model="gpt-5", messages=body)
    first, second = (one.body["messages"] for one in server.seen[-2:])
    assert len(first) == 2 and second[0] == first[0]
    assert len(second) == 4


def test_a_limit_alone_is_enough() -> None:
    assert Compaction.of(None) is None
    assert Compaction.of(500) == Compaction(limit=500)
