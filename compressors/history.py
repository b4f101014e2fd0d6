"""Put one text in the place of a conversation's older turns, with what binds word for word."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tersely.account import Call
from tersely.compressors.extractive import Extractive
from tersely.compressors.history_choice import Choice, chosen
from tersely.compressors.history_lines import Line, lines_of, written
from tersely.compressors.summarise import Summarise
from tersely.contracts import Context, Request
from tersely.errors import BackendError
from tersely.history import HEAD, MADE, Compacted, HistoryAccount
from tersely.plans import Reply, Step, Steps
from tersely.prompt import Prompt, Segment
from tersely.summaries import Summary

LEAST = 24
"""Tokens under which no sentences come along beside the facts."""

WORTH_ASKING = 120
"""Tokens of sentences under which no backend is asked to sum them up."""


class HistorySettings(BaseModel):
    """What is carried on of old turns.

    Carried on word for word, whatever it takes: what the user said, but for politeness and, in long
    messages, remarks without any fact, wish or question; every tool call; what the assistant says
    is done, decided or left to do; and of tools' output ids, paths, links and whatever anybody
    spoke of. Lines that hold facts (numbers, names, dates, ids, paths) which stand nowhere else
    come next, the latest first, as far as the limit allows and `ratio`, the share of the turns'
    tokens that the text may have (of an earlier summary: all; 1: no bound). What is left, up to
    `gist` of the turns' tokens, goes to the sentences that say most (`extractive`, by `encoder`).

    With a backend these sentences are summed up by it instead (`summarise`), checked against their
    source; it is asked only where that costs less than is spared: `price` is what a token of the
    backend costs, in tokens of the model that the conversation is with, and `uses` how often the
    text is sent. `written` off never asks.
    """

    ratio: float = Field(default=1, gt=0, le=1)
    gist: float = Field(default=0.1, ge=0, le=1)
    encoder: str = ""
    written: bool = True
    price: float = Field(default=0.1, ge=0)
    uses: int = Field(default=10, ge=1)


class History(HistorySettings):
    """Writes one text that stands for the older turns of a conversation.

    Old turns are the request's open texts, in order, each with who says it; a call of a tool is
    an assistant's text of kind `code`, `name({"argument": "value"})`. What is locked is known
    anyway and needs no carrying. A text of the user's that holds an earlier summary is read as the
    lines that it holds, so that what was carried on once stays. The context's limit is how many
    tokens the text may have (None: as many as it takes), as far as what binds allows. The answer is
    a `tersely.history.Compacted`; it is empty where no text would be shorter than the turns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "history"
    paper: ClassVar[str] = "Chvatal 1979, https://doi.org/10.1287/moor.4.3.233"

    def steps(self, request: Request, context: Context, /) -> Steps:
        old = [request.prompt.segments[i] for i in request.prompt.open]
        known = "\n".join(one.text for one in request.prompt.segments if one.locked)
        lines = lines_of(old)
        source = sum(context.tokens_of([one.text for one in old]))
        earlier = sum(context.tokens_of([one.text for one in old if HEAD in one.text]))
        choice = chosen(lines, known, self._room(source, earlier, context), context)
        room = min(choice.left, int((source - earlier) * self.gist))
        account = HistoryAccount(
            source=source,
            firm=choice.firm,
            facts=len(choice.facts),
            lost=choice.lost,
            price=self.price,
            exact=context.count.exact,
        )
        text = ""
        if self._asks(choice, room, source, context):
            text, account = yield from self._summed(choice, room, request, (context, account))
        if not text:
            text = written(choice.with_more(self._telling(choice, room, request, context)))
        made = context.tokens_of([text])[0]
        if made >= source:
            return Compacted(text="", account=replace(account, made=source))
        return Compacted(text=text, account=replace(account, made=made))

    def _room(self, source: int, earlier: int, context: Context) -> int:
        """The tokens that lines may have, beside what the text begins with."""
        rooms = [] if context.limit is None else [context.limit]
        if self.ratio < 1:
            rooms.append(earlier + int((source - earlier) * self.ratio))
        return min(rooms, default=2 * source) - context.tokens_of([HEAD])[0]

    def _telling(
        self, choice: Choice, room: int, request: Request, context: Context
    ) -> Sequence[int]:
        """The places of the sentences that say most of what is not carried on yet."""
        places = choice.rest
        if not places or room < LEAST:
            return []
        rows = [choice.lines[i].text for i in places]
        prompt = Prompt((Segment(text="\n".join(rows)),), request.prompt.question)
        stage = Extractive(unit="line", encoder=self.encoder)
        left = stage(prompt, context.within(room)).text.split("\n")
        found: list[int] = []
        for i, row in zip(places, rows, strict=True):
            if left and row == left[0]:
                found.append(i)
                left = left[1:]
        return found

    def _asks(self, choice: Choice, room: int, source: int, context: Context) -> bool:
        """Whether a backend is asked, as far as can be told before."""
        if context.backend is None or not self.written or room < LEAST:
            return False
        read = sum(context.tokens_of([choice.lines[i].text for i in choice.rest]))
        if read < WORTH_ASKING:
            return False
        cost = self.price * (read + MADE * room)
        gain = self.uses * read
        if cost >= gain:
            context.say(f"history: a summary would cost {cost:.0f} tokens to spare {gain:.0f}")
        return cost < gain

    def _summed(
        self, choice: Choice, room: int, request: Request, told: tuple[Context, HistoryAccount]
    ) -> Generator[Step, Reply, tuple[str, HistoryAccount]]:
        """The text with a summary of the rest by the backend; none where it fails."""
        context, account = told
        rest = "\n".join(choice.lines[i].text for i in choice.rest)
        own = Prompt((Segment(text=rest),))
        plan = Summarise(tokens=room, encoder=self.encoder)
        try:
            made = yield from plan.steps(Request(prompt=own, seed=request.seed), context)
        except BackendError as error:
            context.say(f"history: {error}; sentences of the turns stand in")
            return "", account
        calls: tuple[Call, ...] = made.account.calls if isinstance(made, Summary) else ()
        notes = made.account.notes if isinstance(made, Summary) else ()
        account = replace(account, calls=calls, notes=notes)
        lines = choice.with_more(())
        if not made.text.strip():
            return "", account
        gist = " ".join(made.text.split())
        first = Line(who="gist", text=gist, message=-1, row=-1)
        return written([first, *lines]), account
