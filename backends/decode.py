"""Answers in the making, and how their next tokens are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from tersely.backends.detokenize import BROKEN, Detokenizer, StopStrings
from tersely.backends.lookup import Lookup
from tersely.backends.penalty import penalised
from tersely.backends.places import Places
from tersely.backends.spelling import by_text
from tersely.contracts import Chunk, Completion, FinishReason, Request
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

    from tersely.backends.grammar import Guide

Likeliest = Sequence[tuple[int, float]]
"""Tokens and their log-probabilities."""


@dataclass(slots=True, eq=False)
class Answer:
    """One answer in the making. `name` gives a token's own text, that of special ones too.

    `dropped` says that nobody waits for it any more. `seen` are the tokens that a repetition
    penalty is about, `guide` keeps the answer to its grammar, up to `lookup` tokens are guessed at
    once, and `soft` tells what stands behind the prompt's numbers below 0.
    """

    prompt: Sequence[int]
    request: Request
    text: Detokenizer
    stops: StopStrings
    dice: Random
    name: Callable[[list[int]], str]
    made: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    alternatives: list[dict[str, float]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    finish: FinishReason | None = None
    dropped: bool = False
    seen: set[int] = field(default_factory=set)
    guide: Guide | None = None
    lookup: int = 0
    soft: Places = field(default_factory=Places)
    _text: Lookup | None = None
    _fresh: str = ""
    _told: int = 0

    @classmethod
    def to(cls, request: Request, prompt: Sequence[int], tokenizer: Any) -> Answer:
        text = Detokenizer(partial(tokenizer.decode, skip_special_tokens=True))
        stops, dice = StopStrings(request.stop), Random(request.seed)
        return cls(prompt, request, text, stops, dice, tokenizer.decode, seen={*prompt})

    @property
    def tells(self) -> bool:
        """Whether the answer tells of its tokens."""
        return tells(self.request)

    @property
    def bends(self) -> bool:
        """Whether a wish of the request changes the scores."""
        return self.guide is not None or self.request.repetition_penalty != 1

    @property
    def going(self) -> bool:
        """Whether more tokens are wanted."""
        return self.finish is None and not self.dropped

    @property
    def size(self) -> int:
        """The tokens that its keys and values may come to."""
        return len(self.prompt) + self.request.max_tokens

    @property
    def last_token(self) -> int:
        return self.made[-1]

    def guess(self) -> list[int]:
        """What may come next, by what the prompt or the answer said before.

        Never so much that an answer of one token more would be too long.
        """
        upto = min(self.lookup, self.request.max_tokens - len(self.made) - 1)
        if upto < 1:
            return []
        if self._text is None:
            self._text = Lookup([*self.prompt, *self.made])
        return self._text.guess(upto)

    def take(self, token: int, logprob: float, ends: bool, likeliest: Likeliest = ()) -> None:
        """Add a token; `ends` says that it is the model's own end of text."""
        if not ends:
            if likeliest:
                spelled = ((self._spelled(other), chance) for other, chance in likeliest)
                self.alternatives.append(by_text(spelled))
            piece = self.text.push(token)
            self.made.append(token)
            self.logprobs.append(logprob)
            self.tokens.append(piece)
            self._say(self.stops.push(piece))
            self._note(token)
        if ends or self.stops.met:
            self.finish = "stop"
        elif self.guide and self.guide.finish:
            self.finish = self.guide.finish
        elif len(self.made) >= self.request.max_tokens:
            self.finish = "length"
        if self.finish:
            self._end()

    def take_fresh(self) -> Chunk:
        """What came since the last time that there was text."""
        text, self._fresh = self._fresh, ""
        return self._chunk(text) if text else Chunk(text="")

    def last(self, model: str) -> Chunk:
        """The chunk that ends a stream: what was not told yet, and the whole answer."""
        return self._chunk("", self.completion(model))

    def completion(self, model: str) -> Completion:
        return Completion(
            text="".join(self.said),
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.made),
            finish_reason=self.finish or "cancelled",
            logprobs=tuple(self.logprobs) if self.tells else (),
            tokens=tuple(self.tokens) if self.tells else (),
            alternatives=tuple(self.alternatives),
            model=model,
        )

    def _chunk(self, text: str, completion: Completion | None = None) -> Chunk:
        if not self.tells:
            return Chunk(text=text, completion=completion)
        since, self._told = self._told, len(self.made)
        tokens, logprobs = tuple(self.tokens[since:]), tuple(self.logprobs[since:])
        return Chunk(text=text, completion=completion, tokens=tokens, logprobs=logprobs)

    def _spelled(self, token: int) -> str:
        """The text that a token would add here; that of a special token is its name."""
        if text := self.text.peek(token):
            return text
        name = self.name([token])
        return "" if BROKEN in name else name

    def _end(self) -> None:
        if not self.stops.met:
            rest = self.text.flush()
            if rest:
                self.tokens[-1] += rest
            self._say(self.stops.push(rest))
        self._say(self.stops.flush())

    def _note(self, token: int) -> None:
        """Tell of a token whatever follows this answer."""
        self.seen.add(token)
        if self.guide:
            self.guide.take(token)
        if self._text:
            self._text.add(token)

    def _say(self, text: str) -> None:
        self.said.append(text)
        self._fresh += text


def tells(request: Request) -> bool:
    """Whether a request asks for the tokens of its answer; alternatives bring them along."""
    return request.logprobs or request.alternatives > 0


def choose(
    logits: Tensor, answers: Sequence[Answer]
) -> tuple[Tensor, list[float], list[Likeliest]]:
    """The next token of each row, its log-probability and the likeliest ones, where asked for.

    Logits: rows x vocabulary, float32. A row's choice depends on its own scores and its own
    dice, never on the rows beside it. Log-probabilities are the model's own: temperature, `top_p`,
    a grammar and a repetition penalty do not change them.
    """
    import torch

    chosen = logits.argmax(dim=-1)
    for row, answer in enumerate(answers):
        if answer.request.temperature > 0:
            scores = bent(logits[row], answer)
            chosen[row] = sample(scores, answer.request, answer.dice.random())
        elif answer.bends:
            chosen[row] = bent(logits[row], answer).argmax()
    nothing: list[Likeliest] = [()] * len(answers)
    if not any(answer.tells for answer in answers):
        return chosen, [0.0] * len(answers), nothing
    whole = torch.logsumexp(logits, dim=-1, keepdim=True)
    of_chosen = (logits.gather(1, chosen.unsqueeze(1)) - whole).squeeze(1).tolist()
    most = [min(answer.request.alternatives, logits.shape[1]) for answer in answers]
    if not max(most):
        return chosen, of_chosen, nothing
    values, tokens = logits.topk(max(most), dim=-1)
    pairs = zip(tokens.tolist(), (values - whole).tolist(), most, strict=True)
    return chosen, of_chosen, [[*zip(t[:n], v[:n], strict=True)] for t, v, n in pairs]


def bent(scores: Tensor, answer: Answer) -> Tensor:
    """The scores by which an answer goes on, as its request wishes. Shape: vocabulary."""
    if answer.request.repetition_penalty != 1:
        scores = penalised(scores, answer.seen, answer.request.repetition_penalty)
    return answer.guide.bend(scores) if answer.guide else scores


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
