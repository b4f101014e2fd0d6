"""The messages of one request, and the same request with one message in place of older ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

from tersely.middleware import adapters
from tersely.middleware.held import Held, History, Shrunk
from tersely.middleware.messages import Message, message_of, settled
from tersely.prompt import Path, Prompt, Segment

SOURCE = {"lc_source": "summarization"}
"""How LangChain marks a summary."""


class Conversation:
    """The messages of a request on one surface, as they hang together.

    With `words` those in which the user speaks stay as they are.
    """

    def __init__(
        self, surface: str, path: Path, nodes: Sequence[Any], *, words: bool = False
    ) -> None:
        self.surface = surface
        self.path = path
        self.nodes = nodes
        self.messages: list[Message] = [message_of(node) for node in nodes]
        settled(self.messages)
        self._fixed = frozenset(at for at, one in enumerate(self.messages) if one.whole)
        for one in self.messages:
            if words and one.is_asked and not one.whole:
                one.whole = "what the user said"
        settled(self.messages)

    @cached_property
    def head(self) -> int:
        """How many messages of the system the list begins with."""
        kinds = enumerate(one.role == "system" for one in self.messages)
        return next((at for at, is_system in kinds if not is_system), len(self.messages))

    @property
    def place(self) -> Path:
        """Where the message lies that stands for older ones."""
        return (*self.path, self.head)

    def old(self, until: int) -> frozenset[int]:
        """The messages before a place that may go: all but what the user said last."""
        asked = [at for at, one in enumerate(self.messages) if one.is_asked]
        last = asked[-1] if asked else -1
        places = range(self.head, until)
        return frozenset(at for at in places if at != last and not self.messages[at].whole)

    def said(self, places: frozenset[int]) -> list[Segment]:
        """What some messages say, in order."""
        return [one for at in sorted(places) for one in self.messages[at].says]

    def key(self, until: int) -> bytes:
        """What the messages up to a place are known by."""
        digest = blake2b(digest_size=16)
        for one in self.messages[:until]:
            texts = [str(one.role), one.whole, *one.calls, *one.answers]
            texts += [f"{said.role} {said.text}" for said in one.says]
            digest.update(repr(texts).encode())
        return digest.digest()

    def is_open(self, at: int, until: int) -> bool:
        """Whether a result in a message may be made short, of those before a place."""
        return self.head <= at < until and at not in self._fixed

    def holds(self, held: Held | Shrunk) -> bool:
        """Whether something was done to this conversation."""
        return held.until <= len(self.nodes) and self.key(held.until) == held.key

    def held(self, history: History) -> History:
        """Of what was done, what was done to this conversation."""
        if history.held is not None and not self.holds(history.held):
            history = replace(history, held=None, refused=0)
        if history.shrunk is not None and not self.holds(history.shrunk):
            history = replace(history, shrunk=None)
        return history

    def at(self, path: Path) -> int:
        """The message that a text belongs to; -1 for what stands outside of the list."""
        size = len(self.path)
        place = path[size] if path[:size] == self.path and len(path) > size else -1
        return place if isinstance(place, int) else -1

    def ahead(self, prompt: Prompt) -> list[str]:
        """The texts of a prompt that stand before the older turns."""
        return [one.text for one in prompt.segments if self.at(one.path) < self.head]

    def known(self, prompt: Prompt, gone: frozenset[int]) -> str:
        """What a prompt says beside some messages."""
        return "\n".join(one.text for one in prompt.segments if self.at(one.path) not in gone)

    def without(self, prompt: Prompt, gone: frozenset[int]) -> Prompt:
        """A prompt without some messages."""
        left = tuple(one for one in prompt.segments if self.at(one.path) not in gone)
        return replace(prompt, segments=left, turns=prompt.turns - len(gone))

    def compacted(self, request: Any, held: Held) -> Any:
        """A copy of the request in which a text stands for the older turns.

        The request is this conversation's, but that texts in its messages may be shorter.
        """
        now = adapters.look(request, self.path)
        stays = [at for at in range(self.head, held.until) if at not in held.gone]
        marks = [self.messages[at].mark for at in sorted(held.gone) if self.messages[at].mark]
        nodes = [
            *now[: self.head],
            self._node(held.text, marks[-1] if marks else None),
            *(now[at] for at in stays),
            *now[held.until :],
        ]
        made = tuple(nodes) if isinstance(self.nodes, tuple) else nodes
        return adapters.put(request, self.path, made)

    def _node(self, text: str, mark: tuple[str, Any] | None) -> Any:
        """A message of the user's, in this surface's shape, with the last cache breakpoint."""
        if self.surface == "langchain":
            from langchain_core.messages import HumanMessage

            return HumanMessage(content=text, additional_kwargs=dict(SOURCE))
        if mark is None:
            return {"role": "user", "content": text}
        kind = "input_text" if self.surface == "openai-responses" else "text"
        return {"role": "user", "content": [{"type": kind, "text": text, mark[0]: mark[1]}]}
