"""How near the model with something shorter comes to itself with the full prompt.

What it would say after each held-out turn is its own greedy answer to the full prompt. That answer
is read again after what is shorter, and its next-token distributions are compared at every token
of it, in the precision in which the engine calculates. Facts are asked for one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmarks.harness import MODEL, cut_to
from benchmarks.soft_prompts import Fixed
from benchmarks.soft_speed import Stands, asked
from benchmarks.sot_kept import Found, Kept
from tersely.backends.local import LocalBackend
from tersely.backends.packing import packed
from tersely.backends.places import Places, inputs
from tersely.backends.prefix import shared_length
from tersely.backends.soft_input import places
from tersely.contracts import Completion
from tersely.weights import CausalLM, caching, causal_lm, empty_cache

if TYPE_CHECKING:
    from torch import Tensor

ANSWER = 32
"""Tokens of an answer at which distributions are compared."""

QUICK = 3
"""Turns and facts, to see that it runs."""

TEXT_SIZES = (32, 128)
PRUNED: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {"unit": "sentence"}),
    "selective_context": ("selective_context", {}),
    "llmlingua": ("llmlingua", {}),
    "extractive": ("extractive", {}),
}
"""Shorter texts that need no question: a fixed prompt is pruned before there is one."""

TRUNCATED = "truncated"
TEXTS = (TRUNCATED, *PRUNED)


@dataclass(frozen=True, eq=False)
class Measured:
    """One prompt with its turns, and what the model says to them. Rows are kept in `rows`."""

    fixed: Fixed
    rows: Kept
    quick: bool = False

    @cached_property
    def turns(self) -> Sequence[str]:
        return self.fixed.held[: QUICK if self.quick else None]

    def row(self, method: str, stands: Callable[[], Stands], tokens: int) -> Found:
        """What was measured with something in the place of the prompt, made and measured once."""
        return self.rows.once(
            f"{self.fixed.name} {method} {tokens}", lambda: self._made(method, stands(), tokens)
        )

    def _made(self, method: str, stands: Stands, tokens: int) -> Found:
        found = self._full if stands == self.fixed.text else self._scores(stands)
        turns = [_compared(full, short) for full, short in zip(self._full, found, strict=True)]
        return {
            "prompt": self.fixed.name,
            "method": method,
            "tokens": tokens,
            "kl": [kl for kl, _ in turns],
            "agreement": [same for _, same in turns],
            "positions": sum(map(len, self._answers)),
            "facts": self._facts(stands),
        }

    def _facts(self, stands: Stands) -> list[bool]:
        """Which facts the model gives, asked one by one."""
        facts = self.fixed.facts[: QUICK if self.quick else None]
        questions = [fact.question for fact in facts]
        said = _said(self.fixed, stands, questions, self.fixed.fact_tokens)
        return [fact.given_by(one.text) for fact, one in zip(facts, said, strict=True)]

    @cached_property
    def _answers(self) -> list[list[int]]:
        """The model's answers to the full prompt, the end of each with it where it was reached."""

        def make() -> Found:
            said = _said(self.fixed, self.fixed.text, self.turns, ANSWER)
            return {"said": [(one.text, one.finish_reason == "stop") for one in said]}

        tokenizer = _lm().tokenizer
        told = self.rows.once(f"{self.fixed.name} answers", make)["said"]
        return [
            tokenizer.encode(text, add_special_tokens=False)
            + ([tokenizer.eos_token_id] if ended else [])
            for text, ended in told
        ]

    @cached_property
    def _full(self) -> list[Tensor]:
        return list(self._scores(self.fixed.text))

    def _scores(self, stands: Stands) -> Iterator[Tensor]:
        """Log-probabilities at each answer's tokens. Shape: tokens x vocabulary."""
        lm, backend = _lm(), LocalBackend(model=MODEL)
        requests = [asked(self.fixed, stands, turn, ANSWER) for turn in self.turns]
        prompts = [backend.encode(request) for request in requests]
        yield from scores(lm, prompts, self._answers, places(requests[0], lm, MODEL))


def scores(
    lm: CausalLM, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], given: Places
) -> Iterator[Tensor]:
    """Log-probabilities at the tokens of each answer; what prompts begin with is read once."""
    import torch

    shared = shared_length(prompts)
    known, pieces = given.known(prompts[0])
    cache = empty_cache(lm)
    with torch.inference_mode(), packed(lm):
        for layer, (keys, values) in enumerate(pieces):
            cache.update(keys, values, layer)
        if known < shared:
            read = inputs(lm, [prompts[0][known:shared]], given)
            lm.model(**read, logits_to_keep=1, **caching(lm.model, cache))
        for prompt, answer in zip(prompts, answers, strict=True):
            own = [*prompt, *answer][shared:-1]
            read = inputs(lm, [own], given)
            made = lm.model(**read, logits_to_keep=len(answer), **caching(lm.model, cache))
            yield made.logits[0].float().log_softmax(-1)
            cache.crop(-len(own))


def shortened(fixed: Fixed, method: str, tokens: int) -> str:
    """The prompt's text in so many tokens at most."""
    if method == TRUNCATED:
        return cut_to(tokens, fixed.text, _lm())[0]
    from tersely.middleware.pipeline import compress

    name, settings = PRUNED[method]
    text: str = compress(fixed.text, {name: settings}, budget=tokens, model=MODEL).output
    return text


def tokens_of(text: str) -> int:
    return len(_lm().tokenizer.encode(text, add_special_tokens=False))


def _compared(full: Tensor, short: Tensor) -> tuple[float, float]:
    """The mean divergence in nats a token, and the share of tokens with the same likeliest one."""
    kl = (full.exp() * (full - short)).sum(-1).mean()
    same = (full.argmax(-1) == short.argmax(-1)).float().mean()
    return float(kl), float(same)


def _said(fixed: Fixed, stands: Stands, turns: Sequence[str], tokens: int) -> list[Completion]:
    return LocalBackend(model=MODEL).complete(
        [asked(fixed, stands, turn, tokens) for turn in turns]
    )


def _lm() -> CausalLM:
    return causal_lm(MODEL)
