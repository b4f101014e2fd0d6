"""A conversation's messages as they hang together: what each says, and what may not be parted.

Every surface has a list of messages or items. A call of a tool and its result belong together,
wherever they stand in that list, and what is not text can't be said in other words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tersely.history import HEAD
from tersely.middleware.drop import CLOSE, understood
from tersely.middleware.keep import kept
from tersely.middleware.leaves import BREAKPOINTS, EXAMPLES, compact, items, role_of
from tersely.middleware.leaves import field as of
from tersely.prompt import Kind, Role, Segment

LISTS = ("messages", "input")
"""Under which names a request holds its messages."""

SPOKEN = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Blocks that say something, and where."""

THOUGHT = frozenset(("thinking", "redacted_thinking", "reasoning", "reasoning_content"))
"""Blocks that hold what a model thought: of old turns nobody needs it."""

CALLED = {
    "tool_use": "input",
    "tool_call": "args",
    "function_call": "arguments",
    "custom_tool_call": "input",
}
"""Blocks and items that call a tool, and where they hand it something."""

GIVEN = {
    "tool_result": ("tool_use_id", "content"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call_output": ("call_id", "output"),
}
"""Blocks and items that hold a result: whose, and where."""


@dataclass(slots=True)
class Message:
    """One message: what it `says`, the calls that it makes and those that it answers.

    `whole` is the reason why it has to stay as it is, and `leads` tells that it is worthless
    without the next one. `mark` is a cache breakpoint that it carries.
    """

    role: Role | None
    says: list[Segment] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    whole: str = ""
    leads: bool = False
    mark: tuple[str, Any] | None = None

    @property
    def is_asked(self) -> bool:
        """Whether the user speaks in it, and not a summary of ours."""
        said = [one for one in self.says if one.role == "user"]
        is_user = self.role == "user" and (not self.answers or bool(said))
        return is_user and not any(HEAD in one.text for one in said)


def listed(request: Any) -> tuple[tuple[str, ...], Sequence[Any]] | None:
    """Where a request holds its messages, and these; None when it has no list of them."""
    if isinstance(request, list | tuple):
        return (), request
    for name in LISTS:
        found = of(request, name)
        if found is None and not isinstance(request, Mapping):
            found = getattr(request, name, None)
        if isinstance(found, list | tuple):
            return (name,), found
    return None


def message_of(node: Any) -> Message:
    """What there is to know of one message or item."""
    kind = of(node, "type")
    if isinstance(kind, str) and of(node, "role") is None:
        if kind in CALLED:
            made = Message("assistant")
            _called(made, of(node, "name"), of(node, CALLED[kind]), of(node, "call_id"))
            return made
        if kind in GIVEN:
            made = Message("tool")
            _answered(made, node, *GIVEN[kind])
            return made
        if kind in THOUGHT:
            return Message("assistant", leads=True)
    made = Message(role_of(node))
    if made.role is None:
        made.whole = f"nothing is known of {kind or of(node, 'role')!r}"
        return made
    if made.role == "system":
        made.whole = "a system message"
    if of(node, "name") in EXAMPLES:
        made.whole = "a demonstration"
    _marked(made, node)
    _content(made, node)
    _calls(made, node)
    return made


def _content(made: Message, node: Any) -> None:
    answered = of(node, "tool_call_id") or (of(node, "role") == "function" and of(node, "name"))
    if made.role == "tool":
        made.answers.append(str(answered or ""))
    _said(made, made.role or "user", of(node, "content"))
    _said(made, "assistant", of(node, "refusal"))


def _said(made: Message, role: Role, content: Any) -> None:
    """Note what a content says: a text, or a list of blocks."""
    if isinstance(content, str):
        _text(made, role, content)
    elif content is not None and not isinstance(content, list | tuple):
        made.whole = made.whole or "its content is neither a text nor a list"
    for _, block in items(content):
        if isinstance(block, str):
            _text(made, role, block)
        else:
            _marked(made, block)
            _block(made, role, block)


def _block(made: Message, role: Role, block: Any) -> None:
    kind = of(block, "type")
    if kind in SPOKEN:
        _text(made, role, of(block, SPOKEN[kind]))
    elif kind in GIVEN:
        _answered(made, block, *GIVEN[kind])
    elif kind in CALLED:
        called = str(of(block, "call_id") or of(block, "id") or "")
        _called(made, of(block, "name"), of(block, CALLED[kind]), called)
    elif kind not in THOUGHT:
        made.whole = made.whole or f"it holds {kind or type(block).__name__}"


def _calls(made: Message, node: Any) -> None:
    """Note the calls that stand beside the content, in the shapes of OpenAI and LangChain."""
    for name in ("tool_calls", "invalid_tool_calls"):
        for _, call in items(of(node, name)):
            function = of(call, "function") or of(call, "custom")
            ways = (call, "args"), (function, "arguments"), (function, "input")
            handed = next(filter(None, (of(*way) for way in ways)), None)
            _called(made, of(call, "name") or of(function, "name"), handed, of(call, "id"))
    if function := of(node, "function_call"):
        _called(made, of(function, "name"), of(function, "arguments"), of(function, "name"))


def _called(made: Message, tool: Any, handed: Any, called: Any) -> None:
    """Note a call, once: some messages tell it twice."""
    if called and str(called) in made.calls:
        return
    text = handed if isinstance(handed, str) else compact(handed) or "{}"
    made.calls.append(str(called or ""))
    made.says.append(Segment(text=f"{tool}({text})", role="assistant", kind="code"))


def _answered(made: Message, node: Any, whose: str, where: str) -> None:
    made.answers.append(str(of(node, whose) or ""))
    _marked(made, node)
    _said(made, "tool", of(node, where))


def _text(made: Message, role: Role, text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        return
    if role != "tool" and kept(text):
        made.whole = made.whole or "it holds a passage to keep"
    if role != "tool" and CLOSE in text:
        text = understood(text)
    kind: Kind = "tool_output" if role == "tool" else "history"
    made.says.append(Segment(text=text, role=role, kind=kind))


def _marked(made: Message, node: Any) -> None:
    for name in BREAKPOINTS:
        if (found := of(node, name)) is not None:
            made.mark = (name, found)


def spans(messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """From where to where messages belong together: calls with their results."""
    made: dict[str, int] = {}
    for at, one in enumerate(messages):
        if one.leads and at + 1 < len(messages):
            yield at, at + 1
        for answered in one.answers:
            if answered in made:
                yield made[answered], at
        made |= dict.fromkeys(one.calls, at)


def settled(messages: Sequence[Message]) -> None:
    """Have all that belongs to a message that stays stay as well."""
    pairs = list(spans(messages))
    changed = True
    while changed:
        changed = False
        for start, end in pairs:
            why = messages[start].whole or messages[end].whole
            for at in (start, end):
                if why and not messages[at].whole:
                    messages[at].whole = why
                    changed = True


def lasting(messages: Sequence[Message], keep: int) -> int:
    """Where the last `keep` exchanges begin, so that no call is parted from its result.

    An exchange begins where the user speaks, and where the assistant goes on after a result.
    """
    begins = [
        at
        for at, one in enumerate(messages)
        if one.is_asked
        or (one.role == "assistant" and at and messages[at - 1].answers and not one.answers)
    ]
    cut = begins[-keep] if len(begins) >= keep else 0
    pairs = list(spans(messages))
    while any(start < cut <= end for start, end in pairs):
        cut = min(start for start, end in pairs if start < cut <= end)
    return cut
