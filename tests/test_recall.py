"""What was left out can be had again, by whoever it belongs to, for as long as there is room."""

from __future__ import annotations

import json
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from first_words import CHAT_MESSAGES, LONG, SHORT, first_words
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import ConfigError, StoreError
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.shelved import marked
from tersely.originals import Originals
from tersely.recall import Recall, loses, note, with_note
from tersely.tokens import counter

BODY: dict[str, Any] = {"model": "gpt-4o", "messages": CHAT_MESSAGES}
count = counter("gpt-4o")

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=9,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "deep" / "originals.sqlite" if request.param == "file" else None


@given(st.text(max_size=300), st.text(min_size=1, max_size=9))
def test_what_is_kept_comes_back(text: str, scope: str) -> None:
    recall = Recall(Originals(), scope)
    assert recall.originals.get(scope, recall.keep(text)) == text


def test_a_key_is_for_its_scope_alone(place: Path | None) -> None:
    originals = Originals(place)
    mine, yours = originals.keep("mine", "secret"), originals.keep("yours", "other")
    assert originals.get("yours", mine) is None and originals.get("mine", yours) is None
    assert originals.keep("yours", "secret") != mine  # nobody learns that others hold it too
    assert "Nothing is kept" in Recall(originals, "yours").answer(mine)
    assert Recall(originals, "mine").answer(mine) == "secret"
    originals.forget("mine")
    assert originals.get("mine", mine) is None and originals.get("yours", yours) == "other"


@pytest.mark.parametrize("key", ["", "' OR 1=1 --", "%", "x" * 5000, "0" * 12, "../x"])
def test_keys_that_nobody_made(key: str) -> None:
    recall = Recall(Originals(), "mine")
    recall.keep("secret")
    said = recall.answer(key)
    assert "Nothing is kept" in said and "secret" not in said and len(said) < 130


def test_what_is_too_old_is_gone(place: Path | None) -> None:
    clock = Clock()
    originals = Originals(place, hours=2, now=clock)
    first = originals.keep("s", "first")
    clock.now = 3600
    second = originals.keep("s", "second")
    clock.now = 7201
    assert originals.get("s", first) is None and originals.get("s", second) == "second"
    originals.keep("s", "third")
    clock.now = 0
    assert originals.get("s", first) is None  # not only hidden


def test_the_oldest_goes_when_there_is_no_room(place: Path | None) -> None:
    clock = Clock()
    originals = Originals(place, megabytes=0.01, now=clock)
    keys = []
    for i in range(30):
        clock.now = i
        keys.append(originals.keep("s", " ".join(f"{i}-{j * 7919 % 997}" for j in range(400))))
    held = [originals.get("s", key) is not None for key in keys]
    assert held[-1] and not held[0] and held == sorted(held)
    assert originals.keep("s", json.dumps([j * 7919 % 99991 for j in range(9999)])) == ""


def test_a_file_is_for_its_owner_and_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "private" / "originals.sqlite"
    key = Originals(path).keep("s", "kept")
    assert Originals(path).get("s", key) == "kept"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_threads_may_share_it(place: Path | None) -> None:
    originals = Originals(place)
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda i: originals.keep("s", f"text {i}"), range(60)))
    assert [originals.get("s", key) for key in keys] == [f"text {i}" for i in range(60)]


def test_limits_and_files_that_can_not_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="megabytes must be above 0, was 0"):
        Originals(megabytes=0)
    with pytest.raises(ConfigError, match="hours"):
        Originals(hours=-1)
    with pytest.raises(ConfigError, match="scope"):
        Recall(Originals(), "")
    with pytest.raises(ConfigError, match="characters"):
        Recall(Originals(), "s", characters=0)
    (tmp_path / "broken").write_bytes(b"no database at all" * 99)
    with pytest.raises(StoreError, match="broken"):
        Originals(tmp_path / "broken")
    with pytest.raises(StoreError):
        Originals(tmp_path)


def test_a_damaged_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "originals.sqlite"
    key = Originals(path).keep("s", "kept")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE originals SET text = x'00'")
    database.close()
    with pytest.raises(StoreError):
        Originals(path).get("s", key)


