"""Weights once more, laid out as the CPU multiplies them: decoding reads little else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tersely.backends.grouped import grouped
from tersely.backends.memory import free
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 0.25
"""Of the free memory, for the second copy of the weights at most."""

AT_ONCE = 16
"""Rows for which the layout is made; it serves any number."""

_packed: set[CausalLM] = set()
_here = threading.local()


@contextmanager
def packed(lm: CausalLM) -> Iterator[None]:
    """Let this thread calculate with packed weights, where the model has and gains by them.

    They are made on first use and take the memory of the linear layers once more, if a quarter of
    what is free suffices. Other threads calculate as ever, to the last bit.
    """
    if lm not in _packed:
        _packed.add(lm)
        pack(lm)
    _here.on = True
    try:
        with grouped(lm.device):
            yield
    finally:
        _here.on = False


def pack(lm: CausalLM) -> None:
    """Pack the linear layers of a model on a CPU; without a word where torch can't."""
    import torch

    mkldnn: Any = torch.backends.mkldnn
    layers: list[Any] = [one for one in lm.model.modules() if type(one) is torch.nn.Linear]
    room = free(lm.device) * SHARE if lm.device.type == "cpu" and mkldnn.is_available() else 0
    if sum(one.weight.nbytes for one in layers) > room:
        return
    try:
        made = [_packed_forward(one) for one in layers]
    except (AttributeError, RuntimeError):  # an operation that only the compiler promises
        return
    for layer, forward in zip(layers, made, strict=True):
        layer.forward = forward


def _packed_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    """What a layer does: by packed weights in threads that asked for it, else as before."""
    import torch

    plain, bias = layer.forward, layer.bias
    calculate = torch.ops.mkldnn._linear_pointwise
    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight, AT_ONCE)
        calculate(layer.weight.new_zeros(1, layer.in_features), weight, bias, "none", [], "")

    def forward(given: Tensor) -> Tensor:
        if getattr(_here, "on", False):
            found: Tensor = calculate(given, weight, bias, "none", [], "")
            return found
        done: Tensor = plain(given)
        return done

    return forward
