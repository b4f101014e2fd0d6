"""A callback for LiteLLM, and for its proxy, that compresses what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tersely.budget import BudgetLike
from tersely.contracts import Stage
from tersely.errors import MissingExtra
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.scope import Override
from tersely.middleware.wrap_litellm import SURFACES, changed, was_sent, will_send
from tersely.middleware.wrapping import Wrapping
from tersely.report import Mode

try:
    from litellm.integrations.custom_logger import CustomLogger
except ImportError as error:
    raise MissingExtra("litellm", "litellm") from error


class TerselyCallback(CustomLogger):
    """Compresses what LiteLLM's proxy, and its async functions, are asked.

    Put it in the proxy's `callbacks`, or in `litellm.callbacks` for `acompletion`, `aresponses` and
    a router's. LiteLLM lets no callback change what `litellm.completion` sends: wrap the function,
    `tersely.wrap(litellm.completion)`. Chat completions, responses and Anthropic's messages are
    compressed, once a call; whatever fails goes on as it is.

    The settings are those of `tersely.wrap`.
    """

    def __init__(
        self,
        pipeline: Pipeline | str | Stage | Sequence[object] | Path = "default",
        *,
        budget: BudgetLike = None,
        mode: Mode | None = None,
        strict: bool | None = None,
    ) -> None:
        """Raises ConfigError for a setting that can't work."""
        super().__init__()
        settings = Override.of({"budget": budget, "mode": mode, "strict": strict})
        self._wrapping = Wrapping(pipeline_of(pipeline), settings)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """What the proxy is asked, before it chooses who answers."""
        made = await self._shorter(data, call_type)
        if surface := surface_of(call_type):
            will_send(surface, made)
        return made

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """What an async function is asked, after it was chosen who answers."""
        return await self._shorter(kwargs, call_type)

    async def _shorter(self, call: dict[str, Any], call_type: Any) -> dict[str, Any]:
        surface = surface_of(call_type)
        if not surface or was_sent(surface, call):
            return call
        wishes = self._wrapping.wishes(None)
        model = str(call.get("model") or "")
        result = await self._wrapping.arun(call, wishes, surface=surface, model=model)
        return {**call, **changed(surface, call, result)}


def surface_of(call_type: Any) -> str:
    """Who reads the prompt of a kind of call; "" when it holds none that is known."""
    return SURFACES.get(str(getattr(call_type, "value", call_type)), "")
