"""A request on its way through compaction: what was compacted stays so, and more when it is due."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tersely.contracts import Request
from tersely.errors import ConfigError
from tersely.history import Compacted
from tersely.middleware.carrying import carried
from tersely.middleware.compaction import Compaction, Moment
from tersely.middleware.conversation import Conversation
from tersely.middleware.held import Held, History, Shrunk
from tersely.middleware.messages import lasting, listed
from tersely.middleware.shrinking import results, shrunk
from tersely.middleware.standing import Outcome, Standing, Way
from tersely.prompt import Prompt, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacting:
    """The terms under which the older turns of one request become less.

    `spared` are the tokens that the conversation cost less so far than it would have.
    """

    terms: Compaction
    standing: Standing
    model: str
    now: float
    spared: float = 0.0

    def of(self, request: Any, prompt: Prompt, history: History) -> Outcome:
        """The request with what was compacted before, and with more of it when that is due.

        Raises ConfigError when no limit is known, and what the writer raises.
        """
        heard = replace(history, last=self.now)
        found = listed(request)
        if found is None:
            return Outcome(request=request, prompt=prompt, history=heard)
        chat = Conversation(self.standing.reader.name, *found, words=self.terms.words == "kept")
        idle = None if history.last is None else self.now - history.last
        sent = self.standing.sent(Way(request, prompt, chat), chat.held(heard))
        return self._more(sent, Way(request, prompt, chat), idle)

    def _more(self, sent: Outcome, way: Way, idle: float | None) -> Outcome:
        """The request with more of its older turns made less, if that is due and spares."""
        until = lasting(way.chat.messages, self.terms.keep)
        moment = self._moment(sent, way, idle, until)
        if not moment.due:
            return sent
        done = self._shrunk(sent, way, moment, until)
        is_shrunk = done.history.shrunk is not sent.history.shrunk
        if is_shrunk and self.standing.size(done.prompt) <= moment.limit * self.terms.to:
            return done
        made = self._compacted(sent, way, moment, until)
        return done if is_shrunk and made.history.held is sent.history.held else made

    def _moment(self, sent: Outcome, way: Way, idle: float | None, until: int) -> Moment:
        """The tokens of the request as it would be sent, and where the cache stands."""
        seen = self.standing.frozen(sent.prompt)
        ahead = sum(self.standing.context.tokens_of([*way.chat.ahead(seen), seen.tools]))
        segments = self._old(way.chat, sent.history.held, self._gone(sent, way, until))
        old = sum(self.standing.context.tokens_of([one.text for one in segments]))
        sizes = (self.standing.context.tokens(seen), ahead, old)
        moment = Moment.of(self.terms, self._limit(), self.model, (idle, self.spared), sizes)
        return replace(moment, exact=self.standing.context.count.exact)

    def _gone(self, sent: Outcome, way: Way, until: int) -> frozenset[int]:
        """The places of the messages that may go."""
        before = sent.history.held
        return way.chat.old(until) | (before.gone if before else frozenset())

    def _shrunk(self, sent: Outcome, way: Way, moment: Moment, until: int) -> Outcome:
        """The request with old results of tools made short, as many as it takes."""
        before = sent.history.shrunk.texts if sent.history.shrunk else {}
        gone = sent.history.held.gone if sent.history.held else frozenset()
        places = [
            one.path
            for one in way.prompt.leaves
            if self.terms.results
            and way.chat.is_open(at := way.chat.at(one.path), until)
            and at not in gone
            and one.path not in before
        ]
        seen = self.standing.frozen(way.prompt)
        found = list(results(way.prompt, seen, places))
        need = moment.size - int(moment.limit * min(self.terms.early, self.terms.to))
        texts = shrunk(found, need, self.standing.context, self.terms.recall)
        if not texts:
            return sent
        until = max(until, sent.history.shrunk.until if sent.history.shrunk else 0)
        held = Shrunk(until, {**before, **texts}, way.chat.key(until))
        made = self.standing.sent(way, replace(sent.history, shrunk=held, refused=0))
        spared = moment.size - self.standing.size(made.prompt)
        later = replace(moment, ahead=self.standing.ahead(sent.prompt, made.prompt))
        if why := later.refusal(spared, 0.0):
            return sent.but(f"{moment.due}, but {why}")
        told = self.standing.results(way.prompt, texts, moment.due)
        again = f"{spared} tokens fewer from now on; {later.verdict(spared).reason}"
        return replace(made, decisions=(*made.decisions, *told)).but(again)

    def _compacted(self, sent: Outcome, way: Way, moment: Moment, until: int) -> Outcome:
        """The request with more of its older turns in one message, if that spares."""
        due, before = moment.due, sent.history.held
        gone = self._gone(sent, way, until)
        segments = self._old(way.chat, before, gone)
        if not segments or (before and gone == before.gone):
            return sent.but(f"{due}, but no older turn may change")
        if sent.history.refused and moment.old - sent.history.refused < max(moment.least, 1):
            return sent.but(f"{due}, but as much was tried before and spared too little")
        if why := moment.waits:
            return sent.but(f"{due}, but {why}")
        rest = self.standing.context.tokens(
            way.chat.without(self.standing.frozen(way.prompt), gone)
        )
        room = int(moment.limit * self.terms.to) - rest
        made = self._written(segments, way.chat.known(way.prompt, gone), way.prompt.question, room)
        held = Held(max(until, before.until if before else 0), gone, made.text, b"")
        held = replace(held, key=way.chat.key(held.until))
        done = self.standing.sent(way, replace(sent.history, held=held)) if made.text else sent
        spared = moment.size - self.standing.size(done.prompt) if made.text else 0
        moment = replace(moment, ahead=self.standing.ahead(sent.prompt, done.prompt))
        if why := moment.refusal(spared, made.account.cost):
            refused = replace(sent.history, refused=max(moment.old, 1))
            told = replace(sent, history=refused, cost=made.account.cost)
            return told.but(f"{due}, but {why}")
        return replace(
            done,
            history=replace(done.history, refused=0),
            cost=made.account.cost,
            decisions=(self.standing.decision(way.chat, held, "compressed", due),),
            notes=_told(made, moment, spared),
        )

    def _old(self, chat: Conversation, before: Held | None, gone: frozenset[int]) -> list[Segment]:
        """What is to be compacted: all old turns, since the request still holds them.

        Where a backend writes, it is the last summary and what was said since: nobody pays for the
        same turns twice.
        """
        if before is None or self.standing.context.backend is None:
            return chat.said(gone)
        return [Segment(text=before.text, kind="history"), *chat.said(gone - before.gone)]

    def _written(self, segments: list[Segment], known: str, question: str, room: int) -> Compacted:
        """One text for some segments, with as many tokens as there is room for."""
        beside = Segment(text=known, locked=True)
        request = Request(
            prompt=Prompt((*segments, beside), question), seed=self.standing.context.seed
        )
        context = self.standing.context.within(max(room, 1))
        made = carried(self.terms.writer.steps(request, context), context)
        if isinstance(made, Compacted):
            return made
        text = made.text.strip()
        return Compacted(text=text)

    def _limit(self) -> int:
        limit = (
            self.terms.limit
            if self.terms.limit is not None
            else self.standing.context.budget.tokens
        )
        if limit is None:
            raise ConfigError("history needs a limit in tokens: history={'limit': 8000}")
        return limit


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
