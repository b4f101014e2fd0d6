"""A text is learned as vectors: from its own turns or yours, the same however often stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tersely.registry import trainer
from tersely.soft_artefact import SoftArtefact
from tersely.training import Training, silent

TEXT = "The quick brown fox jumps over the lazy dog. It jumps 12 times a day. Ein Tag in Limmat."
ROWS = [{"question": f"How often is {name} there?"} for name in ("fox", "dog", "day", "Tag", "12")]


def trained(model: Path, out: Path, progress: Any = silent, **settings: Any) -> SoftArtefact:
    small = {"tokens": 6, "steps": 8, "batch": 2, "every": 2, "answer_tokens": 4, "turns": 8}
    made = trainer("soft", text=TEXT, model=str(model), **small | settings)
    rows = settings.pop("rows", ROWS)
    return SoftArtefact.load(made.train(Training(rows=rows, out=out, progress=progress)))


def test_x(tiny_llama: Path, tmp_path: Path) -> None:
    for form in ("kv", "embeds"):
        made = trained(tiny_llama, tmp_path / form, form=form)
        print(made.about.model_dump_json(indent=1))
