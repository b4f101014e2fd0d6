"""Leave the bodies of functions out of code that nobody asked about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from tersely.compressors.gaps import Gaps, counted, told_apart
from tersely.compressors.structured import Folding, Structured
from tersely.errors import require
from tersely.forms import Form
from tersely.named import Named
from tersely.prompt import Kind

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

LEFT = " left out]"

SHORTEST = 3
"""Lines of a body below which it stays."""

DEEPEST = 60
"""Levels of syntax down to which functions are looked for."""

FUNCTIONS = frozenset(
    (
        *("function_definition", "function_declaration", "function_item", "method_definition"),
        *("method_declaration", "constructor_declaration", "arrow_function"),
        *("function_expression", "generator_function_declaration"),
    )
)
"""What the grammars call a function that has a body."""

LANGUAGES: dict[str, tuple[str, str, str]] = {
    "python": ("tree_sitter_python", "language", r"\.pyi?\b"),
    "typescript": ("tree_sitter_typescript", "language_typescript", r"\.[mc]?ts\b"),
    "tsx": ("tree_sitter_typescript", "language_tsx", r"\.tsx\b"),
    "javascript": ("tree_sitter_javascript", "language", r"\.(?:[mc]?js|jsx)\b"),
    "go": ("tree_sitter_go", "language", r"\.go\b"),
    "rust": ("tree_sitter_rust", "language", r"\.rs\b"),
    "java": ("tree_sitter_java", "language", r"\.java\b"),
    "cpp": ("tree_sitter_cpp", "language", r"\.(?:cpp|cc|cxx|hpp|hh)\b"),
    "c": ("tree_sitter_c", "language", r"\.[ch]\b"),
}
"""The grammar of each language, and the ends of its files' names."""

LOOKS: dict[str, str] = {
    "python": r"^\s*(?:def \w+\(.*:|class \w+.*:|from [\w.]+ import |import \w+)",
    "typescript": r"^\s*(?:export )?(?:interface \w+|type \w+ =|(?:async )?function \w+\(.*: \w)",
    "go": r"^(?:package \w+|func (?:\(.{1,80}\) )?\w+\(|import \()",
    "rust": r"^\s*(?:pub )?(?:fn \w+|impl\b|use \w+::|struct \w+|mod \w+)",
    "java": r"^\s*(?:public|private|protected) (?:static |final |class |interface |[\w<>]+ \w+\()",
    "javascript": r"^\s*(?:(?:async )?function \w+\(|(?:const|let|var) \w+ = |export |require\()",
    "cpp": r"^\s*(?:namespace \w+|template ?<|class \w+|using \w+|\w[\w:<>&* ]* \w+::\w+\()",
    "c": r"^\s*(?:#include|static \w+|typedef |struct \w+ \{|(?:int|void|char)\b.*\w+\()",
}
"""How lines of each language begin."""

_NUMBERED = re.compile(r"[ \t]*\d{1,6}(?:[:|]|[ ]*\t|->|[ ]{2})[ ]?")


class Code(Structured):
    """Keeps the signatures of functions and leaves bodies out (tree-sitter).

    If the budget asks for less, bodies go, with a mark in their place that says how many lines
    they had; those last that hold words of the question. A function stays whole that the question
    or the tool's call names, or that holds what is named. All outside functions stays. Views of
    files with the numbers of their lines are read as well. Python, TypeScript, JavaScript, Go,
    Rust, Java, C and C++ are known; other code stays as it is.
    """

    name = "code"
    forms = frozenset[Form](("code", "prose", "search"))
    lossy = True

    kinds: tuple[Kind, ...] = ("code", "tool_output", "context")

    def ready(self) -> None:
        modules = {module for module, _, _ in LANGUAGES.values()}
        require("tree_sitter", *sorted(modules), extra="structure")

    def fold(self, text: str, asked: Named) -> Folding | None:
        if LEFT in text:
            return None
        lines = text.split("\n")
        bare = _bare(lines)
        language = _language(lines, bare, asked)
        if not language:
            return None
        functions = list(_functions(language, bare))
        whole = [" ".join(lines[start:end]) for start, _, end in functions]
        order = told_apart(whole, asked, set())
        free = [range(functions[i][1], functions[i][2]) for i in order]
        return Gaps(lines, free, _mark) if free else None


def _mark(lines: Sequence[str]) -> str:
    first = _NUMBERED.sub("", lines[0])
    indent = first[: len(first) - len(first.lstrip())]
    return f"{indent}... {counted(len(lines), 'line')}"


def _bare(lines: Sequence[str]) -> list[str]:
    """The lines without the numbers that a view of a file puts before them, if it does."""
    numbered = [_NUMBERED.match(line) for line in lines]
    if sum(found is not None for found in numbered) < 0.7 * sum(map(bool, lines)):
        return [line.rstrip("\r") for line in lines]
    return [
        line[found.end() :].rstrip("\r") if found else ""
        for line, found in zip(lines, numbered, strict=True)
    ]


def _language(lines: Sequence[str], bare: Sequence[str], asked: Named) -> str:
    """Which language it is: by a file that is named above it or in the call, or by its looks."""
    hints = "\n".join((*(line[:200] for line in lines[:2]), *asked.literals))
    for name, (_, _, ends) in LANGUAGES.items():
        if re.search(ends, hints):
            return name
    looked = [line[:200] for line in bare[:400]]
    times = {name: sum(map(bool, map(re.compile(p).match, looked))) for name, p in LOOKS.items()}
    best = max(times, key=lambda name: times[name])
    return best if times[best] >= 2 else ""


def _functions(language: str, lines: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """The outermost functions: where each begins, and from where to where its body can go."""
    source = "\n".join(lines).encode(errors="replace")
    waiting: list[tuple[Node, int]] = [(_parser(language).parse(source).root_node, 0)]
    while waiting:
        node, depth = waiting.pop()
        if node.type in FUNCTIONS:
            if found := _body(node, language):
                yield found
        elif depth < DEEPEST:
            waiting += [(child, depth + 1) for child in reversed(node.named_children)]


def _body(node: Node, language: str) -> tuple[int, int, int] | None:
    """The lines of a function: its first, and those of its body that can go."""
    body = node.child_by_field_name("body")
    if body is None or node.has_error:
        return None
    first, last = body.start_point.row, body.end_point.row
    if language == "python":
        start, end = _behind_docstring(body, first), last + 1
    else:
        start, end = first + 1, last
    if start <= node.start_point.row or end - start < SHORTEST:
        return None
    return node.start_point.row, start, end


def _behind_docstring(body: Node, first: int) -> int:
    """The line behind the first one of a docstring, or the first of the body without one."""
    opening = body.named_children[0] if body.named_children else None
    if opening is not None and opening.type == "expression_statement":
        inner = opening.named_children[0] if opening.named_children else None
        if inner is not None and inner.type == "string":
            return first + 1
    return first


@cache
def _parser(language: str) -> Parser:
    from tree_sitter import Language, Parser

    module, function, _ = LANGUAGES[language]
    return Parser(Language(getattr(import_module(module), function)()))
