"""Write web pages as Markdown: text, headings, lists, tables and links, without the markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tersely.compressors.markdown import LEFT, thinned
from tersely.compressors.structured import Folding, Structured
from tersely.errors import require
from tersely.forms import Form
from tersely.named import Named
from tersely.prompt import Kind

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

DEEPEST = 150
"""Levels of elements down to which each is read by itself; below, only text is taken."""

UNSEEN = frozenset(("script", "style", "noscript", "template", "svg", "head", "iframe", "canvas"))
BLOCKS = frozenset(
    (
        *("p", "div", "section", "article", "main", "header", "footer", "nav", "aside"),
        *("ul", "ol", "dl", "table", "thead", "tbody", "blockquote", "figure", "details"),
        *("fieldset", "address", "body", "html"),
    )
)
LINES = frozenset(("tr", "dt", "dd", "hr", "figcaption", "summary", "option", "label"))
FIELDS = frozenset(("form", "input", "select", "textarea", "button", "img"))
HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}

_SPACE = re.compile(r"\s+")
_GAP = re.compile(r"[ \t]{2,}")
_BLANK = re.compile(r"[ \t]*\n[ \t]*(?:\n\s*)?")


class Html(Structured):
    """Writes HTML as Markdown, and then leaves paragraphs out as `markdown` does.

    Without a budget a page stays as it is. Scripts, styles and markup go first; headings, lists,
    tables, code, links with their addresses and the fields of forms stay. A page that says nothing
    then, since a script would fill it, stays as it is.
    """

    name = "html"
    forms = frozenset[Form](("html",))
    lossy = True
    leap = True

    kinds: tuple[Kind, ...] = ("code", "tool_output", "context")

    def ready(self) -> None:
        require("selectolax", extra="structure")

    def fold(self, text: str, asked: Named) -> Folding | None:
        if LEFT in text:
            return None
        made = as_markdown(text)
        return _Page(text, made, thinned(made, asked)) if made else None


class _Page:
    """A page, its text, and what can go of that."""

    def __init__(self, page: str, text: str, less: Folding | None) -> None:
        self._page = page
        self._text = text
        self._less = less

    def text(self, share: float) -> str:
        if share <= 0:
            return self._page
        return self._text if self._less is None else self._less.text(share)


def as_markdown(page: str) -> str:
    """What a page says, as Markdown."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(page)
    title = tree.css_first("title")
    pieces: list[str] = []
    if title is not None and (named := _line(title.text(deep=True))):
        pieces.append(f"# {named}\n\n")
    if tree.body is not None:
        _tell(tree.body, pieces, 0)
    return _tidy("".join(pieces))


def _tell(node: LexborNode, pieces: list[str], depth: int) -> None:
    """Write what an element says."""
    tag = node.tag or ""
    if tag in UNSEEN:
        return
    if tag == "-text":
        pieces.append(_SPACE.sub(" ", node.text(deep=False) or ""))
        return
    if depth >= DEEPEST:
        pieces.append(_SPACE.sub(" ", node.text(deep=True, separator=" ")))
    elif tag == "pre":
        pieces.append(f"\n\n```\n{node.text(deep=True).strip()}\n```\n\n")
    elif tag in HEADINGS:
        pieces.append(f"\n\n{HEADINGS[tag]} {_line(_inner(node, depth))}\n\n")
    elif tag == "a":
        pieces.append(_link(_inner(node, depth), node.attributes.get("href") or ""))
    elif tag == "li":
        pieces.append(f"\n- {_inner(node, depth).strip()}")
    elif tag in ("td", "th"):
        pieces.append(f"{_line(_inner(node, depth))} | ")
    elif tag in FIELDS:
        pieces.append(f" {_field(node, tag)} {_inner(node, depth)}")
    elif tag == "br":
        pieces.append("\n")
    elif tag == "code":
        pieces.append(f"`{node.text(deep=True)}`")
    else:
        edge = "\n\n" if tag in BLOCKS else "\n" if tag in LINES else ""
        pieces += edge if tag in BLOCKS else "", _inner(node, depth), edge


def _inner(node: LexborNode, depth: int) -> str:
    pieces: list[str] = []
    for child in node.iter(include_text=True):
        _tell(child, pieces, depth + 1)
    return "".join(pieces)


def _link(text: str, address: str) -> str:
    told = _line(text)
    if not address or address.startswith(("#", "javascript:")):
        return text
    return f"[{told}]({address})" if told else ""


def _field(node: LexborNode, tag: str) -> str:
    """A form or a field of it, by what is needed to fill it in; an image by its description."""
    told = [
        value if name == "alt" else f"{name}={value}"
        for name in ("name", "type", "value", "placeholder", "method", "action", "alt")
        if (value := _line(node.attributes.get(name) or ""))
    ]
    return f"[{tag}: {', '.join(told)}]" if told else ""


def _line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _tidy(text: str) -> str:
    """A text without superfluous blank lines; fenced code as it is."""
    parts = re.split(r"\n(```\n.*?\n```)\n", text, flags=re.DOTALL)
    parts[::2] = [_BLANK.sub(_break, _GAP.sub(" ", part)).strip() for part in parts[::2]]
    return "\n\n".join(filter(None, parts))


def _break(found: re.Match[str]) -> str:
    return "\n\n" if found[0].count("\n") > 1 else "\n"
