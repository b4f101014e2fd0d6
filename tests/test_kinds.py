"""What a tool's output is taken for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.kinds import json_shape, recognise
from tersely.prompt import KINDS

LOG = "2026-11-23T10:00:00Z INFO started\n2026-11-23T10:00:01Z WARN slow\n  at f()\nERROR gone\n"
SYSLOG = (
    "Nov 23 10:00:00 host sshd[1]: ok\nNov 23 10:00:01 host sshd[1]: no\nNov  3 10:00:02 host a"
)
ACCESS = '10.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5\n' * 3
CODE = "import os\n\n\ndef f(x):\n    # why\n    return os.stat(x)\n\n\nclass A:\n    b = 1\n"
NUMBERED = "".join(f"{i}: {line}\n" for i, line in enumerate(CODE.splitlines(), 10))
DIFF = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a = 1\n+a = 2\n"
C = '#include <stdio.h>\nint main(void) {\n  puts("hi");\n  return 0;\n}\n'
PROSE = (
    "For example, the report says so.\nIf you agree, do it; or not.\nThen, at last, we go home.\n"
)
LISTING = "drwxr-xr-x 2 root root 4096 a\n-rw-r--r-- 1 root root 12 b\ntotal 8\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1}', "json"),
        (" [1, 2]\n", "json"),
        ("[" * 3000 + "]" * 3000, "json"),
        (f"[{'1' * 5000}]", "json"),
        ("[" * 3000 + "]" * 2999, "tool_output"),
        ('{"a": 1', "tool_output"),
        ("[see the list]", "tool_output"),
        (LOG, "log"),
        (SYSLOG, "log"),
        (ACCESS, "log"),
        ("a,b,c\n1,2,3\n4,5,6\n", "table"),
        ("a\tb\n1\t2\n3\t4", "table"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", "table"),
        (CODE, "code"),
        (NUMBERED, "code"),
        (DIFF, "code"),
        (C, "code"),
        (f"```\n{PROSE}```", "code"),
        (PROSE, "tool_output"),
        (LISTING, "tool_output"),
        ("", "tool_output"),
        ("x", "tool_output"),
        ("\n\n\n", "tool_output"),
    ],
)
def test_a_text_is_known_by_its_looks(text: str, kind: str) -> None:
    assert recognise(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        *("a", ",", "a,", "|--", "{", "\n", " ", "if ", "- -", "```\n", "\u2028", "\x00", "\ud800"),
        *('"', '\\"', "[", "{[", "1\t", "def "),
    ],
)
def test_a_megabyte_of_one_thing(text: str) -> None:
    assert recognise(text * (1_000_000 // len(text))) in KINDS
    assert recognise("[" + text * (1_000_000 // len(text)) + "]") in KINDS


@given(st.text())
def test_any_text_is_of_some_kind(text: str) -> None:
    assert (recognise(text) == "json") == (json_shape(text) is not None)


@given(
    st.recursive(
        st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_told_by_its_type(value: object) -> None:
    shape = {dict: "object", list: "array"}.get(type(value))
    assert json_shape(json.dumps(value)) == shape
    assert json_shape(json.dumps(value, ensure_ascii=False, indent=1)) == shape


@pytest.mark.parametrize("inside", ['"]"', r'"\"]"', '"\\\\"', "1"])
def test_brackets_in_strings_do_not_count(inside: str) -> None:
    assert json_shape("[" * 3000 + inside + "]" * 3000) == "array"
    assert json_shape("[" * 3000 + inside + "]" * 3001) is None


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('{"a": 1}', "object"),
        (" [1, 2]\n", "array"),
        ("[1, 2", None),
        ("[see above]", None),
        ("{x}", None),
        ("3", None),
        ("", None),
        ("[" * 3000 + "]" * 3000, "array"),
    ],
)
def test_json_is_known_by_parsing_it(text: str, shape: str | None) -> None:
    assert json_shape(text) == shape
