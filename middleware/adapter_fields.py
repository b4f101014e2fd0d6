"""Reads texts that have names: the arguments of a function, the columns of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tersely.middleware.keep import kept
from tersely.middleware.leaves import field
from tersely.prompt import Path, Prompt, Segment

HOLDERS = ("page_content", "text", "content")
"""Under which names a document keeps its text."""


@dataclass(frozen=True, slots=True)
class FieldsAdapter:
    """A mapping from names to a text, a list of texts or a list of documents, all of it context.

    It reads when it is asked for; it recognises nothing by itself, since any mapping would match.
    """

    name: str = "fields"

    def matches(self, request: Any, /) -> bool:
        return False

    def read(self, request: Mapping[str, Any], /) -> Prompt:
        found = {name: list(_texts(value, (name,))) for name, value in request.items()}
        return Prompt(
            tuple(
                Segment(text=text, path=path, spans=kept(text))
                for texts in found.values()
                for path, text in texts
            ),
            why="; ".join(
                f"{name} holds no text ({type(request[name]).__name__})"
                for name, texts in found.items()
                if not texts
            ),
        )


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Every text in a value, and where it lies."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _texts(item, (*path, i))
    else:
        yield from _text_of(value, path)


def _text_of(document: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """The text of a document: of a mapping, or of an object as LangChain has them."""
    for holder in HOLDERS:
        text = field(document, holder)
        if isinstance(text, str):
            yield (*path, holder), text
            return


FIELDS = FieldsAdapter()
