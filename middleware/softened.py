"""A backend that is asked with what was learned, wherever a request holds a text that was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace

from tersely import registry
from tersely.contracts import (
    Backend,
    Capability,
    Chunk,
    Completion,
    Context,
    Request,
    Stage,
    StageModel,
)
from tersely.errors import ConfigError
from tersely.middleware.billing import TELLING
from tersely.middleware.engine import Run, prepare
from tersely.middleware.ledger import Ledger
from tersely.prompt import Prompt
from tersely.report import Decision
from tersely.tokens import counter


def unheard(decision: Decision, /) -> None:
    """Tells nobody."""


class Softened:
    """Puts soft input into requests on their way to a backend.

    So whatever asks it, plans of several calls among them, is spared the texts that were learned.
    `stage` is one that lets soft input stand for texts; `tell` hears what became of each text that
    it takes.
    """

    def __init__(
        self, backend: Backend, stage: Stage, tell: Callable[[Decision], None] = unheard
    ) -> None:
        self._backend, self._stage, self._tell = backend, stage, tell
        self.model = str(getattr(backend, "model", ""))
        for name in ("base_url", *TELLING):
            if hasattr(backend, name):
                setattr(self, name, getattr(backend, name))

    @classmethod
    def by(
        cls,
        backend: Backend,
        artefacts: Sequence[str],
        *,
        unfit: bool = False,
        tell: Callable[[Decision], None] = unheard,
    ) -> Softened:
        """With the artefacts of these names or folders.

        Raises UnknownName and ModelError for one that is not there or damaged, and ConfigError for
        a backend that takes no soft input.
        """
        check_takes(backend)
        stage = registry.stage("soft", artefacts=tuple(artefacts), unfit=unfit)
        if isinstance(stage, StageModel):
            stage.ready()
        return cls(backend, stage, tell)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The backend's, but for one answer to several prompts, which takes no prefix."""
        return self._backend.capabilities - {"mixes"}

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests. Raises what the backend raises."""
        return self._backend.complete([self.softened(one) for one in requests])

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking; as `complete`."""
        return await self._backend.acomplete([self.softened(one) for one in requests])

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece; as `complete`."""
        return self._backend.stream(self.softened(request))

    def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking; as `complete`."""
        return self._backend.astream(self.softened(request))

    def softened(self, request: Request) -> Request:
        """The request with what was learned in the place of texts, as it is sent."""
        if request.prefix is not None:
            return request
        context = Context(count=counter(self.model), backend=self._backend, soft=True)
        ledger = Ledger(context)
        run = Run(prepare(_opened(request.prompt), [self._stage], context, 0), context, ledger)
        run.through([self._stage], None)
        for decision in ledger.decisions:
            if decision.stage != "-":
                self._tell(decision)
        stands = {i: one for i, one in enumerate(run.prompt.segments) if one.soft}
        return replace(request, prompt=request.prompt.with_segments(stands))


def check_takes(backend: Backend) -> None:
    """Raise ConfigError for a backend that takes no soft input."""
    if backend.capabilities.isdisjoint(("embeds", "kv_prefix")):
        raise ConfigError(
            f"{type(backend).__name__} takes no soft input: ask a model that runs here"
        )


def _opened(prompt: Prompt) -> Prompt:
    """The prompt with every text open: what was locked on its way here is done with."""
    return replace(prompt, segments=tuple(replace(one, locked=False) for one in prompt.segments))
