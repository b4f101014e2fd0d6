"""Chat messages as the text that a model's own template makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

KEPT = 16
"""Templates that are kept ready."""


def filled(
    template: str, messages: Sequence[Mapping[str, str]], *, goes_on: bool, **names: str
) -> str:
    """The messages in a template of Jinja's, with `names` such as `bos_token` known to it.

    It ends where the assistant begins to speak; where the answer `goes_on`, behind the last message
    as far as the template leaves it whole. Raises what the template raises.
    """
    text = _compiled(template).render(
        messages=[dict(one) for one in messages], add_generation_prompt=not goes_on, **names
    )
    return _cut(text, messages[-1]["content"]) if goes_on else text


def _cut(text: str, last: str) -> str:
    """The text up to the end of the last message; templates may cut its white space away."""
    at = text.rfind(last.strip())
    if at < 0 or not last.strip():
        raise ValueError("the template leaves the begun answer out")
    whole = last.lstrip()
    return text[: at + len(whole if text.startswith(whole, at) else last.strip())]


@lru_cache(KEPT)
def _compiled(template: str) -> Any:
    """A template that can do no harm, with what model makers take for granted."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    room = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    room.filters["tojson"] = _json
    room.globals["raise_exception"] = _refuse
    room.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return room.from_string(template)


def _json(value: Any, indent: int | None = None) -> str:
    """As JSON, without the escapes for HTML that Jinja's own filter makes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise ValueError(message)
