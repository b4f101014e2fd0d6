"""Diffs, trimmed: what is left still applies."""

from __future__ import annotations

import difflib
import re
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_output import written

from tersely.compressors.diffs import Diff

HEAD = re.compile(r"@@ -(\d+),?(\d*) \+(\d+),?(\d*) @@")
SOURCE = Path(difflib.__file__).read_text().split("\n")


shrunk = partial(written, Diff())


def diff(old: list[str], new: list[str], context: int = 3, name: str = "src/a.py") -> str:
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm="", n=context)
    return "\n".join([f"diff --git a/{name} b/{name}", *lines]) + "\n"


def applied(old: list[str], text: str) -> list[str]:
    """What a diff makes of a file. Every line of it must lie exactly where it says."""
    made: list[str] = []
    at = 0
    for line in text.split("\n"):
        if head := HEAD.match(line):
            start = int(head[1]) - (head[2] != "0")
            made += old[at:start]
            at = start
            assert len(made) == int(head[3]) - (head[4] != "0")
        elif line.startswith((" ", "-")) and not line.startswith("--- "):
            assert old[at] == line[1:]
            made += [line[1:]] if line[0] == " " else []
            at += 1
        elif line.startswith("+") and not line.startswith("+++ "):
            made.append(line[1:])
    return made + old[at:]


@given(
    st.lists(st.sampled_from("abcdef"), max_size=40),
    st.lists(st.sampled_from("abcdef"), max_size=40),
    st.sampled_from((0, 1, 3, 10)),
    st.sampled_from((0.95, 0.8, 0.6)),
)
def test_what_is_left_applies(old: list[str], new: list[str], wide: int, share: float) -> None:
    text = diff(old, new, wide)
    if old == new:
        return
    made = shrunk(text, share)
    assert len(made) <= len(text)
    if "left out]" not in made:
        assert applied(old, made) == new


def changed() -> list[str]:
    new = list(SOURCE)
    new[100] = "first = 1"
    new[400:402] = [f"second = {i}" for i in range(60)]
    new[900] = "def special_case(): ..."
    return new


def test_context_goes_before_changes() -> None:
    text = diff(SOURCE, changed(), 20)
    made = shrunk(text, 0.6)
    assert applied(SOURCE, made) == changed()
    assert made.count("\n") < text.count("\n") * 0.8
    assert made.startswith("diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n@@ -")


def test_large_changes_go_last_and_say_how_many_lines_they_were() -> None:
    made = shrunk(diff(SOURCE, changed(), 3), 0.4)
    assert "+first = 1" in made and "+def special_case(): ..." in made
    assert "second" not in made
    assert "[62 changed lines left out]" in made


@pytest.mark.parametrize("question", ["What does special_case do?", "Why was special_case added?"])
def test_a_hunk_that_is_asked_for_keeps_every_line(question: str) -> None:
    made = shrunk(diff(SOURCE, changed(), 5), 0.05, question)
    assert "+def special_case(): ..." in made
    for line in SOURCE[837:842]:
        assert f" {line}" in made
    assert "first" not in made


def test_a_file_that_is_asked_for_keeps_its_hunks() -> None:
    text = diff(SOURCE, changed(), 5) + diff(SOURCE, changed(), 5, "src/other.py")
    made = shrunk(text, 0.1, "Explain src/other.py")
    other = made[made.index("diff --git a/src/other.py") :]
    assert other == diff(SOURCE, changed(), 5, "src/other.py")
    assert made.index("[62 changed lines left out]") < made.index("src/other.py")


@pytest.mark.parametrize(
    "text",
    [
        "@@ -1,9 +1,3 @@\n a\n-b\n+c\n",
        "@@@ -1,2 -1,2 +1,2 @@@\n  a\n",
        "Words.\n" * 30,
        "@@ -999999999,999999999 +1,3 @@\n" * 2000,
    ],
    ids=range(4),
)
def test_what_does_not_add_up_stays(text: str) -> None:
    assert shrunk(text, 0.1) == text


def test_a_large_diff_takes_no_more_than_its_size() -> None:
    text = diff(["x"] * 3, ["y" * 50] * 20_000)
    assert "[20003 changed lines left out]" in shrunk(text, 0.5)
