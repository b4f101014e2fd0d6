"""The requests that a log holds, and when they were sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tersely.errors import RequestError
from tersely.middleware import adapters, rawjson
from tersely.middleware.adapters import Adapter
from tersely.middleware.passage import model_of

BODIES = ("body", "params", "request", "kwargs", "data")
"""Where a row of a log may hold the request; else it is the request."""

TIMES = ("timestamp", "time", "created_at", "created", "ts", "start_time", "startTime", "date")
"""Under which names a row may tell when the request was sent."""

MILLISECONDS = 1e11
"""Numbers beyond this are no seconds since 1970, but thousandths of them."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A request of a log, who reads it, and when it was sent (seconds; None: not told)."""

    body: Any
    reader: Adapter
    model: str
    at: float | None

    @classmethod
    def of(cls, row: Any, model: str = "") -> Logged:
        """Raises RequestError when a row holds no request."""
        if not isinstance(row, Mapping):
            raise RequestError("not a JSON object")
        for body in _bodies(row):
            reader = adapters.find(body)
            if reader is not None and reader.read(body).segments:
                return cls(body, reader, model_of(body) or model_of(row) or model, _time(row))
        raise RequestError("no prompt in it")


def read(rows: Iterable[Any], model: str = "") -> tuple[list[Logged], dict[str, int]]:
    """The requests of a log, and how many rows hold none, by the reason."""
    found: list[Logged] = []
    unread: dict[str, int] = {}
    for row in rows:
        try:
            found.append(Logged.of(row, model))
        except RequestError as error:
            unread[str(error)] = unread.get(str(error), 0) + 1
    return found, unread


def _bodies(row: Mapping[str, Any]) -> Iterator[Any]:
    """What of a row may be the request."""
    yield row
    for name in BODIES:
        held = row.get(name)
        if isinstance(held, str) and held.lstrip()[:1] == "{":
            try:
                held = rawjson.parse(held)
            except RequestError:
                continue
        if isinstance(held, Mapping):
            yield held


def _time(row: Mapping[str, Any]) -> float | None:
    """When a request was sent, in seconds since 1970; None when its row does not tell."""
    value = next((row[name] for name in TIMES if row.get(name) not in (None, "")), None)
    if isinstance(value, str):
        return _moment(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return None
    return value / 1000 if value > MILLISECONDS else float(value)


def _moment(text: str) -> float | None:
    """The seconds that a text tells, as a number or a date."""
    if text.replace(".", "", 1).isdecimal():
        return _time({TIMES[0]: float(text)})
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
