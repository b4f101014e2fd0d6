"""Fidelity drawn against tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tersely.errors import ConfigError, require

if TYPE_CHECKING:
    from tersely.fidelity import Figures

FORMATS = (".png", ".svg")


def ready(path: Path) -> None:
    """Raise MissingExtra or ConfigError when nothing can be drawn there."""
    require("matplotlib", extra="plot")
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"a drawing is a {' or '.join(FORMATS)} file, was {str(path)!r}")


def draw(found: Mapping[int, Mapping[str, Figures]], own: Collection[str], path: Path) -> None:
    """Divergence and agreement against tokens, a line for each thing that stands for the text.

    Those in `own` were learned, and are one line. Raises ConfigError when it can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    lines = _lines(found, own)
    _panel(left, lines, "kl", "KL to the full prompt, nats a token")
    _panel(right, lines, "agreement", "greedy agreement with the full prompt")
    left.set_yscale("log")
    left.legend(frameon=False)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}") from error


def _lines(
    found: Mapping[int, Mapping[str, Figures]], own: Collection[str]
) -> dict[str, list[tuple[int, Figures]]]:
    lines: dict[str, list[tuple[int, Figures]]] = {}
    for size, beside in sorted(found.items()):
        for name, one in beside.items():
            lines.setdefault("learned" if name in own else name, []).append((size, one))
    return lines


def _panel(
    panel: Any,
    lines: Mapping[str, list[tuple[int, Figures]]],
    measure: Literal["kl", "agreement"],
    title: str,
) -> None:
    for name, points in lines.items():
        sizes = [size for size, _ in points]
        values = [getattr(one, measure) for _, one in points]
        (line,) = panel.plot(sizes, [one.mean for one in values], marker="o", label=name)
        bounds = ([one.low for one in values], [one.high for one in values])
        panel.vlines(sizes, *bounds, color=line.get_color(), alpha=0.4)
    panel.set_xscale("log", base=2)
    panel.set_xlabel("tokens")
    panel.set_title(title)
