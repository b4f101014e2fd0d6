"""Write JSON shorter: without white space, like objects as tables, and what is alike left out."""

from __future__ import annotations

from tersely.compressors.json_drop import Parts, holds_marks, parts_of
from tersely.compressors.json_table import ABSENT, COLUMNS, tabled
from tersely.compressors.json_tree import Value, read, squeezed, write
from tersely.compressors.structured import Folding, Structured
from tersely.forms import Form
from tersely.kinds import json_shape
from tersely.named import Named


class Json(Structured):
    """Writes JSON, and lines of JSON, with fewer tokens; it stays JSON of the same type.

    Nothing is lost at first: white space goes, and objects with like keys are written as a table,
    `[{"#columns":["id","on"]},[1,true],[2,false]]`, also within each other. Numbers keep their
    spelling, and keys their order. If the budget asks for more, long strings lose their middle
    and rows go that are like others. Those stay that the question or the tool's call names, that
    tell of an error or are exceptions, and the first and the last; a text in the place of the
    first that is gone says how many went, and no other value is edited. JSON that is nested too
    deep for tables only loses white space. With `tables` off, objects stay objects.
    """

    name = "json"
    forms = frozenset[Form](("json", "ndjson"))
    tables: bool = True

    def recognises(self, text: str) -> bool:
        """Whether a text begins as JSON does; it is read only once, to be taken apart."""
        return text.lstrip(" \t\r\n")[:1] in ("{", "[")

    def fold(self, text: str, asked: Named) -> Folding | None:
        try:
            return self._of_one(text, asked)
        except RecursionError:
            return _Deep(squeezed(text)) if json_shape(text) else None
        except ValueError:
            return self._of_lines(text, asked)

    def _of_one(self, text: str, asked: Named) -> Folding:
        return _Tree(read(text), asked, tables=self.tables, marked=holds_marks(text))

    def _of_lines(self, text: str, asked: Named) -> Folding | None:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2:
            return None
        try:
            rows = [read(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        if not all(isinstance(row, dict | list) for row in rows):
            return None
        return _Lines(rows, asked, tables=self.tables, marked=holds_marks(text))


class _Tree:
    """A JSON text that can be written with less and less of it, if that was not done before."""

    def __init__(self, value: Value, asked: Named, *, tables: bool, marked: bool) -> None:
        self._value = value
        self._asked = asked
        plain = self.plain(value)
        self._done = marked or f'"{COLUMNS}"' in plain or f'"{ABSENT}"' in plain
        self._tables = tables and not self._done
        self._whole = self._shortest(value, plain)
        self._parts: Parts | None = None

    def text(self, share: float) -> str:
        if share <= 0 or self._done:
            return self._whole
        try:
            return self._less(share)
        except RecursionError:
            return self._whole

    def _less(self, share: float) -> str:
        if self._parts is None:
            self._parts = parts_of(self._value, self._asked)
        rest = self._parts.without(share)
        return self._whole if rest is self._value else self._shortest(rest, self.plain(rest))

    def plain(self, value: Value) -> str:
        return write(value)

    def _shortest(self, value: Value, plain: str) -> str:
        if not self._tables:
            return plain
        table = self.plain(tabled(value))
        return table if len(table) < len(plain) else plain


class _Lines(_Tree):
    """The same for a row of JSON texts, one a line; the columns then are a line of their own."""

    def plain(self, value: Value) -> str:
        return "\n".join(map(write, value))


class _Deep:
    """JSON too deep to be read: nothing of it can go."""

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self, share: float) -> str:
        return self._text
