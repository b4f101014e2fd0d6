"""Rows of any data set as lines of a batch file that a provider takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tersely.errors import ConfigError, RequestError
from tersely.middleware.adapters import look
from tersely.middleware.batch_calls import asking
from tersely.middleware.files import At, Block, Files, Made, Treat, files_of, kind_of, total
from tersely.middleware.jsonl import error_line
from tersely.middleware.places import Codec
from tersely.middleware.row_shapes import AnthropicBatch, Format, OpenAIBatch
from tersely.middleware.rows import Treated, renewed
from tersely.middleware.settings import Settings
from tersely.prompt import Path as Place
from tersely.prompt import messages_of

Provider = Literal["openai", "anthropic"]

SHAPES: Mapping[Provider, Format] = {"openai": OpenAIBatch(), "anthropic": AnthropicBatch()}
"""The lines that a provider takes."""

ANSWER_TOKENS = 1024
"""How long an answer may be for Anthropic, where nothing else is said: it wants to know."""

URL = "/v1/chat/completions"

ORDERS = ("system", "developer")
"""Roles whose messages Anthropic wants apart."""


class Wanted(Settings):
    """For whom rows become requests, which model is to answer, and how long an answer may be."""

    called = "requests"
    alone = "provider"

    provider: Provider
    model: str = ""
    max_tokens: int | None = Field(default=None, ge=1)

    def line(self, name: str, messages: list[Any], rest: Mapping[str, Any]) -> dict[str, Any]:
        """A line of the provider's batch file. Raises RequestError."""
        if self.provider == "anthropic":
            return {"custom_id": name, "params": self._params(messages, rest)}
        if rest.get("system"):
            messages = [{"role": "system", "content": rest["system"]}, *messages]
        body = {
            "model": self.model,
            "messages": messages,
            "tools": rest.get("tools"),
            "max_completion_tokens": self.max_tokens,
        }
        given = {field: value for field, value in body.items() if value is not None}
        return {"custom_id": name, "method": "POST", "url": URL, "body": given}

    def _params(self, messages: list[Any], rest: Mapping[str, Any]) -> dict[str, Any]:
        if rest.get("tools"):
            raise RequestError("tools are spelled otherwise for Anthropic: leave them out")
        orders = [one["content"] for one in messages if one.get("role") in ORDERS]
        if not all(isinstance(one, str) for one in orders):
            raise RequestError("a system message must be a text for Anthropic")
        system = rest.get("system") or "\n\n".join(orders)
        return {
            "model": self.model,
            "max_tokens": self.max_tokens or ANSWER_TOKENS,
            **({"system": system} if system else {}),
            "messages": [one for one in messages if one.get("role") not in ORDERS],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Reads a data set, and writes its rows as lines of a provider's batch file.

    The `custom_id` of a line tells the number of its row (see `row_name`). A row that can't be
    asked has no line, and goes to the errors.
    """

    rows_of: Files
    format: Format
    wanted: Wanted
    question: Place = ()
    codec: Codec = ""
    grows: bool = True
    has_column: bool = False

    @property
    def source(self) -> str:
        return self.rows_of.source

    def parts(self) -> list[str]:
        return self.rows_of.parts()

    def head(self) -> bytes:
        return b""

    def blocks(self, at: At, rows: int) -> Iterator[Block]:
        return self.rows_of.blocks(at, rows)

    def rows(self, block: Block, /) -> Iterator[Any]:
        return self.rows_of.rows(block)

    def alone(self, block: Block, /) -> Iterator[Block]:
        return self.rows_of.alone(block)

    def treat(self, block: Block, treat: Treat, *, column: bool) -> Made:
        return total([self._made(one, treat) for one in self.rows_of.alone(block)])

    def finish(self, grown: Path, target: Path) -> None:
        """There is nothing to do: the lines in a row are the target."""

    def _made(self, row: Block, treat: Treat) -> Made:
        """What is written for one row, if it can be read."""
        lines: list[bytes] = []
        name = row_name(row.end.line)

        def told(value: Any) -> Treated:
            treated = treat(value)
            try:
                line = self._line(name, renewed(value, treated.edits))
                lines.append(error_line(line))
            except RequestError as error:
                treated = replace(treated, status="failed", reason=f"no request: {error}")
            account = {"line": row.end.line, "custom_id": name} | treated.account
            report.append(error_line(account))
            return treated

        report: list[bytes] = []
        made = self.rows_of.treat(row, told, column=False)
        return Made(
            target=tuple(lines), errors=made.errors, report=b"".join(report), tally=made.tally
        )

    def _line(self, name: str, row: Any) -> dict[str, Any]:
        part = self.format.part(row)
        if isinstance(part.request, list):
            return self.wanted.line(name, part.request, {})
        if isinstance(part.reader, str):
            return self.wanted.line(name, part.request["messages"], part.request)
        asked = look(row, self.question) if self.question else None
        prompt = asking(part.reader.read(part.request), asked or "")
        return self.wanted.line(name, messages_of(prompt), {})


def row_name(number: int) -> str:
    """The `custom_id` of the request that a row became, by its number in the data set."""
    return f"row-{number}"


def reader_for(source: str, target: str, wanted: Wanted) -> tuple[Files, Codec]:
    """Who reads a data set that becomes requests, and how these are packed. Raises ConfigError."""
    kind, packing = kind_of(target)
    if kind not in (None, "jsonl"):
        raise ConfigError(f"requests for {wanted.provider} are JSONL, and can't go to {target}")
    if not wanted.model:
        raise ConfigError(f"requests for {wanted.provider} name a model: give one, or by --model")
    return files_of(source, source), packing
