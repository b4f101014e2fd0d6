"""GGUF files in memory: the weights, the vocabulary and the chat template, by llama.cpp."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

from tersely.backends.chat import filled
from tersely.backends.grammar import KEPT, Guide, matcher
from tersely.errors import BackendError, ModelError, require
from tersely.models import CATALOGUE, resolve

EXTRA = "llamacpp"

ERROR = 4
"""The level of llama.cpp's log from which it tells of failures (`GGML_LOG_LEVEL_ERROR`)."""

LONGEST = 256
"""Bytes of a token's text, for which there is room at once."""

VOID = ctypes.c_void_p

_faults: deque[str] = deque(maxlen=4)
_ears: list[Any] = []
_loading = threading.RLock()


@cache
def library() -> Any:
    """The package llama_cpp; from now on llama.cpp's log is silent but for `fault`.

    Raises MissingExtra, and BackendError where it was compiled for another machine.
    """
    require("llama_cpp", extra=EXTRA)
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(f"llama_cpp is installed and can't be loaded: {error}") from error

    def hear(level: int, text: bytes, _: Any) -> None:
        if level == ERROR:
            _faults.append(text.decode(errors="replace").strip())

    _ears.append(llama_cpp.llama_log_callback(hear))  # called for as long as the process lives
    llama_cpp.llama_log_set(_ears[-1], None)
    llama_cpp.llama_backend_init()
    return llama_cpp


def fault() -> str:
    """What llama.cpp said last of a failure, as an end of a sentence; then it is forgotten."""
    said = "; ".join(filter(None, _faults))
    _faults.clear()
    return f": {said}" if said else ""


def freed(owner: Any, free: Callable[[Any], None], pointer: Any) -> finalize[Any, Any]:
    """Free what llama.cpp made for an object as soon as nobody has the object any more.

    A process that ends, and the child of a fork, leave that to the system.
    """
    here = os.getpid()
    end = finalize(owner, lambda: free(pointer) if os.getpid() == here else None)
    end.atexit = False
    return end


