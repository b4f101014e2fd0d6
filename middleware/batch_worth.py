"""Whether it pays to learn what many rows begin with as a soft prompt."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from statistics import median

from pydantic import BaseModel, ConfigDict, computed_field

from tersely.artefact import page_of
from tersely.contracts import TokenCounter
from tersely.errors import ModelError
from tersely.middleware.batch_heads import Beginning, Heads
from tersely.prices import Price, price_of
from tersely.soft_artefact import RECIPE, Role, SoftAbout, listed
from tersely.tokens import counter

EXCERPT = 120
"""Letters of a beginning that are shown."""

MILLION = 1_000_000

ANSWER = 256
"""How many tokens an answer has where nothing is said of it."""


class Pace(BaseModel):
    """What a soft prompt costs and spares, in seconds for each token that it saves.

    `train` is its training, once. Each row then spares `read` where the engine would read the text
    anew, or `begun` where it remembers it, and `step` for every token of the answer, as one of
    sixteen at a time. Measured for 32 keys and values in the place of 1,337 to 1,835 tokens, the
    dearest of three (benchmarks/results/soft.json): on another machine, and with a larger model,
    all of them change alike, and the rows after which it pays stay about the same.
    """

    model_config = ConfigDict(frozen=True)

    train: float = 0.256
    read: float = 0.0038
    begun: float = 0.000049
    step: float = 0.0000058
    source: str = "measured by the package's own benchmark"

    @classmethod
    def of(cls, model: str) -> Pace:
        """As far as something learned for a model lies on the shelf: as it went there."""
        made = [about for about in _learned(model) if about.pays_back]
        if not made:
            return cls()
        train = median(one.seconds / _saved(one) for one in made)
        read = median(one.read_seconds / one.text_tokens for one in made)
        slower = read / cls().read
        return cls(
            train=train,
            read=read,
            begun=cls().begun * slower,
            step=cls().step * slower,
            source=f"as {len(made)} on the shelf went",
        )

    @property
    def rows_cold(self) -> int:
        """After how many rows it pays where each row would be read anew."""
        return ceil(self.train / self.read)

    def rows_cached(self, answer: int) -> int:
        """The same where the engine remembers what rows begin with, for answers of a length."""
        return ceil(self.train / (self.begun + answer * self.step))


class SharedHead(BaseModel):
    """A text with which `rows` begin, and whether it pays to learn it as a soft prompt.

    It pays after `pays_cold` rows that would be read anew, and after `pays_cached` where the engine
    remembers what it has read. `dollars_cold` is what reading it in every row costs at the model's
    price, and `dollars_cached` the same where a provider's cache has it after the first.
    """

    model_config = ConfigDict(frozen=True)

    role: Role
    sha256: str
    rows: int
    tokens: int
    pays_cold: int
    pays_cached: int
    dollars_cold: float
    dollars_cached: float
    excerpt: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pays(self) -> str:
        """Where it pays to learn it: "always", when it is read "anew" each time, or "never"."""
        if self.rows > self.pays_cached:
            return "always"
        return "anew" if self.rows > self.pays_cold else "never"

    @property
    def message(self) -> str:
        """What there is to say of it, in a sentence."""
        told = {
            "always": "a soft prompt pays",
            "anew": "a soft prompt pays where each row is read anew",
            "never": "a soft prompt does not pay",
        }
        return (
            f"{self.rows:,} rows begin with the same {self.tokens:,} tokens ({self.excerpt!r}):"
            f" {told[self.pays]} (after {self.pays_cold:,} rows read anew,"
            f" {self.pays_cached:,} remembered)"
        )


def told_of(heads: Heads, model: str, answer: int = ANSWER) -> tuple[SharedHead, ...]:
    """What beginnings mean for a model that answers with so many tokens, the weightiest first."""
    return tuple(told for _, told in weighed(heads, model, answer))


def weighed(heads: Heads, model: str, answer: int) -> list[tuple[Beginning, SharedHead]]:
    """The same, each beside its text."""
    count, price, pace = counter(model), price_of(model), Pace.of(model)
    shared = heads.shared()
    made = [(head, _told(head, rows, count, price, pace, answer)) for head, rows in shared]
    return [(head, told) for head, told in made if told.tokens >= heads.least]


def _told(
    head: Beginning, rows: int, count: TokenCounter, price: Price, pace: Pace, answer: int
) -> SharedHead:
    tokens = count(head.text)
    each = tokens * price.input / MILLION
    cached = tokens >= price.minimum
    again = price.read if cached else 1.0
    return SharedHead(
        role=head.role,
        sha256=head.sha256,
        rows=rows,
        tokens=tokens,
        pays_cold=pace.rows_cold,
        pays_cached=pace.rows_cached(answer),
        dollars_cold=each * rows,
        dollars_cached=each * ((price.write if cached else 1.0) + again * (rows - 1)),
        excerpt=" ".join(head.text[:EXCERPT].split()),
    )


def _learned(model: str) -> Iterator[SoftAbout]:
    """What was learned for a model, as far as it can be read."""
    for folder in listed().values():
        try:
            about = page_of(SoftAbout, folder, RECIPE)
        except ModelError:
            continue
        if about.model == model:
            yield about


def _saved(about: SoftAbout) -> int:
    return about.text_tokens - about.tokens
