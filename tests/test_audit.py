"""A log is priced as its provider would: with what its cache reads, writes and forgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from first_words import first_words
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tersely.errors import ConfigError
from tersely.middleware.audit import Audit, audited
from tersely.middleware.cli import app
from tersely.middleware.pipeline import Pipeline
from tersely.prices import Price
from tersely.prompt_cache import Piece, PromptCache, Sent

JSON = dict[str, Any]
ROWS = [
    json.dumps([{"id": f"{t}-{i}", "state": "sent", "on": True} for i in range(150)], indent=1)
    for t in range(4)
]
PRICE = Price(input=2, read=0.1, write=1.25, minimum=100, ttl=300)

sizes = st.lists(st.integers(0, 400), max_size=6)


def pieces(numbers: list[int], name: str = "") -> list[Piece]:
    return [Piece(f"{name}{i}", number) for i, number in enumerate(numbers)]


@given(sizes, sizes)
def test_every_token_is_read_or_written_or_fresh(first: list[int], more: list[int]) -> None:
    cache = PromptCache()
    for numbers in (first, [*first, *more], [*first, *more]):
        sent = cache.send(pieces(numbers), PRICE)
        assert sent.tokens == sum(numbers)
        assert min(sent.read, sent.written, sent.fresh) >= 0
    whole = sum(first) + sum(more)
    assert sent == (Sent(read=whole) if whole >= PRICE.minimum else Sent(fresh=whole))


def test_what_is_read_written_and_forgotten() -> None:
    cache = PromptCache()
    assert cache.send(pieces([200, 50]), PRICE) == Sent(written=250)
    assert cache.send(pieces([200, 50, 30]), PRICE, now=300) == Sent(read=250, written=30)
    assert cache.send(pieces([200, 50, 30]), PRICE, now=600) == Sent(read=280)
    assert cache.send(pieces([200, 50, 30]), PRICE, now=901) == Sent(written=280)
    assert cache.send(pieces([200, 50], "else"), PRICE, now=901) == Sent(written=250)


def test_what_is_too_short_or_not_marked_is_not_cached() -> None:
    cache = PromptCache()
    for _ in range(2):
        assert cache.send(pieces([40, 50]), PRICE) == Sent(fresh=90)
    assert cache.send(pieces([200, 50]), PRICE, marks=[1]) == Sent(written=200, fresh=50)
    assert cache.send(pieces([200, 50]), PRICE, marks=[1]) == Sent(read=200, fresh=50)
    assert cache.send(pieces([200, 50]), PRICE, marks=[]) == Sent(fresh=250)


def test_what_it_costs() -> None:
    sent = Sent(read=1_000_000, written=2_000_000) + Sent(fresh=3_000_000)
    assert sent.listed(PRICE) == pytest.approx(12)
    assert sent.cost(PRICE) == pytest.approx(2 * (0.1 + 2 * 1.25 + 3))


def turns(number: int, *, model: str = "gpt-4.1", name: str = "") -> list[JSON]:
    """A conversation whose every request holds all that was said before."""
    said: list[JSON] = [{"role": "system", "content": f"You are brief. {name}"}]
    bodies = []
    for t in range(number):
        function = {"name": "orders", "arguments": "{}"}
        call = {"id": f"c{t}", "type": "function", "function": function}
        said = [
            *said,
            {"role": "user", "content": f"Question {t} {name}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{t}", "content": ROWS[t]},
        ]
        bodies.append({"model": model, "messages": said})
    return bodies


def claude(number: int, **marks: Any) -> list[JSON]:
    bodies = []
    for t in range(1, number + 1):
        said: list[JSON] = []
        for i in range(t):
            found = {"type": "tool_result", "tool_use_id": f"c{i}", "content": ROWS[i]}
            use = {"type": "tool_use", "id": f"c{i}", "name": "orders", "input": {}}
            said += [
                {"role": "user", "content": f"Question {i}?"},
                {"role": "assistant", "content": [use]},
                {"role": "user", "content": [found]},
            ]
        said[-1]["content"][-1] |= marks
        bodies.append({"model": "claude-sonnet-5", "max_tokens": 9, "messages": said})
    return bodies


LOSSLESS = Pipeline("json")


def test_a_conversation_is_read_from_the_cache_on_both_sides() -> None:
    told = audited(turns(4), LOSSLESS)
    (one,) = told.models
    assert (one.model, one.requests, one.priced, one.exact) == ("gpt-4.1", 4, True, True)
    for side in (one.plain, one.tersely):
        assert 0 < side.read < side.tokens and side.cost < side.listed
    assert one.tersely.tokens < one.plain.tokens / 2
    assert 0 < told.saved == pytest.approx(one.plain.cost - one.tersely.cost)
    assert one.plain.listed == pytest.approx(one.plain.tokens * 2 / 1e6)
    assert told.spread is not None and told.spread.conversations == 1
    assert told.spread.dearer == 0 and told.spread.low == told.spread.median > 0.4


def test_the_last_days_of_a_log() -> None:
    day = 86400
    bodies = turns(4)
    rows: list[JSON] = [
        {"body": body, "timestamp": 1_790_000_000 + at * day}
        for body, at in zip(bodies, (0, 5, 11, 12), strict=True)
    ]
    told = audited([*rows, {"body": bodies[0]}], LOSSLESS, days=7)
    assert told.requests == 3 and told.timed
    assert told.unread == {"it was sent before that time": 1, "its time is not told": 1}


def test_a_conversation_that_idles_is_compacted_by_the_time_of_the_log() -> None:
    line = Pipeline("json", history={"limit": 9000, "keep": 1})
    bodies = turns(3)
    apart = [{"body": body, "timestamp": 1_790_000_000 + i * 3600} for i, body in enumerate(bodies)]
    close = [{"body": body, "timestamp": 1_790_000_000 + i} for i, body in enumerate(bodies)]
    cold, warm = (audited(rows, line).models[0].tersely for rows in (apart, close))
    assert cold.tokens < warm.tokens


def test_doing_nothing_costs_the_same() -> None:
    told = audited([*turns(3), *claude(3)], Pipeline([]))
    assert all(one.plain == one.tersely for one in told.models) and told.saved == 0
    assert told.spread is not None and told.spread.dearer == 0


def test_conversations_are_told_apart() -> None:
    rows = [row for name in ("a", "b", "c") for row in turns(2, name=name)]
    mixed = [rows[i] for i in (0, 2, 4, 1, 3, 5)]
    told = audited(mixed, LOSSLESS)
    assert told.spread is not None and told.spread.conversations == 3
    assert told.models == audited(rows, LOSSLESS).models


def test_anthropic_caches_what_is_marked() -> None:
    (plain,) = audited(claude(3), LOSSLESS).models
    assert plain.plain.read == plain.plain.written == 0 and not plain.exact
    (marked,) = audited(claude(3, cache_control={"type": "ephemeral"}), LOSSLESS).models
    assert marked.plain.written > 0
    whole = [{**body, "cache_control": {"type": "ephemeral"}} for body in claude(3)]
    (automatic,) = audited(whole, LOSSLESS).models
    assert automatic.plain.read > 0 and automatic.plain.cost < plain.plain.cost


@pytest.mark.parametrize("name", ["timestamp", "created_at", "ts"])
@pytest.mark.parametrize(
    "spell",
    [
        lambda at: 1_790_000_000 + at,
        lambda at: (1_790_000_000 + at) * 1000,
        lambda at: str(1_790_000_000 + at),
        lambda at: f"2026-11-01T{at // 3600:02}:{at // 60 % 60:02}:00Z",
        lambda at: f"2026-11-01T{at // 3600:02}:{at // 60 % 60:02}:00",
    ],
)
def test_times_tell_when_the_cache_forgets(name: str, spell: Any) -> None:
    def logged(apart: int) -> Audit:
        rows = [{name: spell(i * apart), "body": body} for i, body in enumerate(turns(3))]
        return audited(rows[::-1], LOSSLESS)

    soon, late = logged(60), logged(3600)
    assert soon.timed and late.timed
    assert soon.models[0].plain.read > 0 == late.models[0].plain.read
    assert not audited([*turns(1), {"timestamp": 5, "body": turns(1)[0]}], LOSSLESS).timed


@pytest.mark.parametrize(
    "wrap",
    [
        lambda body: body,
        lambda body: {"custom_id": "1", "method": "POST", "url": "/v1", "body": body},
        lambda body: {"params": body},
        lambda body: {"request": json.dumps(body), "response": {"id": "1"}},
        lambda body: {"model": body["model"], "kwargs": {"messages": body["messages"]}},
    ],
)
def test_shapes_of_logs(wrap: Any) -> None:
    told = audited([wrap(body) for body in turns(2)], LOSSLESS)
    assert told.models == audited(turns(2), LOSSLESS).models and not told.unread


def test_what_holds_no_request_is_counted() -> None:
    told = audited([*turns(1), {"a": 1}, {"request": "{"}, 5, None], LOSSLESS)
    assert told.requests == 1
    assert told.unread == {"no prompt in it": 2, "not a JSON object": 2}
    empty = audited([], LOSSLESS)
    assert empty.models == () and empty.spread is None and empty.saved == 0


def test_a_model_that_no_table_knows() -> None:
    (one,) = audited(turns(2, model="mine"), LOSSLESS).models
    assert not one.priced and not one.exact
    (one,) = audited([{"messages": turns(1)[0]["messages"]}], LOSSLESS, model="gpt-4.1").models
    assert one.model == "gpt-4.1" and one.priced


def test_what_makes_the_cache_useless_shows_as_dearer() -> None:
    """A prefix that is shortened below what is cached costs more when it is sent again."""
    said = [{"role": "user", "content": "Sum up."}]
    tool = {"role": "tool", "tool_call_id": "c0", "content": " ".join(map(str, range(900)))}
    call = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls = {"role": "assistant", "content": None, "tool_calls": [call]}
    bodies = [
        {"model": "gpt-5", "messages": [*said, calls, tool, *said[:1] * i]} for i in range(30)
    ]
    shorter = Pipeline("truncate", budget=0.55)
    told = audited(bodies, shorter)
    assert told.spread is not None
    assert told.spread.dearer == 1 and told.saved < 0
    assert told.models[0].plain.listed > told.models[0].tersely.listed


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(body) + "\n" for body in turns(3)) + "\nno json\n")
    return path


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["audit", *map(str, args)])


def test_the_command(log: Path) -> None:
    done = run(log, "--stage", "json")
    assert done.exit_code == 0, done.output
    assert "gpt-4.1" in done.stdout and "saved in the median" in done.stdout
    assert "1 line left out: not a JSON object" in done.stderr
    assert "before the cache forgets" in done.stderr and "prices of 20" in done.stderr


def test_the_command_as_json(log: Path, tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text("date: 2026-01-01\nsource: ours\nmodels:\n- {match: ['gpt-*'], input: 200}\n")
    plain = json.loads(run(log, "--json", "--pipeline", "default").stdout)
    dear = json.loads(run(log, "--json", "--prices", own).stdout)
    assert plain["saved"] > 0 and plain["requests"] == 3
    assert dear["models"][0]["plain"]["listed"] == pytest.approx(
        100 * plain["models"][0]["plain"]["listed"]
    )
    assert json.loads(run(log, "--json", "--limit", 1).stdout)["requests"] == 1


def test_the_command_names_what_can_not_work(log: Path, tmp_path: Path) -> None:
    assert "takes no --mode" in run(log, "--mode", "audit").output
    assert "is not there" in run(tmp_path / "nothing").output
    with pytest.raises(ConfigError, match="can't read the prices"):
        audited([], first_words(), prices=str(tmp_path / "nothing"))
