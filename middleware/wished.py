"""A request on its way through a pipeline, as its caller wishes it to be treated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tersely.middleware import scope
from tersely.middleware.passage import Passage, model_of
from tersely.middleware.scope import Override

if TYPE_CHECKING:
    from tersely.middleware.adapters import Adapter
    from tersely.middleware.pipeline import Pipeline
    from tersely.middleware.session import Session


def passage_of(
    pipeline: Pipeline,
    request: Any,
    *,
    question: str | None = None,
    model: str | None = None,
    wishes: Override | None = None,
    session: Session | None = None,
    surface: str | Adapter = "",
    soft: bool = False,
) -> Passage:
    """The way of one request; `Pipeline.run` tells what the settings mean.

    `wishes` go before the surrounding `tersely.override`, and both before the pipeline's own.
    """
    wishes = (wishes or Override()).over(scope.current_override())
    chosen = wishes.pipeline or pipeline
    return Passage(
        pipeline=chosen,
        request=request,
        question=question if question is not None else wishes.question,
        model=model or model_of(request) or chosen.model,
        mode=wishes.mode or chosen.mode,
        strict=chosen.strict if wishes.strict is None else wishes.strict,
        budget=wishes.budget or chosen.budget,
        session=session,
        surface=surface,
        soft=soft,
    )
