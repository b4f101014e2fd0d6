"""Let a model judge which of two answers is better, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import regex

from tersely.asking import filled
from tersely.contracts import Backend, Request
from tersely.prompt import Prompt, Segment

Verdict = Literal["first", "second", "tie", ""]
"""Which answer a judge prefers; "" where that can't be read from what it said."""

Outcome = Literal["win", "loss", "tie", "unread"]

SYSTEM = (
    "You compare answers for an editor. Judge what they tell the reader: whether it is right,"
    " whether it meets the question, whether something important is missing, and whether it says"
    " things twice. Headings, lists and length count for nothing by themselves, nor does the order"
    " in which you see the answers."
)
ASKED = (
    "A reader asked:\n{question}\n\n=== Answer A ===\n{one}\n\n=== Answer B ===\n{other}\n\n"
    "=== End of the answers ===\nWhich one would you print? Reply with a single letter: A, B, or T"
    " if you can't tell them apart in quality."
)
LETTERS = 'root ::= "A" | "B" | "T"'
TOKENS = 12

BARE = regex.compile(r"\W*(?:(?i:answer|verdict|choice|letter)\b\W*)*([ABT])(?![\w'])(?! +[a-z])")
NAMED = regex.compile(r"(?i:answer|option)\W{1,3}([AB])\b")
EVEN = regex.compile(r"\b(?:ties?|tied|equal(?:ly)?|neither|both)\b", regex.IGNORECASE)


def asked(question: str, one: str, other: str, backend: Backend) -> Request:
    """The request for one verdict; its letter is forced where the judge keeps to a grammar."""
    text = filled(ASKED, question=question, one=one, other=other)
    turns = (Segment(text=SYSTEM, role="system"), Segment(text=text, kind="question", turn=1))
    grammar = LETTERS if "grammar" in backend.capabilities else ""
    prompt = Prompt(turns, question, turns=2)
    return Request(prompt=prompt, max_tokens=TOKENS, grammar=grammar)


def verdict(text: str) -> Verdict:
    """What a judge said: a letter, an answer by its letter, or that both are alike."""
    known: dict[str, Verdict] = {"A": "first", "B": "second", "T": "tie"}
    if found := BARE.match(text):
        return known[found[1]]
    named = set(NAMED.findall(text))
    if len(named) == 1 and not EVEN.search(text):
        return known[named.pop()]
    return "tie" if EVEN.search(text) else ""


def outcome(ahead: Verdict, behind: Verdict) -> Outcome:
    """How an answer fares that stood first, then second: to win, it must both times."""
    if not ahead or not behind:
        return "unread"
    if (ahead, behind) == ("first", "second"):
        return "win"
    return "loss" if (ahead, behind) == ("second", "first") else "tie"


def judged(backend: Backend, question: str, ours: str, other: str) -> tuple[Verdict, Verdict]:
    """The verdicts with our answer first, and with it second."""
    orders = ((ours, other), (other, ours))
    calls = [asked(question, *order, backend) for order in orders]
    first, second = (verdict(made.text) for made in backend.complete(calls))
    return first, second


def same_letter(verdicts: Sequence[tuple[Verdict, Verdict]]) -> float:
    """How often a judge took the same place both times: it goes by the order, not the answer."""
    read = [pair for pair in verdicts if all(pair)]
    return sum(a == b != "tie" for a, b in read) / max(len(read), 1)
