"""Code without the bodies that nobody asked about."""

from __future__ import annotations

import ast
import difflib
import textwrap
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_output import written

from tersely.compressors.code import LANGUAGES, Code

SOURCE = Path(difflib.__file__).read_text()


shrunk = partial(written, Code())


def body_of(name: str) -> str:
    """The source of a function in the module."""
    nodes = (n for n in ast.walk(ast.parse(SOURCE)) if isinstance(n, ast.FunctionDef))
    (found,) = (n for n in nodes if n.name == name)
    return ast.get_source_segment(SOURCE, found) or ""


def test_signatures_stay_and_the_function_asked_for_is_whole() -> None:
    made = shrunk(SOURCE, 0.1, "What does get_close_matches do?")
    assert body_of("get_close_matches") in made
    for line in SOURCE.split("\n"):
        if line.startswith(("def ", "    def ", "class ", "import ", "from ")):
            assert line in made
    assert "        ... [" in made and " lines left out]" in made
    assert body_of("unified_diff") not in made


def test_what_the_call_names_is_whole_too() -> None:
    made = shrunk(SOURCE, 0.1, "", '{"symbol": "unified_diff"}')
    assert body_of("unified_diff") in made


def test_numbers_of_lines_stay_where_they_were() -> None:
    lines = SOURCE.split("\n")[:500]
    view = "\n".join(["[File: lib/difflib.py (2056 lines total)]"])
    view += "\n" + "\n".join(f"{i}:{line}" for i, line in enumerate(lines, 1)) + "\n(Open file)"
    made = shrunk(view, 0.3, "set_seqs?")
    kept = [line for line in made.split("\n") if "left out]" not in line]
    assert all(line in view.split("\n") for line in kept)
    assert made.startswith("[File: lib/difflib.py") and made.endswith("(Open file)")
    assert len(kept) < 400


SAMPLES = {
    "typescript": (
        "export function add(a: number, b: number): number {",
        "interface Point { x: number }\nclass Shape {\n  area(scale: number): number {",
    ),
    "javascript": (
        "function add(a, b) {",
        "const module = require('x');\nclass Shape {\n  area() {",
    ),
    "go": ("func Add(a int, b int) int {", "package main\n\nfunc (s Shape) Area() int {"),
    "rust": ("pub fn add(a: i32, b: i32) -> i32 {", "impl Shape {\n    fn area(&self) -> i32 {"),
    "java": ("public class Maths {\n  public int add(int a, int b) {", "  public int area() {"),
    "cpp": ("namespace maths {\nint add(int a, int b) {", "int Shape::area() {"),
    "c": ("#include <stdio.h>\nint add(int a, int b) {", "static int area(int a) {"),
}


@pytest.mark.parametrize("language", SAMPLES)
def test_other_languages(language: str) -> None:
    asked, other = SAMPLES[language]
    end = "}\n}" if asked.count("{") > 1 and language in ("java", "cpp") else "}"
    tail = "}\n}" if other.count("{") - other.count("}") > 1 else "}"
    body = "\n".join(f"    total_{i} = total_{i} + {i};" for i in range(30))
    if language == "java":
        text = f"{asked}\n{body}\n  }}\n{other}\n{body}\n  }}\n}}\n"
    else:
        text = f"{asked}\n{body}\n{end}\n\n{other}\n{body}\n{tail}\n"
    made = shrunk(text, 0.6, "How does add work?")
    assert f"{asked}\n{body}\n" in made
    assert "... [30 lines left out]" in made
    assert other in made


def test_a_file_named_in_the_call_tells_the_language() -> None:
    text = "def f(x):\n" + "    x += 1\n" * 30 + "    return x\n"
    assert "... [31 lines left out]" in shrunk(text, 0.5, "", '{"path": "src/a.py"}')


@settings(max_examples=40)
@given(st.integers(0, 1800), st.integers(60, 250), st.sampled_from((0.3, 0.7)))
def test_every_line_that_stays_is_as_it_was(start: int, size: int, share: float) -> None:
    lines = SOURCE.split("\n")[start : start + size]
    made = shrunk("\n".join(lines), share, "", '{"path": "difflib.py"}').split("\n")
    rest = iter(lines)
    assert all(line in rest for line in made if "left out]" not in line)


@pytest.mark.parametrize(
    "text",
    [
        "It was a dark night. " * 40,
        "def f(:\n" + "  ((((\n" * 40,
        "x = 1\ny = 2\n" * 40,
        textwrap.dedent("def f():\n    return 1\n") * 20,
    ],
    ids=range(4),
)
def test_what_has_no_long_functions_stays(text: str) -> None:
    assert shrunk(text, 0.2) == text


def test_deep_code_passes() -> None:
    text = "import os\n\ndef f():\n    return " + "(" * 5000 + ")" * 5000 + "\n"
    assert shrunk(text + "if x:\n    y = 1\n" * 20, 0.5)


def test_every_language_has_a_grammar() -> None:
    Code().ready()
    assert set(SAMPLES) < set(LANGUAGES)
