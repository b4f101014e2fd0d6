"""What was sent once is sent the same again, so that a provider's prompt cache keeps matching.

A freeze table remembers, for every leaf that was sent, the text that went out. It is found by
the session's name, or, when none is named, by the conversation: a request that begins with all
of an earlier request continues it. That is also how providers match their caches.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from itertools import accumulate
from time import monotonic

from tersely.middleware.held import History
from tersely.middleware.leaves import BREAKPOINT
from tersely.middleware.pricing import Pricing
from tersely.prompt import Leaf, Prompt, Segment
from tersely.report import Report

FROZEN = "sent before in this conversation"


class Session:
    """The freeze table of one conversation, and the account of its requests.

    `clock` tells the seconds by which a provider's cache forgets; they need but go on.
    """

    def __init__(self, name: str = "", *, clock: Callable[[], float] = monotonic) -> None:
        self.name = name
        self.clock = clock
        self.report: Report | None = None
        """The report of the latest request."""
        self.saved = 0
        """Tokens saved over all requests."""
        self.requests = 0
        self.history = History()
        """What was compacted of the conversation, and when it was heard last."""
        self.pricing = Pricing()
        """What the provider's cache holds of it, as it came and as it went out."""
        self.compacting = threading.Lock()
        """Held while its older turns are compacted, so that two calls don't both do it."""
        self._sent: dict[bytes, str | None] = {}
        self._lock = threading.Lock()

    def note(self, report: Report) -> None:
        """Add a request's report to the account."""
        with self._lock:
            self.report = report
            self.saved += report.saved
            self.requests += 1

    def thaw(self) -> None:
        """Forget what was sent: the next request is compressed anew."""
        with self._lock:
            self._sent.clear()
            self.history = History()

    def freeze(self, prompt: Prompt) -> Prompt:
        """The prompt with every leaf that was sent before as it was sent, and locked."""
        with self._lock:
            if not self._sent:
                return prompt
            segments: list[Segment] = []
            for key, leaf in _numbered(prompt):
                segments += self._frozen(key, leaf)
        return replace(prompt, segments=tuple(segments))

    def remember(self, before: Prompt, after: Prompt) -> Prompt:
        """Take note of what goes out for each leaf; tells what has to go out.

        That is `after`, but for leaves that another thread was first to send: they go out as
        they did there.
        """
        texts: dict[int, str] = {}
        at = 0
        with self._lock:
            for (key, old), new in zip(_numbered(before), after.leaves, strict=True):
                at += len(old.segments)
                if new.soft:  # whether it may stand is told by what is known of it then
                    continue
                text = new.text
                sent = self._sent.setdefault(key, None if text == old.text else text)
                if _may_differ(old) and text != (old.text if sent is None else sent):
                    texts |= _parts(old, sent, at - len(old.segments))
        return after.with_texts(texts) if texts else after

    def _frozen(self, key: bytes, leaf: Leaf) -> Iterable[Segment]:
        if key not in self._sent or not _may_differ(leaf):
            return leaf.segments
        texts = _parts(leaf, self._sent[key])
        return (
            replace(segment, text=texts[i], locked=True, reason=FROZEN, spans=())
            for i, segment in enumerate(leaf.segments)
        )


class Conversations:
    """Sessions found by what was said, for callers who name none.

    Holds the `size` conversations that were used last; an older one is compressed anew, by
    which time its provider's cache is gone as well.
    """

    def __init__(self, size: int = 512) -> None:
        self.size = size
        self._known: dict[bytes, Session] = {}
        self._recent: OrderedDict[Session, list[bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._recent)

    def __eq__(self, other: object) -> bool:
        """A memory is no setting: pipelines with the same settings are the same."""
        return isinstance(other, Conversations) and other.size == self.size

    def __hash__(self) -> int:
        return hash(self.size)

    def __reduce__(self) -> tuple[type[Conversations], tuple[int]]:
        """A copy, in another process or here, begins without conversations."""
        return Conversations, (self.size,)

    def continued_by(self, prompt: Prompt) -> Session:
        """The session of the longest request that this prompt goes on from, else a new one.

        The very same request is no continuation: who sends it again may want other settings.
        """
        with self._lock:
            known = (self._known.get(key) for key in reversed(_chain(prompt)[:-1]))
            return next(filter(None, known), None) or Session()

    def remember(self, prompt: Prompt, session: Session) -> None:
        """From now on, a prompt that begins with this one continues the session.

        A text or document by itself is no conversation: it may come again with another question.
        """
        chain = _chain(prompt)
        if not chain or not prompt.turns:
            return
        with self._lock:
            if self._known.get(chain[-1]) is not session:
                self._known[chain[-1]] = session
                self._recent.setdefault(session, []).append(chain[-1])
            self._recent.move_to_end(session)
            while len(self._recent) > self.size:
                forgotten, keys = self._recent.popitem(last=False)
                for key in keys:
                    if self._known.get(key) is forgotten:
                        del self._known[key]


def _may_differ(leaf: Leaf) -> bool:
    """Whether a leaf may go out as something else than it is.

    What the reader of the request locked may not, but for one case: a text that was open when
    it was sent, and carries a cache breakpoint now.
    """
    return any(not s.locked or s.reason == BREAKPOINT for s in leaf.segments)


def _parts(leaf: Leaf, sent: str | None, start: int = 0) -> dict[int, str]:
    """What each segment of a leaf holds when it goes out as it was sent (None: unchanged)."""
    texts = [s.text for s in leaf.segments]
    if sent is not None:
        texts = [sent, *("" for _ in texts[1:])]
    return dict(enumerate(texts, start))


def _numbered(prompt: Prompt) -> Iterator[tuple[bytes, Leaf]]:
    """Every leaf with its key. A leaf that is there again has a key of its own.

    Under one budget the first may keep what the second has to lose.
    """
    before: Counter[bytes] = Counter()
    for leaf in prompt.leaves:
        key = _key(leaf)
        again = before[key]
        before[key] += 1
        yield blake2b(key + again.to_bytes(4), digest_size=16).digest() if again else key, leaf


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
