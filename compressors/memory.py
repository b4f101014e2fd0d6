"""What scoring remembers: the scores of texts that were seen lately."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sized
from typing import Generic, TypeVar

T = TypeVar("T", bound=Sized)


class Memory(Generic[T]):
    """The scores of the texts that were seen last, up to `room` tokens. Safe across threads."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._scores: OrderedDict[bytes, T] = OrderedDict()

    def get(self, key: bytes) -> T | None:
        with self._lock:
            if key in self._scores:
                self._scores.move_to_end(key)
            return self._scores.get(key)

    def put(self, key: bytes, scores: T) -> None:
        with self._lock:
            if key not in self._scores:
                self._scores[key] = scores
                self._room -= len(scores)
            while self._room < 0:
                _, oldest = self._scores.popitem(last=False)
                self._room += len(oldest)

    def clear(self) -> None:
        with self._lock:
            self._room += sum(map(len, self._scores.values()))
            self._scores.clear()


def key_of(*parts: str) -> bytes:
    """What a text is known by, with what was read before it and who read it."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8) + data)
    return digest.digest()
