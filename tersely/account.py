"""What an answer of several calls rests on, what became of its parts, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tersely.contracts import Completion
from tersely.retrieval import Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to the backend: what it was for, and its tokens.

    `prompt` is counted as the context counts, `completion` as the backend tells it, or else as
    the context counts. `wasted` are those tokens made that did not come into the answer, and
    `cached` those of the prompt that the backend told it had read before. `model` is the one of
    several that was asked.
    """

    purpose: str
    prompt: int
    completion: int
    wasted: int = 0
    cached: int = 0
    model: str = ""

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a plan spent: all its calls, in the order in which they ended.

    `exact` is False where tokens are estimated. `notes` tell which way was taken, and why.
    """

    calls: tuple[Call, ...] = ()
    exact: bool = True
    notes: tuple[str, ...] = ()

    @property
    def prompt(self) -> int:
        """Prompt tokens of all calls."""
        return sum(call.prompt for call in self.calls)

    @property
    def cached(self) -> int:
        """Those of them that a backend told it had read before."""
        return sum(call.cached for call in self.calls)

    @property
    def completion(self) -> int:
        """Tokens made in all calls."""
        return sum(call.completion for call in self.calls)

    @property
    def spent(self) -> int:
        """Tokens of all calls, read and made."""
        return self.prompt + self.completion

    @property
    def wasted(self) -> int:
        """Tokens that were made and thrown away."""
        return sum(call.wasted for call in self.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Spent):
    """What a plan that looks things up spent, beside what plainer ways of asking would have.

    `limit` is the bound for all calls together (None: not bounded). `plain` is one call with every
    passage of the first search in it, whole, and the same answer; `whole` is one call with the
    request as it came and the same answer, where its context was left out (else None).
    """

    searches: int = 0
    limit: int | None = None
    plain: int = 0
    whole: int | None = None

    @property
    def saved(self) -> int:
        """Tokens less than plain retrieval with whole passages; below 0 where it took more."""
        return self.plain - self.spent

    @property
    def saved_of_whole(self) -> int | None:
        """Tokens less than with the whole context; None where the request came without one."""
        return None if self.whole is None else self.whole - self.spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A sentence of an answer, characters `start` to `end`, and what it rests on.

    `numbers` are the sources that it names or, where it names none, that it was found in.
    `support` is how much of it is found there, or how likely a judge holds it to be: 0 to 1.
    """

    start: int
    end: int
    numbers: tuple[int, ...] = ()
    support: float = 0.0
    supported: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RagAnswer(Completion):
    """An answer, the evidence that it was given, and what it cost.

    `passages` are the sources in the order of their numbers, from 1, with the text that the model
    was shown; `evidence` is that text as it stood in the prompt.
    """

    evidence: str = ""
    passages: tuple[Passage, ...] = ()
    citations: tuple[Citation, ...] = ()
    account: Account = field(default_factory=Account)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointTold:
    """What became of one point of an answer whose points were written side by side.

    `heading` is its line of the skeleton, and `text` what was written to it. It is `whole`, or
    `cut` (its end is missing), or `lost`: then it has no text, and `reason` tells why. While it is
    still written it is `open` to who watches (see `Context.watch`). `calls` is how often it was
    asked for.
    """

    number: int
    heading: str
    text: str = ""
    state: Literal["whole", "cut", "lost", "open"] = "whole"
    reason: str = ""
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SotAccount(Spent):
    """What an answer of several points took, and what became of each.

    `plain` is one call with the request as it came, and the same answer. `route` is how the
    answer was taken apart: by the question's `items`, by a `skeleton`, by the `list` that it
    came to, or not at all (`plain`: the last note tells why).
    """

    route: Literal["items", "skeleton", "list", "plain"] = "plain"
    points: tuple[PointTold, ...] = ()
    plain: int = 0

    @property
    def lost(self) -> tuple[PointTold, ...]:
        """The points that the answer goes without."""
        return tuple(point for point in self.points if point.state == "lost")

    @property
    def more(self) -> int:
        """Tokens more than the plain answer took, those read before left out."""
        return self.spent - self.cached - self.plain


@dataclass(frozen=True, slots=True, kw_only=True)
class SotAnswer(Completion):
    """An answer whose points may have been written side by side, and what it took."""

    account: SotAccount = field(default_factory=SotAccount)
