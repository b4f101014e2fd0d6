"""Request bodies as OpenAI has them: what is kept to, what is ignored, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tersely.middleware.serve_errors import Refused, brief, invalid, unsupported

Sized = Annotated[int, Field(ge=1, le=2**31)]

HARMLESS = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Fields that change nothing in an answer: they are ignored, and the response names them."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "ignore_eos": (False,),
    "logit_bias": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_k": (0, -1),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields that can't be kept to, with the values that ask for nothing."""


class Strict(BaseModel):
    """Base of what is read: nothing is bent into shape, and nothing unknown is let by."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """What a stream brings along. Nothing is ever added to hide how long a piece is."""

    include_usage: bool = False
    include_obfuscation: bool = False


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _spread(value: Any) -> Any:
    """The short ways of asking for a plan: true, false, or a mode."""
    if isinstance(value, bool):
        return {"mode": "auto" if value else "off"}
    return {"mode": value} if isinstance(value, str) else value


def _wished(value: Any) -> Any:
    """The short ways of asking for a pipeline: true or false."""
    if isinstance(value, bool):
        return {"mode": "optimize" if value else "off"}
    return value


class SotWishes(Strict):
    """How an answer of several points is wanted; what is None is left to the plan.

    `deadline` is in seconds from when the work begins.
    """

    mode: Literal["auto", "force", "off"] = "auto"
    max_points: int | None = Field(default=None, ge=2, le=99)
    deadline: float | None = Field(default=None, gt=0, le=86_400)
    ask: bool | None = None
    at_once: int | None = Field(default=None, ge=1, le=1024)
    grammar: Literal["auto", "off"] | None = None
    graph: bool | None = None
    items: bool | None = None
    launch: Literal["piped", "whole"] | None = None
    merge: float | None = None
    penalty: float | None = None
    renumbered: bool | None = None
    reserve: float | None = None
    retries: int | None = Field(default=None, ge=0, le=10)
    skeleton_tokens: int | None = None
    unrepeated: bool | None = None
    words: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the plan that were given."""
        given = self.model_dump(exclude={"mode", "max_points", "deadline"}, exclude_none=True)
        points = {} if self.max_points is None else {"points": self.max_points}
        return {**given, **points, "gate": self.mode}


class TerselyWishes(Strict):
    """How a request is to be compressed before it is answered; None: as the server is set."""

    budget: int | float | str | None = None
    stages: Annotated[list[str], BeforeValidator(_listed)] | None = Field(
        default=None, min_length=1, max_length=8
    )
    question: str | None = None
    mode: Literal["off", "audit", "optimize"] = "optimize"
    strict: bool = False


class Body(Strict):
    """What both kinds of request have in common."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=128)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Sized | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_listed)] = Field(
        default=[], max_length=16
    )
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    grammar: str = ""
    sot: Annotated[SotWishes | None, BeforeValidator(_spread)] = None
    tersely: Annotated[TerselyWishes | None, BeforeValidator(_wished)] = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def room(self) -> int | None:
        """How long the answer may be, where that was said."""
        return self.max_tokens


class ChatBody(Body):
    """A body of `/v1/chat/completions`."""

    messages: list[Any] = Field(min_length=1)
    max_completion_tokens: Sized | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    @property
    def room(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class TextBody(Body):
    """A body of `/v1/completions`."""

    prompt: str | list[Any]
    logprobs: int | None = Field(default=None, ge=0, le=20)


B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Given:
    """A body's fields, without those that ask for nothing; `ignored` are known and harmless."""

    fields: dict[str, Any]
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, raw: bytes) -> Given:
        """Read a body. Raises Refused."""
        return cls.among(_tree(raw))

    @classmethod
    def among(cls, tree: Mapping[str, Any]) -> Given:
        """The fields of a body that was read. Raises Refused."""
        fields = {name: value for name, value in tree.items() if value is not None}
        for name in list(fields):
            if name in NEUTRAL:
                if not _asks_nothing(name, fields.pop(name)):
                    raise unsupported(name)
            elif name in HARMLESS:
                del fields[name]
        return cls(fields, tuple(sorted(HARMLESS & tree.keys())))

    def read(self, kind: type[B]) -> B:
        """The fields as what they are. Raises Refused."""
        try:
            return kind.model_validate(self.fields)
        except ValidationError as error:
            raise invalid(error) from error
        except RecursionError as error:
            raise Refused("the body is nested too deep") from error


def _tree(raw: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is no JSON: {error}", code="invalid_json") from error
    if not isinstance(tree, dict):
        raise Refused(f"the body is no JSON object but {brief(tree)}", code="invalid_json")
    return tree


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON's")


def _asks_nothing(name: str, value: Any) -> bool:
    return any(type(value) is type(none) and value == none for none in NEUTRAL[name]) or (
        isinstance(value, float) and value in NEUTRAL[name]
    )
