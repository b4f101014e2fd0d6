"""Run the benchmarks, one after another: `python -m benchmarks [NAME ...] [--data DIR]`."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = (
    "agents",
    "agents_replay",
    "overhead",
    "budget",
    "robustness",
    "scoring",
    "batch",
    "batch_scoring",
    "history",
    "history_models",
    "pruning",
    "pruning_speed",
    "rag_context",
    "rag_embed",
    "rag_safety",
    "rag_search",
    "rag_store",
    "rag_faults",
    "soft",
    "soft_online",
    "sot",
    "sot_engine",
    "sot_router",
    "structure",
    "summary",
)


def main() -> None:
    """Run those that are named, else all."""
    asked = [name for name in sys.argv[1:] if name in NAMES]
    rest = [argument for argument in sys.argv[1:] if argument not in NAMES]
    for name in asked or NAMES:
        import_module(f"benchmarks.{name}").main(rest)


if __name__ == "__main__":
    main()
