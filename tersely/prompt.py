"""What flows: a prompt is a row of segments, and none of them changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal, get_args

from tersely.origins import Origins, composed, landed

if TYPE_CHECKING:
    from tersely.soft import KVPrefix, SoftPrompt

Role = Literal["system", "user", "assistant", "tool"]
"""Who speaks. A `developer` message is read as `system`."""

Kind = Literal[
    "instruction",
    "question",
    "context",
    "example",
    "history",
    "tool_output",
    "code",
    "json",
    "log",
    "table",
    "soft",
]
"""What a text is for; stages name the kinds they may change."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Path = tuple[str | int, ...]
"""Where a text lies in the caller's request: keys and positions from the root."""

Span = tuple[int, int]
"""A range of characters, the end not included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A text with one purpose.

    Segments that share a path are parts of one text in the request (a *leaf*), in order.
    `locked` segments, and the `spans` of open ones, reach the model byte for byte.
    `reason` says why the segment is of its kind, or why it is locked. `origins` tell which runs
    of the text were copied from the text that the segment had at first; None where the text is
    still that one, or where a stage changed it and did not tell.

    `soft` is what the model reads in the place of a segment of kind `soft`, whose text is for
    people. Vectors stand where the text would; a KV prefix stands for all that the prompt begins
    with up to the text's end, chat template included, and so only the first text can have one.
    """

    text: str
    role: Role = "user"
    kind: Kind = "context"
    locked: bool = False
    turn: int = 0
    path: Path = ()
    spans: tuple[Span, ...] = ()
    reason: str = ""
    origins: Origins | None = field(default=None, repr=False)
    soft: SoftPrompt | KVPrefix | None = field(default=None, repr=False)

    def softened(self, soft: SoftPrompt | KVPrefix, reason: str) -> Segment:
        """The segment with vectors, or keys and values, in the place of its text."""
        return replace(self, kind="soft", soft=soft, locked=True, reason=reason)

    def changed(self, text: str, origins: Origins | None = None) -> Segment:
        """The segment with a text that was made from its own. Spans move along.

        `origins` are the runs that were copied from the segment's present text, if that is
        known.
        """
        so_far = origins
        if origins is not None and self.origins is not None:
            so_far = composed(origins, self.origins)
        return replace(self, text=text, spans=_moved(self, text, origins), origins=so_far)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One text of the request: the segments that share its path."""

    path: Path
    role: Role
    turn: int
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)

    @property
    def read(self) -> Iterator[str]:
        """What a model reads of it as text: the runs between soft segments."""
        runs = groupby(self.segments, key=lambda segment: segment.soft is None)
        return ("".join(segment.text for segment in run) for is_text, run in runs if is_text)

    @property
    def soft(self) -> int:
        """The vectors, or keys with their values, that stand in it."""
        return sum(len(segment.soft) for segment in self.segments if segment.soft is not None)


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that is sent to the model, in order.

    `question` is what the user wants to know, if that is known; `tools` are the tool
    definitions as text: they are counted and never changed. `turns` is the number of
    messages, for counting what the chat format adds. `why` tells what the reader of the
    request left out, and for what reason.
    """

    segments: tuple[Segment, ...]
    question: str = ""
    tools: str = ""
    turns: int = 0
    why: str = ""

    @property
    def open(self) -> tuple[int, ...]:
        """The positions of the segments that may change."""
        return tuple(i for i, s in enumerate(self.segments) if not s.locked and s.text)

    @property
    def leaves(self) -> Iterator[Leaf]:
        """The texts of the request, in order."""
        for (turn, path), group in groupby(self.segments, key=lambda s: (s.turn, s.path)):
            parts = tuple(group)
            yield Leaf(path=path, role=parts[0].role, turn=turn, segments=parts)

    @property
    def text(self) -> str:
        """Everything that is said, leaves apart by a blank line."""
        return "\n\n".join(leaf.text for leaf in self.leaves)

    def with_texts(
        self,
        texts: Mapping[int, str],
        *,
        origins: Mapping[int, Origins | None] | None = None,
    ) -> Prompt:
        """The prompt with other texts at the given positions. Spans there move along.

        `origins` tell of each new text which runs were copied from the text that stood there.
        """
        told = origins or {}
        return self.with_segments(
            {
                i: self.segments[i].changed(text, told.get(i))
                for i, text in texts.items()
                if text != self.segments[i].text
            }
        )

    def with_segments(self, segments: Mapping[int, Segment]) -> Prompt:
        """The prompt with other segments at the given positions."""
        return replace(
            self, segments=tuple(segments.get(i, s) for i, s in enumerate(self.segments))
        )


def traced(old: Segment, new: Segment) -> Origins | None:
    """Which runs of a segment's text were copied from what it was before; None: nobody told."""
    if new.origins is None and new.text == old.text:
        return ((0, 0, len(new.text)),) if new.text else ()
    return new.origins


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt as plain chat messages, one for each turn and role.

    What a tool said is told by the user, since a plain message has no call to link it to. An
    empty prompt is one empty message of the user.
    """
    messages = [
        {"role": role, "content": sendable("\n\n".join(leaf.text for leaf in leaves))}
        for (_, role), leaves in groupby(prompt.leaves, key=lambda leaf: (leaf.turn, _teller(leaf)))
    ]
    return messages or [{"role": "user", "content": ""}]


def sendable(text: str) -> str:
    """The text as UTF-8 can carry it: lone surrogates become question marks."""
    return text.encode(errors="replace").decode()


def _teller(leaf: Leaf) -> Role:
    return "user" if leaf.role == "tool" else leaf.role


def _moved(segment: Segment, text: str, origins: Origins | None) -> tuple[Span, ...]:
    """Where the spans of a segment lie in a text that was made from it, as far as they do."""
    if origins is not None and segment.spans:
        found = landed(origins, segment.spans)
        if all(found):
            return tuple(filter(None, found))
    return _searched(segment, text)


def _searched(segment: Segment, text: str) -> tuple[Span, ...]:
    """The same by searching for what the spans hold, one after the other."""
    moved: list[Span] = []
    at = 0
    for start, end in segment.spans:
        found = text.find(segment.text[start:end], at)
        if found < 0:
            break
        at = found + end - start
        moved.append((found, at))
    return tuple(moved)
