"""Recognise what a tool's output is made of, from a look at its first lines."""

from __future__ import annotations

import json
import re
from statistics import mode

from tersely.prompt import Kind, Prompt

SAMPLE = 16_384
"""Characters that are looked at; only JSON is read to its end."""

LOG_SHARE = 0.4
CODE_SHARE = 0.3
TABLE_SHARE = 0.9
"""The share of lines that must look the part. A log has stack traces and wrapped lines, code has
comments and blank lines, a table is regular."""

FEWEST_LINES = 3

LOG_LINE = re.compile(
    r"""[\[(<"]?(?:
        \d{4}[-/]\d\d[-/]\d\d[T ,]          # 2026-11-23 10:00, also RFC 3339
      | \d\d[-/]\w{2,3}[-/]\d{2,4}[: ]      # 23/Nov/2026:10:00
      | \d\d:\d\d:\d\d\b                    # 10:00:00
      | (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[ ]{1,2}\d{1,2}[ ]\d\d:  # syslog
      | \d{9,13}(?:\.\d{1,9})?\]?[ ]        # seconds or milliseconds since 1970
      | (?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b
      | \d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}[ ]-  # an HTTP server's access log
    )""",
    re.VERBOSE,
)
CODE_LINE = re.compile(
    r"""[ \t]*(?:\d{1,6}(?:[:|]|[ ]*\t|->)?[ ]?)?[ \t]*(?:
        (?:def|class|import|from|return|if|elif|else|for|while|try|except|with|raise|assert
          |async|await|func|fn|let|const|var|public|private|protected|static|void|struct|enum
          |package|use|impl|interface|type|export|switch|case|throw|catch|namespace|template)
          \b[^.!?]{0,160}[:;{(\[)\]}]
      | (?:from|import|package|use)[ ][\w.:]{1,80}
      | [#]include\b | @\w{1,40} | [+-]{3}[ ] | @@[ ]-\d | diff[ ]--git
      | [\w.\[\]"']{1,80}[ ]?(?:[-+*/|]?=|:=)[ ]?\S
      | [)}\]]{1,4}[;,]?$
      | .{0,160}[;{]$
    )""",
    re.VERBOSE,
)
_MARKDOWN_RULE = re.compile(r"\s{0,3}\|?[ ]?:?-{2,}:?[ ]?(?:\|[ ]?:?-{2,}:?[ ]?){1,200}\|?\s*$")
_MARKDOWN_ROW = re.compile(r"[^|]{0,200}\|")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_PARTNER = {"{": "}", "[": "]"}


def recognise(text: str) -> Kind:
    """What a tool's output is: `json`, `log`, `table` or `code`, else `tool_output`.

    Takes linear time. A guess that is wrong only sends the text to another stage.
    """
    if json_shape(text) is not None:
        return "json"
    lines = [line[:400] for line in text[:SAMPLE].splitlines() if line.strip()]
    if is_fenced(lines):
        return "code"
    if len(lines) < FEWEST_LINES:
        return "tool_output"
    if share_of(lines, LOG_LINE) >= LOG_SHARE:
        return "log"
    if is_table(lines):
        return "table"
    return "code" if share_of(lines, CODE_LINE) >= CODE_SHARE else "tool_output"


def json_shape(text: str) -> str | None:
    """`object`, `array` or None when the text is not JSON of either type.

    Of JSON that is nested too deep to parse, only the brackets are checked.
    """
    stripped = text.strip()
    shape = {"{": "object", "[": "array"}.get(stripped[:1])
    if shape is None or stripped[-1] not in "}]":
        return None
    try:
        json.loads(stripped, parse_int=str)  # a number of 5,000 digits is still JSON
    except RecursionError:
        return shape if _is_balanced(stripped) else None
    except ValueError:
        return None
    return shape


def prose(prompt: Prompt) -> list[int]:
    """The positions of the open segments from which text can be taken: those of JSON can't."""
    places: list[int] = []
    at = 0
    for leaf in prompt.leaves:
        own = [at + i for i, one in enumerate(leaf.segments) if not one.locked and one.text.strip()]
        at += len(leaf.segments)
        places += own if not own or json_shape(leaf.text) is None else []
    return places


def _is_balanced(text: str) -> bool:
    """Whether every bracket outside a string has its partner."""
    waiting: list[str] = []
    for found in _STRING_OR_BRACKET.finditer(text):
        mark = found[0]
        if mark in _PARTNER:
            waiting.append(_PARTNER[mark])
        elif mark in ("}", "]") and (not waiting or waiting.pop() != mark):
            return False
    return not waiting


def share_of(lines: list[str], pattern: re.Pattern[str]) -> float:
    """How many of the lines begin as the pattern says."""
    return sum(pattern.match(line) is not None for line in lines) / len(lines)


def is_fenced(lines: list[str]) -> bool:
    """Whether most lines lie between code fences."""
    inside = fenced = 0
    for line in lines:
        if line.lstrip().startswith(("```", "~~~")):
            inside = 1 - inside
        fenced += inside
    return fenced > len(lines) / 2


def is_table(lines: list[str]) -> bool:
    """Whether the lines are rows of as many cells, or a Markdown table."""
    if any(_MARKDOWN_RULE.match(line) for line in lines[:5]):
        return share_of(lines, _MARKDOWN_ROW) >= TABLE_SHARE
    for mark, fewest in (("\t", 1), ("|", 1), (";", 2), (",", 2)):
        cells = [line.count(mark) for line in lines]
        usual = mode(cells)
        if usual >= fewest and cells.count(usual) / len(cells) >= TABLE_SHARE:
            return True
    return False
