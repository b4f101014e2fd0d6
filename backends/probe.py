"""What a backend really can do, found out by asking it."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, replace

from tersely.contracts import Backend, Capability, Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError
from tersely.prompt import Prompt, Segment

PROBED: frozenset[Capability] = frozenset({"alternatives", "logprobs", "prefill", "stream"})

HELLO = Request(prompt=Prompt((Segment(text="Say hello.", kind="question"),)), max_tokens=3)

HALF_SAID, REST = "The capital of France is Par", "is"
"""Half a word: only who goes on with it begins with the other half."""

TO_GO_ON = Request(
    prompt=Prompt(
        (
            Segment(text="What is the capital of France?", kind="question"),
            Segment(text=HALF_SAID, role="assistant", turn=1),
        )
    ),
    max_tokens=3,
)

UNABLE = re.compile(r"not (\w+ )?(support|implement|allow|available)|unsupported", re.IGNORECASE)
"""How servers say in an error of their own that they can't do something."""


def probe(backend: Backend) -> frozenset[Capability]:
    """What a backend can do: what it declares, with PROBED replaced by what it was seen to do.

    It is asked three to five tiny requests, each time: keep the outcome. A wish that is refused or
    left out of the answer is not supported. `stream` counts only when it tells of tokens where
    answers do. `prefill` is seen when half a word is gone on with, which a very weak model may
    fail to do. Raises BackendError when a plain request fails, and when one fails for a reason
    that may pass.
    """
    trials = _trials(backend.capabilities)
    try:
        trial = next(trials)
        while True:
            try:
                if trial.streamed:
                    answer: Completion | None = _heard([*backend.stream(trial.request)])
                else:
                    (answer,) = backend.complete([trial.request])
            except (BackendError, ConfigError) as error:
                _check(trial, error)
                answer = None
            trial = trials.send(answer)
    except StopIteration as done:
        return frozenset(done.value)


async def aprobe(backend: Backend) -> frozenset[Capability]:
    """As `probe`, without blocking."""
    trials = _trials(backend.capabilities)
    try:
        trial = next(trials)
        while True:
            try:
                if trial.streamed:
                    chunks = [chunk async for chunk in backend.astream(trial.request)]
                    answer: Completion | None = _heard(chunks)
                else:
                    (answer,) = await backend.acomplete([trial.request])
            except (BackendError, ConfigError) as error:
                _check(trial, error)
                answer = None
            trial = trials.send(answer)
    except StopIteration as done:
        return frozenset(done.value)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A request; when a `needed` one is refused, nothing more can be found out."""

    request: Request
    streamed: bool = False
    needed: bool = False


_Trials = Generator[_Trial, Completion | None, set[Capability]]


def _trials(declared: frozenset[Capability]) -> _Trials:
    """Yields what to ask and is sent the answers, None for a refusal."""
    can: set[Capability] = set(declared - PROBED)
    told = yield _Trial(replace(HELLO, logprobs=True, alternatives=2))
    if told is None:
        yield _Trial(HELLO, needed=True)
        told = yield _Trial(replace(HELLO, logprobs=True))
    if told and told.logprobs and told.tokens:
        can.add("logprobs")
        if any(len(likeliest) > 1 for likeliest in told.alternatives):
            can.add("alternatives")
    tells = "logprobs" in can
    heard = yield _Trial(replace(HELLO, logprobs=tells), streamed=True)
    if heard and (heard.tokens or not tells):
        can.add("stream")
    gone_on = yield _Trial(TO_GO_ON)
    if gone_on and gone_on.text.startswith(REST):
        can.add("prefill")
    return can


def _heard(chunks: list[Chunk]) -> Completion:
    """What a stream told in its pieces."""
    return Completion(
        text="".join(chunk.text for chunk in chunks),
        tokens=tuple(token for chunk in chunks for token in chunk.tokens),
    )


def _check(trial: _Trial, error: BackendError | ConfigError) -> None:
    """Raise the error unless it says that the trial's wish is not supported."""
    passes = isinstance(error, BackendError) and error.retryable
    if trial.needed or (passes and not UNABLE.search(str(error))):
        raise error
