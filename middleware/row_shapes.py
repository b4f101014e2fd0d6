"""The shapes that a row of a data set can have: where its request lies, and who reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol, get_args

from tersely.errors import ConfigError, RequestError, UnknownName
from tersely.middleware.adapter_fields import FIELDS
from tersely.middleware.adapters import Adapter, look
from tersely.prompt import Path

FormatName = Literal["text", "pairs", "messages", "openai-batch", "anthropic-batch"]

TEXT_FIELDS = ("prompt", "text", "context", "input", "content", "document")
"""Where a row's text is looked for when no field is named; the first one that is there."""

BATCH_URLS = {"/chat/completions": "openai-chat", "/responses": "openai-responses"}
"""How an OpenAI batch line's `url` ends, and who reads its body."""

HEAD = 100
"""So many rows are looked at to tell the format."""

MESSAGE_KEYS = ("model", "system", "messages", "tools")
"""What of a row with messages belongs to the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of a row that is a request: where it lies, and who reads it ("" asks around).

    A request that was put together from several places has `names`: for each of its keys, where
    the value lies in the row.
    """

    request: Any
    place: Path = ()
    reader: str | Adapter = ""
    names: Mapping[str, Path] = field(default_factory=dict)

    def home(self, path: Path) -> Path:
        """Where in the row something lies that has this path in the request."""
        if self.names:
            return (*self.names[str(path[0])], *path[1:])
        return (*self.place, *path)


class Format(Protocol):
    """Finds the request in a row. `column` tells whether rows may be given another column.

    `most` rows and `room` bytes are what a file of such rows may hold; None: there is no limit.
    """

    @property
    def name(self) -> FormatName: ...
    @property
    def column(self) -> bool: ...
    @property
    def most(self) -> int | None: ...
    @property
    def room(self) -> int | None: ...
    def matches(self, row: Mapping[str, Any], /) -> bool: ...
    def part(self, row: Mapping[str, Any], /) -> Part:
        """Raises RequestError that tells what is wrong with the row."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A text, a list of texts, or a list of messages, in one field of the row."""

    field: Path
    name: FormatName = "text"
    column: bool = True
    most: int | None = None
    room: int | None = None

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return isinstance(look(row, self.field), str | list)

    def part(self, row: Mapping[str, Any], /) -> Part:
        value = look(row, self.field)
        spelled = _dotted(self.field)
        if value is None:
            raise RequestError(f"no field {spelled!r}; the row has {_keys(row)}")
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            return Part(request=value, place=self.field)
        texts = {spelled: _texts(value, spelled)}
        return Part(request=texts, reader=FIELDS, names={spelled: self.field})


@dataclass(frozen=True, slots=True)
class Columns:
    """Texts or lists of texts in several fields, which share a budget; one may be missing."""

    fields: tuple[Path, ...]
    name: FormatName = "text"
    column: bool = True
    most: int | None = None
    room: int | None = None

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return any(look(row, path) is not None for path in self.fields)

    def part(self, row: Mapping[str, Any], /) -> Part:
        names = {_dotted(path): path for path in self.fields}
        values = {name: look(row, path) for name, path in names.items()}
        texts = {name: _texts(value, name) for name, value in values.items() if value is not None}
        if not texts:
            raise RequestError(f"no field {' or '.join(names)}; the row has {_keys(row)}")
        return Part(request=texts, reader=FIELDS, names=names)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A `prompt` and the `completion` that belongs to it, which stays as it is."""

    name: FormatName = "pairs"
    column: bool = True
    most: int | None = None
    room: int | None = None

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return "completion" in row and isinstance(row.get("prompt"), str | list)

    def part(self, row: Mapping[str, Any], /) -> Part:
        return Text(("prompt",)).part(row)


@dataclass(frozen=True, slots=True)
class Messages:
    """Chat messages under `messages`, with the model, system and tools beside them."""

    name: FormatName = "messages"
    column: bool = True
    most: int | None = None
    room: int | None = None

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return isinstance(row.get("messages"), list)

    def part(self, row: Mapping[str, Any], /) -> Part:
        messages = row.get("messages")
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            raise RequestError(f"`messages` must be a list of messages, was {glimpse(messages)}")
        return Part(request={key: row[key] for key in MESSAGE_KEYS if key in row})


@dataclass(frozen=True, slots=True)
class OpenAIBatch:
    """A line of an OpenAI batch file: `custom_id`, `method`, `url` and `body`."""

    name: FormatName = "openai-batch"
    column: bool = False
    most: int | None = 50_000
    room: int | None = 200_000_000

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return "custom_id" in row and "body" in row

    def part(self, row: Mapping[str, Any], /) -> Part:
        url = row.get("url")
        readers = (who for ends, who in BATCH_URLS.items() if str(url).rstrip("/").endswith(ends))
        if (reader := next(readers, None)) is None:
            raise RequestError(f"`url` must end in {' or '.join(BATCH_URLS)}, was {glimpse(url)}")
        return Part(request=_object(row, "body"), place=("body",), reader=reader)


@dataclass(frozen=True, slots=True)
class AnthropicBatch:
    """A line of requests for Anthropic's batches: `custom_id` and `params`."""

    name: FormatName = "anthropic-batch"
    column: bool = False
    most: int | None = 100_000
    room: int | None = 256_000_000

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return "custom_id" in row and "params" in row

    def part(self, row: Mapping[str, Any], /) -> Part:
        return Part(request=_object(row, "params"), place=("params",), reader="anthropic")


def format_of(
    rows: Iterator[Mapping[str, Any]],
    name: FormatName | None = None,
    fields: Sequence[str] = (),
) -> Format:
    """The format of a name, or that of the first row that has one.

    Raises ConfigError with the first row's columns when none is found near the beginning.
    """
    if name is not None and name not in get_args(FormatName):
        raise UnknownName("format", name, get_args(FormatName))
    if fields and name in (None, "text"):
        paths = tuple(steps(one) for one in fields)
        return Text(paths[0]) if len(paths) == 1 else Columns(paths)
    texts = [Text((known,)) for known in TEXT_FIELDS]
    formats: list[Format] = [OpenAIBatch(), AnthropicBatch(), Messages(), Pairs(), *texts]
    formats = [known for known in formats if name in (None, known.name)]
    if name not in (None, "text"):
        return formats[0]
    first: Mapping[str, Any] | None = None
    for row in islice(rows, HEAD):
        first = row if first is None else first
        if found := next((known for known in formats if known.matches(row)), None):
            return found
    if first is None:
        return formats[0]
    raise ConfigError(f"name the field that holds the text: the first row has {_keys(first)}")


def steps(dotted: str) -> Path:
    """A path from its dotted spelling: `turns.0.text`."""
    if not all(dotted.split(".")):
        raise ConfigError(f"a field is a name or names with dots between them, was {dotted!r}")
    return tuple(int(step) if step.isdecimal() else step for step in dotted.split("."))


def _texts(value: Any, name: str) -> Any:
    if not isinstance(value, str | list):
        raise RequestError(f"field {name!r} holds no text but {glimpse(value)}")
    if isinstance(value, list) and not all(isinstance(one, str) for one in value):
        raise RequestError(f"field {name!r} holds other things than texts: {glimpse(value)}")
    return value


def _object(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    if not isinstance(value, dict):
        raise RequestError(f"`{key}` must be an object, was {glimpse(value)}")
    return value


def _dotted(path: Path) -> str:
    return ".".join(str(step) for step in path)


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(row) or "no columns"


def glimpse(value: Any) -> str:
    """A value as an error names it: its repr, the beginning of a long one."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