def test_a_long_text_is_given_in_pieces() -> None:
    text = "".join(f"line {i}\n" for i in range(500))
    recall = Recall(Originals(), "s", characters=1000)
    key = recall.keep(text)
    pieces, start = [], 0
    while True:
        piece, _, tail = recall.answer(key, start=start).rpartition("\n[characters ")
        pieces.append(piece)
        if "goes on" not in tail:
            break
        start = int(tail.partition("start=")[2].partition(" ")[0])
    assert "".join(pieces) == text
    assert recall.answer(key, find="line 77") == "[1 of 501 lines hold 'line 77']\nline 77"
    assert recall.answer(key, find="nowhere").startswith("[0 of 501")
    assert recall.answer(key, start=-5) == recall.answer(key)


@pytest.mark.parametrize("form", ["openai", "responses", "anthropic"])
def test_the_tool_as_requests_offer_it(form: Any) -> None:
    told = Recall(Originals(), "s").definition(form)
    assert "recall" in json.dumps(told) and '"key"' in json.dumps(told)
    with pytest.raises(ConfigError, match="form must be"):
        Recall(Originals(), "s").definition("gemini")  # type: ignore[arg-type]


@given(trees, st.sampled_from([None, 2]))
def test_a_mark_leaves_json_what_it_is(tree: Any, indent: int | None) -> None:
    text = json.dumps(tree, indent=indent)
    made = with_note(text, note(90, 100, "0123456789ab"))
    if isinstance(tree, list):
        assert json.loads(made)[:-1] == json.loads(text)
    elif isinstance(tree, dict):
        assert {**json.loads(text), "#recall": json.loads(made)["#recall"]} == json.loads(made)
    else:
        assert made.startswith(text)


def test_marks_in_lines_of_json_and_in_text() -> None:
    said = note(90, 100)
    assert said == "[90 of 100 tokens left out; it can't be had again]"
    lines = with_note('{"a":1}\n{"a":2}\n', said)
    assert [json.loads(line) for line in lines.splitlines()][-1] == said
    assert with_note("a text\n", said) == f"a text\n{said}"


def test_what_loses_nothing() -> None:
    assert not loses('{\n  "a": 1.10,\n  "b": [1, 2]\n}', '{"a":1.10,"b":[1,2]}')
    assert loses("one two three", "one three")
    assert loses("a a a", "a [2 lines left out]")
    assert not loses("it was left out", "it was left out")


def test_what_a_tool_gave_is_marked_and_had_again() -> None:
    recall = Recall(Originals(), "mine")
    result = first_words().run(BODY)
    sent = marked(result, count, recall)["messages"][-1]["content"]
    assert sent.startswith(SHORT) and count(sent) < count(LONG)
    key = sent.partition("key='")[2].partition("'")[0]
    assert recall.answer(key) == LONG
    assert "can't be had again" in marked(result, count)["messages"][-1]["content"]
    assert BODY["messages"][-1]["content"] == LONG
    assert marked(first_words(mode="audit").run(BODY), count, recall) is BODY


def test_a_mark_is_the_same_in_every_request_of_a_conversation() -> None:
    pipeline, recall = first_words(), Recall(Originals(), "mine")
    first = marked(pipeline.run(BODY), count, recall)
    later = [*CHAT_MESSAGES, {"role": "user", "content": "And tomorrow?"}]
    second = marked(pipeline.run({**BODY, "messages": later}), count, recall)
    assert second["messages"][:-1] == first["messages"]


def test_what_lost_nothing_has_no_mark() -> None:
    rows = json.dumps([{"id": i, "state": "sent"} for i in range(60)], indent=2)
    body = {**BODY, "messages": [*CHAT_MESSAGES[:-1], {**CHAT_MESSAGES[-1], "content": rows}]}
    result = Pipeline({"json": {"tables": False}}).run(body)
    assert result.report.saved > 100
    assert marked(result, count, Recall(Originals(), "mine")) == result.output
