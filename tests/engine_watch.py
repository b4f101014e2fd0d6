"""The local engine under the eyes of a test: forgotten, counted, and beside transformers' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tersely.backends import engine as engines
from tersely.weights import CausalLM


def forget(lm: CausalLM) -> None:
    """End a model's engine, with what it remembers."""
    if (running := engines._engines.pop(lm, None)) is not None:
        running.stop()


@contextmanager
def forwards(
    lm: CausalLM, at: Callable[[int], None] = lambda count: None
) -> Iterator[list[tuple[int, ...]]]:
    """Rows and tokens of every forward pass inside; `at` is called with their number."""
    shapes: list[tuple[int, ...]] = []

    def note(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        new = given.get("input_ids")
        shapes.append(tuple((given["inputs_embeds"][..., 0] if new is None else new).shape))
        at(len(shapes))

    hook = lm.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield shapes
    finally:
        hook.remove()


def generated(lm: CausalLM, prompt: list[int], tokens: int) -> str:
    """What transformers' own generate makes of a prompt, greedily."""
    import torch

    ids = torch.tensor([prompt])
    made = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )
    return str(lm.tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True)).rstrip(
        "\ufffd"
    )
