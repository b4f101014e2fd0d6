"""Queries grouped by the keys they share: the same attention, and nobody else notices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.backends import grouped as grouping
from tersely.backends.grouped import FEW, attended, grouped


def parts(rows: int, heads: int, shared: int, tokens: int, columns: int, dtype: str) -> Any:
    import torch

    made = torch.Generator().manual_seed(heads * columns + tokens)
    kind = getattr(torch, dtype)

    def drawn(*shape: int) -> Any:
        return torch.randn(*shape, 8, generator=made).to(kind)

    query = drawn(rows, tokens, heads).transpose(1, 2)
    return query, drawn(rows, shared, columns), drawn(rows, shared, columns)


def masked(rows: int, tokens: int, columns: int) -> Any:
    """Rows of unequal lengths that end in the same column, each token after the one before."""
    import torch

    mask = torch.ones(tokens, columns, dtype=torch.bool).tril(columns - tokens)
    left = torch.arange(rows) % max(columns - tokens, 1)
    return (mask & (torch.arange(columns) >= left[:, None, None])).unsqueeze(1)


def theirs(query: Any, key: Any, value: Any, mask: Any, **given: Any) -> Any:
    """What transformers makes of it, every query head by itself."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    module: Any = SimpleNamespace(num_key_value_groups=query.shape[1] // key.shape[1])
    return sdpa_attention_forward(module, query, key, value, mask, **given)[0]


@given(
    rows=st.integers(1, 3),
    shared=st.integers(1, 3),
    groups=st.integers(1, 5),
    tokens=st.integers(1, FEW),
    more=st.integers(0, 40),
    bare=st.booleans(),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)
@settings(max_examples=60)
def test_queries_find_what_they_find_by_themselves(
    rows: int, shared: int, groups: int, tokens: int, more: int, bare: bool, dtype: str
) -> None:
    import torch

    given = parts(rows, shared * groups, shared, tokens, tokens + more, dtype)
    mask = None if bare and tokens == 1 else masked(rows, tokens, tokens + more)
    found = attended(*given, mask, 0.3)
    exact = theirs(*(part.float() for part in given), mask, scaling=0.3)
    assert found.dtype == given[0].dtype
    assert torch.allclose(found.float(), exact, atol=1e-5 if dtype == "float32" else 0.05)


@pytest.mark.parametrize(
    ("tokens", "mask", "wishes"),
    [
        (FEW + 1, "rows", {}),  # not few
        (2, "none", {}),  # which token comes after which is not told
        (1, "heads", {}),
        (1, "rows", {"softcap": 2.0}),
        (1, "rows", {"dropout": 0.1}),
    ],
)
def test_what_can_not_be_grouped_is_left_to_transformers(
    tokens: int, mask: str, wishes: dict[str, Any]
) -> None:
    import torch

    query, key, value = parts(2, 4, 2, tokens, 20, "float32")
    which = {"none": None, "rows": masked(2, tokens, 20)}
    which["heads"] = masked(2, tokens, 20).expand(-1, 4, -1, -1)
    asked: list[Any] = []

    def note(_module: Any, *given: Any, **more: Any) -> tuple[Any, None]:
        asked.append((given, more))
        return query, None

    with grouped(torch.device("cpu")):
        found, _ = grouping._before(note)(None, query, key, value, which[mask], **wishes)
    assert found is query
    assert asked == [((query, key, value, which[mask]), wishes)]


def test_only_who_asks_has_them_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AttentionInterface

    calls: list[int] = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        return attended(*given)

    monkeypatch.setattr(grouping, "attended", counted)
    query, key, value = parts(1, 4, 2, 1, 20, "float32")
    module: Any = SimpleNamespace(num_key_value_groups=2)

    def attend() -> Any:
        return AttentionInterface()["sdpa"](module, query, key, value, None, scaling=0.3)[0]

    with grouped(torch.device("cpu")), ThreadPoolExecutor(1) as other:
        assert torch.equal(
            other.submit(attend).result(), theirs(query, key, value, None, scaling=0.3)
        )
        assert calls == []
        attend()
    attend()
    assert calls == [1]
