"""What is plain without a model: questions that want one piece, and those that want a list."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tersely.contracts import Request
from tersely.wishes import wishes

SHORT = 96
"""Tokens: an answer that may not be longer has no points worth writing side by side."""

PLAIN = 0.02
"""The chance that a question which a rule refuses suits after all."""

LISTED = 0.9
"""The chance that a question which a rule takes for a list is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a question suits points written side by side, how likely that is, and what tells."""

    suits: bool
    chance: float
    reason: str


_REFUSED = {
    "wants code": r"""
        ```
        | \b(?:write|implement|build|create|develop|code|debug|refactor|fix)\b .{0,60}
          \b(?:function|script|program|class|query|regex|regular\ expression|code|algorithm|makefile
          |dockerfile|unit\ tests?|sql|api)\b
        | \b(?:traceback|segmentation\ fault|null\s?pointer|stack\ trace|exception\ in)\b
        | \b(?:def|function|class)\ \w+\s?[({]
    """,
    "wants sums": r"""
        \b(?:solve|calculate|compute|simplify|integrate|differentiate|factori[sz]e)\b .{0,40} [\d=^]
        | \b(?:prove|proof|derivative|integral|determinant|eigenvalues?|square\ root|equation)\b
        | \d\s*[+*^=\u00d7\u00f7]\s*\(?\d | \d\ [-/]\ \(?\d
        | \bhow\ (?:many|much|far|tall|old|long|often)\b
    """,
    "wants a form": r"""
        \b(?:in|as|into|return|valid|output|a)\ (?:a\ |an\ )?(?:json|xml|yaml|csv|latex|markdown)\b
        | \b(?:as|in|into)\ (?:a\ )?table\b
    """,
    "wants little": r"""
        \b(?:in|within|under|exactly|at\ most|no\ more\ than|less\ than|fewer\ than|only)
          \ (?:about\ )?(?:\d+|one|two|three|fifty|a\ hundred)\ (?:or\ (?:less|fewer)\ )?
          (?:words?|sentences?|characters?|lines?|letters?|paragraphs?)\b
        | \b(?:in\ a\ (?:word|sentence|nutshell)|(?:one|a\ single)[ -](?:word|sentence|letter)
          |yes\ or\ no|true\ or\ false|keep\ it\ short|be\ brief|briefly|tl;?dr
          |multiple[ -]choice)\b
    """,
    "wants a translation": r"\b(?:translate|translation)\b",
    "goes step by step": r"\bstep[ -]by[ -]step\b|\bin\ (?:time\ )?order\ of\b|\bchronological",
    "wants a text of one piece": r"""
        \b(?:write|compose|draft|tell|make|continue|create|generate)\b .{0,30}
          \b(?:poem|haiku|sonnet|limerick|song|lyrics|rap|story|tale|joke|riddle|novel|letter|e-?mail
          |dialogue|scene|speech|diary|tweet|slogan|toast|monologue)\b
        | \b(?:summari[sz]e|paraphrase|rewrite|proofread)\b .{0,20} \b(?:this|the\ following|my)\b
    """,
}

_LISTED = re.compile(
    r"""
    \b(?:what|which)\ (?:are|were|factors|steps|measures|ways|kinds|types|methods|things|skills)\b
      .{0,60} \b(?:benefits|advantages|disadvantages|pros|cons|ways|tips|strategies|causes|effects
      |reasons|differences|factors|challenges|consequences|symptoms|features|types|kinds|methods
      |characteristics|risks|examples|ideas|steps|impacts|implications|uses|signs|techniques
      |principles|elements|benefits|arguments|mistakes|skills|traits|habits|things)\b
    | ^\W*(?:list|name|give|suggest|recommend|provide|share|describe|explain|discuss|propose
      |outline)\b .{0,30} \b(?:several|some|various|different|main|key|major|few|tips|ideas
      |ways|reasons|benefits|advantages|pros|differences)\b
    | \b(?:pros\ and\ cons|advantages\ and\ disadvantages|strengths\ and\ weaknesses
      |compare\ and\ contrast|arguments\ for\ and\ against|similarities\ and\ differences)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)

_REFUSALS = {
    reason: re.compile(pattern, re.IGNORECASE | re.VERBOSE) for reason, pattern in _REFUSED.items()
}


def opted_out(request: Request, *, choices: int = 1, structured: bool = False) -> str:
    """Why a request must be answered in one piece, whatever it asks; empty where nothing says so.

    `choices` is how many answers are wanted, and `structured` whether the caller bound the answer
    to a form (a schema, a grammar, a response format).
    """
    if request.prompt.tools:
        return "tools may be called"
    if "embeds" in wishes(request):
        return "vectors stand in the prompt"
    if structured:
        return "the form of the answer is bound"
    if choices > 1:
        return f"{choices} answers are wanted"
    if request.logprobs or request.alternatives:
        return "the probabilities of the tokens are wanted"
    if request.stop:
        return f"the answer is to stop at {request.stop[0]!r}"
    if request.max_tokens < SHORT:
        return f"the answer may have {request.max_tokens} tokens"
    return ""


def ruled(question: str) -> Verdict | None:
    """What the rules say of a question; None where they say nothing.

    Those that refuse go first: a list in JSON is JSON.
    """
    if not question.strip():
        return Verdict(suits=False, chance=0.0, reason="nothing is asked")
    for reason, pattern in _REFUSALS.items():
        if pattern.search(question):
            return Verdict(suits=False, chance=PLAIN, reason=reason)
    if _LISTED.search(question):
        return Verdict(suits=True, chance=LISTED, reason="asks for a list")
    return None
