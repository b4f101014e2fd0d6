"""What a wrapped client or model was told, and how that holds for one call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tersely.errors import ConfigError
from tersely.middleware import desk, scope
from tersely.middleware.adapters import Adapter
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.scope import Override

ASKED = "tersely"
"""The name under which a caller asks something of one call."""


@dataclass(frozen=True, slots=True)
class Wrapping:
    """A pipeline, and the settings that go before the pipeline's own."""

    pipeline: Pipeline
    settings: Override

    def __deepcopy__(self, memo: object) -> Wrapping:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; conversations that are under way stay with this process."""
        session = self.settings.session
        named = session.name if session else None
        return _unpickled, (dict(self.pipeline), replace(self.settings, session=None), named)

    def wishes(self, asked: Any) -> Override:
        """What holds for one call: what it asks for, then the blocks around it, then ours.

        Raises ConfigError with the value and the mend.
        """
        if asked is not None and not isinstance(asked, Mapping):
            raise ConfigError(f"{ASKED!r} takes a mapping of settings, was {asked!r}")
        return (
            Override.of(asked or {})
            .over(scope.current_override())
            .over(Override(session=scope.current_session()))
            .over(self.settings)
        )

    def run(
        self, request: Any, wishes: Override, *, surface: str | Adapter, model: str = ""
    ) -> Result:
        """Compress one request."""
        return self.pipeline.run(
            request,
            wishes=wishes,
            session=wishes.session,
            surface=surface,
            model=model or None,
        )

    async def arun(
        self, request: Any, wishes: Override, *, surface: str | Adapter, model: str = ""
    ) -> Result:
        """Compress one request beside the event loop: a stage may run a model for seconds."""
        work = partial(self.run, request, wishes, surface=surface, model=model)
        if (wishes.mode or (wishes.pipeline or self.pipeline).mode) == "off":
            return work()
        desk.here()  # the thread's report is for this task
        result = await asyncio.to_thread(work)
        if result.trace:
            scope.remember(result.trace)
        return result


def asked_of(kwargs: dict[str, Any]) -> Any:
    """Take out what the caller asks of us: `tersely=...`, or in `extra_body` as with an SDK."""
    asked = kwargs.pop(ASKED, None)
    extra = kwargs.get("extra_body")
    if isinstance(extra, dict) and ASKED in extra:
        kwargs["extra_body"] = {key: value for key, value in extra.items() if key != ASKED}
        asked = extra[ASKED] if asked is None else asked
    return asked


def _unpickled(pipeline: dict[str, Any], settings: Override, session: str | None) -> Wrapping:
    wishes = Override.of({"session": session}) if session else Override()
    return Wrapping(Pipeline(**pipeline), wishes.over(settings))
