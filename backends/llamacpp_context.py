"""What llama.cpp has read of several texts, in one cache of keys and values."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersely.backends.llamacpp_weights import Weights, fault, freed
from tersely.backends.sequences import Floats, Piece
from tersely.errors import BackendError

AT_ONCE = 2048
"""Tokens that one call takes."""


class Context:
    """Sequences of tokens that a model has read, by their numbers.

    All share `tokens` cells of one cache: a cell that is copied is not taken twice. One thread at a
    time uses it. Raises BackendError where there is no memory for so many cells.
    """

    def __init__(self, weights: Weights, *, tokens: int, sequences: int, threads: int) -> None:
        self.weights = weights
        self.lib = lib = weights.lib
        settings = lib.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_seq_max = tokens, AT_ONCE, sequences
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = settings.swa_full = settings.no_perf = True
        self._pointer = lib.llama_init_from_model(weights.pointer, settings)
        if not self._pointer:
            raise BackendError(f"llama.cpp has no memory for kv_tokens={tokens}; lower it{fault()}")
        self._end = freed(self, lib.llama_free, self._pointer)
        self.tokens = int(lib.llama_n_ctx(self._pointer))
        self._memory = lib.llama_get_memory(self._pointer)
        self._batch = _Batch(lib)

    def close(self) -> None:
        """Give the memory back; nothing can be read any more."""
        self._end()

    def copy(self, source: int, to: int, upto: int) -> None:
        """Let a new sequence begin with so many tokens of another one."""
        self.lib.llama_memory_seq_cp(self._memory, source, to, 0, upto)

    def drop(self, sequence: int) -> None:
        """Forget a sequence."""
        self.lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def read(self, pieces: Sequence[Piece], vectors: Mapping[int, Floats] | None = None) -> Floats:
        """Read more tokens; the scores of what comes after each piece.

        `vectors` are the embeddings behind numbers below 0 (see `places`). Shape: pieces x
        vocabulary. Raises RuntimeError when llama.cpp fails; what it has read then is not known.
        """
        numbers = [number for _, _, part in pieces for number in part]
        soft = np.array([number < 0 for number in numbers])
        lengths = [len(part) for _, _, part in pieces]
        where = np.concatenate([np.arange(at, at + len(part)) for _, at, part in pieces])
        whose = np.repeat([sequence for sequence, _, _ in pieces], lengths)
        last = np.zeros(len(numbers), np.int8)
        last[np.cumsum(lengths) - 1] = 1
        found: list[Floats] = []
        for begin, end in runs(soft, AT_ONCE):
            part = slice(begin, end)
            if soft[begin]:
                self._batch.put_vectors([(vectors or {})[number] for number in numbers[part]])
            else:
                self._batch.put_tokens(numbers[part])
            self._decode(self._batch.made(where[part], whose[part], last[part]))
            found += [self._scores(at) for at in np.flatnonzero(last[part]).tolist()]
        return np.stack(found)

    def _decode(self, batch: Any) -> None:
        if not self._end.alive:
            raise RuntimeError("the model was closed")
        code = self.lib.llama_decode(self._pointer, batch)
        if code == 1:
            raise RuntimeError("out of memory: llama.cpp's cache is full")
        if code:
            raise RuntimeError(f"llama_decode returned {code}{fault()}")

    def _scores(self, at: int) -> Floats:
        """The scores that a call made at a place. Shape: vocabulary."""
        found = self.lib.llama_get_logits_ith(self._pointer, at)
        return np.ctypeslib.as_array(found, (self.weights.size,)).copy()


class _Batch:
    """What one call reads, in arrays that are used again and again."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self._tokens, self._where, self._counts, self._whose = (
            np.zeros(AT_ONCE, np.int32) for _ in range(4)
        )
        self._last = np.zeros(AT_ONCE, np.int8)
        self._counts[:] = 1
        self._lists = self._whose.ctypes.data + 4 * np.arange(AT_ONCE, dtype=np.uintp)
        self._vectors: Floats | None = None

    def put_tokens(self, tokens: Sequence[int]) -> None:
        self._vectors = None
        self._tokens[: len(tokens)] = tokens

    def put_vectors(self, vectors: Sequence[Floats]) -> None:
        self._vectors = np.ascontiguousarray(np.stack(vectors), np.float32)

    def made(self, where: NDArray[Any], whose: NDArray[Any], last: NDArray[Any]) -> Any:
        """A batch of llama.cpp; its arrays stay ours."""
        count = len(where)
        self._where[:count], self._whose[:count], self._last[:count] = where, whose, last
        batch = self._lib.llama_batch()
        batch.n_tokens = count
        if self._vectors is None:
            batch.token = _pointer(self._tokens, ctypes.c_int32)
        else:
            batch.embd = _pointer(self._vectors, ctypes.c_float)
        batch.pos = _pointer(self._where, ctypes.c_int32)
        batch.n_seq_id = _pointer(self._counts, ctypes.c_int32)
        batch.seq_id = _pointer(self._lists, ctypes.POINTER(ctypes.c_int32))
        batch.logits = _pointer(self._last, ctypes.c_int8)
        return batch


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def runs(odd: NDArray[np.bool_], most: int) -> Iterator[tuple[int, int]]:
    """Where neighbours of one sort begin and end, `most` of them at a time."""
    turns = (np.flatnonzero(odd[1:] != odd[:-1]) + 1).tolist()
    for begin, end in zip([0, *turns], [*turns, len(odd)], strict=True):
        yield from ((at, min(at + most, end)) for at in range(begin, end, most))
