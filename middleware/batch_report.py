"""What a job came to, as figures and as one page with pictures that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tersely.errors import ConfigError
from tersely.middleware import places
from tersely.middleware.align import align
from tersely.middleware.batch_plots import (
    KEYS,
    SHEET,
    Column,
    bar,
    bars,
    columns,
    safe,
    section,
    short,
)
from tersely.middleware.batch_summary import SUMS
from tersely.middleware.batch_worth import SharedHead
from tersely.middleware.diff import TAGS
from tersely.middleware.diff_style import PAGE, STYLE, VIEWS
from tersely.middleware.tally import Seen, Tally, bin_of, bin_start
from tersely.prices import price_of

MILLION = 1_000_000


class BatchReport(BaseModel):
    """The account of a job.

    Tokens are `before` and `after`, of all rows that could be counted. `sizes` tells, for each
    class of tokens from a number on, the rows that were as large before and after; `shares` the
    rows by what is left of their tokens, in per cent. `kinds` and `stages` are the tokens saved in
    texts of each kind and by each stage, `reasons` the rows that failed for each. Dollars are
    what the tokens cost as input, by the models that the rows or the pipeline name. `texts` of
    the rows in `slowest` and `changed` are the user's: the report is as private as they are.
    A backend gave `answered` rows an answer, and `heads` are what many rows begin with.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    done: int
    failed: int
    compressed: int
    answered: int
    softened: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    before: int
    after: int
    seconds: float
    dollars_before: float
    dollars_after: float
    sizes: tuple[tuple[int, int, int], ...]
    shares: Mapping[int, int]
    kinds: Mapping[str, int]
    stages: Mapping[str, int]
    reasons: Mapping[str, int]
    slowest: tuple[Seen, ...]
    changed: tuple[Seen, ...]
    heads: tuple[SharedHead, ...] = ()

    @classmethod
    def of(cls, tally: Tally, model: str = "", heads: tuple[SharedHead, ...] = ()) -> BatchReport:
        """The report of a tally; `model` reads the rows that name none."""
        classes = sorted({*tally.sizes, *tally.made})
        return cls(
            **tally.model_dump(include={"compressed", *SUMS}),
            rows=tally.rows,
            seconds=tally.ms / 1000,
            dollars_before=_cost(tally.read, model),
            dollars_after=_cost(tally.sent, model),
            sizes=tuple(
                (bin_start(one), tally.sizes.get(one, 0), tally.made.get(one, 0)) for one in classes
            ),
            shares=dict(sorted(tally.shares.items())),
            kinds=_largest(tally.kinds),
            stages=_largest(tally.stages),
            reasons=_largest(tally.reasons),
            slowest=tally.slowest,
            changed=tally.changed,
            heads=heads,
        )

    def html(self) -> str:
        """The report as a page without scripts, which loads nothing."""
        parts = [
            self._summary(),
            *self._plots(),
            *_seen("Most-changed rows", self.changed, "by tokens saved"),
            *_seen("Slowest rows", self.slowest, "by time of their own"),
        ]
        return PAGE.format(style=STYLE + SHEET, body="\n".join(parts))

    def save(self, path: str | Path) -> None:
        """Write it where the name ends in `.html` as a page, in `.json` as figures."""
        page = check(path) == ".html"
        text = self.html() if page else self.model_dump_json(indent=1) + "\n"
        places.write(text.encode(errors="replace"), str(path))

    def _summary(self) -> str:
        share = self.after / self.before if self.before else 1.0
        facts = {
            "Rows": f"{self.rows:,}",
            "Compressed": f"{self.compressed:,}",
            "Failed": f"{self.failed:,}",
            **self._answers(),
            "Mean row": f"{_mean(self.before, self.done)} → {_mean(self.after, self.done)}",
            "Cost as input": f"{_dollars(self.dollars_before)} → {_dollars(self.dollars_after)}",
            "Time of the rows": f"{self.seconds:,.1f} s",
        }
        told = "".join(
            f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items()
        )
        return (
            "<header><h1>What the job came to</h1>"
            f'<p class="sum">{self.before:,}<i>→</i><b>{self.after:,}</b> '
            f"<small>tokens · {1 - share:.0%} fewer</small></p>"
            f'{bar(share)}<dl class="facts">{told}</dl></header>'
        )

    def _answers(self) -> dict[str, str]:
        """What there is to say of answers, if there are any."""
        if not self.answered:
            return {}
        return {
            "Answered": f"{self.answered:,}, {self.softened:,} with a soft prompt",
            "Tokens read for it": f"{self.prompt_tokens:,}, {self.cached_tokens:,} of them cached",
            "Tokens written": f"{self.completion_tokens:,}",
        }

    def _plots(self) -> Iterator[str]:
        yield section(
            "Rows by tokens",
            f"number of rows {KEYS}",
            columns(_by_size(self.sizes), "tokens of a row"),
        )
        shares = columns(_by_share(self.shares), "% of a row's tokens that are left")
        yield section("Rows by what is left of them", "number of rows", shares)
        yield section("Cost as input", "dollars", _costs(self.dollars_before, self.dollars_after))
        yield section(
            "Tokens saved by kind of text",
            "tokens, and their share of all saved",
            _saved(self.kinds),
        )
        yield section(
            "Tokens saved by stage", "tokens, and their share of all saved", _saved(self.stages)
        )
        failed = [(why, count, _of(count, self.rows)) for why, count in self.reasons.items()]
        yield section("Failures by reason", "rows, and their share of all", bars(failed, "wrong"))
        yield section("What rows begin with", "", _list(head.message for head in self.heads))


