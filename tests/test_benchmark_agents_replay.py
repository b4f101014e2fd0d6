"""What the replay of agents' conversations counts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import agents_replay as replay
from benchmarks import agents_replay_ways as ways
from benchmarks.agents_sets import Talk
from tersely.prices import price_of


def talk(turns: int = 6) -> Talk:
    """An agent whose tool gave as many tables as it has turns."""
    said: list[dict[str, Any]] = [{"role": "user", "content": "What is there?"}]
    for t in range(turns):
        function = {"name": "look", "arguments": "{}"}
        call = {"id": f"c{t}", "type": "function", "function": function}
        rows = "\n".join(f"row {t}-{i} is sent" for i in range(150))
        said += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{t}", "content": rows},
        ]
    return Talk("made", "one", tuple(said), (), held_out=False)


def cost(one: Talk, sent: Any, model: str, at: list[float]) -> float:
    return ways.priced(ways.parcels(one, sent), model, at).cost(price_of(model))


def test_a_conversation_is_read_from_the_cache_unless_it_idles() -> None:
    one = talk()
    whole = ways.whole(one, "gpt-5", ())
    warm = ways.priced(ways.parcels(one, whole), "gpt-5", [10.0 * i for i in range(6)])
    cold = ways.priced(ways.parcels(one, whole), "gpt-5", [4000.0 * i for i in range(6)])
    assert warm.read > 0 == cold.read and warm.tokens == cold.tokens
    assert ways.times(20, "idle", "a") == ways.times(20, "idle", "a") != ways.times(20, "idle", "b")
    assert ways.times(3, "warm", "a") == [0.0, 10.0, 20.0]


def test_a_window_has_room_and_parts_no_call_from_its_result() -> None:
    one = talk()
    limit = ways.limit_of(one)
    for sent in ways.window(one, "gpt-5", ()):
        assert sum(map(ways.tokens_of, sent)) <= limit
        calls = {call["id"] for m in sent for call in m.get("tool_calls") or ()}
        assert {m["tool_call_id"] for m in sent if m["role"] == "tool"} <= calls


@pytest.mark.parametrize("name", ["default", "bold", "default, history waits"])
@pytest.mark.parametrize("model", ["gpt-4o", "claude-haiku-4-5"])
def test_no_conversation_is_dearer(name: str, model: str) -> None:
    one = talk()
    way = next(way for way in ways.WAYS if way.name == name)
    for pace in replay.PACES:
        at = ways.times(len(one.turns), pace, one.name)
        paid = cost(one, ways.whole(one, model, at), model, at)
        assert cost(one, way.send(one, model, at), model, at) <= paid * (1 + 1e-9)


def test_what_is_told_of_a_way() -> None:
    one = talk()
    rows = [
        replay._row("none", one, ways.parcels(one, ways.whole(one, "", ())), model, "warm")
        for model in ("gpt-5", "gpt-4o")
    ]
    told = replay._summed(rows, "none", "all")
    assert told["n"] == 1 and told["priced"] == 2 and told["dearer"] == 0
    assert told["saved"] == (0.0, 0.0, 0.0) and told["tokens"] == 1
    assert replay._summed(rows, "none", "else")["n"] == 0
