"""One answer to several prompts: in each step they agree on the next token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import fsum

from tersely.backends.decode import Answer, choose, ends_of
from tersely.backends.places import together
from tersely.backends.prefix import can_share, shared_length
from tersely.backends.rows import Rows
from tersely.contracts import Completion, Request
from tersely.errors import ConfigError
from tersely.weights import CausalLM

ROUNDING = 1e-6
"""How far from 1 the sum of weights may lie."""


class Mixture:
    """An answer whose every token is drawn from the mean of what the prompts make likely.

    The mean is one of probabilities, by the weights: log p = logsumexp(log w + log p of each
    prompt). What all prompts begin with is read once. A repetition penalty is on what any prompt
    has, and on the mean log-probabilities. REPLUG's ensemble: Shi et al. 2023,
    https://arxiv.org/abs/2301.12652
    """

    def __init__(self, lm: CausalLM, answers: Sequence[Answer], weights: Sequence[float]) -> None:
        self.lm = lm
        self.answer = answers[0]
        self.answer.seen.update(*(answer.prompt for answer in answers))
        self.prompts = [answer.prompt for answer in answers]
        self.weights = weights
        self.given = together(answer.soft for answer in answers)
        self.read = 0

    def steps(self) -> Iterator[None]:
        """Make the answer; control comes back after every token, to go on or to stop."""
        import torch

        several = len(self.prompts) > 1 and can_share(self.lm)
        shared = shared_length(self.prompts) if several else 0
        rows = Rows(self.lm, self.prompts, shared, self.given)
        self.read = rows.read
        ends = ends_of(self.lm)
        weights = torch.tensor(self.weights, device=self.lm.device).log().unsqueeze(1)
        while self.answer.finish is None:
            with torch.inference_mode():
                each = rows.scores().log_softmax(dim=-1)
                mean = torch.logsumexp(each + weights, dim=0, keepdim=True)
                chosen, (logprob,), (likeliest,) = choose(mean, [self.answer])
                token = int(chosen)
                self.answer.take(token, logprob, token in ends, likeliest)
                rows.add(chosen.expand(len(self.prompts)))
            yield

    def completion(self, model: str) -> Completion:
        """The answer; its prompt tokens are those that were read, shared ones once."""
        return replace(self.answer.completion(model), prompt_tokens=self.read)


def check_weights(requests: Sequence[Request], weights: Sequence[float]) -> None:
    """Raise ConfigError unless each request has a weight and all add up to 1."""
    if not requests or len(requests) != len(weights):
        raise ConfigError(
            f"a mix takes requests and as many weights, was given {len(requests)} and"
            f" {len(weights)}"
        )
    if not all(weight > 0 for weight in weights) or abs(fsum(weights) - 1) > ROUNDING:
        raise ConfigError(f"the weights of a mix must be above 0 and add up to 1, were {weights}")
