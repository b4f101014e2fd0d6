"""The token loop: answers to several prompts at once, one token for each in every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from random import Random
from typing import TYPE_CHECKING, Any

from tersely.backends.detokenize import Detokenizer, StopStrings
from tersely.contracts import Completion, FinishReason, Request
from tersely.weights import CausalLM, caching, empty_cache

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True, eq=False)
class Answer:
    """One answer in the making. `fresh` is the text that came since it was last taken."""

    prompt: Sequence[int]
    request: Request
    text: Detokenizer
    stops: StopStrings
    dice: Random
    made: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    fresh: str = ""
    finish: FinishReason | None = None

    @classmethod
    def to(cls, request: Request, prompt: Sequence[int], tokenizer: Any) -> Answer:
        decode = partial(tokenizer.decode, skip_special_tokens=True)
        stops = StopStrings(request.stop)
        return cls(prompt, request, Detokenizer(decode), stops, Random(request.seed))

    def take(self, token: int, logprob: float, ends: bool) -> None:
        """Add a token; `ends` says that it is the model's own end of text."""
        if not ends:
            self.made.append(token)
            self.logprobs.append(logprob)
            self._say(self.stops.push(self.text.push(token)))
        if ends or self.stops.met:
            self.finish = "stop"
        elif len(self.made) >= self.request.max_tokens:
            self.finish = "length"
        if self.finish:
            self._end()

    def take_fresh(self) -> str:
        """The text that came since the last time."""
        fresh, self.fresh = self.fresh, ""
        return fresh

    def completion(self, model: str) -> Completion:
        return Completion(
            text="".join(self.said),
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.made),
            finish_reason=self.finish or "cancelled",
            logprobs=tuple(self.logprobs) if self.request.logprobs else (),
            model=model,
        )

    def _end(self) -> None:
        if not self.stops.met:
            self._say(self.stops.push(self.text.flush()))
        self._say(self.stops.flush())

    def _say(self, text: str) -> None:
        self.said.append(text)
        self.fresh += text


def decode(lm: CausalLM, answers: Sequence[Answer]) -> Iterator[None]:
    """Make all answers together; control comes back after every token, to go on or to stop."""
    batch = Batch(lm, answers)
    while batch.answers:
        batch.step()
        yield


class Batch:
    """Prompts that are answered together, padded on the left. Finished rows leave."""

    def __init__(self, lm: CausalLM, answers: Sequence[Answer]) -> None:
        import torch

        self.lm = lm
        self.answers = list(answers)
        longest = max(len(answer.prompt) for answer in answers)
        padding = [longest - len(answer.prompt) for answer in answers]
        rows = [[0] * pad + [*answer.prompt] for pad, answer in zip(padding, answers, strict=True)]
        self.tokens = torch.tensor(rows, device=lm.device)
        starts = torch.tensor(padding, device=lm.device).unsqueeze(1)
        self.mask = (torch.arange(longest, device=lm.device) >= starts).long()
        self.cache = empty_cache(lm)
        self.ends = ends_of(lm)
        self._takes_positions = "position_ids" in signature(lm.model.forward).parameters

    def step(self) -> None:
        """Make the next token of every row. Raises what the model raises."""
        import torch

        with torch.inference_mode():
            chosen, logprobs = choose(self._logits(), self.answers)
            tokens = chosen.tolist()
            for answer, token, logprob in zip(self.answers, tokens, logprobs, strict=True):
                answer.take(token, logprob, token in self.ends)
            self.tokens = chosen.unsqueeze(1)
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.answers), 1)], dim=1)
            self._drop_finished()

    def _logits(self) -> Tensor:
        """The scores of the next token. Shape: rows x vocabulary."""
        options: dict[str, Any] = {}
        if self._takes_positions:
            positions = (self.mask.cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -self.tokens.shape[1] :]
        made = self.lm.model(
            input_ids=self.tokens,
            attention_mask=self.mask,
            logits_to_keep=1,
            **caching(self.lm.model, self.cache),
            **options,
        )
        last: Tensor = made.logits[:, -1].float()
        return last

    def _drop_finished(self) -> None:
        import torch

        going = [i for i, answer in enumerate(self.answers) if answer.finish is None]
        if len(going) == len(self.answers):
            return
        self.answers = [self.answers[i] for i in going]
        if going:
            rows = torch.tensor(going, device=self.lm.device)
            self.cache.batch_select_indices(rows)
            self.tokens, self.mask = self.tokens[rows], self.mask[rows]


def choose(logits: Tensor, answers: Sequence[Answer]) -> tuple[Tensor, list[float]]:
    """The next token of each row, and its log-probability where that was asked for.

    Logits: rows x vocabulary, float32. A row's choice depends on its own scores and its own
    dice, never on the rows beside it.
    """
    import torch

    chosen = logits.argmax(dim=-1)
    for row, answer in enumerate(answers):
        if answer.request.temperature > 0:
            chosen[row] = sample(logits[row], answer.request, answer.dice.random())
    if not any(answer.request.logprobs for answer in answers):
        return chosen, [0.0] * len(answers)
    of_chosen = logits.gather(1, chosen.unsqueeze(1)).squeeze(1) - torch.logsumexp(logits, dim=-1)
    return chosen, of_chosen.tolist()


def sample(logits: Tensor, request: Request, roll: float) -> Tensor:
    """A token drawn from the most likely ones that together have `top_p` of the probability.

    Logits: vocabulary. `roll` in [0, 1) decides, so that a draw is the same on every device.
    Nucleus sampling: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751
    """
    import torch

    scaled = (logits - logits.max()) / request.temperature
    probabilities, order = scaled.softmax(dim=-1).sort(descending=True, stable=True)
    upto = probabilities.double().cumsum(dim=-1)
    within = int((upto - probabilities < request.top_p).sum().clamp(min=1))
    drawn = torch.searchsorted(upto[:within], upto[within - 1] * roll, right=True)
    return order[drawn.clamp(max=within - 1)]


def ends_of(lm: CausalLM) -> frozenset[int]:
    """The tokens by which this model ends its answer."""
    named = getattr(lm.model.generation_config, "eos_token_id", None)
    ends = named if isinstance(named, list) else [named]
    return frozenset(end for end in [*ends, lm.tokenizer.eos_token_id] if end is not None)
