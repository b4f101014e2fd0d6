"""A request as it goes out with what was done to its conversation before, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tersely.contracts import Context
from tersely.history import HEAD
from tersely.middleware import adapters
from tersely.middleware.conversation import Conversation
from tersely.middleware.held import Held, History
from tersely.middleware.shrinking import SHRUNK
from tersely.prompt import Path, Prompt, Role
from tersely.report import Action, Decision, spell

STAGE = "history"
"""What decisions name as their stage."""

STANDS = "it stands for the older turns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a request, what there is to say of it, and what a session is to remember.

    `cost` is what was asked of a model for it, in tokens of the prompt.
    """

    request: Any
    prompt: Prompt
    history: History
    cost: float = 0.0
    decisions: tuple[Decision, ...] = ()
    notes: tuple[str, ...] = ()

    def but(self, note: str) -> Outcome:
        """The same, with something said about it."""
        return replace(self, notes=(*self.notes, f"history: {note}")) if note else self


@dataclass(frozen=True, slots=True)
class Way:
    """A request as it came: as it was read, and its messages."""

    request: Any
    prompt: Prompt
    chat: Conversation


class Reader(Protocol):
    """Who reads a request of one shape."""

    @property
    def name(self) -> str: ...
    def read(self, request: Any, /) -> Prompt: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Who reads requests, who counts them, and how a prompt looks as far as it was sent before."""

    reader: Reader
    context: Context
    frozen: Callable[[Prompt], Prompt]

    def size(self, prompt: Prompt) -> int:
        """The tokens of a prompt as it would be sent."""
        return self.context.tokens(self.frozen(prompt))

    def sent(self, way: Way, history: History) -> Outcome:
        """The request as it goes out with what was done, and no more."""
        made, texts = way.request, history.shrunk.texts if history.shrunk else {}
        decisions: list[Decision] = []
        if texts:
            made = adapters.edited(made, texts)
        if history.held:
            made = way.chat.compacted(made, history.held)
            why = "compacted before in this conversation"
            decisions.append(self.decision(way.chat, history.held, "frozen", why))
        if made is way.request:
            return Outcome(request=made, prompt=way.prompt, history=history)
        read = self._read(made, way, frozenset(texts.values()))
        return Outcome(request=made, prompt=read, history=history, decisions=tuple(decisions))

    def _read(self, request: Any, way: Way, texts: frozenset[str]) -> Prompt:
        """A request as it is read; what stands for older turns and results is closed."""
        read = replace(self.reader.read(request), question=way.prompt.question)
        size = len(way.chat.place)
        closed = {
            i: STANDS if one.path[:size] == way.chat.place and HEAD in one.text else SHRUNK
            for i, one in enumerate(read.segments)
            if (one.path[:size] == way.chat.place and HEAD in one.text)
            or (one.role == "tool" and one.text in texts)
        }
        return read.with_segments(
            {
                i: replace(read.segments[i], locked=True, reason=reason)
                for i, reason in closed.items()
            }
        )

    def results(self, read: Prompt, texts: Mapping[Path, str], due: str) -> Iterator[Decision]:
        """What became of old results, each as one decision."""
        for leaf in read.leaves:
            if leaf.path in texts:
                before, after = self.context.tokens_of([leaf.text, texts[leaf.path]])
                yield Decision(
                    path=spell(leaf.path),
                    role=leaf.role,
                    kind=leaf.segments[0].kind,
                    stage=STAGE,
                    action="compressed",
                    reason=f"{SHRUNK}: {due}",
                    before=before,
                    after=after,
                )

    def ahead(self, old: Prompt, new: Prompt) -> int:
        """The tokens before the first text in which two ways of sending a request differ."""
        texts = [old.tools]
        for one, other in zip(self.frozen(old).leaves, self.frozen(new).leaves, strict=False):
            if (one.role, one.text) != (other.role, other.text):
                break
            texts.append(one.text)
        return sum(self.context.tokens_of(texts))

    def decision(self, chat: Conversation, held: Held, action: Action, reason: str) -> Decision:
        """What became of the older turns, as one decision."""
        texts = [one.text for one in chat.said(held.gone)]
        sizes = self.context.tokens_of([*texts, held.text])
        role: Role = "user"
        return Decision(
            path=f"{spell(chat.path) if chat.path else ''}[{chat.head}:{held.until}]",
            role=role,
            kind="history",
            stage=STAGE,
            action=action,
            reason=reason,
            before=sum(sizes[:-1]),
            after=sizes[-1],
        )
