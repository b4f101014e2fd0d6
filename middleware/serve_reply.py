"""Answers as OpenAI spells them: whole, and chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import time
from typing import Any
from uuid import uuid4

from tersely.account import SotAccount, SotAnswer
from tersely.contracts import Chunk, Completion, FinishReason
from tersely.middleware.serve_asked import Asked

FINISHES: Mapping[FinishReason, str] = {"stop": "stop", "other": "stop"}
"""What is not here was cut: by its length, or at a deadline."""

LEAST = -9999.0
"""The log-probability of what can't be: JSON has no infinity."""

JSON = dict[str, Any]


@dataclass(slots=True)
class Reply:
    """The answer to one call. `extra` fields go beside it: `sot`, `tersely`."""

    asked: Asked
    model: str
    extra: JSON = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid4().hex)
    created: int = field(default_factory=lambda: int(time()))
    _length: dict[int, int] = field(default_factory=dict)

    def whole(self, completions: Sequence[Completion]) -> JSON:
        """The whole answer."""
        self._account(completions)
        choices = [self._choice(i, one) for i, one in enumerate(completions)]
        kind = "chat.completion" if self.asked.chat else "text_completion"
        return (
            self._head(kind) | {"choices": choices, "usage": self.usage(completions)} | self.extra
        )

    def begin(self, index: int) -> JSON | None:
        """The chunk that opens a choice; a text has none."""
        if not self.asked.chat:
            return None
        return self._event(index, {"delta": {"role": "assistant", "content": ""}})

    def piece(self, index: int, chunk: Chunk) -> JSON | None:
        """A piece of a choice; None when it tells nothing."""
        if not (chunk.text or self._tokens_now(chunk)):
            return None
        told = self._logprobs_now(index, chunk)
        said = {"delta": {"content": chunk.text}} if self.asked.chat else {"text": chunk.text}
        return self._event(index, {**said, "logprobs": told})

    def end(self, index: int, completion: Completion) -> JSON:
        """The chunk that ends a choice, with the alternatives of all its tokens if wanted."""
        told = self._logprobs(index, completion) if self._tells_late else None
        said: JSON = {"delta": {}} if self.asked.chat else {"text": ""}
        reason = FINISHES.get(completion.finish_reason, "length")
        return self._event(index, {**said, "logprobs": told, "finish_reason": reason})

    def last(self, completions: Sequence[Completion]) -> JSON | None:
        """What follows the choices: what they cost, if wanted, and what goes beside them."""
        self._account(completions)
        if not (self.asked.body.with_usage or self.extra):
            return None
        usage = self.usage(completions) if self.asked.body.with_usage else None
        kind = "chat.completion.chunk" if self.asked.chat else "text_completion"
        return self._head(kind) | {"choices": [], "usage": usage} | self.extra

    def usage(self, completions: Sequence[Completion]) -> JSON:
        """What the call cost. The prompt of several answers counts once, as at OpenAI."""
        prompts = completions[:: self.asked.body.n]
        read = sum(one.prompt_tokens for one in prompts)
        made = sum(one.completion_tokens for one in completions)
        return {
            "prompt_tokens": read,
            "completion_tokens": made,
            "total_tokens": read + made,
            "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts)},
        }

    def _account(self, completions: Sequence[Completion]) -> None:
        """Tell how an answer of several calls came about."""
        for one in completions:
            if isinstance(one, SotAnswer):
                self.extra["sot"] = account_of(one.account)

    def _choice(self, index: int, completion: Completion) -> JSON:
        reason = FINISHES.get(completion.finish_reason, "length")
        told = self._logprobs(index, completion) if self.asked.requests[0].logprobs else None
        said: JSON = {"text": completion.text}
        if self.asked.chat:
            message = {"role": "assistant", "content": completion.text, "refusal": None}
            said = {"message": message}
        return {"index": index, **said, "logprobs": told, "finish_reason": reason}

    def _head(self, kind: str) -> JSON:
        start = "chatcmpl" if self.asked.chat else "cmpl"
        named = {"id": f"{start}-{self.id}", "object": kind, "created": self.created}
        return named | {"model": self.model}

    def _event(self, index: int, choice: JSON) -> JSON:
        kind = "chat.completion.chunk" if self.asked.chat else "text_completion"
        whole = {"index": index, "logprobs": None, "finish_reason": None, **choice}
        usage = {"usage": None} if self.asked.body.with_usage else {}
        return self._head(kind) | {"choices": [whole]} | usage

    @property
    def _tells_late(self) -> bool:
        """Whether tokens are told of at the end: a chunk does not know their alternatives."""
        return self.asked.requests[0].alternatives > 0

    def _tokens_now(self, chunk: Chunk) -> bool:
        return bool(chunk.tokens) and not self._tells_late

    def _logprobs_now(self, index: int, chunk: Chunk) -> JSON | None:
        if not self._tokens_now(chunk):
            return None
        completion = Completion(text=chunk.text, tokens=chunk.tokens, logprobs=chunk.logprobs)
        return self._logprobs(index, completion)

    def _logprobs(self, index: int, completion: Completion) -> JSON:
        if self.asked.chat:
            return {"content": chat_logprobs(completion), "refusal": None}
        start = self._length.get(index, 0)
        self._length[index] = start + sum(map(len, completion.tokens))
        return text_logprobs(completion, start)


def chat_logprobs(completion: Completion) -> list[JSON]:
    """The tokens of an answer, as a chat completion tells of them."""
    nothing: list[Mapping[str, float]] = [{}]
    likeliest = completion.alternatives or nothing * len(completion.tokens)
    return [
        {**_token(token, logprob), "top_logprobs": [_token(*pair) for pair in others.items()]}
        for token, logprob, others in zip(
            completion.tokens, completion.logprobs, likeliest, strict=False
        )
    ]


def text_logprobs(completion: Completion, start: int) -> JSON:
    """The tokens of an answer, as a text completion tells of them; its text begins at `start`."""
    offsets = [start]
    for token in completion.tokens[:-1]:
        offsets.append(offsets[-1] + len(token))
    others = [{t: _told(p) for t, p in one.items()} for one in completion.alternatives]
    return {
        "tokens": list(completion.tokens),
        "token_logprobs": [_told(logprob) for logprob in completion.logprobs],
        "top_logprobs": others or None,
        "text_offset": offsets[: len(completion.tokens)],
    }


def account_of(account: SotAccount) -> JSON:
    """How an answer of several calls came about, and what it took."""
    reason = account.notes[-1] if account.route == "plain" and account.notes else ""
    points = [
        {
            "number": point.number,
            "heading": point.heading,
            "state": point.state,
            "reason": point.reason,
            "calls": point.calls,
        }
        for point in account.points
    ]
    return {
        "route": account.route,
        "reason": reason,
        "points": points,
        "calls": [asdict(call) for call in account.calls],
        "wasted": account.wasted,
        "plain": account.plain,
        "more": account.more,
        "exact": account.exact,
        "notes": list(account.notes),
    }


def refused_points(reason: str) -> JSON:
    """The account of an answer that is plain before any plan was asked."""
    return {
        "route": "plain",
        "reason": reason,
        "points": [],
        "calls": [],
        "wasted": 0,
        "notes": [reason],
    }


def _token(text: str, logprob: float) -> JSON:
    return {
        "token": text,
        "logprob": _told(logprob),
        "bytes": list(text.encode(errors="replace")),
    }


def _told(logprob: float) -> float:
    return logprob if logprob > LEAST else LEAST
