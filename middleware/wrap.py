"""Put a pipeline in front of the client that someone already uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tersely.budget import BudgetLike
from tersely.contracts import Stage
from tersely.errors import ConfigError
from tersely.middleware import wrap_dspy, wrap_langchain, wrap_litellm, wrap_sdk
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.points import SotLike
from tersely.middleware.scope import Override
from tersely.middleware.session import Session
from tersely.middleware.wrapping import Wrapping
from tersely.report import Mode

C = TypeVar("C")


def wrap(
    client: C,
    pipeline: Pipeline | str | Stage | Sequence[object] | Path = "default",
    *,
    mode: Mode | None = None,
    budget: BudgetLike = None,
    session: Session | str | None = None,
    strict: bool | None = None,
    sot: SotLike | None = None,
) -> C:
    """Make a client that compresses every prompt before it is sent.

    Takes a client of the openai or anthropic SDK (sync, async, Azure, Bedrock, Vertex), a
    LangChain chat model, a `dspy.LM`, or one of LiteLLM's functions. What comes back is of the
    client's own type and is used in the same way; the client itself stays as it was. The new
    client shares its connections, so closing one closes both. Wrapping a wrapped client gives it
    the new settings.

    The settings go before the pipeline's own; `tersely.override` goes before both, and one call
    before all: `extra_body={"tersely": {"mode": "off"}}`, elsewhere an argument:
    `model.invoke(prompt, tersely={"mode": "off"})`.

    With `sot` answers that make several points are written point by point, all at the same time:
    "auto" where the question suits, "force" wherever it can be done, or a mapping of these settings
    of the plan, with "mode" and "deadline" (seconds) beside them. What the client gives is an
    ordinary answer, whole or streamed; `tersely.sot.last_account()` tells how it came about. Chat
    completions and Anthropic's messages are answered so. What does not suit (tools, a form of the
    answer, several answers, stop strings, ...) is sent as it is.

    Raises ConfigError for a client of an unknown type, or a setting that can't work.
    """
    settings = Override.of(
        {"mode": mode, "budget": budget, "session": session, "strict": strict, "sot": sot},
    )
    if wrap_sdk.fits(client):
        return wrap_sdk.dress(client, Wrapping(pipeline_of(pipeline), settings))
    ways = (wrap_langchain, wrap_dspy, wrap_litellm)
    if way := next((way for way in ways if way.fits(client)), None):
        if settings.sot is not None and way is not wrap_langchain:
            raise ConfigError(f"sot can't take a {type(client).__name__}: wrap an SDK's client")
        made: C = way.dress(client, Wrapping(pipeline_of(pipeline), settings))
        return made
    kind = type(client)
    raise ConfigError(
        f"can't wrap a {kind.__module__}.{kind.__qualname__}: wrap() takes a client of the openai "
        "or anthropic SDK, a LangChain chat model (before bind_tools, `|` and the like), a "
        "dspy.LM, or a function of LiteLLM's (completion, acompletion, responses, aresponses)"
    )
