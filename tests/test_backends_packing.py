"""Weights laid out for the CPU: faster for the engine, and nobody else notices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tersely.backends import packing
from tersely.backends.packing import packed
from tersely.weights import CausalLM, causal_lm


def scored(lm: CausalLM) -> Any:
    import torch

    with torch.inference_mode():
        return lm.model(torch.arange(5, 40).reshape(5, 7)).logits


@pytest.fixture
def lm(tiny_llama: Path) -> CausalLM:
    return replace(causal_lm(str(tiny_llama), precision="float32"))


def test_only_who_asks_calculates_with_them(lm: CausalLM) -> None:
    import torch

    before = scored(lm)
    with packed(lm), ThreadPoolExecutor(1) as other:
        assert torch.allclose(scored(lm), before, atol=1e-4)
        assert torch.equal(other.submit(scored, lm).result(), before)
    assert torch.equal(scored(lm), before)


def test_the_packed_weights_are_those_that_count(lm: CausalLM) -> None:
    import torch

    layer = torch.nn.Linear(8, 4).requires_grad_(False)
    bare = replace(lm, model=torch.nn.Sequential(layer))
    given = torch.randn(3, 2, 8)
    expected = layer(given)
    with packed(bare):
        assert torch.allclose(layer(given), expected, atol=1e-5)
        layer.weight.zero_()
        assert torch.allclose(layer(given), expected, atol=1e-5)
    assert not torch.allclose(layer(given), expected, atol=1e-5)


@pytest.mark.parametrize("fault", ["no memory", "no operation", "no cpu"])
def test_where_it_can_not_be_all_is_as_before(
    lm: CausalLM, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    layer = torch.nn.Linear(8, 4).requires_grad_(False)
    bare = replace(lm, model=torch.nn.Sequential(layer))
    if fault == "no memory":
        monkeypatch.setattr(packing, "free", lambda device: 3 * layer.weight.nbytes)
    elif fault == "no operation":
        monkeypatch.setattr(torch.ops, "mkldnn", object())
    else:
        bare = replace(bare, device=torch.device("meta"))
    with packed(bare):
        assert layer(torch.ones(1, 8)).shape == (1, 4)
    assert "forward" not in vars(layer)
