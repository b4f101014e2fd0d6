"""Plans: asking in several calls. Called, it has a client answer so: `tersely.sot(client)`."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A package that is a function as well: its name is that of what it is for."""

    def __call__(self, client: Any, /, *mode: str, **settings: Any) -> Any:
        """As `tersely.middleware.sot.Sot`, which does it."""
        return _face()(client, *mode, **settings)

    def last_account(self) -> Any:
        """What the latest answer took in this thread or task, and what became of its points."""
        return _face().last_account()


def _face() -> Any:
    return import_module("tersely.middleware.sot").sot  # a room does not know the others


sys.modules[__name__].__class__ = _Room
