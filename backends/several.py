"""Several models behind one backend: each request goes to the one that it names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace

from tersely.contracts import Backend, Capability, Chunk, Completion, Request
from tersely.errors import ConfigError, UnknownName


class Several:
    """Lets the model answer that a request names (`Request.model`), else the first of them.

    It can do what all of them can, and `parallel` is what the one that takes the fewest requests
    at once takes (None: none of them tells). They may be on different machines. Raises ConfigError
    without any, and UnknownName for a request that names another.
    """

    def __init__(self, models: Mapping[str, Backend]) -> None:
        if not models or "" in models:
            raise ConfigError(f"several models are told apart by their names, were {[*models]}")
        self.models = dict(models)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What all can do; one answer to several requests would be of one model."""
        can = [one.capabilities for one in self.models.values()]
        return frozenset.intersection(*can).difference({"mixes"}).union({"models"})

    @property
    def parallel(self) -> int | None:
        """How many requests any of them takes at once."""
        told = (
            getattr(one, name, None)
            for one in self.models.values()
            for name in ("parallel", "batch_size")
        )
        return min((most for most in told if isinstance(most, int) and most > 0), default=None)

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests, each model those of its own. Raises what the models raise."""
        made: dict[int, Completion] = {}
        for name, places in self._sorted(requests).items():
            own = [_sent(requests[i]) for i in places]
            made.update(zip(places, self.models[name].complete(own), strict=True))
        return [made[i] for i in range(len(requests))]

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests, the models at the same time. Raises what the models raise."""
        sorted_ = self._sorted(requests)
        found = await asyncio.gather(
            *(
                self.models[name].acomplete([_sent(requests[i]) for i in places])
                for name, places in sorted_.items()
            )
        )
        made: dict[int, Completion] = {}
        for places, answers in zip(sorted_.values(), found, strict=True):
            made.update(zip(places, answers, strict=True))
        return [made[i] for i in range(len(requests))]

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece. Raises what the model raises."""
        return self.models[self._named(request)].stream(_sent(request))

    def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking. Raises what the model raises."""
        return self.models[self._named(request)].astream(_sent(request))

    def _sorted(self, requests: Sequence[Request]) -> dict[str, list[int]]:
        """The places of the requests, by the model that answers them."""
        found: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            found.setdefault(self._named(request), []).append(i)
        return found

    def _named(self, request: Request) -> str:
        name = request.model or next(iter(self.models))
        if name not in self.models:
            raise UnknownName("model", name, self.models)
        return name


def _sent(request: Request) -> Request:
    """A request as its model takes it, who is only one."""
    return replace(request, model="")
