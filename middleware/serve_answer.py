"""What a server does with a request: it is read, perhaps compressed, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from tersely import registry
from tersely.contracts import Backend, Chunk, Completion, Context
from tersely.errors import BackendError, TerselyError
from tersely.middleware.drive import adrive, astream
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.serve_asked import Asked, asked, model_named
from tersely.middleware.serve_body import Body, ChatBody, Given, TextBody
from tersely.middleware.serve_errors import Refused, unsupported
from tersely.middleware.serve_http import Door, Told, known
from tersely.middleware.serve_reply import Reply, refused_points
from tersely.middleware.serve_shorter import shortened
from tersely.middleware.serve_stream import Events, Fitting, heard, heeded, merged
from tersely.plans import Plan
from tersely.tokens import counter

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

IGNORED = "x-tersely-ignored"
"""The header of a response that names the fields which were let by and changed nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """One backend for all who ask. `name` is its model's outside, `counted` that of its tokens."""

    backend: Backend
    name: str
    counted: str
    max_tokens: int
    pipeline: Pipeline
    keep_alive: float
    since: int = field(default_factory=lambda: int(time()))

    @classmethod
    def of(
        cls, backend: Backend, name: str, max_tokens: int, pipeline: Any, keep_alive: float
    ) -> Service:
        counted = str(getattr(backend, "model", ""))
        return cls(backend, name, counted, max_tokens, pipeline_of(pipeline), keep_alive)

    async def health(self, http: HttpRequest, door: Door) -> Told:
        """That the server lives."""
        return Told({"status": "ok", "model": self.name})

    async def models(self, http: HttpRequest, door: Door) -> Told:
        """The models that there are."""
        return Told({"object": "list", "data": [self._card()]})

    async def model(self, http: HttpRequest, door: Door) -> Told:
        """One model by its name."""
        model_named(Body.model_construct(model=http.path_params["name"]), [self.name])
        return Told(self._card())

    async def chat(self, http: HttpRequest, door: Door) -> Told | Events:
        """Answer messages."""
        return await self._answered(http, door, chat=True)

    async def text(self, http: HttpRequest, door: Door) -> Told | Events:
        """Go on with texts."""
        return await self._answered(http, door, chat=False)

    def _card(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": "model",
            "created": self.since,
            "owned_by": "tersely",
        }

    async def _answered(self, http: HttpRequest, door: Door, *, chat: bool) -> Told | Events:
        given = Given.of(await door.body(http))
        first = given.read(ChatBody if chat else TextBody)
        model_named(first, [self.name])
        asked(given, self.backend, self.max_tokens, chat=chat)  # before any work is done
        given, report = await heeded(http.receive, self._shorter(given, first))
        call = asked(given, self.backend, self.max_tokens, chat=chat)
        reply = Reply(call, self.name, {"tersely": report} if report else {})
        plan = self._plan(reply)
        headers = {IGNORED: ", ".join(call.ignored)} if call.ignored else {}
        if not call.body.stream:
            completions = await heeded(http.receive, self._whole(call, plan))
            return Told(reply.whole(completions), headers=headers)
        events = self._events(reply, plan)
        return Events(events, self.keep_alive, {**headers, "cache-control": "no-cache"}, known)

    async def _shorter(self, given: Given, body: Body) -> tuple[Given, Any]:
        return await asyncio.to_thread(shortened, given, body, self.pipeline, self.counted)

    def _plan(self, reply: Reply) -> Plan | None:
        """The plan that the call is answered by, if any. Raises Refused."""
        call, wishes = reply.asked, reply.asked.body.sot
        if wishes is None or wishes.mode == "off":
            return None
        name, why = call.against_points
        if why and wishes.mode == "force":
            raise unsupported(name, f"{why}: that can't go with sot={wishes.mode!r}")
        if why:
            reply.extra["sot"] = refused_points(why)
            return None
        try:
            return registry.plan("sot", **wishes.settings)
        except TerselyError as error:
            raise Refused(f"sot: {error}", param="sot", code="invalid_value") from error

    def _context(self, call: Asked) -> Context:
        seconds = call.body.sot.deadline if call.body.sot else None
        deadline = None if seconds is None else monotonic() + seconds
        return Context(count=counter(self.counted), deadline=deadline, backend=self.backend)

    async def _whole(self, call: Asked, plan: Plan | None) -> list[Completion]:
        if plan is not None:
            steps = plan.steps(call.requests[0], await asyncio.to_thread(self._context, call))
            return [await adrive(steps, self.backend)]
        if call.bounded:
            return await self.backend.acomplete(call.requests)
        return await Fitting(self.backend).whole(call.requests)

    async def _pieces(
        self, call: Asked, plan: Plan | None
    ) -> AsyncGenerator[tuple[int, Chunk], None]:
        """The pieces of all choices as they come."""
        if plan is not None:
            context = await asyncio.to_thread(self._context, call)
            streams = [astream(plan.steps(call.requests[0], context), self.backend)]
        elif call.bounded:
            streams = [heard(self.backend, request) for request in call.requests]
        else:
            streams = [Fitting(self.backend).pieces(request) for request in call.requests]
        async with aclosing(merged(streams)) as pieces:
            async for piece in pieces:
                yield piece

    async def _events(
        self, reply: Reply, plan: Plan | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """A stream's events, but for its end."""
        done: dict[int, Completion] = {}
        begun: set[int] = set()
        async with aclosing(self._pieces(reply.asked, plan)) as pieces:
            async for index, chunk in pieces:
                opening = None if index in begun else reply.begin(index)
                begun.add(index)
                for made in (opening, reply.piece(index, chunk)):
                    if made is not None:
                        yield made
                if chunk.completion is not None:
                    done[index] = chunk.completion
                    yield reply.end(index, chunk.completion)
        if len(done) < len(reply.asked.requests):
            raise BackendError("the answer broke off before its end", retryable=True)
        if last := reply.last([done[i] for i in sorted(done)]):
            yield last
