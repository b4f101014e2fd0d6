"""Where a request to Claude best ends what the provider caches.

Claude caches what stands before a breakpoint, of which a request may have four, and looks for what
it has cached within the 20 blocks before each. So they go where the next request, or the next
conversation, begins with the same: behind the tools, behind the system's words, where the request
before ended, and at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tersely.middleware import adapters
from tersely.middleware.adapter_anthropic import ANTHROPIC
from tersely.middleware.leaves import BREAKPOINTS, field, role_of
from tersely.middleware.pricing import pieces_of
from tersely.prices import Price, price_of
from tersely.prompt import Path, Prompt
from tersely.report import spell
from tersely.tokens import counter

MARK: Mapping[str, str] = {"type": "ephemeral"}

FIELD = "cache_control"

CLOSED = frozenset(("thinking", "redacted_thinking"))
"""Blocks that take no breakpoint."""


@dataclass(frozen=True, slots=True)
class Place:
    """A block behind which a request may be cached, why, and how many tokens end there."""

    path: Path
    why: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A request with breakpoints, and what there is to say of each."""

    request: Any
    places: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()


def breakpoints(request: Any, *, model: str = "", price: Price | None = None) -> Placed:
    """A copy of a request to Claude with breakpoints where they serve best, up to four.

    The request is a body in Anthropic's format. None is set where fewer tokens end than the model
    caches. A request that has breakpoints already comes back as it is; the notes then tell where
    more would serve. `price` is taken from the table for the `model`, which the body may name.
    """
    if not isinstance(request, Mapping) or not ANTHROPIC.matches({**request, "model": "claude"}):
        return Placed(request, notes=("breakpoints: not a request body in Anthropic's format",))
    named = model or str(field(request, "model") or "")
    known = price or price_of(named)
    found = list(places(request, named))
    short = [one for one in found if one.tokens < known.minimum]
    able = [one for one in found if one.tokens >= known.minimum]
    notes = [_too_short(one, known) for one in short]
    if theirs := set(marked(request)):
        missing = [one for one in able if one.path not in theirs]
        automatic = () in theirs
        better = [one for one in missing if not (automatic and one is found[-1])]
        told = (f"breakpoint: one behind {_spelled(one)} would serve: {one.why}" for one in better)
        return Placed(request, notes=("breakpoint: the caller's own stay as they are", *told))
    for one in able:
        request = _marked(request, one.path)
    told = (f"breakpoint behind {_spelled(one)}: {one.why}" for one in able)
    return Placed(request, tuple(able), (*told, *notes))


def places(request: Mapping[str, Any], model: str) -> Iterator[Place]:
    """The places in order, each block once."""
    read = ANTHROPIC.read(request)
    messages = request.get("messages") or ()
    asked = [at for at, one in enumerate(messages) if role_of(one) == "assistant"]
    wanted = [
        (_last_tool(request), "every conversation with these tools begins so"),
        (_last_of(request.get("system"), ("system",)), "every conversation begins so"),
        (_end(messages, asked[-1] if asked else 0), "the request before ended here"),
        (_end(messages, len(messages)), "the next request begins so"),
    ]
    sizes = _sizes(read, model)
    seen: set[Path] = set()
    for path, why in wanted:
        if path and path not in seen:
            seen.add(path)
            yield Place(path, why, _upto(sizes, path))


def marked(request: Any, path: Path = ()) -> Iterator[Path]:
    """Where breakpoints lie: the paths of what carries one."""
    if any(field(request, name) is not None for name in BREAKPOINTS):
        yield path
    names = ("tools", "system", "messages", "content") if len(path) < 6 else ()
    for name in names:
        held = field(request, name)
        if isinstance(held, list | tuple):
            for at, one in enumerate(held):
                yield from marked(one, (*path, name, at))


def _last_tool(request: Mapping[str, Any]) -> Path:
    tools = request.get("tools")
    if not isinstance(tools, list | tuple) or not tools or not isinstance(tools[-1], Mapping):
        return ()
    return ("tools", len(tools) - 1)


def _end(messages: Sequence[Any], until: int) -> Path:
    """The last block of the messages before a place that takes a breakpoint."""
    for at in range(until - 1, -1, -1):
        if found := _last_of(field(messages[at], "content"), ("messages", at, "content")):
            return found
    return ()


def _last_of(content: Any, path: Path) -> Path:
    """The last block of a content that takes a breakpoint; of a text the content itself."""
    if isinstance(content, str):
        return path if content.strip() else ()
    if not isinstance(content, list | tuple):
        return ()
    for at in range(len(content) - 1, -1, -1):
        kind = field(content[at], "type")
        is_empty = kind == "text" and not str(field(content[at], "text") or "").strip()
        if isinstance(kind, str) and kind not in CLOSED and not is_empty:
            return (*path, at)
    return ()


def _marked(request: Any, path: Path) -> Any:
    """A copy of the request with a breakpoint at a place; a text becomes a block."""
    held = adapters.look(request, path)
    if isinstance(held, str):
        block = {"type": "text", "text": held, FIELD: dict(MARK)}
        return adapters.put(request, path, [block])
    return adapters.put(request, (*path, FIELD), dict(MARK))


def _sizes(read: Prompt, model: str) -> list[tuple[Path, int]]:
    """The tokens of each text of a request, the tools' in front."""
    count = counter(model)
    pieces = pieces_of(read, count.many, count.framing)
    paths = [("tools",), *(leaf.path for leaf in read.leaves)]
    return [(path, one.tokens) for path, one in zip(paths, pieces, strict=True)]


def _upto(sizes: Sequence[tuple[Path, int]], path: Path) -> int:
    """The tokens of everything up to a block."""
    order = {"tools": 0, "system": 1, "messages": 2}

    def key(one: Path) -> tuple[int, tuple[int, ...]]:
        return order.get(str(one[0]), 3), tuple(step for step in one if isinstance(step, int))

    end = key(path)
    size = len(end[1])
    return sum(
        tokens
        for one, tokens in sizes
        if (key(one)[0], key(one)[1][:size]) <= end or (path[0] == "tools" and one[0] == "tools")
    )


def _spelled(place: Place) -> str:
    return f"{spell(place.path)} ({place.tokens} tokens)"


def _too_short(place: Place, price: Price) -> str:
    return f"no breakpoint behind {_spelled(place)}: under {price.minimum} tokens nothing is cached"
