"""Draw what was lost: a page that shows every text with its dropped words struck through.

One file without scripts, fonts or pictures from elsewhere. Everything that came with the request
is escaped, and a content security policy forbids the page to load anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from tersely.middleware.cards import Card, Part, cards_of
from tersely.middleware.diff_style import PAGE, STYLE, VIEWS
from tersely.middleware.signs import shown
from tersely.report import Decision, Report, Trace

FOLDED = 1_200
"""Letters from which a text that did not change is folded away."""

TAGS = {"kept": "{}", "dropped": "<del>{}</del>", "added": "<ins>{}</ins>"}

MONO = {"code", "json", "log", "table"}
"""Kinds whose columns matter."""


def html(trace: Trace, /) -> str:
    """What was kept and lost, as one HTML page that needs nothing else."""
    cards = cards_of(trace)
    body = [_summary(trace.report), _overview(cards), VIEWS if cards else ""]
    body += [_article(card, at) for at, card in enumerate(cards)]
    return PAGE.format(style=STYLE, body="\n".join(part for part in body if part))


def _safe(text: object) -> str:
    return escape(shown(str(text)))


def _summary(report: Report) -> str:
    audit = "<em>Audit: nothing was changed. This is what would be.</em>"
    title = audit if report.mode == "audit" else "What was kept, and what was lost"
    size = f"{report.before:,}<i>→</i><b>{report.after:,}</b>"
    rows = "".join(f"<div><dt>{name}</dt><dd>{told}</dd></div>" for name, told in _facts(report))
    return (
        f'<header><h1>{title}</h1><p class="sum">{size} '
        f"<small>{'' if report.exact else 'estimated '}tokens · {_less(report)}</small></p>"
        f'{_bar(report.ratio)}<dl class="facts">{rows}</dl>{_notes(report.notes)}</header>'
    )


def _less(report: Report) -> str:
    if report.after >= report.before:
        return "nothing saved"
    return f"{1 - report.ratio:.0%} fewer"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    if report.limit is None:
        yield "Budget", "none"
    elif report.met:
        yield "Budget", f'<span class="good">✓ within {report.limit:,}</span>'
    else:
        over = report.after - report.limit
        yield "Budget", f'<span class="bad">✗ {over:,} over {report.limit:,}</span>'
    yield "Counted by", _safe(report.counter)
    yield "Read as", _safe(report.surface)
    yield "Time", f"{report.ms:,.0f} ms"


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{_safe(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _overview(cards: Sequence[Card]) -> str:
    """One line for each text: its bar is as long as its share of the prompt."""
    if len(cards) < 2:
        return ""
    largest = max(card.before for card in cards) or 1
    rows = (
        f'<a href="#t{at}"><code>{_safe(card.path)}</code>'
        f'<div style="width:{card.before / largest:.2%}">{_bar(card.share, card.state)}</div>'
        f'<span class="num">{card.share:.0%}</span></a>'
        for at, card in enumerate(cards)
    )
    return f'<nav aria-label="Texts">{"".join(rows)}</nav>'


def _article(card: Card, at: int) -> str:
    kinds = " · ".join(dict.fromkeys((card.leaf.role, *(p.segment.kind for p in card.parts))))
    why = "".join(f"<li>{_why(decision)}</li>" for decision in card.decisions)
    text = "".join(_part(part, told=bool(card.state)) for part in card.parts)
    look = "text mono" if MONO & {part.segment.kind for part in card.parts} else "text"
    size = sum(len(piece.text) for part in card.parts for piece in part.pieces)
    folded = not card.changed and len(card.leaf.text) > FOLDED
    return (
        f'<article id="t{at}"><div class="head"><code>{_safe(card.path)}</code>'
        f'<span class="kinds">{_safe(kinds)}</span><span class="num">{_sizes(card)}</span></div>'
        f'{_bar(card.share, card.state)}<ul class="why">{why}</ul>'
        f"<details{'' if folded else ' open'}><summary>{size:,} characters</summary>"
        f'<div class="{look}" dir="auto">{text}</div></details></article>'
    )


def _sizes(card: Card) -> str:
    if card.before == card.after:
        return f"{card.after:,} <small>tokens</small>"
    return f"{card.before:,} → {card.after:,} <small>tokens · {card.share:.0%} kept</small>"


def _why(decision: Decision) -> str:
    stage = "" if decision.stage == "-" else f"<b>{_safe(decision.stage)}</b> "
    return f"{stage}{decision.action}: {_safe(decision.reason)}"


def _part(part: Part, *, told: bool) -> str:
    """A segment's text; why it is locked, unless the card has told that already."""
    text = "".join(_marked(part))
    if not part.state:
        return text
    reason = _safe(part.segment.reason or "by the caller")
    tag = "" if told else f'<span class="tag">{part.state}: {reason}</span>'
    return f'<span class="{part.state}">{tag}{text}</span>'


def _marked(part: Part) -> Iterator[str]:
    """The pieces with their marks; kept spans are marked as well."""
    at = 0
    for piece in part.pieces:
        if piece.mark == "kept":
            yield from _held(piece.text, at, part.spans)
        else:
            yield TAGS[piece.mark].format(_safe(piece.text))
        at += len(piece.text) * (piece.mark != "added")


def _held(text: str, start: int, spans: Iterable[tuple[int, int]]) -> Iterator[str]:
    """A kept text, that begins at `start`, with the protected spans in it marked."""
    at = 0
    for low, high in spans:
        first, last = max(low - start, at), min(high - start, len(text))
        if first < last:
            yield _safe(text[at:first])
            yield f'<span class="held" title="protected">{_safe(text[first:last])}</span>'
            at = last
    yield _safe(text[at:])


def _bar(share: float, state: str = "") -> str:
    return f'<div class="bar {state}"><span style="width:{min(share, 1.0):.1%}"></span></div>'
