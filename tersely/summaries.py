"""A summary, what each sentence of it rests on, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from tersely.account import Spent
from tersely.contracts import Completion
from tersely.faithful import Told

Route = Literal["single", "map_reduce", "refine", "clusters"]
"""How a text is summarised: at once, by parts and those together, part after part, by topics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryAccount(Spent):
    """What a summary cost, and what it spares.

    `source` and `made` are the tokens of the text and of its summary. `reused` tells that it was
    made before: then nothing was spent.
    """

    route: Route = "single"
    source: int = 0
    made: int = 0
    reused: bool = False

    @property
    def saved(self) -> int:
        """Tokens that a prompt is shorter with the summary in place of the text."""
        return self.source - self.made

    @property
    def pays_after(self) -> int | None:
        """How often it has to be sent until it spared what it cost; None where it never will."""
        if self.saved <= 0:
            return None
        return max(ceil(self.spent / self.saved), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Completion):
    """A summary as an answer. It is empty where nothing in the text helps.

    `sentences` are those of the text, with what they rest on in the `source`, and `dropped` what
    the model said and the source does not hold. `coverage` is the share of the question's words,
    of those in the source, that the summary has too.
    """

    source: str = field(default="", repr=False)
    sentences: tuple[Told, ...] = ()
    dropped: tuple[Told, ...] = ()
    coverage: float = 1.0
    account: SummaryAccount = field(default_factory=SummaryAccount)
