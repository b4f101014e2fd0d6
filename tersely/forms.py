"""Tell the form of a text more closely than its kind: which parser may take it apart."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Literal, get_args

from tersely.kinds import (
    CODE_LINE,
    CODE_SHARE,
    FEWEST_LINES,
    LOG_LINE,
    LOG_SHARE,
    SAMPLE,
    is_fenced,
    is_table,
    json_shape,
    share_of,
)

Form = Literal[
    "json",
    "ndjson",
    "diff",
    "tests",
    "traceback",
    "log",
    "html",
    "search",
    "table",
    "markdown",
    "code",
    "prose",
]
"""What a text is written as."""

FORMS: tuple[Form, ...] = get_args(Form)

REMEMBERED = 16

MARKDOWN_SHARE = 0.1
SEARCH_SHARE = 0.6
HTML_TAGS = 8
"""Of the lines looked at; of HTML the tags of which there must be so many."""

_HUNK = re.compile(r"^@@ -\d{1,9}(?:,\d{1,9})? \+\d{1,9}(?:,\d{1,9})? @@", re.MULTILINE)
_TESTS = re.compile(
    r"^(?:={3,} test session starts =|running \d+ tests?$|=== RUN |--- (?:PASS|FAIL): "
    r"|Ran \d+ tests?|test result: |=+ .{0,80}\d+ (?:passed|failed)|Tests: +\d"
    r"|\S+ (?:PASSED|FAILED)\b|\S+ \(\S+\) \.\.\. (?:ok|FAIL|ERROR))",
    re.MULTILINE,
)
_TRACEBACK = re.compile(
    r"^\s*(?:Traceback \(most recent call last\):|at [\w.$<>]+\(|Exception in thread|"
    r"goroutine \d+ \[|thread '.{1,80}' panicked at )",
    re.MULTILINE,
)
_BUILD_LINE = re.compile(
    r"[ \t]{0,8}(?:(?:Collecting|Downloading|Downloaded|Using cached|Installing|Installed|Building"
    r"|Compiling|Compiled|Checking|Fetching|Fetched|Preparing|Unpacking|Selecting|Setting up"
    r"|Linking|Created|Stored|Requirement already|Attempting|Uninstalling|Found existing"
    r"|Successfully|Get:\d|Hit:\d|Step \d|npm (?:WARN|notice|info)|make\[|gcc|g\+\+|cc|clang)\b"
    r"|\[ ?\d{1,5}(?:/\d{1,5}|%)\]|#\d{1,4} |remote: )",
)
_HTML = re.compile(r"<!doctype html|<html[\s>]", re.IGNORECASE)
_TAG = re.compile(r"</?(?:div|p|a|span|table|tr|td|ul|li|h[1-6]|section|article|body|head)\b")
_SEARCH_LINE = re.compile(r"[^\s:][^:\n]{0,200}[-:]\d{1,7}[-:]|--$|Binary file ")
_MARKDOWN_LINE = re.compile(r"#{1,6} \S|(?:[-*+]|\d{1,3}[.)]) \S|> |```|!?\[[^\]\n]{1,200}\]\(")


@lru_cache(maxsize=REMEMBERED)
def form_of(text: str) -> Form:
    """What a text is written as, from a look at its beginning; only JSON is read to its end.

    Several stages ask it of a text, one after the other: the last answers are remembered. A guess
    that is wrong does no harm: who takes a text apart by its form leaves what is not so.
    """
    if json_shape(text) is not None:
        return "json"
    seen = text[:SAMPLE]
    lines = [line[:400] for line in seen.splitlines() if line.strip()]
    if _is_ndjson(text, lines):
        return "ndjson"
    if _HUNK.search(seen):
        return "diff"
    if _HTML.search(seen[:2000]) or len(_TAG.findall(seen)) >= max(HTML_TAGS, len(lines) / 2):
        return "html"
    if is_fenced(lines):
        return "markdown"
    if len(lines) < FEWEST_LINES:
        return "prose"
    return _by_lines(seen, lines)


def _by_lines(seen: str, lines: list[str]) -> Form:
    """The form that enough of the lines have."""
    if _TESTS.search(seen):
        return "tests"
    if max(share_of(lines, LOG_LINE), share_of(lines, _BUILD_LINE)) >= LOG_SHARE:
        return "log"
    if _TRACEBACK.search(seen):
        return "traceback"
    if share_of(lines, _SEARCH_LINE) >= SEARCH_SHARE:
        return "search"
    if is_table(lines):
        return "table"
    coded, marked = share_of(lines, CODE_LINE), share_of(lines, _MARKDOWN_LINE)
    if marked >= MARKDOWN_SHARE and marked > coded:
        return "markdown"
    return "code" if coded >= CODE_SHARE else "prose"


def _is_ndjson(text: str, lines: list[str]) -> bool:
    """Whether the first two lines are JSON, each by itself."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    whole = [line for line in text[: 8 * SAMPLE].splitlines() if line.strip()][:2]
    try:
        return len(lines) > 1 and all(
            isinstance(json.loads(line, parse_int=str), dict | list) for line in whole
        )
    except (ValueError, RecursionError):
        return False
