"""A request on its way through compaction: what was compacted stays so, and more when it is due."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from tersely.contracts import Completion, Context, Request
from tersely.errors import ConfigError
from tersely.history import Compacted
from tersely.middleware.compaction import Compaction, Moment
from tersely.middleware.conversation import Conversation
from tersely.middleware.drive import drive
from tersely.middleware.held import Held, History
from tersely.middleware.messages import lasting, listed
from tersely.plans import Steps
from tersely.prompt import Prompt, Role, Segment
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


class Reader(Protocol):
    """Who reads a request of one shape."""

    @property
    def name(self) -> str: ...
    def read(self, request: Any, /) -> Prompt: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacting:
    """The terms under which the older turns of one request become one message."""

    terms: Compaction
    reader: Reader
    context: Context
    model: str
    now: float

    def of(self, request: Any, prompt: Prompt, history: History) -> Outcome:
        """The request with what was compacted before, and with more of it when that is due.

        Raises ConfigError when no limit is known, and what the writer raises.
        """
        heard = replace(history, last=self.now)
        found = listed(request)
        if found is None:
            return Outcome(request=request, prompt=prompt, history=heard)
        chat = Conversation(self.reader.name, *found)
        if heard.held is not None and not chat.holds(heard.held):
            heard = replace(heard, held=None, refused=0)
        idle = None if history.last is None else self.now - history.last
        sent = self._sent(request, prompt, chat, heard)
        return self._more(sent, (request, prompt), chat, idle)

    def _sent(self, request: Any, prompt: Prompt, chat: Conversation, history: History) -> Outcome:
        """The request as it goes out without another compaction."""
        held = history.held
        if held is None:
            return Outcome(request=request, prompt=prompt, history=history)
        made = chat.compacted(request, held)
        told = self._decision(chat, held, "frozen", "compacted before in this conversation")
        read = self._read(made, prompt, chat)
        return Outcome(request=made, prompt=read, history=history, decisions=(told,))

    def _more(
        self, sent: Outcome, given: tuple[Any, Prompt], chat: Conversation, idle: float | None
    ) -> Outcome:
        """The request with more of its older turns in one message, if that is due and spares."""
        request, prompt = given
        before = sent.history.held
        until = lasting(chat.messages, self.terms.keep)
        gone = chat.old(until) | (before.gone if before else frozenset())
        segments = self._old(chat, before, gone)
        old = sum(self.context.tokens_of([one.text for one in segments]))
        ahead = sum(self.context.tokens_of([*chat.ahead(prompt), prompt.tools]))
        size = self.context.tokens(sent.prompt)
        moment = Moment.of(self.terms, self._limit(), self.model, idle, (size, ahead, old))
        if not (due := moment.due):
            return sent
        if not segments or (before and gone == before.gone):
            return sent.but(f"{due}, but no older turn may change")
        if sent.history.refused and old - sent.history.refused < max(moment.least, 1):
            return sent.but(f"{due}, but as much was tried before and spared too little")
        room = int(moment.limit * self.terms.to) - (size - old)
        made = self._written(segments, chat.known(prompt, gone), prompt.question, room)
        held = Held(max(until, before.until if before else 0), gone, made.text, b"")
        held = replace(held, key=chat.key(held.until))
        compacted = chat.compacted(request, held) if made.text else request
        read = self._read(compacted, prompt, chat) if made.text else prompt
        spared = size - self.context.tokens(read) if made.text else 0
        if why := moment.refusal(spared, made.account.cost):
            refused = replace(sent.history, refused=max(old, 1))
            told = replace(sent, history=refused, cost=made.account.cost)
            return told.but(f"{due}, but {why}")
        return Outcome(
            request=compacted,
            prompt=read,
            history=replace(sent.history, held=held, refused=0),
            cost=made.account.cost,
            decisions=(self._decision(chat, held, "compressed", due),),
            notes=_told(made, moment, spared),
        )

    def _old(self, chat: Conversation, before: Held | None, gone: frozenset[int]) -> list[Segment]:
        """What is to be compacted: all old turns, since the request still holds them.

        Where a backend writes, it is the last summary and what was said since: nobody pays for the
        same turns twice.
        """
        if before is None or self.context.backend is None:
            return chat.said(gone)
        return [Segment(text=before.text, kind="history"), *chat.said(gone - before.gone)]

    def _written(self, segments: list[Segment], known: str, question: str, room: int) -> Compacted:
        """One text for some segments, with as many tokens as there is room for."""
        beside = Segment(text=known, locked=True)
        request = Request(prompt=Prompt((*segments, beside), question), seed=self.context.seed)
        context = self.context.within(max(room, 1))
        made = carried(self.terms.writer.steps(request, context), context)
        if isinstance(made, Compacted):
            return made
        text = made.text.strip()
        return Compacted(text=text)

    def _read(self, request: Any, prompt: Prompt, chat: Conversation) -> Prompt:
        """A compacted request as it is read; the message that stands for others is closed."""
        read = replace(self.reader.read(request), question=prompt.question)
        size = len(chat.place)
        return read.with_segments(
            {
                i: replace(one, locked=True, reason=STANDS)
                for i, one in enumerate(read.segments)
                if one.path[:size] == chat.place
            }
        )

    def _limit(self) -> int:
        limit = self.terms.limit if self.terms.limit is not None else self.context.budget.tokens
        if limit is None:
            raise ConfigError("history needs a limit in tokens: history={'limit': 8000}")
        return limit

    def _decision(self, chat: Conversation, held: Held, action: Action, reason: str) -> Decision:
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


def carried(steps: Steps, context: Context) -> Completion:
    """Carry out a plan, also where there is no backend for it to ask."""
    if context.backend is not None:
        return drive(steps, context.backend)
    try:
        step = next(steps)
    except StopIteration as done:
        made: Completion = done.value
        return made
    steps.close()
    raise ConfigError(f"history: its writer asks a backend and there is none (it asked {step!r})")


def _told(made: Compacted, moment: Moment, spared: int) -> tuple[str, ...]:
    """What the report tells of a compaction."""
    account = made.account
    verdict = moment.verdict(spared, account.cost)
    notes = [
        f"{spared} tokens fewer from now on; {verdict.reason}",
        f"{account.firm} lines word for word, {account.facts} facts, {len(account.lost)} of them"
        " found no room",
        *account.notes,
    ]
    if account.calls:
        notes.append(f"{len(account.calls)} calls took {account.spent} tokens")
    if account.lost:
        notes.append("without room: " + ", ".join(account.lost[:20]))
    return tuple(f"history: {note}" for note in notes)
