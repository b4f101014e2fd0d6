"""`tersely.sot`: answers point by point from whatever answers, all points at the same time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tersely.contracts import Backend
from tersely.errors import ConfigError
from tersely.middleware import scope, wrap_langchain, wrap_sdk
from tersely.middleware.pipeline import pipeline_of
from tersely.middleware.points import Gate, Points
from tersely.middleware.scope import Override
from tersely.middleware.wrapping import Wrapping

if TYPE_CHECKING:
    from tersely.account import SotAccount
    from tersely.middleware.asker import Asker

C = TypeVar("C")


class Sot:
    """What `tersely.sot` is: a function, with the account of what it did beside it."""

    @overload
    def __call__(self, client: Backend, mode: Gate = "auto", /, **settings: Any) -> Asker: ...
    @overload
    def __call__(self, client: C, mode: Gate = "auto", /, **settings: Any) -> C: ...
    def __call__(self, client: Any, mode: Gate = "auto", /, **settings: Any) -> Any:
        """Have answers written point by point, all points at the same time, where that suits.

        A client of the openai or anthropic SDK, or a LangChain chat model, comes back as one of
        its own type, as from `wrap(client, sot=...)`, and compresses only if it did before. A
        backend of ours comes back as a LangChain chat model (see `tersely.middleware.asker.Asker`).
        Chat models of both kinds are decorators too: of a function that makes a prompt they make
        one that gives the answer's text.

        With "auto" it is looked at whether the question suits, "force" does it wherever it can be
        done. `settings` are those of the plan (docs/sot.md), and `deadline` in seconds; of a
        backend also `max_tokens` and `temperature`. Raises ConfigError for what can't be asked so.
        """
        own = {name: settings.pop(name) for name in _ASKER if name in settings}
        points = Points.of({"mode": mode, **settings})
        dress = next((way.dress for way in (wrap_sdk, wrap_langchain) if way.fits(client)), None)
        if dress is None and isinstance(client, Backend):
            from tersely.middleware.asker import Asker

            return Asker(backend=client, points=points, **own)
        if dress is None or own:
            why = f"{min(own)} is set by each call" if own else "it is no client, model or backend"
            raise ConfigError(f"sot can't take a {type(client).__qualname__} so: {why}")
        known: Wrapping | None = getattr(client, "_tersely", None)
        before = known or Wrapping(pipeline_of("default"), Override(mode="off"))
        return dress(client, replace(before, settings=replace(before.settings, sot=points)))

    def last_account(self) -> SotAccount | None:
        """What the latest answer took in this thread or task, and what became of its points."""
        return scope.last_account()


_ASKER = ("max_tokens", "temperature")

sot = Sot()
