"""Which engine a server is, told by its own endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from tersely.backends.dialects import EngineName
from tersely.calls import ClientOptions, translated

OWNERS: Mapping[str, EngineName] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama.cpp",
    "me": "llama-cpp-python",
}
"""What servers call the owner of their models."""


def recognised(options: ClientOptions, parallel: int) -> dict[str, Any]:
    """The settings `engine` and `parallel` that a server's endpoints tell; empty: they tell none.

    The list of models is asked for first. Raises BackendError when nobody answers.
    """
    base = str(options["base_url"]).rstrip("/")
    props = f"{base.removesuffix('/v1')}/props"
    with translated(), httpx.Client(**options) as client:
        engine = _by_owner(_json(client, f"{base}/models"))
        slots = None
        if engine in (None, "llama.cpp"):
            slots = _json(client, props).get("total_slots")
    if isinstance(slots, int) and slots > 0:  # only llama.cpp has slots
        return {"engine": "llama.cpp", "parallel": min(parallel, slots)}
    return {"engine": engine} if engine else {}


def _by_owner(models: Mapping[str, Any]) -> EngineName | None:
    listed = models.get("data")
    first = listed[0] if isinstance(listed, list) and listed else None
    return OWNERS.get(str(first.get("owned_by"))) if isinstance(first, Mapping) else None


def _json(client: httpx.Client, url: str) -> Mapping[str, Any]:
    """What an endpoint says; empty when there is none such."""
    response = client.get(url)
    try:
        said = response.json() if response.is_success else None
    except ValueError:
        return {}
    return said if isinstance(said, Mapping) else {}
