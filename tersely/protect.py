"""Find what must not be cut in half, and should go last: facts, names of things, and code."""
# ruff: noqa: RUF001 - the patterns name the punctuation of many scripts

from __future__ import annotations

from collections.abc import Iterator

import regex

from tersely.prompt import Span
from tersely.units import united

MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
MEASURE = (
    r"%|‰|°\s?[CF]?|km/h|(?:percent|thousand|million|billion|trillion|[kKMG]?(?:Hz|W|V|Wh|eV)"
    r"|[kKMGTP]i?B"
    r"|[nµm]?s|sec(?:ond)?s?|min(?:ute)?s?|h(?:ou)?rs?|h|days?|weeks?|months?|years?|yrs?"
    r"|[nµmck]?m|mph|kg|[mµ]?g|lbs?|oz|[mc]?l|ft|in(?:ch(?:es)?)?|miles?|px|pt|em|rem"
    r"|tokens?|bits?|bytes?|USD|EUR|GBP|dollars?|euros?|cents?|[kKMB])\b"
)

PATTERNS = {
    "url": r"\b(?:(?:https?|wss?|ftp|file|s3|git|ssh)://|www\.)[^\s<>\"'`]{1,2000}+",
    "email": r"(?<![\w.+-])[\w.+-]{1,64}+@[\w-]{1,63}+(?:\.[\w-]{1,63}+){1,8}+",
    "placeholder": (
        r"\{\{[^{}\n]{1,120}+\}\}|\$\{[^{}\n]{1,120}+\}|\{[A-Za-z_][\w.\[\]!:]{0,60}+\}"
        r"|%\(\w{1,60}+\)[a-z]|%[sdifrx]\b|<\|\w{1,40}+\|>"
    ),
    "tag": r"</?[A-Za-z][\w:.-]{0,60}+(?:\s[^<>\n]{0,400}+)?+>|<!--[^<>\n]{0,400}+>",
    "quoted": (
        r"\"(?=\S)[^\"\n]{1,80}+(?<=\S)\"|“[^“”\n]{1,80}+”|«[^«»\n]{1,80}+»|「[^「」\n]{1,80}+」"
        r"|`[^`\n]{1,80}+`|(?<!\w)'(?=\S)[^'\n]{1,80}+(?<=\S)'(?!\w)"
    ),
    "date": (
        r"(?<![\w-])\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?"
        r"(?:Z|[+-]\d{2}:?\d{2})?\b"
        r"|(?<![\w/.])\d{1,4}([/.-])\d{1,2}\1\d{1,4}(?![\w/])"
        rf"|\b{MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s\d{{4}}\b)?|\b{MONTH}\s\d{{4}}\b"
        rf"|\b\d{{1,2}}(?:st|nd|rd|th)?\s(?:of\s)?{MONTH}(?:,?\s\d{{4}}\b)?"
        r"|(?<![\w:])\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:\s?[ap]\.?m\b\.?)?(?![\w:])"
        r"|\d{1,4}年(?:\d{1,2}月)?(?:\d{1,2}日)?|\d{1,2}月\d{1,2}日"
    ),
    "path": (
        r"(?<![\w./\\-])(?:~|\.{1,2}|[A-Za-z]:|[\w.@-]{1,64}+)?"
        r"(?:[/\\][\w.@+-]{1,128}+){1,64}+[/\\]?"
    ),
    "id": (
        r"(?<![\w-])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![\w-])"
        r"|(?<![\w-])(?=[\w-]{0,128}\d)(?=[\w-]{0,128}[A-Za-z_])\w[\w-]{1,127}+(?:\.\d{1,9}){0,4}"
        r"|(?<!\w)[A-Za-z]\w{0,60}+(?<=\w_\w{1,60})"
    ),
    "number": (
        r"(?:[-+−]?[$€£¥₹]\s?|(?<!\w)[-+−])?\d{1,40}(?:[.,:]\d{1,40}){0,12}+"
        rf"(?:\s?(?:{MEASURE}))?"
    ),
    "negation": (
        r"\b(?i:not|never|cannot|no|without|unless|except|neither|nor|none|[a-z]{2,8}n['’]t)\b"
        r"(?:\s\w{1,40}+)?"
    ),
}
"""What each kind of protected text looks like, by name. All are matched in linear time."""

PROTECTED = regex.compile("|".join(f"(?:{pattern})" for pattern in PATTERNS.values()))

FENCE = regex.compile(r"^ {0,3}+(`{3,}+|~{3,}+)([^\n]*+)$", regex.MULTILINE)


def protected(text: str) -> list[Span]:
    """The spans that hold a fact or a name: never cut, and dropped only when all else is gone.

    Code blocks, URLs, e-mail addresses, paths, ids, dates, numbers with their unit, short
    quotations, tags, template placeholders, and negations with the word that they negate.
    """
    return united([*(match.span() for match in PROTECTED.finditer(text)), *fences(text)])


def fences(text: str) -> list[Span]:
    """The fenced code blocks of a Markdown text; one that is never closed is not a block."""
    return list(_fences(text))


def _fences(text: str) -> Iterator[Span]:
    opened: tuple[int, str] | None = None
    for line in FENCE.finditer(text):
        mark, rest = line.group(1), line.group(2)
        if opened is None:
            opened = (line.start(), mark)
        elif mark.startswith(opened[1]) and not rest.strip():
            yield opened[0], line.end()
            opened = None
