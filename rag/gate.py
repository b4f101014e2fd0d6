"""What to do with a question's own context: pick from it, keep it coarse, drop it, or leave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import regex

from tersely.lexical import STOPWORDS, TERM, terms_of

Action = Literal["pick", "coarse", "drop"]
"""`pick`: the sentences that answer. `coarse`: longer stretches, and more of them. `drop`: none."""

WORDS_SHARE = 0.2
"""How much words count beside meaning, where both tell whether a context is to the point."""

ENOUGH_WORDS = 0.35
"""The coverage below which a context is off the point, where words alone tell."""

FLAT = 0.6
"""The flatness from which no stretch stands out: one that answers by itself would."""

FEWEST_TERMS = 2
"""Terms that a question must have for its context to be judged by them."""

PROSE = 0.2
"""The share of English function words above which a text reads as English."""

SAMPLE = 4000
"""Characters of the context that are looked at for its language."""

WHOLE = {
    "a summary": r"(?:summar(?:y|i[sz]e\w*)|overview|main\s(?:points?|ideas?)"
    r"|key\s(?:points?|takeaways)|tl;?dr|gist|recap|outline)\b|\bwhat\s(?:is|are)\s(?:it|this|these|the\s\w+)\sabout\b",
    "a list": r"(?:list|enumerate|name|find|give)\s(?:me\s)?(?:all|every|each|the\s\w+s)\b"
    r"|\bwhat\sare\sall\b|\b(?:all|each|every)\s(?:of\s)?the\s\w+s\b",
    "a count": r"(?:how\smany\b[^?]*\b(?:in\stotal|altogether|mentioned|listed|described|documents)"
    r"|(?:total|overall)\snumber\sof|count\s(?:all|the|how))\b",
    "a comparison": r"(?:compare[ds]?|comparison|differ(?:s|ences?)?\s(?:between|from)|versus|vs\.?"
    r"|in\scommon|have\sin\scommon|(?:are|were|is|was|do|did|have|has)\sboth"
    r"|(?:first|earlier|later|older|younger|taller|larger|bigger|longer|more\s\w+|greater)\b"
    r"[^?]{0,80},?\s\w[^?]{0,60}\sor\s\w+"
    r"|both\s[^?]{1,80}\sand\b|(?:the\s)?same\s\w+)\b",
}
"""What asks for more than a few sentences, by what it asks for."""

ASKS_FOR = {what: regex.compile(rf"(?i)\b{pattern}") for what, pattern in WHOLE.items()}

LINK = regex.compile(
    r"(?i)(?<=\s)of\s(?:the|an?|his|her|its|their)\b|(?<=\w)(?:['\u2019]s|s['\u2019])(?=\s)"
    r"|(?<=\w\s)(?:that|which|who|whom|whose|where)\b|(?<=\s)by\sthe\b|\bnamed\s(?:after|for)\b"
)
"""What ties one thing to another: two of them are two steps."""

THINGS = (
    r"author|writer|director|performer|singer|star|spouse|wife|husband|child|son|daughter|father"
    r"|mother|parent|sibling|brother|sister|founder|owner|employer|publisher|producer|composer"
    r"|creator|designer|developer|manufacturer|maker|birthplace|place\sof\sbirth|hometown|artist"
    r"|screenwriter|band|team|club|person|man|woman|actor|actress|player|company|organi[sz]ation"
    r"|city|town|county|country|state|province|district|region|network|(?:record\s)?label|school"
    r"|university|party|editor|leader|capital|headquarters?"
)
ROLE = regex.compile(
    r"(?i)(?<!\b(?:who|what|which)(?:\s(?:is|are|was|were)|['\u2019]s)\s)"
    rf"\bthe\s(?:[\w-]+\s){{0,2}}?(?:{THINGS})"
    r"\s(?:of|who|that|which|where|for|from|in\swhich|to)\b"
    rf"|(?<=\w)['\u2019]s\s(?:{THINGS})\b"
)
"""Somebody or something that is described and not named, and is not what is asked for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What is known of a context beside the question.

    `coverage` is how much of the question's words it holds, `nearness` the best cosine of a
    sentence with the question (None: nobody embedded them), `enough` what both together must
    reach (see `relevance`). `named` are the documents that the question names by their titles.
    `flatness` is how evenly the stretches of the context answer: 0 one does, 1 all alike. `text` is
    the beginning of the context.
    """

    coverage: float
    nearness: float | None = None
    enough: float = ENOUGH_WORDS
    named: int = 0
    flatness: float = 0.0
    text: str = ""

    @property
    def relevance(self) -> float:
        """How much the context is to the point, to be compared with `enough`."""
        if self.nearness is None:
            return self.coverage
        return WORDS_SHARE * self.coverage + (1 - WORDS_SHARE) * self.nearness


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, and why in words. `steps`: the answer may lie a step behind what is asked for."""

    action: Action
    reason: str
    steps: bool = False


def verdict(question: str, signs: Signs) -> Verdict:
    """Judge a question and its context, without a model and within microseconds.

    A question that asks for a whole (a summary, a list, a count, a comparison) or in several
    steps (described, not named; two documents named) gets coarse units, and so does one that many
    stretches answer equally well. Of the others a context is dropped that is off the point, where
    that can be told: the question has terms enough, and both read as English.
    """
    for what, pattern in ASKS_FOR.items():
        if pattern.search(question):
            return Verdict(
                action="coarse", reason=f"it asks for {what}", steps=what == "a comparison"
            )
    if signs.named >= 2:
        return Verdict(action="coarse", reason=f"it names {signs.named} documents", steps=True)
    off = signs.relevance < signs.enough
    if (
        off
        and len(set(terms_of(question))) >= FEWEST_TERMS
        and _same_language(question, signs.text)
    ):
        told = f"{signs.relevance:.2f}, at least {signs.enough:.2f} is to the point"
        return Verdict(action="drop", reason=f"the context is about something else ({told})")
    links = len(LINK.findall(question))
    if links >= 2 or ROLE.search(question):
        return Verdict(action="coarse", reason="it asks in several steps", steps=True)
    if signs.flatness >= FLAT:
        return Verdict(action="coarse", reason="no part of the context stands out", steps=True)
    return Verdict(action="pick", reason="it asks for one thing")


def _same_language(question: str, text: str) -> bool:
    """Whether both read as English: else the words of one may say what the other says."""
    return _english(question) > 0 and _english(text[:SAMPLE]) >= PROSE


def _english(text: str) -> float:
    words = TERM.findall(text.lower())
    return sum(STOPWORDS.fullmatch(word) is not None for word in words) / max(len(words), 1)
