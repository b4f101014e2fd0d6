"""What a model is told when it is to summarise, and what its answer says."""

from __future__ import annotations

import regex

from tersely.asking import filled
from tersely.contracts import Completion
from tersely.units import split

RULES = (
    "Use at most {words} words, and only what the text says. Keep names, numbers and dates exactly"
    " as they are. Write plain sentences, without any introduction."
)
PLAIN = f"Summarise the text. {RULES}\n\n<text>\n{{text}}\n</text>"
ASKED = (
    "Summarise what the text says that helps to answer the question. If nothing in it helps,"
    f" answer only NONE. {RULES}\n\nQuestion: {{question}}\n\n<text>\n{{text}}\n</text>"
)
JOINED = (
    f"These are summaries of the parts of one text. Make one summary of them{{focus}}. {RULES}"
    "\n\n<text>\n{text}\n</text>"
)
REFINED = (
    "This is the summary of a text so far, and what comes next in the text. Rewrite the summary so"
    f" that it covers both{{focus}}. {RULES}\n\n<summary>\n{{summary}}\n</summary>\n\n<text>"
    "\n{text}\n</text>"
)
SHORTER = (
    "Rewrite the summary in at most {words} words: fuse sentences, and leave out phrases that say"
    " little. Keep the names, numbers and dates that matter, and add nothing.\n\n<summary>\n{text}"
    "\n</summary>"
)
DENSER = (
    "The summary does not tell of: {missing}. Rewrite it so that it does, in at most {words} words:"
    " fuse sentences, and leave out phrases that say little, but none of the names, numbers and"
    " dates. Add only what the text says, in plain sentences, without any introduction."
    "\n\n<text>\n{text}\n</text>\n\n<summary>\n{summary}\n</summary>"
)
"""Both as in the steps of Chain of Density (Adams et al. 2023, https://arxiv.org/abs/2309.04269)."""

FOCUS = ", as far as it helps to answer the question: {question}"

WORDS_A_TOKEN = 0.7
"""Words that are asked for, to each token that they may have."""

NONE = regex.compile(r"(?i)\W*(?:none|n/a|nothing(?: in the text helps)?)\W*")
ABOUT = regex.compile(
    r"(?i)\A\s*+(?:sure|certainly|of course|here(?:'s| is| are)|(?:the |a )?summary)"
    r"[^\n.!?:]{0,80}+:\s*+"
)
"""How models introduce a summary although they were told not to."""

MARKS = regex.compile(r"</?(?:text|summary)>")
ENDS = regex.compile(r"[.!?…。！？][\p{Pe}\p{Pf}\"'*_]*+\s*+$")  # noqa: RUF001


def told(template: str, *, tokens: int, **values: str) -> str:
    """A template filled in, with the length in words."""
    return filled(template, words=str(max(int(tokens * WORDS_A_TOKEN), 5)), **values)


def focus(question: str) -> str:
    """What a summary of summaries is to look at."""
    return filled(FOCUS, question=question) if question else ""


def said(answer: Completion) -> str:
    """The summary that an answer gives: "" where nothing helps.

    Of an answer that was cut off the last sentence goes when it has no end.
    """
    text = ABOUT.sub("", MARKS.sub("", answer.text)).strip()
    if NONE.fullmatch(text):
        return ""
    if answer.finish_reason == "length" and text and not ENDS.search(text):
        units = split(text, "sentence")
        text = text[: int(units.starts[-1])].rstrip()
    return text
