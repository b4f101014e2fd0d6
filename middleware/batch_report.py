"""What a job came to, as figures and as one page with pictures that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tersely.errors import ConfigError
from tersely.middleware import places
from tersely.middleware.align import align
from tersely.middleware.batch_summary import SUMS
from tersely.middleware.batch_worth import SharedHead
from tersely.middleware.diff import TAGS
from tersely.middleware.diff_style import PAGE, STYLE, VIEWS
from tersely.middleware.signs import shown
from tersely.middleware.tally import Seen, Tally, bin_start
from tersely.prices import price_of

MILLION = 1_000_000

LOOK = """
.plot { display: grid; grid-template-columns: max-content 1fr max-content; gap: .3rem 1rem;
  align-items: center; font-size: .85rem; }
.plot .two { display: grid; gap: 2px; }
.plot .was span { background: var(--soft); opacity: .55; }
.plot .name { overflow-wrap: anywhere; max-width: 24rem; }
.plot .num { color: var(--soft); text-align: right; }
h2 { margin: 2.75rem 0 .9rem; font-size: 1rem; font-weight: 600; }
h2 small { font-weight: 400; color: var(--soft); margin-left: .6rem; }
"""
"""The sheet of the plots, beside that of the diff."""


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
        return PAGE.format(style=STYLE + LOOK, body="\n".join(parts))

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
            "Cost as input": f"${self.dollars_before:,.2f} → ${self.dollars_after:,.2f}",
            "Time of the rows": f"{self.seconds:,.1f} s",
        }
        told = "".join(
            f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items()
        )
        return (
            "<header><h1>What the job came to</h1>"
            f'<p class="sum">{self.before:,}<i>→</i><b>{self.after:,}</b> '
            f"<small>tokens · {1 - share:.0%} fewer</small></p>"
            f'{_bar(share)}<dl class="facts">{told}</dl></header>'
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
        most = max((max(was, now) for _, was, now in self.sizes), default=1) or 1
        rows = [(f"{start:,} and more", was / most, now / most, f"{was:,} → {now:,}")
                for start, was, now in self.sizes]  # fmt: skip
        yield _section("Rows by tokens", "grey: before, green: after", _pairs(rows))
        tens: dict[int, int] = {}
        for share, count in self.shares.items():
            tens[share // 10 * 10] = tens.get(share // 10 * 10, 0) + count
        left = {f"{ten} %" if ten == 100 else f"{ten} to {ten + 9} %": n for ten, n in tens.items()}
        yield _section("Rows by what is left of them", "", _single(left))
        yield _section("Tokens saved by kind of text", "", _single(self.kinds))
        yield _section("Tokens saved by stage", "", _single(self.stages))
        yield _section("Failures by reason", "rows", _single(self.reasons))
        yield _section("What rows begin with", "", _list(head.message for head in self.heads))


def check(path: str | Path) -> str:
    """How the name of a report ends. Raises ConfigError when it is no kind that we write."""
    ending = Path(path).suffix
    if ending not in (".html", ".json"):
        raise ConfigError(f"a report ends in .html or .json, was {path}")
    return ending


def _cost(tokens: Mapping[str, int], model: str) -> float:
    """Dollars for tokens by the model that a row names."""
    return sum(price_of(name or model).input * count for name, count in tokens.items()) / MILLION


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _seen(title: str, rows: Sequence[Seen], by: str) -> Iterator[str]:
    """Rows one by one, with what changed in them."""
    if not rows:
        return
    yield f"<h2>{title}<small>{by}</small></h2>"
    if any(row.texts for row in rows):
        yield VIEWS if by.endswith("saved") else ""
    for row in rows:
        named = f" · {_safe(row.name)}" if row.name else ""
        yield (
            f'<article><div class="head"><code>row {row.line}{named}</code>'
            f'<span class="num">{row.before:,} → {row.after:,} <small>tokens · {row.ms:,.0f} ms'
            f"</small></span></div>{''.join(map(_text, row.texts))}</article>"
        )


def _text(told: tuple[str, str, str]) -> str:
    path, old, new = told
    marked = "".join(TAGS[piece.mark].format(_safe(piece.text)) for piece in align(old, new))
    return (
        f"<details><summary>{_safe(path)}</summary>"
        f'<div class="text" dir="auto">{marked}</div></details>'
    )


def _section(title: str, about: str, body: str) -> str:
    return f"<h2>{title}<small>{about}</small></h2>{body}" if body else ""


def _single(counts: Mapping[str, int]) -> str:
    most = max(counts.values(), default=1) or 1
    return _plot((name, _bar(max(n, 0) / most), f"{n:,}") for name, n in counts.items())


def _pairs(rows: Iterable[tuple[str, float, float, str]]) -> str:
    return _plot(
        (name, f'<div class="two">{_bar(was, "was")}{_bar(now)}</div>', told)
        for name, was, now, told in rows
    )


def _plot(rows: Iterable[tuple[str, str, str]]) -> str:
    cells = "".join(
        f'<span class="name">{_safe(name)}</span>{bar}<span class="num">{told}</span>'
        for name, bar, told in rows
    )
    return f'<div class="plot">{cells}</div>' if cells else ""


def _list(lines: Iterable[str]) -> str:
    told = "".join(f"<li>{_safe(line)}</li>" for line in lines)
    return f"<ul>{told}</ul>" if told else ""


def _bar(share: float, look: str = "") -> str:
    return f'<div class="bar {look}"><span style="width:{min(share, 1.0):.1%}"></span></div>'


def _safe(text: object) -> str:
    return escape(shown(str(text)))
