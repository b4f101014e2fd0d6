"""Keep count of what a plan spends, and keep it within its budget."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tersely import plans
from tersely.account import Call
from tersely.contracts import Completion, Context, Request
from tersely.plans import LONGEST_TOKEN, Reply, Step, Until


@dataclass(slots=True)
class Purse:
    """Carries out calls as long as their tokens are there, and notes each of them.

    The bound holds for prompts and answers of all calls together, as far as the backend keeps
    `max_tokens`: each call is asked for no longer an answer than is left. `limit` None bounds
    nothing.
    """

    context: Context
    limit: int | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def left(self) -> int | None:
        """The tokens that are left; None where they are not bounded."""
        if self.limit is None:
            return None
        return max(self.limit - sum(call.tokens for call in self.calls), 0)

    def affordable(self, request: Request) -> Request | None:
        """The request with as long an answer as can be paid; None where not one token can."""
        if self.left is None:
            return request
        room = min(request.max_tokens, self.left - self.context.tokens(request.prompt))
        return replace(request, max_tokens=room) if room > 0 else None

    def listen(
        self, request: Request, purpose: str, *, until: Until | None = None, aloud: bool = False
    ) -> Generator[Step, Reply, Completion | None]:
        """The answer to one request, as far as `until` lets it; None where none can be paid."""
        paid = self.affordable(request)
        if paid is None:
            return None
        longest = LONGEST_TOKEN * paid.max_tokens

        def enough(text: str) -> bool:
            return len(text) > longest or (until is not None and until(text))

        heard = yield from plans.listen(paid, until=enough, aloud=aloud)
        self._note(purpose, self.context.tokens(paid.prompt), heard)
        return heard

    def ask(
        self, requests: Sequence[Request], purpose: str, share: float = 1.0
    ) -> Generator[Step, Reply, list[Completion]]:
        """The answers to as many of the first requests as can be paid, side by side.

        `share` is the part of what is left that they may cost.
        """
        prompts = [self.context.tokens(request.prompt) for request in requests]
        paid = requests
        if self.left is not None:
            sizes = np.add(prompts, [request.max_tokens for request in requests])
            paid = requests[: int((np.cumsum(sizes) <= self.left * share).sum())]
        if not paid:
            return []
        answers = yield from plans.ask(paid)
        for prompt, answer in zip(prompts, answers, strict=False):
            self._note(purpose, prompt, answer)
        return answers

    def mix(
        self, requests: Sequence[Request], weights: Sequence[float], purpose: str
    ) -> Generator[Step, Reply, Completion | None]:
        """One answer to several requests; None where it can't be paid. Every prompt counts."""
        prompts = sum(self.context.tokens(request.prompt) for request in requests)
        paid = list(requests)
        if self.left is not None:
            room = min(requests[0].max_tokens, self.left - prompts)
            if room < 1:
                return None
            paid = [replace(request, max_tokens=room) for request in requests]
        answer = yield from plans.mix(paid, weights)
        self._note(purpose, prompts, answer)
        return answer

    def waste(self, text: str, at: int = -1) -> None:
        """Note that some text of a call, the last one unless told, is thrown away."""
        if not text:
            return
        call = self.calls[at]
        wasted = min(call.wasted + self.context.count(text), call.completion)
        self.calls[at] = replace(call, wasted=wasted)

    def _note(self, purpose: str, prompt: int, answer: Completion) -> None:
        made = answer.completion_tokens or (self.context.count(answer.text) if answer.text else 0)
        self.calls.append(Call(purpose=purpose, prompt=prompt, completion=made))
