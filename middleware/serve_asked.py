"""From a body to what the backend is asked."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tersely.contracts import Capability, Request
from tersely.middleware.adapter_chat import CHAT
from tersely.middleware.serve_body import Body, ChatBody, Given, TextBody
from tersely.middleware.serve_errors import Refused, brief, unsupported, wrong
from tersely.prompt import Prompt, Segment

MOST = 128
"""Answers that one call may ask for."""

LEGACY_TOKENS = 16
"""What OpenAI's `/v1/completions` makes when nobody says how much."""

ROLES = ("system", "developer", "user", "assistant")

IN_MESSAGES = frozenset({"role", "content", "name", "refusal"})

TEXT = ("text",)
"""Parts of a content that can be read."""

JSON_OBJECT = r"""
root ::= object
object ::= "{" space (member (space "," space member)*)? space "}"
member ::= string space ":" space value
array ::= "[" space (value (space "," space value)*)? space "]"
value ::= object | array | string | number | "true" | "false" | "null"
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" hex hex hex hex))* "\""
hex ::= [0-9a-fA-F]
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
space ::= " "? | "\n" " "*
"""
"""JSON objects (RFC 8259), with one space or one line break between their parts."""


class Able(Protocol):
    """What tells what it can do: a backend, or whoever stands for one."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call: the requests that answer it, in the order of their choices."""

    body: Body
    requests: tuple[Request, ...]
    ignored: tuple[str, ...] = ()

    @property
    def chat(self) -> bool:
        """Whether messages were sent, not a text."""
        return isinstance(self.body, ChatBody)

    @property
    def bounded(self) -> bool:
        """Whether the caller said how long the answer may be."""
        return self.body.room is not None or not self.chat

    @property
    def against_points(self) -> tuple[str, str]:
        """The field for which the answer can't be made of several calls, and why; or nothing."""
        first = self.requests[0]
        field = "messages" if self.chat else "prompt"
        begun = self.chat and begins_answer(first)
        reasons = (
            ("n", len(self.requests) > 1, f"{len(self.requests)} answers are wanted"),
            ("grammar", bool(first.grammar), "the form of the answer is bound"),
            ("logprobs", first.logprobs, "the probabilities of the tokens are wanted"),
            ("stop", bool(first.stop), "the answer is to stop at a string"),
            (field, begun, "the answer is begun already"),
        )
        return next(((name, why) for name, holds, why in reasons if holds), ("", ""))


def asked(given: Given, backend: Able, max_tokens: int, *, chat: bool) -> Asked:
    """What a call asks for, all of it checked.

    `max_tokens` is how long an answer may be whose caller did not say. Raises Refused.
    """
    body: ChatBody | TextBody
    if chat:
        body = given.read(ChatBody)
        wishes, prompts, room = _chat_wishes(body), [conversation(body)], max_tokens
    else:
        body = given.read(TextBody)
        wishes, prompts, room = _text_wishes(body), _texts(body.prompt), LEGACY_TOKENS
    if len(prompts) * body.n > MOST:
        raise wrong(["n"], f"at most {MOST} answers a call, asked were {len(prompts) * body.n}")
    first = Request(
        prompt=prompts[0],
        max_tokens=body.room or room,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=tuple(body.stop),
        raw=not chat,
        repetition_penalty=body.repetition_penalty,
        **wishes,
    )
    _check_able(first, body, backend)
    requests = [_seeded(first, prompt, body.seed, i) for prompt in prompts for i in range(body.n)]
    return Asked(body=body, requests=tuple(requests), ignored=(*given.ignored, *_unread(body)))


def conversation(body: ChatBody) -> Prompt:
    """The messages as a prompt. Raises Refused."""
    for i, message in enumerate(body.messages):
        _check_message(message, ("messages", i))
    goes_on = body.messages[-1]["role"] == "assistant"
    if body.continue_final_message and body.add_generation_prompt:
        raise wrong(["add_generation_prompt"], "can't go with continue_final_message")
    if body.continue_final_message and not goes_on:
        raise wrong(["continue_final_message"], "the last message is not the assistant's")
    if goes_on and (body.continue_final_message is False or body.add_generation_prompt):
        raise unsupported(
            "add_generation_prompt", "a last message of the assistant is always gone on with"
        )
    if not goes_on and body.add_generation_prompt is False:
        raise unsupported("add_generation_prompt", "a new turn always begins with the assistant's")
    return CHAT.read({"messages": body.messages})


