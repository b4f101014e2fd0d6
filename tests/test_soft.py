"""Vectors and KV prefixes as values: checked, equal by what they hold, saved and read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import ConfigError, ModelError
from tersely.soft import KVPrefix, SoftPrompt

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 6))


def drawn(*shape: int, seed: int = 1, dtype: str = "float32") -> Any:
    import torch

    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.to(getattr(torch, dtype))


def prefix(layers: int = 2, length: int = 3, seed: int = 1, **told: Any) -> KVPrefix:
    pairs = [(drawn(2, length, 4, seed=seed + i), drawn(2, length, 5)) for i in range(layers)]
    return KVPrefix(pairs, **told)


@given(size=SIZES, dtype=st.sampled_from(["float32", "bfloat16", "float16"]))
def test_vectors_are_known_by_their_values(size: tuple[int, int], dtype: str) -> None:
    one, same = (SoftPrompt(drawn(*size, dtype=dtype)) for _ in range(2))
    assert (one, hash(one), one.places) == (same, hash(same), same.places)
    assert SoftPrompt(one.vectors.float()) == one, "in whatever precision"
    assert len(one) == size[0] and one.hidden_size == size[1]
    assert all(place < 0 for place in one.places)
    assert SoftPrompt(drawn(*size, seed=2)) != one


def test_what_begins_alike_has_the_same_places() -> None:
    longer = drawn(5, 4)
    assert SoftPrompt(longer[:3]).places == SoftPrompt(longer).places[:3]
    assert not {*prefix().places} & {*prefix(seed=9).places}
    assert prefix() == prefix() != prefix(model="smollm2")
    assert prefix() != SoftPrompt(longer) != prefix()


def test_nobody_changes_them_afterwards() -> None:
    given = drawn(2, 3)
    soft = SoftPrompt(given)
    given.zero_()
    assert SoftPrompt(soft.vectors) == soft != SoftPrompt(given)


def bad(*_: Any) -> Any:
    import torch

    return torch.tensor([[1.0, float("nan")]])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SoftPrompt(drawn(3)), r"must be length x hidden size, was \(3,\)"),
        (lambda: SoftPrompt(drawn(0, 3)), r"was \(0, 3\)"),
        (lambda: SoftPrompt(drawn(2, 3, dtype="float64")), "float16 and dense, were in float64"),
        (lambda: SoftPrompt(drawn(2, 3).to_sparse()), "dense"),
        (lambda: SoftPrompt(bad()), "must be finite"),
        (lambda: KVPrefix([]), "must have one length"),
        (lambda: KVPrefix([(drawn(2, 3, 4), drawn(2, 4, 4))]), r"\(2, 3, 4\), \(2, 4, 4\)"),
        (lambda: KVPrefix([(drawn(3, 4), drawn(3, 4))]), "heads x length x width"),
        (lambda: KVPrefix([(drawn(2, 3, 4, dtype="int64"),) * 2]), "were in int64"),
    ],
)
def test_what_no_model_could_read_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


@given(size=SIZES, model=st.text(max_size=9), dtype=st.sampled_from(["float32", "bfloat16"]))
def test_they_are_read_as_they_were_saved(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], model: str, dtype: str
) -> None:
    folder = tmp_path_factory.mktemp("soft")
    soft = SoftPrompt(drawn(*size, dtype=dtype), model)
    soft.save(folder / "a.safetensors")
    found = SoftPrompt.load(folder / "a.safetensors")
    assert (found, found.vectors.dtype) == (soft, soft.vectors.dtype)
    cache = prefix(length=size[0], model=model)
    cache.save(folder / "b.safetensors")
    assert KVPrefix.load(folder / "b.safetensors") == cache
    assert replace(cache, model="").key == cache.key


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "x.safetensors"
    prefix().save(file)
    with pytest.raises(ModelError, match=r"holds no soft prompt but the tensors 0\.keys"):
        SoftPrompt.load(file)
    SoftPrompt(drawn(2, 3)).save(file)
    with pytest.raises(ModelError, match="holds no KV prefix but the tensors vectors"):
        KVPrefix.load(file)
    save_file({"vectors": drawn(2, 3)}, file, {"hidden_size": "7"})
    with pytest.raises(ModelError, match="tells of hidden_size=7, and its tensors have 3"):
        SoftPrompt.load(file)
    save_file({"0.keys": drawn(1, 2, 3), "0.values": drawn(1, 2, 3)}, file, {"layers": "4"})
    with pytest.raises(ModelError, match="layers=4, and its tensors have 1"):
        KVPrefix.load(file)
    save_file({"vectors": drawn(2, 3, dtype="int64")}, file)
    with pytest.raises(ModelError, match="int64"):
        SoftPrompt.load(file)
    file.write_bytes(b"nothing of the sort")
    with pytest.raises(ModelError, match="no safetensors file that can be read"):
        SoftPrompt.load(file)
    with pytest.raises(ModelError, match="nowhere"):
        KVPrefix.load(tmp_path / "nowhere")
