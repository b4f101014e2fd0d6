"""Bring along only what a question needs: find it, pack it, and ask with it."""

from typing import TYPE_CHECKING

__all__: list[str] = []

if TYPE_CHECKING:
    pass
else:  # hidden from type checkers, which would otherwise believe every name
    _HOME: dict[str, str] = {}

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
