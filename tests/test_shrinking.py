"""Old results of tools go first, in their places, and nothing else does before them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import talks
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.errors import StoreError
from tersely.history import HEAD
from tersely.kinds import json_shape
from tersely.middleware import adapters
from tersely.middleware.compaction import Compaction
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.session import Session
from tersely.middleware.shrinking import described
from tersely.originals import Originals
from tersely.recall import LEFT_OUT, Recall, key_of

JSON = dict[str, Any]

ROWS = [{"order_id": f"W{i:07}", "state": "sent", "total": f"{i}.10"} for i in range(60)]
TABLE = json.dumps(ROWS, indent=2)
RECORD = json.dumps({"count": 60, "orders": ROWS}, indent=2)
PROSE = "The museum opens at 10 and its halls are many, and so are the stairs. " * 30
RESULTS = (TABLE, RECORD, PROSE, '{"error": "no such order"}', "Done.")

each_surface = pytest.mark.parametrize("surface", talks.SURFACES)
turns = st.lists(
    st.builds(
        talks.Turn,
        st.lists(st.sampled_from(talks.WISHES + talks.IDLE), min_size=1, max_size=2).map(" ".join),
        st.lists(st.tuples(st.just("look"), st.sampled_from(RESULTS)), max_size=2).map(tuple),
        st.sampled_from(talks.TALK),
    ),
    min_size=1,
    max_size=7,
)


def talk(*results: str, user: str = "Look, please.") -> list[talks.Turn]:
    return [
        talks.Turn(f"{user} {i}", (("look", f"{text}"),), "I did.")
        for i, text in enumerate(results)
    ]


def run(body: Any, limit: int, *, session: Session | None = None, **terms: Any) -> Result:
    given = {"limit": limit, "least": 0, "keep": 1} | terms
    return Pipeline(history=given, strict=True).run(body, model="gpt-5", session=session)


def results(surface: str, body: Any) -> list[str]:
    read = adapters.adapter(surface).read(body)
    return [leaf.text for leaf in read.leaves if leaf.role == "tool"]


def words(surface: str, body: Any) -> list[str]:
    read = adapters.adapter(surface).read(body)
    said = [leaf.text for leaf in read.leaves if leaf.role in ("user", "system")]
    return [text for text in said if not text.startswith(HEAD)]


def size(body: Any) -> int:
    return Pipeline().run(body, model="gpt-5").report.before


# whatever is said


@given(st.sampled_from(talks.SURFACES), turns, st.integers(1, 3), st.sampled_from([1, 300, 2000]))
@settings(max_examples=40)
def test_pairs_stay_whole_and_the_users_words_byte_for_byte(
    surface: str, said: list[talks.Turn], keep: int, limit: int
) -> None:
    body = talks.request(surface, said)
    before = copy.deepcopy(body)
    result = run(body, limit, keep=keep)
    assert body == before, "the caller's request was changed"
    assert talks.faults(surface, result.output) == []
    assert words(surface, result.output) == words(surface, body)
    assert result.report.after <= result.report.before
    old, new = talks.messages(surface, body), talks.messages(surface, result.output)
    tail = sum([1, *talks.exchanges(surface, said)[::-1]][:keep])
    assert all(a is b for a, b in zip(old[-tail:], new[-tail:], strict=False)), "the newest stay"


@given(turns, st.sampled_from([300, 1500, 4000]))
@settings(max_examples=25)
def test_a_session_sends_the_same_bytes_until_the_next_time(
    said: list[talks.Turn], limit: int
) -> None:
    session, sent = Session("one"), []
    for until in range(1, len(said) + 1):
        body = talks.request("openai-chat", said[:until], f"Question {until}?")
        result = run(body, limit, session=session, keep=2)
        assert talks.faults("openai-chat", result.output) == []
        sent.append(result.output["messages"])
        done = [d for d in result.report.decisions if d.stage == "history"]
        if until > 1 and not any(d.action == "compressed" for d in done):
            assert sent[-1][: len(sent[-2]) - 1] == sent[-2][:-1], "what was cached changed"


# in which order


@each_surface
def test_results_alone_are_short_where_that_is_enough(surface: str) -> None:
    body = talks.request(surface, talk(TABLE, PROSE, "It is fine.", PROSE))
    whole = size(body)
    result = run(body, whole - 100)
    old, new = talks.messages(surface, body), talks.messages(surface, result.output)
    assert len(new) == len(old), "no message goes"
    given, made = results(surface, body), results(surface, result.output)
    assert json_shape(made[0]) == "array" and len(made[0]) < len(given[0])
    assert made[2:] == given[2:], "what is short, and the newest, stay"
    told = [d for d in result.report.decisions if d.stage == "history"]
    assert told[0].reason.startswith("an old result of a tool, made short: ")
    assert told[0].before > told[0].after > 0
    assert any("tokens fewer from now on" in note for note in result.report.notes)


def test_forms_come_before_markers() -> None:
    body = talks.request("openai-chat", talk(TABLE, RECORD, PROSE, "Done."))
    whole = size(body)
    result = run(body, whole - 1, early=0.8)
    made = results("openai-chat", result.output)
    assert not any(LEFT_OUT in text for text in made)
    assert len(made[0]) < len(TABLE)
    harder = results("openai-chat", run(body, whole - 1, early=0.2).output)
    assert LEFT_OUT in harder[0] and "60 items of order_id, state, total" in harder[0]
    assert "W0000007" in harder[0], "it can't be had again, so that names stay"
    assert "object of count, orders (60)" in harder[1] and harder[1].startswith("{")


def test_only_what_is_not_enough_makes_turns_go() -> None:
    said = talk(TABLE, RECORD, PROSE, PROSE)
    body = talks.request("openai-chat", said)
    result = run(body, 300)
    assert len(result.output["messages"]) < len(body["messages"])
    assert words("openai-chat", result.output) == words("openai-chat", body)
    short = run(body, 300, words="short")
    assert len(short.output["messages"]) < len(result.output["messages"])


def test_one_with_a_breakpoint_stays() -> None:
    body = talks.request("anthropic", talk(PROSE, PROSE, PROSE))
    body["messages"][2]["content"][0]["cache_control"] = {"type": "ephemeral"}
    made = results("anthropic", run(body, size(body) - 1).output)
    assert made[0] == PROSE and LEFT_OUT in made[1]


def test_what_was_made_short_stays_so_and_the_report_tells() -> None:
    session = Session()
    said = talk(TABLE, PROSE, "Done.")
    body = talks.request("openai-chat", said)
    first = run(body, size(body) - 1, session=session)
    more = talks.request("openai-chat", [*said, *talk("Fine.")], "And?")
    second = run(more, size(more) + 1, session=session)
    made = results("openai-chat", second.output)
    assert made[0] == results("openai-chat", first.output)[0] != TABLE
    reasons = {d.path: d.reason for d in second.report.decisions if d.role == "tool"}
    assert reasons["messages[3].content"] == "an old result of a tool, made short"
    other = talks.request("openai-chat", talk(PROSE, PROSE))
    assert results("openai-chat", run(other, 10**6, session=session).output) == [PROSE, PROSE]


def test_auditing_tells_and_changes_nothing() -> None:
    session = Session()
    body = talks.request("openai-chat", talk(TABLE, PROSE, "Done."))
    line = Pipeline(history={"limit": size(body) - 1, "keep": 1}, mode="audit")
    result = line.run(body, model="gpt-5", session=session)
    assert result.output is body and result.report.saved > 0
    assert session.history.shrunk is None


# how it can be had again


def test_a_marker_tells_the_key_where_somebody_keeps_the_text() -> None:
    recall = Recall(Originals(), scope="one")
    body = talks.request("openai-chat", talk(TABLE, RECORD, PROSE, "Done."))
    made = results("openai-chat", run(body, 400, early=0.1, to=1, recall=recall).output)
    assert len(made) == 4
    for text, whole in zip(made[:3], (TABLE, RECORD, PROSE), strict=True):
        key = text.partition("recall(key='")[2].partition("'")[0]
        assert recall.originals.get("one", key) == whole
        assert "W0000007" not in text
    gone = results("openai-chat", run(body, 400, early=0.1, to=1).output)
    assert all("it can't be had again" in text for text in gone[:3])


def test_where_the_text_cannot_be_kept_the_marker_says_so() -> None:
    class Full:
        def keep(self, text: str, /) -> str:
            raise StoreError("full")

    body = talks.request("openai-chat", talk(PROSE, "Done."))
    made = results("openai-chat", run(body, size(body) - 1, recall=Full()).output)
    assert "it can't be had again" in made[0]


def test_what_a_text_is() -> None:
    assert described(TABLE) == "60 items of order_id, state, total"
    assert described("[1, 2]") == "2 items"
    assert described(json.dumps(dict.fromkeys("abcdefghijklmnop"))) == (
        "object of a, b, c, d, e, f, g, h, i, j, k, l and 4 more"
    )
    assert described("one\ntwo") == "2 lines, begun with: one"
    assert described("{broken") == "1 line, begun with: {broken"
    assert key_of("a") != key_of("b")


# when


def test_a_cold_cache_is_the_moment() -> None:
    now = [0.0]
    session = Session(clock=lambda: now[0])
    body = talks.request("openai-chat", talk(TABLE, PROSE, PROSE, "Done."))
    limit = int(size(body) * 1.2)
    assert run(body, limit, session=session).output is body
    now[0] = 299.0
    assert run(body, limit, session=session).output is body
    now[0] = 700.0
    result = run(body, limit, session=session)
    assert size(result.output) <= limit / 2 + 200
    assert any("the cache is cold after 401 s" in d.reason for d in result.report.decisions)


@given(
    turns,
    st.sampled_from([500, 1500, 3000]),
    st.lists(st.sampled_from([1, 299, 4000]), min_size=7, max_size=7),
    st.sampled_from(["gpt-5", "gpt-4o", "gpt-5.6-terra"]),
)
@settings(max_examples=30)
def test_who_waits_never_pays_more_than_for_doing_nothing(
    said: list[talks.Turn], limit: int, gaps: list[int], model: str
) -> None:
    now = [0.0]
    session = Session(clock=lambda: now[0])
    line = Pipeline(history={"limit": limit, "wait": float("inf"), "keep": 1}, strict=True)
    paid = spared = 0.0
    for until, gap in zip(range(1, len(said) + 1), gaps, strict=False):
        body = talks.request("openai-chat", said[:until], f"Question {until}?")
        cost = line.run(body | {"model": model}, session=session).report.cost
        assert cost is not None
        paid, spared = paid + cost.before, spared + cost.saved
        assert spared >= -1e-9 * paid
        now[0] += gap


@pytest.mark.parametrize("limit", [2500, 4000])
def test_what_was_spared_pays_for_each_rewriting(limit: int) -> None:
    session = Session()
    line = Pipeline("json", history={"limit": limit, "wait": float("inf"), "keep": 1})
    said = talk(*(TABLE.replace("sent", f"s{i}") if i % 4 == 0 else PROSE for i in range(16)))
    paid = spared = done = 0.0
    for until in range(1, len(said) + 1):
        body = talks.request("openai-chat", said[:until], f"Question {until}?")
        report = line.run(body | {"model": "gpt-5"}, session=session).report
        assert report.cost is not None
        paid, spared = paid + report.cost.before, spared + report.cost.saved
        done += any(d.stage == "history" and d.action == "compressed" for d in report.decisions)
        assert spared >= -0.001 * paid
    assert done >= 2 and spared > 0


def test_waiting_is_told() -> None:
    session = Session()
    said = talk(PROSE, TABLE, PROSE, "Done.")
    body = talks.request("openai-chat", said)
    limit = size(body) - 50
    run(talks.request("openai-chat", said[:3]), 10**6, session=session)
    result = run(body, limit, session=session, wait=2)
    assert result.output == body
    assert any("it waits, since it would cost" in note for note in result.report.notes)
    assert run(body, limit, wait=1, session=session).output != body


def test_settings() -> None:
    made = Compaction(limit=9, wait=float("inf"), words="short", recall=object())
    line = Pipeline(history=made)
    assert Pipeline.from_yaml(line.to_yaml()).history == made.model_copy(update={"recall": None})
