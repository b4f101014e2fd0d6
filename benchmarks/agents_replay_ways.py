"""Ways to send an agent's conversation, turn by turn, and what a provider takes for it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

from benchmarks import structure_peers as peers
from benchmarks.agents_sets import Message, Talk
from tersely.middleware.compaction import Compaction
from tersely.middleware.pipeline import pipeline_of
from tersely.middleware.session import Session
from tersely.prices import Price, price_of
from tersely.prompt_cache import Piece, PromptCache, Sent
from tersely.tokens import counter

COUNT = counter("gpt-4o")

LIMIT = 0.6
"""The limit of a conversation, in times the tokens of its last request."""

LEAST = 1500
"""The least limit, in tokens."""

AMONG = 10
"""Of the conversations one in so many is shown to other packages."""

PEERS = ("headroom-ai", "distil-llm", "litellm compress", "contextpress")

Body = dict[str, Any]
Messages = Sequence[Message]
Sender = Callable[[Talk, str, Sequence[float]], list[Messages]]
"""The messages of each request of a conversation with a model, sent at these seconds."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to send conversations. `by_model` and `by_pace`: what is sent depends on these.

    Of the conversations one in `every` is sent so, to these `models` (none named: to all).
    """

    name: str
    send: Sender
    by_model: bool = False
    by_pace: bool = False
    every: int = 1
    models: tuple[str, ...] = ()


# what is sent


def whole(talk: Talk, model: str, at: Sequence[float]) -> list[Messages]:
    """All that was said."""
    return [talk.messages[:turn] for turn in talk.turns]


def through(name: str, **terms: Any) -> Sender:
    """A session of a pipeline, with a limit for its history or none."""
    line = pipeline_of(name)
    line = line.but(budget=line.budget.model_copy(update={"ms": None}))

    def send(talk: Talk, model: str, at: Sequence[float]) -> list[Messages]:
        own = line
        if terms:
            own = line.but(history=Compaction(limit=limit_of(talk), **terms))
        now = iter(at)
        moment = [0.0]
        session = Session(clock=lambda: moment[0])
        sent: list[Messages] = []
        for turn in talk.turns:
            moment[0] = next(now)
            sent.append(own.run(body_of(talk, turn, model), session=session).output["messages"])
        return sent

    return send


def window(talk: Talk, model: str, at: Sequence[float]) -> list[Messages]:
    """The system's and the first message, and as many of the last as have room."""
    limit = limit_of(talk)
    return [_fitting(talk.messages[:turn], limit) for turn in talk.turns]


def half(talk: Talk, model: str, at: Sequence[float]) -> list[Messages]:
    """Half of the lines of each result of a tool, drawn at random once."""
    return [[_halved(one) for one in talk.messages[:turn]] for turn in talk.turns]


def each_time(talk: Talk, model: str, at: Sequence[float]) -> list[Messages]:
    """`bold` without a session: every request is compressed anew, by its own question.

    It is counted as for one model: nothing that a cache would hold is known to it.
    """
    line = pipeline_of("bold")
    line = line.but(budget=line.budget.model_copy(update={"ms": None}))
    return [
        line.run(body_of(talk, turn, "gpt-5"), session=Session()).output["messages"]
        for turn in talk.turns
    ]


WAYS = (
    Way("none", whole),
    Way("default", through("default"), by_model=True),
    Way("bold", through("bold"), by_model=True),
    Way(
        "default, history waits",
        through("default", wait=float("inf")),
        by_model=True,
        by_pace=True,
        every=2,
    ),
    Way(
        "default, history at once",
        through("default", wait=1),
        by_model=True,
        by_pace=True,
        every=4,
        models=("gpt-4o", "gpt-4.1", "claude-haiku-4-5", "claude-sonnet-5-5"),
    ),
    Way("bold anew at every turn", each_time, every=4),
    Way("truncate: a window", window),
    Way("random half of results", half),
)


