"""LangChain's Documents in, pieces with a place and a name out, and back again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import regex

from tersely.contracts import TokenCounter
from tersely.documents import titles_of
from tersely.errors import ConfigError
from tersely.rag.chunking import chunks
from tersely.retrieval import Passage
from tersely.units import Units, split

if TYPE_CHECKING:
    from langchain_core.documents import Document

KEY = "tersely"
"""Where the metadata of what was found tells its scores."""

PLACE = ("source", "start", "end")
"""Where the metadata of a piece tells what text it was taken from, and which characters."""

HEADING = regex.compile(
    r"^(?P<fence>```|~~~).*?(?:^(?P=fence)|\Z)|^(?P<sharps>#{1,6})[^\S\n]+(?P<title>\S[^\n]*)$",
    regex.MULTILINE | regex.DOTALL,
)
"""A heading of Markdown. What is fenced is met first, so that its comments are none."""

BLANK = regex.compile(r"\n\s*\n")

WITHIN = " > "
"""Stands between a heading and the one below it."""


def pieces(
    documents: Iterable[Document | str], *, size: int = 128, count: TokenCounter
) -> Iterator[Document]:
    """Cut texts into pieces of at most `size` tokens, one after the other, for a store.

    Each piece is exactly `text[start:end]` of its document, and its metadata is the document's
    with `source`, `start`, `end`, the `title` where the text begins with one, and the `headings`
    that it stands under. A document without a source is known by its id, else by its content.
    One that LangChain's splitters cut already (`start_index`) keeps the count of characters.
    The id of a piece is a hash of its source and text: the same text has the same id wherever it
    moves in its source. Raises ConfigError for what is no text. Nothing is held in memory but
    the ids.
    """
    seen: Counter[bytes] = Counter()
    for one in documents:
        text, metadata = _read(one)
        offset = int(metadata.get("start_index") or 0)
        titles = _Titles(text)
        for start, end in _spans(chunks(text, size=size, count=count)):
            place = {"start": offset + start, "end": offset + end}
            told = {**titles.at(start), **metadata, **place}
            yield _document(text[start:end], _id(metadata["source"], text[start:end], seen), told)


def passage_of(document: Document, score: float = 0.0) -> Passage:
    """A LangChain Document as a passage. What has no id is named by its content."""
    metadata = dict(document.metadata)
    source, text = str(metadata.get("source") or ""), document.page_content
    start = _number(metadata, "start", "start_index")
    end = _number(metadata, "end") or start + len(text)
    name = document.id or content_id(source, text)
    return Passage(
        text=text, id=name, source=source, start=start, end=end, score=score, metadata=metadata
    )


def document_of(passage: Passage) -> Document:
    """A passage as a LangChain Document: its place and scores are in the metadata."""
    place = {"source": passage.source, "start": passage.start, "end": passage.end}
    scores = {**passage.metadata.get(KEY, {}), "score": passage.score}
    return _document(passage.text, passage.id, {**passage.metadata, **place, KEY: scores})


def content_id(source: str, text: str, nth: int = 0) -> str:
    """The name of a piece: a hash of its source, its text, and which one of equals it is."""
    said = "\0".join((source, text, *([str(nth)] if nth else [])))
    return sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _read(one: Document | str) -> tuple[str, dict[str, Any]]:
    """The text and the metadata of a document, with a source."""
    if isinstance(one, str):
        return one, {"source": content_id("", one)}
    text, metadata = getattr(one, "page_content", None), getattr(one, "metadata", None)
    if not isinstance(text, str) or not isinstance(metadata, Mapping):
        raise ConfigError(f"what is cut into pieces is a text or a Document, was {one!r}")
    source = metadata.get("source") or one.id or content_id("", text)
    return text, {**metadata, "source": str(source)}


def _document(text: str, name: str, metadata: dict[str, Any]) -> Document:
    from langchain_core.documents import Document

    return Document(id=name, page_content=text, metadata=metadata)


def _id(source: str, text: str, seen: Counter[bytes]) -> str:
    plain = content_id(source, text)
    nth = seen[bytes.fromhex(plain)]
    seen[bytes.fromhex(plain)] += 1
    return content_id(source, text, nth) if nth else plain


def _spans(units: Units) -> Iterator[tuple[int, int]]:
    yield from zip(units.starts.tolist(), units.ends.tolist(), strict=True)


class _Titles:
    """The title of a text and the headings in it."""

    def __init__(self, text: str) -> None:
        self.headings = [
            (found.start(), len(found["sharps"]), found["title"].rstrip("# \t"))
            for found in HEADING.finditer(text)
            if found["sharps"]
        ]
        first = split(BLANK.sub("\n", text[:2000].lstrip()), "paragraph")
        self.title = "" if self.headings else next(iter(titles_of([first])), "")

    def at(self, place: int) -> dict[str, str]:
        """What a character stands under: `title` and `headings`, where there are such."""
        path: list[tuple[int, str]] = []
        for start, level, title in self.headings:
            if start > place:
                break
            path = [(above, name) for above, name in path if above < level]
            path.append((level, title))
        told = {"title": self.title, "headings": WITHIN.join(name for _, name in path)}
        return {name: said for name, said in told.items() if said}


def _number(metadata: Mapping[str, Any], *names: str) -> int:
    found: Sequence[Any] = [metadata[name] for name in names if name in metadata]
    return found[0] if found and isinstance(found[0], int) else 0
