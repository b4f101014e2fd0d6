"""A stand-in for the package llama_cpp, as strict as llama.cpp and stricter.

It has the functions that the backend calls, with their C types. Its model knows bytes and scores
the next one by all that its sequence has read. What llama.cpp would take as an excuse to end the
process, or to answer wrongly, fails here: too many tokens in a call, a token in the wrong place, a
sequence that is none, scores that nobody asked for, anything that was freed.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from tersely.backends.llamacpp_weights import library

NAMES = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
END = 256
SIZE = END + len(NAMES)
WIDTH = 4
CONTEXT = 8192

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

TOKENIZE = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    *(ctypes.c_void_p, ctypes.POINTER(ctypes.c_char), ctypes.c_int32),
    *(ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool),
)


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


class Cells:
    """A context: what each sequence has read, cell by cell."""

    def __init__(self, model: Any, settings: Any) -> None:
        self.model = model
        self.settings = settings
        self.rows: dict[int, list[tuple[int, Any]]] = {}
        self.new = count()
        self.scores: dict[int, Any] = {}
        self.freed = False

    def used(self) -> int:
        return len({cell for row in self.rows.values() for cell, _ in row})

    def read(self, batch: Batch) -> int:
        assert not self.freed and not self.model.freed
        assert 0 < batch.n_tokens <= self.settings.n_batch
        assert bool(batch.token) != bool(batch.embd)
        if self.used() + batch.n_tokens > self.settings.n_ctx:
            return 1
        self.scores = {}
        for i in range(batch.n_tokens):
            sequence = batch.seq_id[i][0]
            assert batch.n_seq_id[i] == 1 and 0 <= sequence < self.settings.n_seq_max
            row = self.rows.setdefault(sequence, [])
            assert batch.pos[i] == len(row), "a gap, or a token read twice"
            row.append((next(self.new), value(batch, i)))
            if batch.logits[i]:
                self.scores[i] = scores([said for _, said in row])
        return 0


def value(batch: Batch, i: int) -> Any:
    """A token, or the token whose embedding is given: `vector` makes them."""
    if batch.token:
        assert 0 <= batch.token[i] < SIZE
        return batch.token[i]
    return round(batch.embd[i * WIDTH] * 1000)


def vector(token: int) -> list[float]:
    """The embedding of a token."""
    return [token / 1000, 1.0, 0.0, -1.0]


def scores(said: list[Any]) -> Any:
    """The scores of what comes next: letters and spaces, and never the end."""
    found = np.random.default_rng(crc32(repr(said[-400:]).encode())).normal(size=SIZE) * 3
    letters = [*range(97, 123), 32]
    found[[token for token in range(SIZE) if token not in letters]] -= 60
    return found.astype(np.float32)


def tokenize(_: Any, text: Any, length: int, found: Any, room: int, *how: bool) -> int:
    data = text[:length]
    tokens, at = [], 0
    while at < len(data):
        for i, name in enumerate(NAMES):
            if how[1] and data.startswith(name.encode(), at):
                tokens.append(END + i)
                at += len(name)
                break
        else:
            tokens.append(data[at])
            at += 1
    if len(tokens) > room:
        return -len(tokens)
    for i, token in enumerate(tokens):
        found[i] = token
    return len(tokens)


def piece(_: Any, token: int, text: Any, room: int, _strip: int, special: bool) -> int:
    data = bytes([token]) if token < END else NAMES[token - END].encode() * special
    if len(data) > room:
        return -len(data)
    text[: len(data)] = data
    return len(data)


class Double(ModuleType):
    """The package. `alive` counts models and contexts that were not freed; `broken` makes calls
    fail with that code, and `recurrent` and `turns` tell of other sorts of models."""

    LLAMA_TOKEN_ATTR_CONTROL, LLAMA_TOKEN_ATTR_USER_DEFINED = 8, 16
    LLAMA_ROPE_TYPE_MROPE, LLAMA_ROPE_TYPE_IMROPE, LLAMA_ROPE_TYPE_VISION = 8, 40, 24
    llama_batch = Batch

    def __init__(self) -> None:
        super().__init__("llama_cpp")
        self.__spec__ = ModuleSpec("llama_cpp", None)
        self.alive = Counter[str]()
        self.broken, self.recurrent, self.turns, self.encoder = 0, False, 0, False
        self._tokenize = TOKENIZE(tokenize)
        self.llama_cpp = SimpleNamespace(_lib=SimpleNamespace(llama_tokenize=self._tokenize))
        self.llama_tokenize, self.llama_token_to_piece = tokenize, piece
        self._hear: Any = None
        always = {
            "llama_vocab_n_tokens": SIZE,
            "llama_model_n_embd_inp": WIDTH,
            "llama_model_n_ctx_train": CONTEXT,
            "llama_model_get_vocab": 1,
            "llama_vocab_bos": -1,
            "llama_vocab_eos": END,
            "llama_model_is_hybrid": False,
            "llama_backend_init": None,
        }
        for name, said in always.items():
            setattr(self, name, lambda *_, said=said: said)

    def llama_log_callback(self, hear: Any) -> Any:
        return hear

    def llama_log_set(self, hear: Any, _: Any) -> None:
        self._hear = hear

    def llama_model_default_params(self) -> Any:
        return SimpleNamespace()

    llama_context_default_params = llama_model_default_params

    def llama_model_load_from_file(self, path: bytes, settings: Any) -> Any:
        if Path(path.decode()).read_bytes() != b"GGUF":
            self._hear(4, b"bad magic\n", None)
            self._hear(2, b"noise\n", None)
            return None
        self.alive["models"] += 1
        return SimpleNamespace(freed=False, layers=settings.n_gpu_layers)

    def llama_model_free(self, model: Any) -> None:
        assert not model.freed
        model.freed = True
        self.alive["models"] -= 1

    def llama_init_from_model(self, model: Any, settings: Any) -> Any:
        assert settings.kv_unified and settings.n_threads == settings.n_threads_batch > 0
        settings.n_ctx = -(-settings.n_ctx // 256) * 256
        if settings.n_ctx > 10**6:
            self._hear(4, b"failed to allocate buffer\n", None)
            return None
        self.alive["contexts"] += 1
        return Cells(model, settings)

    def llama_free(self, context: Cells) -> None:
        assert not context.freed
        context.freed = True
        self.alive["contexts"] -= 1

    def llama_model_has_encoder(self, _: Any) -> bool:
        return self.encoder

    def llama_model_is_recurrent(self, _: Any) -> bool:
        return self.recurrent

    def llama_model_rope_type(self, _: Any) -> int:
        return self.turns

    def llama_model_chat_template(self, _: Any, name: Any) -> bytes:
        assert name is None
        return TEMPLATE.encode()

    def llama_vocab_is_eog(self, _: Any, token: int) -> bool:
        return token == END

    def llama_vocab_get_attr(self, _: Any, token: int) -> int:
        return self.LLAMA_TOKEN_ATTR_CONTROL if token >= END else 1

    def llama_n_ctx(self, context: Cells) -> int:
        return int(context.settings.n_ctx)

    def llama_get_memory(self, context: Cells) -> Cells:
        return context

    def llama_memory_seq_cp(self, cells: Cells, source: int, to: int, p0: int, p1: int) -> None:
        assert not self.recurrent, "a state can't be cut"
        assert p0 == 0 and not cells.rows.get(to) and p1 <= len(cells.rows[source])
        cells.rows[to] = cells.rows[source][:p1]

    def llama_memory_seq_rm(self, cells: Cells, sequence: int, p0: int, p1: int) -> bool:
        assert p0 == p1 == -1
        cells.rows.pop(sequence, None)
        return True

    def llama_decode(self, context: Cells, batch: Batch) -> int:
        if self.broken:
            self._hear(4, b"no luck\n", None)
            return self.broken
        return context.read(batch)

    def llama_get_logits_ith(self, context: Cells, at: int) -> Any:
        return context.scores[at].ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def playing(patch: pytest.MonkeyPatch) -> Double:
    """The stand-in in the package's place, for as long as the patch lasts."""
    double = Double()
    patch.setitem(sys.modules, "llama_cpp", double)
    library.cache_clear()
    return double
