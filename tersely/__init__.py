"""Say the same to a language model in fewer tokens."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Pipeline",
    "Prompt",
    "Report",
    "Segment",
    "batch",
    "compress",
    "last_report",
    "optimize",
    "override",
    "session",
    "sot",
    "stage",
    "wrap",
]

if TYPE_CHECKING:
    from tersely.budget import Budget
    from tersely.middleware.batch import batch
    from tersely.middleware.decorator import optimize
    from tersely.middleware.pipeline import Pipeline, compress
    from tersely.middleware.scope import last_report, override, session
    from tersely.middleware.sot import sot
    from tersely.middleware.wrap import wrap
    from tersely.prompt import Prompt, Segment
    from tersely.registry import stage
    from tersely.report import Report
else:  # hidden from type checkers, which would otherwise believe every name
    _HOME = {
        "Budget": "tersely.budget",
        "Pipeline": "tersely.middleware.pipeline",
        "Prompt": "tersely.prompt",
        "Report": "tersely.report",
        "Segment": "tersely.prompt",
        "batch": "tersely.middleware.batch",
        "compress": "tersely.middleware.pipeline",
        "last_report": "tersely.middleware.scope",
        "optimize": "tersely.middleware.decorator",
        "override": "tersely.middleware.scope",
        "session": "tersely.middleware.scope",
        "sot": "tersely.sot",
        "stage": "tersely.registry",
        "wrap": "tersely.middleware.wrap",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name == "sot":  # the room of that name, which can be called
            return import_module("tersely.sot")
        return getattr(import_module(_HOME[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
