"""The account of many rows: how large they were and are, what was saved, and what went wrong.

It takes the same room however many rows there are, and accounts of parts add up to that of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from tersely.middleware.adapters import look
from tersely.middleware.passage import model_of
from tersely.middleware.rows import Treated, Usage
from tersely.report import spell

SHOWN = 10
"""So many of the slowest and of the most-changed rows are kept."""

LETTERS = 2_000
"""From so many letters on, a text that is kept is cut."""

NAME, REASON = 80, 200
"""So many letters of a name and of a reason are kept."""

REASONS = 50
"""So many different reasons are told apart."""

OTHER = "other reasons"

MODELS = 50
"""So many models that rows name are told apart; others count as the pipeline's own."""

TEXTS = 8
"""So many changed texts of a row are kept."""


class Seen(BaseModel):
    """A row that is worth a look: its tokens, its time, and the texts that changed in it.

    `texts` are the place, the old and the new text of each; long ones are cut, and of many only
    those are kept that lost most.
    """

    model_config = ConfigDict(frozen=True)

    line: int
    name: str = ""
    before: int
    after: int
    ms: float
    texts: tuple[tuple[str, str, str], ...] = ()

    @property
    def saved(self) -> int:
        """Tokens that went."""
        return self.before - self.after


class Tally(BaseModel):
    """What many rows come to.

    `before` and `after` are tokens, `ms` is the time that the rows took by themselves. `sizes` and
    `made` count rows by tokens before and after, `shares` by what is left of them in per cent;
    `kinds` and `stages` are the tokens saved in texts of each kind and by each stage; `read` and
    `sent` are the tokens before and after by the model that the rows name. A backend gave
    `answered` rows an answer, `softened` of them with a soft prompt for what they begin with; it
    read `prompt_tokens` for that, of which `cached_tokens` before, and wrote `completion_tokens`.
    """

    model_config = ConfigDict(frozen=True)

    done: int = 0
    failed: int = 0
    compressed: int = 0
    answered: int = 0
    softened: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    before: int = 0
    after: int = 0
    ms: float = 0.0
    sizes: Mapping[int, int] = {}
    made: Mapping[int, int] = {}
    shares: Mapping[int, int] = {}
    kinds: Mapping[str, int] = {}
    stages: Mapping[str, int] = {}
    read: Mapping[str, int] = {}
    sent: Mapping[str, int] = {}
    reasons: Mapping[str, int] = {}
    slowest: tuple[Seen, ...] = ()
    changed: tuple[Seen, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that were read, good and bad ones."""
        return self.done + self.failed

    @classmethod
    def of(cls, line: int, row: Any, treated: Treated) -> Self:
        """The account of one row."""
        failed = treated.status == "failed"
        before, after = treated.before or 0, treated.after or 0
        seen = Seen(
            line=line,
            name=_name(row),
            before=before,
            after=after,
            ms=treated.ms,
            texts=tuple(_texts(row, treated)),
        )
        counted = treated.before is not None
        return cls(
            done=int(not failed),
            failed=int(failed),
            compressed=int(treated.status == "compressed"),
            **_used(treated.usage),
            before=before,
            after=after,
            ms=treated.ms,
            sizes={bin_of(before): 1} if counted else {},
            made={bin_of(after): 1} if counted else {},
            shares={min(100 * after // before, 100): 1} if before else {},
            kinds=_saved((one.kind, one.before - one.after) for one in treated.decisions),
            stages=_saved((one.stage, one.before - one.after) for one in treated.decisions),
            read={_model(row): before} if before else {},
            sent={_model(row): after} if after else {},
            reasons={_cut(treated.reason, REASON): 1} if failed else {},
            slowest=(seen,),
            changed=(seen,) if treated.edits else (),
        )

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """The account of all."""
        every = list(tallies)
        sums: dict[str, Any] = {name: sum(getattr(one, name) for one in every) for name in NUMBERS}
        merged = {name: _merged(getattr(one, name) for one in every) for name in TABLES}
        merged |= {name: _commonest(merged[name], MODELS, "") for name in ("read", "sent")}
        return Tally(
            **sums | merged,
            reasons=_commonest(_merged(one.reasons for one in every), REASONS, OTHER),
            slowest=_top((row for one in every for row in one.slowest), "ms"),
            changed=_top((row for one in every for row in one.changed), "saved"),
        )

    def plus(self, more: Tally) -> Tally:
        """The account of these rows and more of them."""
        return Tally.total((self, more))


ANSWERED = ("answered", "softened", "prompt_tokens", "cached_tokens", "completion_tokens")
NUMBERS = ("done", "failed", "compressed", "before", "after", "ms", *ANSWERED)
TABLES = ("sizes", "made", "shares", "kinds", "stages", "read", "sent")


def bin_of(tokens: int) -> int:
    """The size class of so many tokens: two for each doubling. Class 0 is nothing at all."""
    if tokens < 1:
        return 0
    power = tokens.bit_length() - 1
    return 1 + 2 * power + (tokens * 2 >= 3 << power)


def bin_start(size_class: int) -> int:
    """The fewest tokens of a size class."""
    if size_class == 0:
        return 0
    power, upper = divmod(size_class - 1, 2)
    return -(-(3 << power) // 2) if upper else 1 << power


def _name(row: Any) -> str:
    named = row.get("custom_id", row.get("id", "")) if isinstance(row, Mapping) else ""
    return _cut(str(named), NAME)


def _used(usage: Usage | None) -> dict[str, int]:
    """What the answers of a row took."""
    if usage is None:
        return {}
    told = (1, int(usage.soft), usage.prompt, usage.cached, usage.completion)
    return dict(zip(ANSWERED, told, strict=True))


def _model(row: Any) -> str:
    """The model that a row, or the request in it, names."""
    for holder in (row, look(row, ("body",)), look(row, ("params",))):
        if named := model_of(holder):
            return _cut(named, NAME)
    return ""


def _texts(row: Any, treated: Treated) -> Iterator[tuple[str, str, str]]:
    """The texts that lost most, in order; a list whose older messages became one is not shown."""
    texts = [
        (path, str(look(row, path)), text)
        for path, text in treated.edits.items()
        if isinstance(text, str)
    ]
    if len(texts) > TEXTS:
        least = sorted((len(old) - len(new) for _, old, new in texts), reverse=True)[TEXTS - 1]
        texts = [one for one in texts if len(one[1]) - len(one[2]) >= least][:TEXTS]
    for path, old, new in texts:
        yield _cut(spell(path)), _cut(old), _cut(new)


def _cut(text: str, most: int = LETTERS) -> str:
    if len(text) > most:
        text = f"{text[:most]}…"
    # half a surrogate is no text for JSON
    return text if text.isascii() else text.encode(errors="replace").decode()


def _saved(told: Iterable[tuple[str, int]]) -> dict[str, int]:
    saved: Counter[str] = Counter()
    for name, tokens in told:
        saved[name] += tokens
    return {name: tokens for name, tokens in saved.items() if tokens}


def _merged(counts: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    merged: dict[Any, int] = {}
    for one in counts:
        for key, count in one.items():
            merged[key] = merged.get(key, 0) + count
    return merged


def _commonest(counts: Mapping[str, int], most: int, other: str) -> dict[str, int]:
    """The largest of many counts; all others come together under one name."""
    if len(counts) <= most:
        return {**counts}
    known = {name: count for name, count in counts.items() if name != other}
    kept = dict(sorted(known.items(), key=lambda item: -item[1])[: most - 1])
    return kept | {other: sum(counts.values()) - sum(kept.values())}


def _top(rows: Iterable[Seen], by: str) -> tuple[Seen, ...]:
    return tuple(sorted(rows, key=attrgetter(by), reverse=True)[:SHOWN])