class Weights:
    """A model of a GGUF file. Its tokens are asked for as of a tokenizer of transformers.

    `max_length` is its context, `size` how many tokens it knows and `width` how long an embedding
    is. `shares` says whether what was read of one text can be cut for another one: not where the
    model has a recurrent state. `embeds`: it can read embeddings; not where they have several
    positions each. All may be used by any thread.
    """

    def __init__(self, path: Path, gpu_layers: int) -> None:
        self.lib = lib = library()
        settings = lib.llama_model_default_params()
        settings.n_gpu_layers = gpu_layers
        self.pointer = lib.llama_model_load_from_file(os.fsencode(path), settings)
        if not self.pointer:
            raise ModelError(f"{path} holds no model that llama.cpp can load{fault()}")
        freed(self, lib.llama_model_free, self.pointer)
        if lib.llama_model_has_encoder(self.pointer):
            raise ModelError(f"{path} holds a model with an encoder, which writes no answers here")
        self.vocab = lib.llama_model_get_vocab(self.pointer)
        self.size = int(lib.llama_vocab_n_tokens(self.vocab))
        self.width = int(lib.llama_model_n_embd_inp(self.pointer))
        self.max_length = int(lib.llama_model_n_ctx_train(self.pointer))
        many = (lib.LLAMA_ROPE_TYPE_MROPE, lib.LLAMA_ROPE_TYPE_VISION, lib.LLAMA_ROPE_TYPE_IMROPE)
        self.embeds = lib.llama_model_rope_type(self.pointer) not in many
        states = (lib.llama_model_is_recurrent, lib.llama_model_is_hybrid)
        self.shares = not any(has(self.pointer) for has in states)
        template = lib.llama_model_chat_template(self.pointer, None)
        self.chat_template = template.decode() if template else None
        self.bos_token_id = self._known(lib.llama_vocab_bos(self.vocab))
        self.eos_token_id = self._known(lib.llama_vocab_eos(self.vocab))
        self._pieces: dict[tuple[int, bool], bytes] = {}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The tokens of a text; the names of special tokens in it are read as these."""
        data = text.encode()
        room = len(data) + 8
        while True:
            found = (ctypes.c_int32 * room)()
            count = self.lib.llama_tokenize(
                self.vocab, data, len(data), found, room, add_special_tokens, True
            )
            if count >= 0:
                return list(found[:count])
            room = -count

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of tokens."""
        pieces = (self._piece(token, not skip_special_tokens) for token in tokens)
        return b"".join(pieces).decode(errors="replace")

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        tokenize: bool,
    ) -> str:
        """The messages as text, see `chat.filled`."""
        named = {"bos_token": self.bos_token_id, "eos_token": self.eos_token_id}
        names = {
            name: "" if token is None else self.decode([token]) for name, token in named.items()
        }
        template = self.chat_template or ""
        return filled(template, messages, goes_on=continue_final_message, **names)

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens by which the model ends its answer."""
        ends = self.lib.llama_vocab_is_eog
        return frozenset(token for token in range(self.size) if ends(self.vocab, token))

    def guide(self, grammar: str) -> Guide:
        """A guide for a new answer. Raises ConfigError that names the fault of a grammar."""
        return Guide(self._matchers(grammar).deep_copy(), self.ends)

    @cached_property
    def _matchers(self) -> Callable[[str], Any]:
        """Grammars made ready; the vocabulary is a second's work."""
        require("llguidance", extra=EXTRA)
        from llguidance import LLTokenizer

        made: Any = LLTokenizer
        with _loading:
            vocabulary = made.from_llamacpp(
                tokens=[self._spelled(token) for token in range(self.size)],
                vocab_ptr=self.vocab,
                tokenize_fptr=ctypes.cast(self.lib.llama_cpp._lib.llama_tokenize, VOID).value,
                eos_token=sorted(self.ends),
                slices=None,
            )
        ends = self.ends
        return lru_cache(KEPT)(lambda grammar: matcher(vocabulary, ends, grammar))

    def _piece(self, token: int, special: bool) -> bytes:
        """The bytes of a token; of a special one its name or nothing."""
        if (known := self._pieces.get((token, special))) is not None:
            return known
        room = LONGEST
        while True:
            text = ctypes.create_string_buffer(room)
            count = self.lib.llama_token_to_piece(self.vocab, token, text, room, 0, special)
            if count >= 0:
                return self._pieces.setdefault((token, special), text.raw[:count])
            room = -count

    def _spelled(self, token: int) -> bytes:
        """The bytes of a token as llguidance takes it: a special one begins with 0xff."""
        text = self._piece(token, True)
        kind = self.lib.llama_vocab_get_attr(self.vocab, token)
        named = kind & self.lib.LLAMA_TOKEN_ATTR_USER_DEFINED and text[:1] + text[-1:] == b"<>"
        special = named or kind & self.lib.LLAMA_TOKEN_ATTR_CONTROL
        return b"\xff" + text if special else text

    def _known(self, token: int) -> int | None:
        return token if 0 <= token < self.size else None


def weights(model: str, gpu_layers: int) -> Weights:
    """The model of a file, a folder or a name of ours; one for all who have it in this process.

    Raises MissingExtra, and ModelError that tells how to get it.
    """
    library()
    path = file_of(model)
    with _loading:
        found = _loaded.get((path, gpu_layers))
        if found is None:
            found = _loaded[path, gpu_layers] = Weights(path, gpu_layers)
    return found


_loaded: WeakValueDictionary[tuple[Path, int], Weights] = WeakValueDictionary()


def file_of(model: str) -> Path:
    """The GGUF file that is meant: a file, the only one of a folder, or a model of ours.

    Raises ModelError.
    """
    names = [name for name in (f"{model}-gguf", model) if name in CATALOGUE]
    path = resolve(names[0]) if names else Path(model).expanduser()
    if path.is_file():
        return path.resolve()
    files = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if len(files) != 1:
        found = f"a folder with {len(files)} of them" if path.is_dir() else "no file"
        raise ModelError(f"{model!r} is to be one GGUF file and is {found}")
    return files[0].resolve()
