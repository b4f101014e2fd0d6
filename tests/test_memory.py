"""What scoring remembers: bounded by tokens, the text unseen for longest goes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tersely.compressors.memory import Memory, key_of


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12))))
def test_never_more_tokens_than_there_is_room_for(puts: list[tuple[int, int]]) -> None:
    memory: Memory[range] = Memory(10)
    for name, size in puts:
        memory.put(key_of(str(name)), range(size))
        held = [found for i in range(6) if (found := memory.get(key_of(str(i)))) is not None]
        assert sum(map(len, held)) <= 10


def test_the_text_unseen_for_longest_goes_first() -> None:
    memory: Memory[range] = Memory(10)
    first, second, third = (key_of(name) for name in "abc")
    memory.put(first, range(4))
    memory.put(second, range(4))
    assert memory.get(first) == range(4)
    memory.put(third, range(4))
    assert memory.get(second) is None
    assert memory.get(first) == memory.get(third) == range(4)


def test_clear_makes_room() -> None:
    memory: Memory[range] = Memory(10)
    memory.put(key_of("a"), range(9))
    memory.clear()
    memory.put(key_of("b"), range(9))
    assert memory.get(key_of("a")) is None
    assert memory.get(key_of("b")) == range(9)
