"""The protocols that the rooms implement, and the values that pass between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from tersely.budget import Budget
from tersely.errors import OutOfTime
from tersely.prompt import Kind, Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt

if TYPE_CHECKING:
    from tersely.account import PointTold

Need = Literal["question", "causal_lm", "classifier", "encoder", "llm", "soft", "syntax"]
"""What a stage can't work without: a question, weights of a kind, a backend (for soft input)."""

Capability = Literal[
    "embeds",
    "kv_prefix",
    "logprobs",
    "alternatives",
    "prefill",
    "mixes",
    "grammar",
    "repetition_penalty",
    "models",
    "prefix_sharing",
    "stream",
    "parallel",
]
"""What a backend can do beyond answering.

`alternatives`: it tells the likeliest tokens at each place. `prefill`: a last turn of the
assistant is gone on with. `mixes`: it answers several prompts with one answer (see `Mixing`).
`grammar` and `repetition_penalty`: it keeps to those of a request. `embeds` and `kv_prefix`: it
reads soft input (see `tersely.soft`). `models`: it has several, and a request may name the one that
is to answer.
"""


@runtime_checkable
class TokenCounter(Protocol):
    """Counts as the model that is paid counts.

    `exact` is False for an estimate, and `name` says what counted. `framing` is what the
    chat format adds for each message.
    """

    @property
    def name(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    @property
    def framing(self) -> int: ...
    def __call__(self, text: str, /) -> int: ...
    def many(self, texts: Sequence[str], /) -> list[int]:
        """Count each text by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a stage may know besides the prompt.

    `limit` is the number of tokens that the whole prompt may have when the stage is done
    (None: not bounded). `only` are the kinds that this run is about (empty: all that the
    stage takes). `deadline` is a moment of `time.monotonic`. Counts of texts that were
    seen before are remembered for as long as the context lives. A plan that writes several points
    at the same time tells them all to `watch` whenever more has come of one. `soft` tells that the
    prompt goes to the backend as it is, so that soft input can stand in it.
    """

    count: TokenCounter
    budget: Budget = field(default_factory=Budget)
    limit: int | None = None
    only: tuple[Kind, ...] = ()
    deadline: float | None = None
    seed: int = 0
    backend: Backend | None = None
    watch: Callable[[Sequence[PointTold]], None] | None = None
    soft: bool = False
    _counts: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _said: list[str] = field(default_factory=list, repr=False, compare=False)

    def tokens(self, prompt: Prompt) -> int:
        """The tokens of the whole prompt: every leaf, the tools and the chat format."""
        leaves = [*prompt.leaves]
        texts = [text for leaf in leaves for text in leaf.read]
        counted = sum(self.tokens_of([*texts, prompt.tools])) + sum(leaf.soft for leaf in leaves)
        return counted + self.count.framing * prompt.turns

    def tokens_of(self, texts: Sequence[str]) -> list[int]:
        """Count each text by itself, each different one once."""
        new = list({text for text in texts if text and text not in self._counts})
        if new:
            self._counts.update(zip(new, self.count.many(new), strict=True))
        return [self._counts[text] if text else 0 for text in texts]

    def sizes(self, segments: Sequence[Segment]) -> list[int]:
        """The tokens of each segment by itself, or of what stands in its place."""
        counted = self.tokens_of(["" if one.soft else one.text for one in segments])
        return [len(one.soft or ()) or size for one, size in zip(segments, counted, strict=True)]

    def say(self, note: str) -> None:
        """Tell something about the whole prompt: it becomes a note of the report, once."""
        if note not in self._said:
            self._said.append(note)

    @property
    def said(self) -> tuple[str, ...]:
        """What stages told so far."""
        return tuple(self._said)

    def within(self, limit: int | None) -> Context:
        """The same context under another limit; counts stay shared."""
        return replace(self, limit=limit)

    @property
    def left(self) -> float | None:
        """The seconds until the deadline, below 0 when it has passed; None without one."""
        return None if self.deadline is None else self.deadline - monotonic()

    def check(self, ahead: float = 0.0) -> None:
        """Raise OutOfTime when the time budget is spent, or would be in `ahead` seconds.

        Stages that take long call it before each piece of work.
        """
        left = self.left
        if left is None:
            return
        if left < 0:
            raise OutOfTime(f"the time budget of {self.budget.ms:g} ms is spent")
        if left < ahead:
            raise OutOfTime(f"it would take {ahead:.1f} s more, and {left:.1f} s are left")


@runtime_checkable
class Stage(Protocol):
    """A pure function from prompt to prompt.

    It changes the text of open segments and nothing else: none is added, dropped or moved, and text
    moves only within its segment and only when a setting asks for it. Where `Context.soft` allows
    it, soft input may come to stand for one (`Segment.softened`). One left alone may tell why
    (`Segment.reason`). A stage that knows where its text came from tells it (the `origins` of
    `Prompt.with_texts`); else that is found by comparing. `kinds` are the kinds it may touch
    (others are locked before it sees them) and `needs` what it can't work without.
    """

    @property
    def kinds(self) -> tuple[Kind, ...]: ...
    @property
    def needs(self) -> frozenset[Need]: ...
    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt: ...


class StageModel(BaseModel):
    """Base of our stages: a frozen value whose fields are its settings.

    The repr, the cache key and the row in a results table all follow from the fields. A
    subclass gives `name` (as in the registry), `needs`, `paper` (where the method is from) and
    `__call__`. Weights are loaded on first use, never here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = ""

    kinds: tuple[Kind, ...] = ("context", "tool_output", "example", "log")

    def takes(self, segment: Segment) -> bool:
        """Whether it may change this one; what no stage takes is locked, and has no budget."""
        return segment.kind in self.kinds

    def ready(self) -> None:
        """Raise MissingExtra, UnknownName or ModelError when the stage can't work here.

        Called when a pipeline is built, so that a missing model is no surprise in mid-call.
        """

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question to a backend.

    `logprobs` asks for every token made and its log-probability (capability `logprobs`), and
    `alternatives` for that many of the likeliest tokens at each place (capability `alternatives`).
    `raw` sends the text as it is, without the model's chat template.

    `grammar` is one in GBNF that the whole answer must follow (capability `grammar`), and
    `repetition_penalty` divides what makes a token likely that the prompt or the answer has already
    (capability of that name; Keskar et al. 2019, https://arxiv.org/abs/1909.05858). `model` names
    one of several (capability `models`; empty: the backend's own choice). A backend without the
    capability refuses: ask it first.

    `kv_prefix` stands in front of everything, chat template included (capability of that name);
    vectors, and a prefix that stands for the beginning of the prompt, are on its segments of kind
    `soft`. Their tokens count as the prompt's; a repetition penalty does not know them.
    """

    prompt: Prompt
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool = False
    alternatives: int = 0
    raw: bool = False
    grammar: str = ""
    repetition_penalty: float = 1.0
    kv_prefix: KVPrefix | None = None
    model: str = ""

    @property
    def vectors(self) -> tuple[SoftPrompt, ...]:
        """The vectors that stand in the prompt, in order (capability `embeds`)."""
        stands = (segment.soft for segment in self.prompt.segments)
        return tuple(one for one in stands if isinstance(one, SoftPrompt))

    @property
    def prefix(self) -> KVPrefix | None:
        """The keys and values that it begins with, wherever they are (capability `kv_prefix`)."""
        stands = (segment.soft for segment in self.prompt.segments)
        return self.kv_prefix or next((one for one in stands if isinstance(one, KVPrefix)), None)


FinishReason = Literal["stop", "length", "cancelled", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A backend's answer.

    `logprobs` are natural logarithms, one for each token made, and `tokens` are their texts, where
    they were asked for: together `text`, but for stop strings cut away. `alternatives` are the
    likeliest tokens at each place, by their texts, with their logarithms. `cached_tokens` are those
    of the prompt that the backend tells it had read before.
    """

    text: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: FinishReason = "stop"
    logprobs: tuple[float, ...] = ()
    tokens: tuple[str, ...] = ()
    alternatives: tuple[Mapping[str, float], ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a streamed answer; the last one carries the whole completion.

    `tokens` and `logprobs` are those that came since the chunk before, where they were asked for.
    """

    text: str
    completion: Completion | None = None
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """Answers requests. Sampling, batching and transport are its own affair."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...
    def complete(self, requests: Sequence[Request], /) -> list[Completion]: ...
    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]: ...
    def stream(self, request: Request, /) -> Iterator[Chunk]: ...
    def astream(self, request: Request, /) -> AsyncIterator[Chunk]: ...


@runtime_checkable
class Mixing(Protocol):
    """A backend that can give several prompts one answer (capability `mixes`).

    Each token is drawn from the mean of what the prompts make likely, by their weights, and is
    then read by all of them.
    """

    def mix(self, requests: Sequence[Request], weights: Sequence[float], /) -> Completion: ...
