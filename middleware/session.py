"""What was sent once is sent the same again, so that a provider's prompt cache keeps matching.

A freeze table remembers, for every leaf that was sent, the text that went out. It is found by
the session's name, or, when none is named, by the conversation: a request that begins with all
of an earlier request continues it. That is also how providers match their caches.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from itertools import accumulate

from tersely.prompt import Leaf, Prompt, Segment
from tersely.report import Report

FROZEN = "sent before in this conversation"


class Session:
    """The freeze table of one conversation, and the reports of its requests."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.reports: list[Report] = []
        self._sent: dict[bytes, str | None] = {}
        self._lock = threading.Lock()

    @property
    def report(self) -> Report | None:
        """The report of the latest request."""
        return self.reports[-1] if self.reports else None

    @property
    def saved(self) -> int:
        """Tokens saved over all requests of this session."""
        return sum(report.saved for report in self.reports)

    def thaw(self) -> None:
        """Forget what was sent: the next request is compressed anew."""
        with self._lock:
            self._sent.clear()

    def freeze(self, prompt: Prompt) -> Prompt:
        """The prompt with every leaf that was sent before as it was sent, and locked."""
        with self._lock:
            if not self._sent:
                return prompt
            segments: list[Segment] = []
            for leaf in prompt.leaves:
                segments += self._frozen(leaf)
        return replace(prompt, segments=tuple(segments))

    def remember(self, before: Prompt, after: Prompt) -> None:
        """Take note of what went out for each leaf. What is known already stays."""
        with self._lock:
            for old, new in zip(before.leaves, after.leaves, strict=True):
                text = new.text
                self._sent.setdefault(_key(old), text if text != old.text else None)

    def _frozen(self, leaf: Leaf) -> Iterable[Segment]:
        key = _key(leaf)
        if key not in self._sent:
            return leaf.segments
        sent = self._sent[key]
        parts = [replace(s, locked=True, reason=FROZEN, spans=()) for s in leaf.segments]
        if sent is None:
            return parts
        return [replace(parts[0], text=sent), *(replace(part, text="") for part in parts[1:])]


class Conversations:
    """Sessions found by what was said, for callers who name none.

    Holds the `size` most recent conversations; an older one is compressed anew, by which time
    its provider's cache is gone as well.
    """

    def __init__(self, size: int = 512) -> None:
        self.size = size
        self._known: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = threading.Lock()

    def continued_by(self, prompt: Prompt) -> Session:
        """The session whose latest request this prompt begins with, else a new one."""
        with self._lock:
            for key in reversed(_chain(prompt)):
                if key in self._known:
                    self._known.move_to_end(key)
                    return self._known[key]
        return Session()

    def remember(self, prompt: Prompt, session: Session) -> None:
        """From now on, a prompt that begins with this one continues the session."""
        with self._lock:
            chain = _chain(prompt)
            if chain:
                self._known[chain[-1]] = session
                self._known.move_to_end(chain[-1])
            while len(self._known) > self.size:
                self._known.popitem(last=False)


def _key(leaf: Leaf) -> bytes:
    """What a leaf is known by: who says it and what."""
    digest = blake2b(leaf.role.encode(), digest_size=16)
    for segment in leaf.segments:
        digest.update(segment.text.encode(errors="surrogatepass"))
    return digest.digest()


def _chain(prompt: Prompt) -> list[bytes]:
    """For each leaf, a key of everything up to it."""
    keys = [_key(leaf) for leaf in prompt.leaves]
    return list(
        accumulate(keys, lambda so_far, key: blake2b(so_far + key, digest_size=16).digest())
    )
