"""Old results of tools made short in their places, before anything else of a conversation goes.

Each first by its form, where nothing is lost; then as a marker that tells what was there, how much
is left out, and how it can be had again. Where it can't, ids, paths and links stay in it. A marker
follows from the result alone, and stands ever after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

from tersely.contracts import Context, Request, Stage
from tersely.errors import StoreError, TerselyError
from tersely.history import HEAD
from tersely.kinds import json_shape
from tersely.middleware.carrying import carried
from tersely.middleware.leaves import BREAKPOINT
from tersely.plans import Plan
from tersely.prompt import Path, Prompt, Segment
from tersely.recall import note
from tersely.registry import plan, stage

LEAST = 60
"""Tokens of a result that is worth a marker."""

SHARE = 0.15
"""The part of a result that its marker may have, beside what names things."""

MOST = 12
"""Names that tell what an object holds."""

WIDE = 80
"""Characters that tell how a text begins."""

KEYED = re.compile(r"recall\(key='([0-9a-f]{12})'\)")
"""How an earlier mark tells a key."""

SHRUNK = "an old result of a tool, made short"


class Keeps(Protocol):
    """Keeps texts, and tells the key by which each can be had again; "" where it can't."""

    def keep(self, text: str, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Result:
    """An old result: where its text lies, the text as it came, and as it is sent now."""

    path: Path
    text: str
    segment: Segment


def results(read: Prompt, sent: Prompt, places: Sequence[Path]) -> Iterator[Result]:
    """The results of tools at some places of a request that may be made short, in order."""
    chosen = set(places)
    for old, new in zip(read.leaves, sent.leaves, strict=True):
        locked = any(one.locked and one.reason == BREAKPOINT for one in old.segments)
        if old.role == "tool" and old.path in chosen and not locked and not new.soft:
            segment = replace(new.segments[0], text=new.text, locked=False, spans=(), origins=None)
            yield Result(old.path, old.text, segment)


def shrunk(
    found: Sequence[Result], need: int, context: Context, keeps: Keeps | None
) -> Mapping[Path, str]:
    """Shorter texts for results, the oldest first, until so many tokens are spared.

    All by their form before the first becomes a marker.
    """
    made: dict[Path, str] = {}
    left = need
    context = replace(context, backend=None, deadline=None)
    for shorter in (by_form, lambda one, context: marker(one, context, keeps)):
        for one in found:
            if left <= 0:
                return made
            now = made.get(one.path, one.segment.text)
            text = shorter(one, context)
            before, after = context.tokens_of([now, text])
            if after < before:
                made[one.path] = text
                left -= before - after
    return made


def by_form(one: Result, context: Context) -> str:
    """A result written shorter, with nothing lost."""
    prompt = Prompt((one.segment,))
    try:
        text = _form()(prompt, context).text
    except TerselyError:
        return one.segment.text
    return text if json_shape(text) == json_shape(one.segment.text) else one.segment.text


def marker(one: Result, context: Context, keeps: Keeps | None = None) -> str:
    """What stands for a result: what was there, how much is gone, how it can be had again."""
    size = context.tokens_of([one.text])[0]
    if size < LEAST:
        return one.segment.text
    key = _key(one, keeps)
    told = [described(one.text), *([] if key else _named(one, int(size * SHARE), context))]
    shape = json_shape(one.text)

    def spelled(gone: int) -> str:
        mark = note(gone, size, key)
        if shape == "array":
            return json.dumps([*told, mark], ensure_ascii=False)
        if shape == "object":
            return json.dumps({"#short": told, "#recall": mark}, ensure_ascii=False)
        return "\n".join([*told, mark])

    return spelled(size - context.tokens_of([spelled(size)])[0])


def described(text: str) -> str:
    """What a text is, in a line: of JSON its names and how many there are, else how it begins."""
    try:
        held = json.loads(text) if json_shape(text) else None
    except (ValueError, RecursionError):
        held = None
    if isinstance(held, dict):
        return f"object of {_names(held)}"
    if isinstance(held, list):
        first = next((one for one in held if isinstance(one, dict)), None)
        return f"{len(held)} items" + (f" of {_names(first)}" if first else "")
    lines = text.strip().split("\n")
    return f"{len(lines)} line{'s' * (len(lines) > 1)}, begun with: {lines[0].strip()[:WIDE]}"


def _names(held: Mapping[str, Any]) -> str:
    """The names in an object, with how many items a list holds."""
    told = [
        f"{name} ({len(value)})" if isinstance(value, list | dict) else name
        for name, value in held.items()
    ]
    more = f" and {len(told) - MOST} more" if len(told) > MOST else ""
    return ", ".join(one[:WIDE] for one in told[:MOST]) + more


def _named(one: Result, room: int, context: Context) -> list[str]:
    """What names things in a result, in lines."""
    segment = replace(one.segment, text=one.text, role="tool", kind="tool_output", reason="")
    request = Request(prompt=Prompt((segment,)), seed=context.seed)
    try:
        made = carried(_writer().steps(request, context.within(max(room, 1))), context).text
    except TerselyError:
        return []
    lines = made.removeprefix(HEAD).strip("\n").split("\n")
    return [line.removeprefix("gave: ").strip() for line in lines if line.strip()]


def _key(one: Result, keeps: Keeps | None) -> str:
    """The key by which a result can be had again; of one that has a mark already its own."""
    if (marked := KEYED.findall(one.text)) and keeps is not None:
        return str(marked[-1])
    try:
        return keeps.keep(one.text) if keeps is not None else ""
    except StoreError:
        return ""


@cache
def _form() -> Stage:
    return stage("auto", lossless=True)


@cache
def _writer() -> Plan:
    return plan("history", gist=0, written=False)