def begins_answer(request: Request) -> bool:
    """Whether the last turn is the assistant's."""
    segments = request.prompt.segments
    return bool(segments) and segments[-1].role == "assistant"


def _check_message(message: Any, path: tuple[str | int, ...]) -> None:
    if not isinstance(message, Mapping):
        raise wrong(path, f"a message is an object, was {brief(message)}")
    role = message.get("role")
    if role in ("tool", "function"):
        raise wrong((*path, "role"), "this server has no tools")
    if role not in ROLES:
        raise wrong((*path, "role"), f"must be one of {', '.join(ROLES)}, was {brief(role)}")
    for name, value in message.items():
        if value and name not in IN_MESSAGES:
            raise wrong((*path, name), "this server can't take that in a message")
    check_content(message.get("content"), (*path, "content"))


def check_content(content: Any, path: tuple[str | int, ...], kinds: Container[str] = TEXT) -> None:
    """Raise Refused unless a content is a text, or parts of these kinds."""
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong(path, f"must be a text or a list of parts, was {brief(content)}")
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else part
        if not isinstance(part, Mapping) or kind not in kinds:
            raise wrong((*path, i, "type"), f"only text can be read, was {brief(kind)}")
        if not isinstance(part.get("text"), str):
            raise wrong((*path, i, "text"), f"must be a text, was {brief(part.get('text'))}")


def _unread(body: Body) -> list[str]:
    """What in the messages is not shown to the model."""
    messages = body.messages if isinstance(body, ChatBody) else []
    return ["messages.name"] if any(message.get("name") for message in messages) else []


def _texts(prompt: str | list[Any]) -> list[Prompt]:
    """Prompts that go to the model as they are. Raises Refused."""
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not texts:
        raise wrong(["prompt"], "there is none in the list")
    for text in texts:
        if isinstance(text, int | list):
            raise wrong(["prompt"], "tokens are not taken: send their text")
        if not isinstance(text, str):
            raise wrong(["prompt"], f"must be a text or a list of texts, holds {brief(text)}")
    return [_prompt(text) for text in texts]


def _prompt(text: str) -> Prompt:
    segment = Segment(text=text, kind="question", locked=True, path=("prompt",))
    return Prompt((segment,), question=text, turns=1)


def _chat_wishes(body: ChatBody) -> dict[str, Any]:
    if body.top_logprobs and not body.logprobs:
        raise wrong(["top_logprobs"], "goes with logprobs=true")
    grammar = _form(body)
    return {"logprobs": body.logprobs, "alternatives": body.top_logprobs, "grammar": grammar}


def _form(body: ChatBody) -> str:
    """The grammar that the answer must follow. Raises Refused."""
    form = (body.response_format or {"type": "text"}).get("type")
    if form == "text":
        return body.grammar
    if form != "json_object":
        why = f"must be text or json_object, was {brief(form)}; or send a GBNF `grammar`"
        raise unsupported("response_format", why)
    if body.grammar:
        raise wrong(["grammar"], "can't go with response_format")
    return JSON_OBJECT


def _text_wishes(body: TextBody) -> dict[str, Any]:
    told = body.logprobs is not None
    return {"logprobs": told, "alternatives": body.logprobs or 0, "grammar": body.grammar}


def _check_able(request: Request, body: Body, backend: Able) -> None:
    """Raise Refused for what this backend can't do."""
    going_on = isinstance(body, ChatBody) and bool(body.continue_final_message)
    form = "response_format" if request.grammar == JSON_OBJECT else "grammar"
    wanted: Sequence[tuple[str, Capability, bool]] = (
        ("logprobs", "logprobs", request.logprobs),
        ("top_logprobs", "alternatives", request.alternatives > 0),
        (form, "grammar", bool(request.grammar)),
        ("repetition_penalty", "repetition_penalty", request.repetition_penalty != 1),
        ("continue_final_message", "prefill", going_on),
    )
    for field, capability, holds in wanted:
        if holds and capability not in backend.capabilities:
            raise unsupported(field, f"the engine of this server has no {capability}")


def _seeded(first: Request, prompt: Prompt, seed: int | None, i: int) -> Request:
    """The i-th answer to a prompt: each draws by itself."""
    return replace(first, prompt=prompt, seed=None if seed is None else seed + i)


def model_named(body: Body, names: Sequence[str]) -> None:
    """Raise Refused for a model that this server does not have."""
    if body.model not in names:
        raise Refused(
            f"the model {brief(body.model)} does not exist; this server has {', '.join(names)}",
            status=404,
            param="model",
            code="model_not_found",
        )
