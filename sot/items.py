"""Find the items that a question gives, where it wants the same done to each of them."""

from __future__ import annotations

import regex

from tersely.sot.skeleton import Point

FEWEST, MOST = 2, 40
"""How many items there may be: one is no list, and more are rather data than a question."""

LISTED = regex.compile(r"[ \t]*(?:\(?\d{1,3}[.):](?!\d)|[-*+•])[ \t]+(?P<item>\S.*)")
EACH = regex.compile(
    r"\b(?:each|every)\b|\bfor (?:all|both) of (?:these|the following)\b"
    r"|\b(?:translate|define|explain|describe|classify|correct|rewrite|rephrase|paraphrase"
    r"|summari[sz]e|convert|label|spell|pronounce|answer|tag) (?:all )?(?:of )?"
    r"(?:these|the following)\b",
    regex.IGNORECASE,
)
TOGETHER = regex.compile(
    r"\b(?:compar|contrast|rank|sort|order|group|combin|merg|match|choos|pick|vote|story|differen"
    r"|best|worst|which of|most|least|between|together|relat|sequence|in turn|step by step)",
    regex.IGNORECASE,
)
INLINE = regex.compile(
    r"\b(?:each|every one) of (?:these|the following)(?: [\w-]+){0,3}:"
    r" *(?P<items>[^\n:]+?)[.?!]?\s*$",
    regex.IGNORECASE,
)
COMMAS = regex.compile(r"\s*[,;]\s*(?:and\s+|or\s+)?|\s+and\s+")


def items_of(question: str) -> list[Point]:
    """The items of a question that wants the same done to each, as points; none where it doesn't.

    They are the lines of one list, or what stands after "each of the following:". Where the
    items are to be compared, put in order or made one, each needs the others, and there are none.
    (The plainest of the schemas in Kolawole et al. 2025, https://arxiv.org/abs/2506.18728.)
    """
    said, items = _listed(question)
    if not items and (found := INLINE.search(question)):
        said = question[: found.start("items")]
        items = [item for item in COMMAS.split(found["items"]) if item]
    if not FEWEST <= len(items) <= MOST or not EACH.search(said) or TOGETHER.search(said):
        return []
    if len({item.casefold() for item in items}) < len(items):
        return []
    return [Point(number=i, text=item) for i, item in enumerate(items, 1)]


def _listed(question: str) -> tuple[str, list[str]]:
    """The lines of the one list in a question, and what is said around it.

    None where other lines stand between them.
    """
    lines = question.splitlines()
    found = [LISTED.fullmatch(line) for line in lines]
    places = [i for i, match in enumerate(found) if match]
    if not places:
        return question, []
    inside = range(places[0], places[-1] + 1)
    if any(lines[i].strip() and found[i] is None for i in inside):
        return question, []
    around = [line for i, line in enumerate(lines) if i not in inside]
    return "\n".join(around), [match["item"].strip() for match in found if match]