def check(path: str | Path) -> str:
    """How the name of a report ends. Raises ConfigError when it is no kind that we write."""
    ending = Path(path).suffix
    if ending not in (".html", ".json"):
        raise ConfigError(f"a report ends in .html or .json, was {path}")
    return ending


def _by_size(sizes: Sequence[tuple[int, int, int]]) -> list[Column]:
    """Every class of sizes from the smallest to the largest row."""
    known = {start: (was, now) for start, was, now in sizes}
    classes = range(bin_of(min(known)), bin_of(max(known)) + 1) if known else range(0)
    made: list[Column] = []
    for one in classes:
        start, end = bin_start(one), bin_start(one + 1) - 1
        if one and end < start:
            continue  # below 2 tokens there is no half of a doubling
        was, now = known.get(start, (0, 0))
        told = f"{start:,} to {end:,} tokens: {was:,} rows before, {now:,} after"
        made.append(Column(short(start), told, (("was", was), ("now", now))))
    return made


def _by_share(shares: Mapping[int, int]) -> list[Column]:
    tens = [0] * 11
    for share, count in shares.items():
        tens[share // 10] += count
    if not sum(tens):
        return []
    named = [(f"{10 * i}", f"{10 * i} to {10 * i + 9} %") for i in range(10)]
    return [
        Column(start, f"{told}: {count:,} rows", (("now", count),))
        for (start, told), count in zip([*named, ("100", "100 %")], tens, strict=True)
    ]


def _costs(was: float, now: float) -> str:
    """What the tokens cost before and after, as bars."""
    if not was:
        return ""
    less = f"{_dollars(now)} ({now / was - 1:+.0%})"
    return bars([("before", was, _dollars(was)), ("after", now, less)], "was", "")


def _cost(tokens: Mapping[str, int], model: str) -> float:
    """Dollars for tokens by the model that a row names."""
    return sum(price_of(name or model).input * count for name, count in tokens.items()) / MILLION


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _seen(title: str, rows: Sequence[Seen], by: str) -> Iterator[str]:
    """Rows one by one, with what changed in them; the first text that changed most is open."""
    if not rows:
        return
    yield f"<h2>{title}<small>{by}</small></h2>"
    if any(row.texts for row in rows):
        yield VIEWS if by.endswith("saved") else ""
    for row in rows:
        named = f" · {safe(row.name)}" if row.name else ""
        opened = row is rows[0] and by.endswith("saved")
        texts = "".join(
            _text(*told, " open" if opened and not i else "") for i, told in enumerate(row.texts)
        )
        yield (
            f'<article><div class="head"><code>row {row.line}{named}</code>'
            f'<span class="num">{row.before:,} → {row.after:,} <small>tokens · {row.ms:,.0f} ms'
            f"</small></span></div>{bar(row.after / row.before) if row.before else ''}"
            f"{texts}</article>"
        )


def _text(path: str, old: str, new: str, opened: str) -> str:
    marked = "".join(TAGS[piece.mark].format(safe(piece.text)) for piece in align(old, new))
    return (
        f"<details{opened}><summary>{safe(path)}</summary>"
        f'<div class="text" dir="auto">{marked}</div></details>'
    )


def _saved(counts: Mapping[str, int]) -> str:
    """Tokens saved by name, and the share of all that was saved."""
    whole = sum(count for count in counts.values() if count > 0)
    return bars((name, count, _of(count, whole)) for name, count in counts.items())


def _list(lines: Iterable[str]) -> str:
    told = "".join(f"<li>{safe(line)}</li>" for line in lines)
    return f"<ul>{told}</ul>" if told else ""


def _of(part: int, whole: int) -> str:
    share = max(part, 0) / whole if whole else 0.0
    return f"{part:,} · " + (f"{share:.0%}" if share >= 0.005 or not share else "<1%")


def _mean(tokens: int, rows: int) -> str:
    return f"{tokens / rows:,.0f}" if rows else "0"


def _dollars(amount: float) -> str:
    """Two places, or as many as tell something of less than a cent."""
    return f"${amount:,.2f}" if amount >= 0.01 or not amount else f"${amount:.2g}"
