"""Models whose weights are whole numbers of eight bits, for decoding on a CPU."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from tersely.errors import ConfigError

if TYPE_CHECKING:
    import torch


def quantize(model: Any, device: torch.device) -> None:
    """Round the linear layers of a model to int8, in place; the rest stays in float32.

    What a layer is given is rounded too, by a scale that all rows of the batch share: answers may
    change with their neighbours. Raises ConfigError on anything but a CPU, or where torch can't.
    """
    import torch

    if device.type != "cpu":
        raise ConfigError(f"precision='int8' is for the CPU, and the model is on {device.type}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would move this to a package of its own
            torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
                model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True
            )
    except (AttributeError, RuntimeError) as error:
        raise ConfigError(f"this torch can't calculate in int8 here: {error}") from error
