"""What a log of requests cost, and would have cost with tersely, the prompt cache priced in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from tersely.middleware.audit_log import Logged, read
from tersely.middleware.pricing import Parcel, marks_of, pieces_of
from tersely.middleware.session import Session
from tersely.prices import UNKNOWN, Price, price_of
from tersely.prompt import Prompt
from tersely.prompt_cache import Piece, PromptCache, Sent, chain
from tersely.tokens import counter

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline

DAY = 86400
"""Seconds."""

KNOWN_CONVERSATIONS = 512
"""Conversations whose texts are remembered as they were sent; the one unused for longest goes."""

KNOWN_COUNTS = 100_000
"""Texts whose tokens are remembered: a conversation sends them again and again."""


class Side(BaseModel):
    """What requests cost, one way: tokens, and dollars without a cache (`listed`) and with one.

    `calls` are the dollars in it that compaction asked a model for.
    """

    model_config = ConfigDict(frozen=True)

    tokens: int
    read: int
    written: int
    listed: float
    cost: float
    calls: float = 0.0


class ModelAudit(BaseModel):
    """The requests to one model. `priced` tells whether the table of prices knows it."""

    model_config = ConfigDict(frozen=True)

    model: str
    requests: int
    priced: bool
    exact: bool
    plain: Side
    tersely: Side


class Spread(BaseModel):
    """Shares of the cost that conversations save: the median, and where 5 % and 95 % of them lie.

    `dearer` are conversations that cost more.
    """

    model_config = ConfigDict(frozen=True)

    conversations: int
    dearer: int
    low: float
    median: float
    high: float


class Audit(BaseModel):
    """What a log cost, and would have cost.

    `timed` tells whether every request had its time; without, each is taken to come before the
    cache forgets. `unread` counts lines that hold no request, by the reason.
    """

    model_config = ConfigDict(frozen=True)

    requests: int
    timed: bool
    unread: dict[str, int]
    models: tuple[ModelAudit, ...]
    spread: Spread | None

    @property
    def saved(self) -> float:
        """Dollars that are saved, the cache priced in; below 0 where it costs more."""
        return sum(one.plain.cost - one.tersely.cost for one in self.models)


@dataclass(slots=True)
class _Way:
    """One way of sending the requests: its cache, and what became of them by model."""

    cache: PromptCache = field(default_factory=PromptCache)
    sent: dict[str, Sent] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)

    def send(self, one: Logged, goes: Parcel, price: Price, calls: float = 0.0) -> float:
        """Send a request that took dollars for calls; tells what it costs."""
        sent = goes.sent(self.cache, price, one.at or 0.0)
        self.sent[one.model] = self.sent.get(one.model, Sent()) + sent
        self.calls[one.model] = self.calls.get(one.model, 0.0) + calls
        return sent.cost(price) + calls

    def side(self, model: str, price: Price) -> Side:
        """What the requests to a model cost."""
        sent, calls = self.sent[model], self.calls[model]
        return Side(
            tokens=sent.tokens,
            read=sent.read,
            written=sent.written,
            listed=sent.listed(price) + calls,
            cost=sent.cost(price) + calls,
            calls=calls,
        )


@dataclass(slots=True)
class _Thread:
    """One conversation: what it costs both ways, and when its latest request was sent."""

    paid: float = 0.0
    short: float = 0.0
    at: float = 0.0


class Auditor:
    """Sends the requests of a log in order, as they are and compressed, to no one.

    Raises ConfigError when the table of prices can't be read.
    """

    def __init__(self, pipeline: Pipeline, prices: str = "") -> None:
        budget = pipeline.budget.model_copy(update={"ms": None})  # the log is not in a hurry
        self._pipeline = pipeline.but(budget=budget)
        self._prices = prices
        self._plain, self._short = _Way(), _Way()
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._numbers: dict[str, int] = {}
        self._known: dict[bytes, int] = {}
        self._threads: list[_Thread] = []
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        price_of("", prices)

    def send(self, one: Logged) -> None:
        """Add a request."""
        price = price_of(one.model, self._prices)
        before = one.reader.read(one.body)
        came = self._parcel(one, before, one.body)
        at = self._thread(chain(came.pieces))
        thread = self._threads[at]
        thread.at = one.at or 0.0
        result = self._pipeline.run(
            one.body, model=one.model, surface=one.reader, session=self._session(at)
        )
        goes = self._parcel(one, one.reader.read(result.output), result.output)
        calls = result.report.cost.calls if result.report.cost else 0.0
        thread.paid += self._plain.send(one, came, price)
        thread.short += self._short.send(one, goes, price, calls)
        self._numbers[one.model] = self._numbers.get(one.model, 0) + 1

    def told(self, unread: Mapping[str, int], *, timed: bool) -> Audit:
        """What all of it came to."""
        return Audit(
            requests=sum(self._numbers.values()),
            timed=timed,
            unread=dict(unread),
            models=tuple(self._model(name) for name in self._numbers),
            spread=_spread(self._threads),
        )

    def _model(self, name: str) -> ModelAudit:
        price = price_of(name, self._prices)
        return ModelAudit(
            model=name,
            requests=self._numbers[name],
            priced=price is not UNKNOWN,
            exact=counter(name).exact,
            plain=self._plain.side(name, price),
            tersely=self._short.side(name, price),
        )

    def _thread(self, keys: list[bytes]) -> int:
        """The conversation that a request goes on with: one that it begins with all of."""
        known = (self._known[key] for key in reversed(keys[:-1]) if key in self._known)
        at = next(known, None)
        if at is None:
            at = len(self._threads)
            self._threads.append(_Thread())
        self._known[keys[-1]] = at
        return at

    def _session(self, at: int) -> Session:
        """The freeze table of a conversation; its clock shows when its requests were sent."""
        thread = self._threads[at]
        found = self._sessions.setdefault(at, Session(clock=lambda: thread.at))
        self._sessions.move_to_end(at)
        if len(self._sessions) > KNOWN_CONVERSATIONS:
            self._sessions.popitem(last=False)
        return found

    def _parcel(self, one: Logged, prompt: Prompt, request: Any) -> Parcel:
        count = counter(one.model)
        pieces = pieces_of(
            prompt, lambda texts: [self._tokens(t, one.model) for t in texts], count.framing
        )
        marks = marks_of(prompt, request, one.reader.name, one.model)
        return Parcel((Piece(one.model, 0), *pieces), marks)

    def _tokens(self, text: str, model: str) -> int:
        if not text:
            return 0
        key = (model, text)
        if key not in self._counts:
            self._counts[key] = counter(model)(text)
            if len(self._counts) > KNOWN_COUNTS:
                self._counts.popitem(last=False)
        return self._counts[key]


def audited(
    rows: Iterable[Any],
    pipeline: Pipeline,
    *,
    model: str = "",
    prices: str = "",
    days: float | None = None,
) -> Audit:
    """What the requests of a log cost, and would have cost with a pipeline in front.

    A row is a request's body, or holds it (`body`, `params`, `request`, ...) beside its time.
    Where all rows have a time they are taken in its order. `model` is taken for rows that name
    none. With `days` only those count that were sent within so many days before the last one.
    Raises ConfigError when the table of prices can't be read.
    """
    auditor = Auditor(pipeline, prices)
    logged, unread = read(rows, model)
    if days is not None:
        logged = list(_latest(logged, days * DAY, unread))
    timed = bool(logged) and all(one.at is not None for one in logged)
    for one in sorted(logged, key=lambda one: one.at or 0.0) if timed else logged:
        auditor.send(one if timed else replace(one, at=None))
    return auditor.told(unread, timed=timed)


def _latest(logged: Sequence[Logged], seconds: float, unread: dict[str, int]) -> Iterator[Logged]:
    """The requests that were sent within some time before the last one; notes the others."""
    end = max((one.at for one in logged if one.at is not None), default=0.0)
    for one in logged:
        if one.at is not None and one.at >= end - seconds:
            yield one
        else:
            why = "its time is not told" if one.at is None else "it was sent before that time"
            unread[why] = unread.get(why, 0) + 1


def _spread(threads: Sequence[_Thread]) -> Spread | None:
    """How the conversations fare; None when none of them costs anything."""
    shares = [1 - one.short / one.paid for one in threads if one.paid > 0]
    if not shares:
        return None
    cuts = quantiles(shares, n=20, method="inclusive") if len(shares) > 1 else shares * 19
    return Spread(
        conversations=len(shares),
        dearer=sum(share < -1e-12 for share in shares),
        low=cuts[0],
        median=cuts[9],
        high=cuts[18],
    )
