"""Text from tokens as they are made, and where a stop string ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Turns tokens into text one by one; a character appears when all its bytes are there.

    `decode` gives the text of a list of tokens. Tokens are decoded together with the ones
    before them, since some vocabularies spell a word's space by what stands in front of it.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._known: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """The text that this token completes; empty when its last character is not whole."""
        self._pending.append(token)
        text = self._new_text()
        if text.endswith(BROKEN):
            return ""
        self._known = self._pending if text else self._known + self._pending
        self._pending = []
        return text

    def peek(self, token: int) -> str:
        """What `push` would say to this token."""
        text = self._new_text(token)
        return "" if text.endswith(BROKEN) else text

    def flush(self) -> str:
        """What is whole of the text that waits for more bytes, when no more come."""
        text = self._new_text().rstrip(BROKEN)
        self._pending = []
        return text

    def _new_text(self, *more: int) -> str:
        known = self._decode(self._known)
        return self._decode([*self._known, *self._pending, *more])[len(known) :]


class StopStrings:
    """Ends a text where the first of some strings is complete.

    Text that may be the beginning of a stop string is held back until that is decided, so the
    outcome does not depend on the pieces in which the text arrives. `met` tells that the text
    has ended.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.met = False

    def push(self, piece: str) -> str:
        """The text that is certain not to belong to a stop string."""
        self._held += piece
        ends = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.met = True
            _, cut = min(ends)
            self._held = self._held[:cut]
            return self.flush()
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        sure = len(self._held) - keep
        said, self._held = self._held[:sure], self._held[sure:]
        return said

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        said, self._held = self._held, ""
        return said


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may begin a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
