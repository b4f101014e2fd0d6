"""Bring along only what a question needs: find it, pack it, and ask with it."""

from typing import TYPE_CHECKING

__all__ = ["Bundle", "Evidence", "Fence", "check", "with_evidence"]

if TYPE_CHECKING:
    from tersely.rag.bundle import Bundle
    from tersely.rag.citations import check
    from tersely.rag.evidence import Evidence
    from tersely.rag.fence import Fence
    from tersely.rag.placing import with_evidence
else:  # hidden from type checkers, which would otherwise believe every name
    _HOME = {
        "Bundle": "tersely.rag.bundle",
        "Evidence": "tersely.rag.evidence",
        "Fence": "tersely.rag.fence",
        "check": "tersely.rag.citations",
        "with_evidence": "tersely.rag.placing",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
