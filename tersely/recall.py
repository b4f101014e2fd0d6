"""Marks where something was left out, and a tool by which a model can have it again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Literal

from tersely.errors import ConfigError
from tersely.originals import Originals

TOOL = "recall"

ABOUT = (
    "Gives the whole of a text of which something was left out. `key` is the one that the mark in"
    " the text names. `find` gives only the lines that hold these words; `start` goes on at a"
    " character."
)

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "key": {"type": "string", "description": "the key that the mark names"},
        "find": {"type": "string", "description": "give only the lines that hold this"},
        "start": {"type": "integer", "description": "the character to go on at", "minimum": 0},
    },
    "required": ["key"],
    "additionalProperties": False,
}

KEY = re.compile(r"[0-9a-f]{12}")

WORD = re.compile(r"\w+")

LEFT_OUT = "left out"
"""What the marks of stages hold."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Keeps what is left out of the texts of one conversation, and gives it again.

    `scope` names the conversation: nothing that was kept under another name is given. An answer
    has up to `characters`; a longer text is given in pieces.
    """

    originals: Originals
    scope: str
    characters: int = 8000

    def __post_init__(self) -> None:
        if not self.scope:
            raise ConfigError("scope names the conversation; it was empty")
        if self.characters < 1:
            raise ConfigError(f"characters must be above 0, was {self.characters}")

    def keep(self, text: str) -> str:
        """Keep a text; tells its key, or "" when it has no room. Raises StoreError."""
        return self.originals.keep(self.scope, text)

    def of(self, scope: str) -> Recall:
        """The same for another conversation."""
        return replace(self, scope=scope)

    def answer(self, key: str, find: str = "", start: int = 0) -> str:
        """What a model is told that calls the tool with these arguments. Raises StoreError."""
        text = self.originals.get(self.scope, key) if KEY.fullmatch(str(key)) else None
        if text is None:
            return f"Nothing is kept under the key {str(key)[:40]!r} in this conversation."
        return given(text, find, start, self.characters)

    def definition(self, form: Literal["openai", "responses", "anthropic"] = "openai") -> Any:
        """The tool as a request offers it: to OpenAI's chat or responses, or to Anthropic."""
        match form:
            case "openai":
                function = {"name": TOOL, "description": ABOUT, "parameters": PARAMETERS}
                return {"type": "function", "function": function}
            case "responses":
                named = {"type": "function", "name": TOOL, "description": ABOUT}
                return named | {"parameters": PARAMETERS}
            case "anthropic":
                return {"name": TOOL, "description": ABOUT, "input_schema": PARAMETERS}
        raise ConfigError(f"form must be openai, responses or anthropic, was {form!r}")


def given(text: str, find: str = "", start: int = 0, characters: int = 8000) -> str:
    """A text as a model is told it: all of it, some of its lines, or a piece and where it ends."""
    head = ""
    if find:
        lines = text.split("\n")
        held = [line for line in lines if find.lower() in line.lower()]
        head = f"[{len(held)} of {len(lines)} lines hold {find[:80]!r}]\n"
        text = "\n".join(held)
    start = max(start, 0)
    end = start + characters
    if start == 0 and end >= len(text):
        return head + text
    more = f"; start={end} goes on" if end < len(text) else ""
    tail = f"[characters {start} to {min(end, len(text))} of {len(text)}{more}]"
    return f"{head}{text[start:end]}\n{tail}"


@dataclass(frozen=True, slots=True)
class Told:
    """Tells keys of texts that their owner still has, and keeps none."""

    def keep(self, text: str) -> str:
        """The key of a text: the same wherever it stands."""
        return key_of(text)


def key_of(text: str) -> str:
    """What a text is known by that is not kept, but stands in a conversation."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=6).hexdigest()


def loses(before: str, after: str) -> bool:
    """Whether a text lost something: a word or number that is gone, or a stage's own mark."""
    if LEFT_OUT in after and LEFT_OUT not in before:
        return True
    return not set(WORD.findall(before)) <= set(WORD.findall(after))


def note(gone: int, size: int, key: str = "") -> str:
    """What a mark says: how much is left out, and how to have it, if it can be had."""
    again = f"{TOOL}(key={key!r}) gives the whole" if key else "it can't be had again"
    return f"[{gone} of {size} tokens {LEFT_OUT}; {again}]"


def with_note(text: str, said: str) -> str:
    """A text with a note at its end. JSON, and lines of JSON, stay what they are.

    It becomes the last element of an array, or the member `#recall` of an object.
    """
    spelled = json.dumps(said)
    body = text.rstrip()
    if _is_json(body):
        member = spelled if body[-1] == "]" else f'"#{TOOL}":{spelled}'
        inside = body[:-1].rstrip()
        comma = "" if inside[-1:] in ("[", "{") and len(inside.lstrip()) == 1 else ","
        return f"{inside}{comma}{member}{body[-1]}{text[len(body) :]}"
    lines = body.split("\n")
    if len(lines) > 1 and _is_json(lines[0]) and _is_json(lines[-1]):
        return f"{body}\n{spelled}{text[len(body) :]}"
    return f"{body}\n{said}"


def _is_json(text: str) -> bool:
    """Whether a text is an object or array of JSON."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
