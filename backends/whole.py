"""Whole prompts as embeddings, for servers that read those: vLLM's completions and SGLang.

Every token's embedding is looked up here, in the same model's own table, and vectors stand between
them where the chat template has their place.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from tersely.backends.local import encoded
from tersely.backends.places import Places, inputs
from tersely.backends.soft_input import places
from tersely.contracts import Request
from tersely.soft import SoftPrompt
from tersely.weights import causal_lm

if TYPE_CHECKING:
    from torch import Tensor


def embeddings(request: Request, weights: str) -> Tensor:
    """What a model reads for a request with vectors, bare or in its chat template.

    `weights` is the model by a name of ours, a folder or a hub id. Shape: tokens x hidden size.
    Raises what `read` raises.
    """
    import torch

    lm = causal_lm(weights)
    tokens = encoded(request, lm.tokenizer, weights)
    with torch.inference_mode():
        found: Tensor = inputs(lm, [tokens], read(request, weights))["inputs_embeds"][0]
        return found.to("cpu", copy=True)


def read(request: Request, weights: str) -> Places:
    """A request's vectors as the model here reads them, whichever name they know it by.

    Raises ConfigError unless they are as wide as its own, and what loading the model raises.
    """
    segments = {
        i: replace(segment, soft=replace(segment.soft, model=""))
        for i, segment in enumerate(request.prompt.segments)
        if isinstance(segment.soft, SoftPrompt)
    }
    nameless = replace(request, prompt=request.prompt.with_segments(segments))
    return places(nameless, causal_lm(weights), weights)


def saved(vectors: Tensor) -> str:
    """A tensor as vLLM reads it: saved by torch, in base64."""
    import torch

    file = BytesIO()
    torch.save(vectors, file)
    return b64encode(file.getvalue()).decode()


def generate_url(base_url: str) -> str:
    """Where SGLang reads embeddings: its own way beside the OpenAI-compatible API."""
    return base_url.rstrip("/").removesuffix("/v1") + "/generate"


def generate_body(request: Request, weights: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request as SGLang's own way reads it; `fields` are those of its sampling parameters."""
    sampling = {
        "max_new_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "sampling_seed": request.seed if request.temperature > 0 else None,
        **fields,
    }
    tells = request.logprobs or request.alternatives > 0
    return {
        "input_embeds": embeddings(request, weights).float().tolist(),
        "sampling_params": {name: value for name, value in sampling.items() if value is not None},
        "return_logprob": tells or None,
        "top_logprobs_num": request.alternatives or None,
        "return_text_in_logprobs": tells or None,
    }


def as_completion(part: Mapping[str, Any], said: str, told: int) -> dict[str, Any]:
    """A piece of SGLang's own answer, as the OpenAI-compatible API would tell it.

    Its streams tell the whole answer so far, unless the server was started to tell what is new:
    `said` and `told` are the text and the number of tokens known by now.
    """
    meta = part["meta_info"]
    finish = meta.get("finish_reason") or {}
    if finish.get("type") == "abort" and finish.get("message"):
        return {"error": {"message": finish["message"], "code": finish.get("status_code")}}
    made = meta.get("completion_tokens") or 0
    so_far = len(part.get("output_ids") or ()) in (0, made)
    text = part.get("text") or ""
    since = told if so_far else 0
    return {
        "choices": [
            {
                "text": text.removeprefix(said) if so_far else text,
                "finish_reason": finish.get("type"),
                "logprobs": _columns(meta, since),
            }
        ],
        "usage": {
            "prompt_tokens": meta.get("prompt_tokens"),
            "completion_tokens": made,
            "prompt_tokens_details": {"cached_tokens": meta.get("cached_tokens")},
        },
    }


def _columns(meta: Mapping[str, Any], since: int) -> dict[str, list[Any]]:
    """What is told of tokens from one on, in the completions format."""
    rows: Sequence[Any] = (meta.get("output_token_logprobs") or [])[since:]
    tops: Sequence[Any] = (meta.get("output_top_logprobs") or [])[since:]
    return {
        "tokens": [text or "" for _, _, text in rows],
        "token_logprobs": [logprob for logprob, _, _ in rows],
        "top_logprobs": [{text or "": logprob for logprob, _, text in top or ()} for top in tops],
    }
