"""A request's text with fewer tokens, before a server answers it, where its client wishes that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tersely.budget import Budget
from tersely.errors import TerselyError
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.scope import Override
from tersely.middleware.serve_body import Body, ChatBody, Given, TerselyWishes
from tersely.middleware.serve_errors import Refused, unsupported

STAGES_BUDGET = 0.5
"""The part of a prompt that stages named by a client leave, where it does not say."""


def shortened(given: Given, body: Body, pipeline: Pipeline, counted: str) -> tuple[Given, Any]:
    """What was given with fewer tokens, and the account of it as JSON; None where none was wished.

    Tokens are those of the model `counted`. Raises Refused where what is wished can't be done.
    """
    if body.tersely is None or body.tersely.mode == "off":
        return given, None
    name = "messages" if isinstance(body, ChatBody) else "prompt"
    if isinstance(given.fields[name], list) and name == "prompt":
        raise unsupported("tersely", "it is for one prompt, not for a list")
    try:
        output, report = _compressed(given.fields[name], body.tersely, pipeline, counted)
    except TerselyError as error:
        raise Refused(f"tersely: {error}", param="tersely", code="invalid_value") from error
    return replace(given, fields={**given.fields, name: output}), report


def _compressed(
    said: Any, wishes: TerselyWishes, pipeline: Pipeline, counted: str
) -> tuple[Any, Any]:
    if wishes.stages is not None:  # by name only: settings may name files of this machine
        pipeline = Pipeline(wishes.stages, budget=STAGES_BUDGET)
    override = Override(
        mode=wishes.mode,
        budget=None if wishes.budget is None else Budget.of(wishes.budget),
        strict=wishes.strict,
    )
    surface = "text" if isinstance(said, str) else "openai-chat"
    result = pipeline.run(
        said, question=wishes.question, model=counted, wishes=override, surface=surface
    )
    return result.output, result.report.model_dump(mode="json")
