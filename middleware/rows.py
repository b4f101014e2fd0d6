"""The shapes that a row of a data set can have, and what tersely makes of one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from tersely.errors import ConfigError, RequestError, UnknownName
from tersely.middleware.adapter_fields import FIELDS
from tersely.middleware.adapters import Adapter, look
from tersely.middleware.passage import FAILED
from tersely.middleware.rawjson import differences
from tersely.middleware.session import Session
from tersely.prompt import Path
from tersely.report import Report

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline

FormatName = Literal["text", "messages", "openai-batch", "anthropic-batch"]

TEXT_FIELDS = ("prompt", "text", "context", "input", "content", "document")
"""Where a row's text is looked for when no field is named; the first one that is there."""

BATCH_URLS = {"/chat/completions": "openai-chat", "/responses": "openai-responses"}
"""How an OpenAI batch line's `url` ends, and who reads its body."""

HEAD = 100
"""So many rows are looked at to tell the format."""

MESSAGE_KEYS = ("model", "system", "messages", "tools")
"""What of a row with messages belongs to the request."""

Status = Literal["compressed", "unchanged", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of a row that is a request: where it lies, and who reads it ("" asks around)."""

    request: Any
    place: Path = ()
    reader: str | Adapter = ""


class Format(Protocol):
    """Finds the request in a row. `column` tells whether rows may be given another column."""

    @property
    def name(self) -> FormatName: ...
    @property
    def column(self) -> bool: ...
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

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return isinstance(look(row, self.field), str | list)

    def part(self, row: Mapping[str, Any], /) -> Part:
        value = look(row, self.field)
        spelled = ".".join(str(step) for step in self.field)
        if value is None:
            raise RequestError(f"no field {spelled!r}; the row has {_keys(row)}")
        if not isinstance(value, str | list):
            raise RequestError(f"field {spelled!r} holds no text but {_shown(value)}")
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            return Part(request=value, place=self.field)
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise RequestError(f"field {spelled!r} holds other things than texts: {_shown(value)}")
        *above, name = self.field
        return Part(request={name: value}, place=tuple(above), reader=FIELDS)


@dataclass(frozen=True, slots=True)
class Messages:
    """Chat messages under `messages`, with the model, system and tools beside them."""

    name: FormatName = "messages"
    column: bool = True

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return isinstance(row.get("messages"), list)

    def part(self, row: Mapping[str, Any], /) -> Part:
        messages = row.get("messages")
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            raise RequestError(f"`messages` must be a list of messages, was {_shown(messages)}")
        return Part(request={key: row[key] for key in MESSAGE_KEYS if key in row})


@dataclass(frozen=True, slots=True)
class OpenAIBatch:
    """A line of an OpenAI batch file: `custom_id`, `method`, `url` and `body`."""

    name: FormatName = "openai-batch"
    column: bool = False

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return "custom_id" in row and "body" in row

    def part(self, row: Mapping[str, Any], /) -> Part:
        url = row.get("url")
        known = (reader for end, reader in BATCH_URLS.items() if str(url).endswith(end))
        if (reader := next(known, None)) is None:
            raise RequestError(f"`url` must end in {' or '.join(BATCH_URLS)}, was {_shown(url)}")
        return Part(request=_object(row, "body"), place=("body",), reader=reader)


@dataclass(frozen=True, slots=True)
class AnthropicBatch:
    """A line of requests for Anthropic's batches: `custom_id` and `params`."""

    name: FormatName = "anthropic-batch"
    column: bool = False

    def matches(self, row: Mapping[str, Any], /) -> bool:
        return "custom_id" in row and "params" in row

    def part(self, row: Mapping[str, Any], /) -> Part:
        return Part(request=_object(row, "params"), place=("params",), reader="anthropic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Treated:
    """What became of a row: its new texts by place, and the account.

    Tokens are None where nothing was counted.
    """

    status: Status
    edits: Mapping[Path, str] = field(default_factory=dict)
    before: int | None = None
    after: int | None = None
    reason: str = ""

    @property
    def account(self) -> dict[str, Any]:
        """The account as plain values: tokens, status, and the reason if there is one."""
        told = {"before": self.before, "after": self.after, "status": self.status}
        return told | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptimizer:
    """Compresses one row at a time, each by itself: no row changes what becomes of another."""

    pipeline: Pipeline
    format: Format
    question: Path = ()

    def __call__(self, row: Any, /) -> Treated:
        """What becomes of a row. Never raises for what a row holds."""
        try:
            if not isinstance(row, Mapping):
                raise RequestError(f"a row is a JSON object, was {_shown(row)}")
            part = self.format.part(row)
            question = self._question(row)
        except RequestError as error:
            return Treated(status="failed", reason=str(error))
        try:
            done = self.pipeline.run(
                part.request, question=question, surface=part.reader, session=Session()
            )
        except Exception as error:  # the pipeline is strict
            return Treated(status="failed", reason=f"{type(error).__name__}: {error}")
        edits = differences(part.request, done.output, part.place)
        return _treated(done.report, dict(edits))

    def _question(self, row: Mapping[str, Any]) -> str | None:
        asked = look(row, self.question) if self.question else None
        if asked is not None and not isinstance(asked, str):
            raise RequestError(f"the question must be a text, was {_shown(asked)}")
        return asked


def format_of(
    rows: Iterator[Mapping[str, Any]], name: FormatName | None = None, text_field: str | None = None
) -> Format:
    """The format of a name, or that of the first row that has one.

    Raises ConfigError with the first row's columns when none is found near the beginning.
    """
    if name is not None and name not in get_args(FormatName):
        raise UnknownName("format", name, get_args(FormatName))
    if text_field is not None and name in (None, "text"):
        return Text(steps(text_field))
    texts = [Text((known,)) for known in TEXT_FIELDS]
    formats: list[Format] = [OpenAIBatch(), AnthropicBatch(), Messages(), *texts]
    formats = [known for known in formats if name in (None, known.name)]
    if name not in (None, "text"):
        return formats[0]
    head = list(islice(rows, HEAD))
    if not head:
        return formats[0]
    fitting = (known for row in head for known in formats if known.matches(row))
    if found := next(fitting, None):
        return found
    raise ConfigError(f"name the field that holds the text: the first row has {_keys(head[0])}")


def steps(dotted: str) -> Path:
    """A path from its dotted spelling: `turns.0.text`."""
    if not all(dotted.split(".")):
        raise ConfigError(f"a field is a name or names with dots between them, was {dotted!r}")
    return tuple(int(step) if step.isdecimal() else step for step in dotted.split("."))


def _treated(report: Report, edits: Mapping[Path, str]) -> Treated:
    """The account of a row from the pipeline's report."""
    unread = report.counter == "none"
    failed = any(note.startswith(FAILED) for note in report.notes)
    failed |= any(decision.action == "skipped" for decision in report.decisions)
    status: Status = "compressed" if edits else "failed" if failed else "unchanged"
    reasons = report.notes or tuple(dict.fromkeys(one.reason for one in report.decisions))
    return Treated(
        status=status,
        edits=edits,
        before=None if unread else report.before,
        after=None if unread else report.after,
        reason="; ".join(report.notes if edits else reasons),
    )


def _object(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    if not isinstance(value, dict):
        raise RequestError(f"`{key}` must be an object, was {_shown(value)}")
    return value


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(row) or "no columns"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
