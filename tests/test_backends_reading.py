"""What prompts have in common, what is remembered of them, and how much memory there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.backends import memory
from tersely.backends.read import WORTH, Memory, Piece, beginnings, common
from tersely.backends.reader import groups
from tersely.errors import ConfigError
from tersely.int8 import quantize
from tersely.weights import causal_lm

blocks = st.lists(st.sampled_from([0, 1]), min_size=1, max_size=5)
"""Texts that branch at blocks of tokens."""


def spelled(block: list[int]) -> tuple[int, ...]:
    return tuple(token for one in block for token in [one] * WORTH)


def pieces(tokens: tuple[int, ...]) -> list[Piece]:
    import torch

    told = torch.tensor(tokens, dtype=torch.float32).reshape(1, 1, -1, 1)
    return [(told, -told)]


@given(one=st.lists(st.integers(0, 1)), other=st.lists(st.integers(0, 1)))
def test_the_common_beginning_is_the_longest(one: list[int], other: list[int]) -> None:
    size = common(one, other)
    assert one[:size] == other[:size]
    assert size == min(len(one), len(other)) or one[size] != other[size]


@given(texts=st.lists(blocks, max_size=6))
def test_beginnings_are_those_from_which_several_go_on(texts: list[list[int]]) -> None:
    prompts = [spelled(text) for text in texts]
    found = [tuple(begin) for begin in beginnings(prompts)]
    assert len(set(found)) == len(found)
    for begin in found:
        going_on = [prompt for prompt in prompts if prompt[: len(begin)] == begin != prompt]
        assert len(going_on) > 1 and len(begin) >= WORTH
    for i, prompt in enumerate(prompts):
        for other in prompts[i + 1 :]:
            alike = min(common(prompt, other), len(prompt) - 1, len(other) - 1)
            if alike >= WORTH:
                best = max((common(prompt, begin) for begin in found), default=0)
                assert best > alike - WORTH, "nothing worth while is read twice"


@given(texts=st.lists(blocks, min_size=1, max_size=6), asked=blocks, kept=st.integers(0, 400))
def test_memory_knows_the_longest_beginning_and_stays_small(
    texts: list[list[int]], asked: list[int], kept: int
) -> None:
    known = Memory()
    for text in texts:
        known.keep(spelled(text), pieces(spelled(text)))
    prompt = spelled(asked)
    alike, found = known.longest(prompt)
    assert alike == max(common(prompt, spelled(text)) for text in texts)
    if alike:
        ((keys, values),) = found
        assert keys.flatten().tolist() == [*prompt[:alike]] == (-values).flatten().tolist()
    known.shrink(kept)
    assert len(known) <= kept


def test_what_was_used_last_is_kept() -> None:
    known = Memory()
    for text in ([0, 0], [1, 1]):
        known.keep(spelled(text), pieces(spelled(text)))
    known.longest(spelled([0]))
    known.shrink(2 * WORTH)
    assert known.longest(spelled([0, 0]))[0] == 2 * WORTH
    assert known.longest(spelled([1, 1])) == (0, [])


@given(lengths=st.lists(st.integers(1, 500), max_size=12))
def test_a_pass_has_little_padding(lengths: list[int]) -> None:
    found = list(groups(lengths))
    assert sorted(i for group in found for i in group) == [*range(len(lengths))]
    for group in found:
        sizes = [lengths[i] for i in group]
        assert len(group) * max(sizes) <= 2 * sum(sizes) + 64


def test_free_memory_is_what_system_and_container_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama: Path
) -> None:
    lm = causal_lm(str(tiny_llama), precision="float32")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.free(lm.device) > 0, "nothing is told"
    (tmp_path / "meminfo").write_text("MemTotal: 90 kB\nMemAvailable:   50 kB\n")
    assert memory.free(lm.device) == 50 * 1024
    (tmp_path / "memory.max").write_text("30000\n")
    (tmp_path / "memory.current").write_text("20000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    assert memory.free(lm.device) == 10_500
    assert memory.bytes_per_token(lm) == 2 * 2 * 2 * 8 * 4
    assert memory.holds(lm) == int(10_500 * memory.SHARE) // 256
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free(lm.device) == 50 * 1024


def test_int8_is_for_the_cpu() -> None:
    import torch

    elsewhere: Any = torch.device("meta")
    with pytest.raises(ConfigError, match="int8' is for the CPU, and the model is on meta"):
        quantize(torch.nn.Linear(2, 2), elsewhere)