def asked_of_peers(talks: Sequence[Talk], seconds: float) -> Iterator[tuple[str, list[Any]]]:
    """What other packages make of every request, for as many conversations as time allows."""
    cases = [list(talk.messages[:turn]) for talk in talks for turn in talk.turns]
    for name in PEERS:
        rows = peers.requests(name, cases, limit=seconds, again=False)
        made = iter(row["messages"] for row in rows)
        sent: list[Any] = []
        for talk in talks:
            some = [one for _, one in zip(talk.turns, made, strict=False)]
            sent.append(some if len(some) == len(talk.turns) else None)
        yield f"{name} {peers.told_version(name)}", sent


def body_of(talk: Talk, turn: int, model: str) -> Body:
    """A request; Claude caches it up to its end."""
    body = talk.request(turn) | {"model": model}
    return body | {"cache_control": {"type": "ephemeral"}} if "claude" in model else body


def limit_of(talk: Talk) -> int:
    """The tokens that a request of a conversation may have."""
    size = sum(map(tokens_of, talk.messages[: talk.turns[-1]])) + tools_of(talk).tokens
    return max(int(size * LIMIT), LEAST)


def _fitting(messages: Messages, limit: int) -> Messages:
    """The newest messages that have room, so that no result is without its call."""
    first = next((at for at, one in enumerate(messages) if one["role"] == "user"), 0) + 1
    left = limit - sum(map(tokens_of, messages[:first]))
    start = len(messages)
    while start > first and left >= tokens_of(messages[start - 1]):
        start -= 1
        left -= tokens_of(messages[start])
    while start < len(messages) - 1 and messages[start]["role"] == "tool":
        start += 1
    return [*messages[:first], *messages[start:]]


def _halved(message: Message) -> Message:
    if message["role"] != "tool":
        return message
    lines = (message["content"] or "").split("\n")
    drawn = random.Random(message["content"])
    keep = sorted(drawn.sample(range(len(lines)), (len(lines) + 1) // 2))
    return message | {"content": "\n".join(lines[i] for i in keep)}


# what it costs


def parcels(talk: Talk, sent: Sequence[Messages]) -> list[list[Piece]]:
    """What a provider sees of each request: any byte of a message that changes makes another."""
    tools = tools_of(talk)
    return [[tools, *map(piece_of, messages)] for messages in sent]


def priced(parcel: Sequence[Sequence[Piece]], model: str, at: Sequence[float]) -> Sent:
    """What a provider's cache makes of the requests."""
    cache, total = PromptCache(), Sent()
    price: Price = price_of(model)
    for pieces, now in zip(parcel, at, strict=True):
        total += cache.send(pieces, price, now=now)
    return total


def tools_of(talk: Talk) -> Piece:
    text = json.dumps(talk.tools, separators=(",", ":"))
    return Piece(text, counted(text))


def piece_of(message: Message) -> Piece:
    """A message as a provider sees it, by a name that no other has."""
    text = json.dumps(message, sort_keys=True, default=str)
    return Piece(blake2b(text.encode()).hexdigest(), tokens_of(message))


def tokens_of(message: Message) -> int:
    content = message.get("content") or ""
    text = content if isinstance(content, str) else json.dumps(content)
    calls: Sequence[Mapping[str, Any]] = message.get("tool_calls") or ()
    said = [text, *(c["function"]["name"] for c in calls)]
    said += [c["function"]["arguments"] for c in calls]
    return sum(map(counted, said)) + COUNT.framing


@cache
def counted(text: str) -> int:
    return COUNT(text)


def times(count: int, pace: str, seed: str) -> list[float]:
    """When the requests of a conversation are sent, in seconds.

    `warm`: ten seconds apart. `idle`: one in eight waits 5 minutes to 2 hours, drawn by the seed.
    """
    drawn = random.Random(seed)
    now, found = 0.0, []
    for _ in range(count):
        found.append(now)
        rests = pace == "idle" and drawn.random() < 1 / 8
        now += drawn.uniform(300, 7200) if rests else 10
    return found
