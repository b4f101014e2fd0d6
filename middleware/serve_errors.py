"""How a server tells what failed: in OpenAI's shape, with a status that clients understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from reprlib import Repr
from typing import Any

from pydantic import ValidationError

from tersely.errors import (
    BackendError,
    ContextLengthError,
    ModelError,
    OutOfTime,
    RequestError,
    TerselyError,
)
from tersely.report import spell

INVALID = "invalid_request_error"

LONGEST = 2000
"""Characters of a message; what a client sent may be longer than anyone reads."""

_brief = Repr()
_brief.maxstring = _brief.maxother = 80


class Refused(RequestError):
    """A request that is answered by an error.

    `param` is the field that is at fault, and `headers` go with the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.param, self.code = status, kind, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI spells it."""
        message = str(self)
        if len(message) > LONGEST:
            message = f"{message[:LONGEST]}..."
        error = {"message": message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def unsupported(param: str, why: str = "this server can't do that; leave it out") -> Refused:
    """Of a field that is understood, and can't be kept to."""
    return Refused(f"{param}: {why}", param=param, code="unsupported_parameter")


def brief(value: Any) -> str:
    """A value as it is quoted in a message."""
    try:
        return _brief.repr(value)
    except (RecursionError, ValueError):  # nested too deep, or a number of too many digits
        return type(value).__name__


def refusal(error: Exception) -> Refused:
    """What a client is told of a failure.

    400: the request can't be answered as it is. 503: the model or its memory can't serve it now;
    `x-should-retry` says whether asking again may help. 504: nothing
    came by the deadline. 500: a fault of ours.
    """
    match error:
        case Refused():
            return error
        case ContextLengthError():
            return Refused(str(error), code="context_length_exceeded")
        case BackendError() if _template_refused(error):
            return Refused(str(error), param="messages")
        case BackendError():
            return _unavailable(error, retryable=error.retryable)
        case OutOfTime():
            never = {"x-should-retry": "false"}
            return Refused(
                str(error), status=504, kind="server_error", code="out_of_time", headers=never
            )
        case ModelError() | ImportError():
            return _unavailable(error, retryable=False)
        case TerselyError():
            return Refused(str(error))
        case _:
            return Refused("the server failed", status=500, kind="server_error")


def invalid(error: ValidationError) -> Refused:
    """The first thing that is wrong with a body."""
    first = error.errors(include_url=False)[0]
    path = tuple(first["loc"])
    param = spell(path) if path else None
    if first["type"] == "extra_forbidden":
        return unknown(param or "")
    if first["type"] == "missing":
        return Refused(f"you must give {param}", param=param, code="missing_required_parameter")
    said = first["msg"].removeprefix("Value error, ")
    message = f"{param}: {said} (given: {brief(first['input'])})"
    return Refused(message, param=param, code="invalid_value")


def unknown(name: str) -> Refused:
    """Of a field that nobody knows."""
    short = name if len(name) <= 100 else f"{name[:100]}..."
    message = f"Unrecognized request argument supplied: {short}"
    return Refused(message, param=short, code="unknown_parameter")


def wrong(path: Sequence[str | int], why: str) -> Refused:
    """Of a value somewhere in the body."""
    param = spell(tuple(path))
    return Refused(f"{param}: {why}", param=param, code="invalid_value")


def _unavailable(error: Exception, *, retryable: bool) -> Refused:
    again = "true" if retryable else "false"
    return Refused(
        str(error),
        status=503,
        kind="server_error",
        code="unavailable",
        headers={"x-should-retry": again, **({"retry-after": "1"} if retryable else {})},
    )


def _template_refused(error: BackendError) -> bool:
    """Whether it was the chat template, which wants other messages: no fault of the model's."""
    return type(error.__cause__).__module__.startswith("jinja2")
