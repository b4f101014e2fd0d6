"""How much memory there is for what answers under way have read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.weights import CausalLM

if TYPE_CHECKING:
    import torch

SHARE = 0.4
"""Of the free memory, for keys and values: to make room they are copied, and then held twice."""

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def holds(lm: CausalLM) -> int:
    """How many tokens' keys and values the free memory has room for."""
    return max(1, int(free(lm.device) * SHARE) // bytes_per_token(lm))


def bytes_per_token(lm: CausalLM) -> int:
    """What one token's keys and values take, as the model's settings tell it."""
    config: Any = lm.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * config.num_hidden_layers * shared * width * lm.dtype.itemsize)


def free(device: torch.device) -> int:
    """The bytes that can still be had on a device, by the system and by a container's limit."""
    import torch

    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    return min(_available(), _left_to_group())


def _available() -> int:
    """What the system says is available; half of all memory where it doesn't say."""
    with suppress(OSError, ValueError):
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 2**31


def _left_to_group() -> int:
    """What a container's limit leaves; cached files don't count, they can be dropped."""
    with suppress(OSError, ValueError):
        limit = int((CGROUP / "memory.max").read_text())  # "max" where there is none
        used = int((CGROUP / "memory.current").read_text())
        told = (CGROUP / "memory.stat").read_text().splitlines()
        cached = sum(int(line.split()[1]) for line in told if line.startswith("inactive_file "))
        return max(limit - used + cached, 0)
    return 2**62
