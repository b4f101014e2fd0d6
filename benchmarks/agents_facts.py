"""What the rest of a conversation needs of a request, and whether a request is still valid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.agents_sets import Message, Talk
from tersely.kinds import json_shape
from tersely.named import LITERALS

SHORTEST = 3
"""Characters below which a value could stand anywhere by chance."""

LONGEST = 200
"""Characters beyond which one word is data and no name."""

NESTED = 2
"""How often JSON may be a string in JSON."""

_WORD = re.compile(r"\S+")
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/]))')


def facts_of(arguments: Sequence[str]) -> set[str]:
    """The ids, numbers, dates, links and paths in the arguments of calls.

    A value that is one word is a fact as a whole, too: it is what the tool is told.
    """
    found: set[str] = set()
    for text in arguments:
        for value in _scalars(text):
            found.update(match[0].rstrip(".,:") for match in LITERALS.finditer(value))
            if _WORD.fullmatch(value) and len(value) <= LONGEST:
                found.add(value)
    return {fact for fact in found if len(fact) >= SHORTEST}


def holds(text: str, fact: str) -> bool:
    """Whether a fact stands in a text letter by letter, and not within a longer word or number."""
    at = text.find(fact)
    while at >= 0:
        end = at + len(fact)
        before = at == 0 or not (text[at - 1].isalnum() and fact[0].isalnum())
        after = end == len(text) or not (text[end].isalnum() and fact[-1].isalnum())
        if before and after:
            return True
        at = text.find(fact, at + 1)
    return False


@dataclass(frozen=True, slots=True)
class Said:
    """The texts of a request, as they are and without the escapes of JSON in JSON."""

    text: str
    plain: str

    @classmethod
    def by(cls, messages: Sequence[Message], roles: Sequence[str] = ()) -> Said:
        """All texts and arguments, or the texts of these roles alone."""
        text = "\n".join(one for role, one in texts_of(messages) if not roles or role in roles)
        plain = text
        for _ in range(NESTED if "\\" in text else 0):
            plain = _ESCAPE.sub(_unescaped, plain)
        return cls(text, plain)

    def holds(self, fact: str) -> bool:
        """Whether the fact is findable: as it is, or as JSON in JSON spells it."""
        return holds(self.text, fact) or (self.plain != self.text and holds(self.plain, fact))


def needed(talk: Talk, at: int) -> tuple[set[str], set[str]]:
    """The facts that the calls from a message on use and the request for it holds.

    The second are those of them that tools gave, and neither a user nor a call named.
    """
    before = talk.messages[:at]
    later = facts_of(talk.handed(at))
    whole = Said.by(before)
    facts = {fact for fact in later if whole.holds(fact)}
    named = Said.by(before, ("system", "developer", "user", "assistant", "call"))
    return facts, {fact for fact in facts if not named.holds(fact)}


def texts_of(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """Every text with its role, in either format; of arguments the role is `call`."""
    for one in messages:
        content, role = one.get("content"), one.get("role", "")
        for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            yield from _block(block, role)
        for call in one.get("tool_calls") or ():
            yield "call", str(call["function"]["arguments"])


def _block(block: Any, role: str) -> Iterator[tuple[str, str]]:
    match block:
        case {"type": "tool_use", "input": given}:
            yield "call", json.dumps(given, ensure_ascii=False)
        case {"type": "tool_result", "content": content}:
            blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
            for inner in blocks:
                yield from _block(inner, "tool")
        case {"text": str(text)}:
            yield role, text
        case str():
            yield role, block


def broken_pairs(messages: Sequence[Message]) -> int:
    """The calls without a result right behind them, and the results without a call."""
    waiting: set[str] = set()
    broken = 0
    for one in messages:
        calls, results = _ids(one)
        broken += len(results - waiting)
        waiting -= results
        if calls or not results:
            broken += len(waiting)
            waiting = calls
    return broken + len(waiting)


def _ids(message: Message) -> tuple[set[str], set[str]]:
    """The calls and the results that a message holds, in either format."""
    content = message.get("content")
    blocks = [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    calls = {str(call.get("id")) for call in message.get("tool_calls") or ()}
    calls |= {str(one.get("id")) for one in blocks if one.get("type") == "tool_use"}
    results = {str(one.get("tool_use_id")) for one in blocks if one.get("type") == "tool_result"}
    if message.get("role") == "tool":
        results.add(str(message.get("tool_call_id")))
    return calls, results


def spoilt(before: Sequence[Message], after: Sequence[Message]) -> tuple[int, int]:
    """How many of the tools' answers that were JSON are no longer JSON of that type, and of how
    many. An answer that is gone is not counted: its call is then broken."""
    old, new = dict(_answers(before)), dict(_answers(after))
    shapes = {name: shape for name, text in old.items() if (shape := json_shape(text))}
    kept = [name for name in shapes if name in new]
    return sum(json_shape(new[name]) != shapes[name] for name in kept), len(kept)


def _answers(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    for one in messages:
        content = one.get("content")
        if one.get("role") == "tool":
            text = "\n".join(text for role, text in texts_of([one]) if role == "tool")
            yield str(one.get("tool_call_id")), text
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") == "tool_result":
                text = "\n".join(text for _, text in _block(block, "tool"))
                yield str(block.get("tool_use_id")), text


def anthropic(request: Mapping[str, Any]) -> dict[str, Any]:
    """An OpenAI chat as Anthropic's Messages take it."""
    said: list[Message] = []
    system = ""
    for one in request["messages"]:
        if one["role"] == "system":
            system += one["content"]
            continue
        role = "assistant" if one["role"] == "assistant" else "user"
        if not said or said[-1]["role"] != role:
            said.append({"role": role, "content": []})
        said[-1]["content"] += _blocks(one)
    tools = [
        {
            "name": one["function"]["name"],
            "description": one["function"].get("description", ""),
            "input_schema": one["function"]["parameters"],
        }
        for one in request["tools"]
    ]
    return {"model": "claude-sonnet-4-5", "system": system, "messages": said, "tools": tools}


def _blocks(message: Message) -> Iterator[dict[str, Any]]:
    text = message["content"] or ""
    if message["role"] == "tool":
        yield {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": text}
        return
    if text.strip():
        yield {"type": "text", "text": text}
    for call in message.get("tool_calls") or ():
        given = call["function"]["arguments"]
        shaped = json_shape(given) == "object"
        used = json.loads(given) if shaped else {"input": given}
        yield {"type": "tool_use", "id": call["id"], "name": call["function"]["name"]} | {
            "input": used
        }


def _scalars(text: str) -> Iterator[str]:
    """The texts and numbers among arguments; all of it where that is not JSON."""
    try:
        waiting: list[Any] = [json.loads(text, parse_int=str, parse_float=str)]
    except ValueError:
        waiting = [text]
    while waiting:
        match waiting.pop():
            case str(value):
                yield value
            case dict(value):
                waiting += value.values()
            case list(value):
                waiting += value


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else found[2]
