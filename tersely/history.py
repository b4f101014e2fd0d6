"""What became of the older part of a conversation: one text that stands for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tersely.account import Spent
from tersely.contracts import Completion

HEAD = "Summary of the conversation so far, by who said it:"
"""How the text begins that stands for the older part of a conversation. Whoever finds it within a
message reads the lines below it, so that the next summary begins from them."""

MADE = 4
"""Tokens read that one token made costs as much as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAccount(Spent):
    """What compaction took, and what it spares.

    `source` and `made` are the tokens of the old turns and of the text in their place. `firm` are
    the lines that are carried whatever they take, `facts` the different numbers, names, dates, ids
    and paths of the old turns that stand nowhere else, and `lost` those that found no room. `price`
    is what a token of the backend costs, in tokens of the model that the conversation is with.
    """

    source: int = 0
    made: int = 0
    firm: int = 0
    facts: int = 0
    lost: tuple[str, ...] = ()
    price: float = 0.0

    @property
    def cost(self) -> float:
        """What the calls took, in tokens of the prompt; a token made counts as four read."""
        return self.price * (self.prompt + MADE * self.completion)

    @property
    def saved(self) -> int:
        """Tokens that each later request is shorter; 0 where nothing is put in place."""
        return self.source - self.made


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted(Completion):
    """The text in place of old turns; empty where none would be shorter."""

    account: HistoryAccount = field(default_factory=HistoryAccount)
