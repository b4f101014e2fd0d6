"""Tell what each text of a conversation is for, and make the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tersely.kinds import recognise
from tersely.middleware.drop import CLOSE, masked, understood
from tersely.middleware.keep import kept
from tersely.middleware.leaves import Found
from tersely.middleware.question import LONG, Material, clear_of, gist, material
from tersely.prompt import Kind, Path, Prompt, Role, Segment, Span

RULES = ("<system-reminder>", "<user_instructions>", "<environment_context>")
"""How coding agents begin the standing orders that they send within a user's turn."""

KIND_OF: dict[Role, Kind] = {"system": "instruction", "assistant": "history", "user": "history"}

LOOKS: frozenset[Kind] = frozenset(("json", "log", "table", "code"))


def prompt_of(found: Iterable[Found], *, tools: str = "", turns: int = 0, why: str = "") -> Prompt:
    """The prompt that the texts of a request make up.

    The last turn in which the user says something is the question, with the material that comes
    with it; what was said before is history. What a tool gave is recognised by its looks.
    """
    texts = list(found)
    heard = [one for one in map(_heard, texts) if _is_said(one)]
    turn = max((one.place.turn for one in heard), default=-1)
    asked = [one for one in heard if one.place.turn == turn]
    question, given = _question(asked)
    now = {one.place.path for one in asked}
    segments: list[Segment] = []
    for one in texts:
        path = one.place.path
        kind: Kind = "question" if path in now else _kind(one)
        segments += _segments(one, kind, given.get(path))
    return Prompt(tuple(segments), understood(question), tools, turns, why)


def _heard(found: Found) -> Found:
    """A text as it is understood: without what the caller marked as to go."""
    if found.place.lock or CLOSE not in found.text:
        return found
    return replace(found, text=masked(found.text, kept(found.text)))


def _is_said(found: Found) -> bool:
    """Whether it is the user who speaks, not a tool, a document or a client's standing orders."""
    place, text = found.place, found.text.lstrip()
    return place.role == "user" and not place.kind and bool(text) and not text.startswith(RULES)


def _question(asked: list[Found]) -> tuple[str, Mapping[Path, Material]]:
    """What is asked in the last turn, and what in its texts is material."""
    if not asked:
        return "", {}
    *before, last = asked
    given = {one.place.path: _all_of(one) for one in before if len(one.text) >= LONG}
    if inside := material(last.text):
        return inside.question, {**given, last.place.path: inside}
    ask = [one.text for one in before if len(one.text) < LONG and one.text.rstrip().endswith("?")]
    if len(last.text) >= LONG and ask:
        return ask[-1], {**given, last.place.path: _all_of(last)}
    return gist(last.text), given


def _all_of(found: Found) -> Material:
    return Material(0, len(found.text), "")


def _kind(found: Found) -> Kind:
    place = found.place
    if place.kind:
        return place.kind
    if place.role == "tool":
        return recognise(found.text)
    if place.role == "user" and found.text.lstrip().startswith(RULES):
        return "instruction"
    return KIND_OF[place.role]


def _segments(found: Found, kind: Kind, given: Material | None) -> Iterator[Segment]:
    """A text as one segment; where it holds material, as that and what is asked around it."""
    text, place = found.text, found.place
    spans = kept(text) if not place.lock and place.role != "tool" else ()
    if given is None or place.lock or not clear_of(given, spans):
        reason = f"a tool's output that looks like {kind}" if kind in LOOKS else ""
        yield _segment(found, (0, len(text)), kind, spans, place.lock or reason)
        return
    parts: tuple[tuple[Span, Kind, str], ...] = (
        ((0, given.start), kind, "what the user asks"),
        ((given.start, given.end), "context", "material beside what the user asks"),
        ((given.end, len(text)), kind, "what the user asks"),
    )
    for span, part, reason in parts:
        if span[0] < span[1]:
            yield _segment(found, span, part, spans, reason)


def _segment(
    found: Found, span: Span, kind: Kind, kept_spans: Iterable[Span], reason: str
) -> Segment:
    """A stretch of a text, with those kept passages that lie in it."""
    start, end = span
    return Segment(
        text=found.text[start:end],
        role=found.place.role,
        kind=kind,
        locked=bool(found.place.lock),
        turn=found.place.turn,
        path=found.place.path,
        spans=tuple((a - start, b - start) for a, b in kept_spans if start <= a and b <= end),
        reason=reason,
    )
