"""stub"""

from __future__ import annotations

from pathlib import Path


def tokenizer_file(model: str) -> Path | None:
    return None
