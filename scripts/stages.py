"""Write docs/stages.md from what the registry holds."""

from __future__ import annotations

import inspect
from pathlib import Path

from tersely import registry
from tersely.middleware.catalogue import Entry, catalogue

PAGE = Path(__file__).resolve().parents[1] / "docs" / "stages.md"

HEAD = """\
# Stages

Every stage by its registry name; `tersely stages` lists them with those of other packages. This
page is written by `scripts/stages.py`.
"""


def page() -> str:
    """The page as Markdown."""
    ours = [
        entry for entry in catalogue() if entry.type == "stage" and entry.name in registry.STAGES
    ]
    rows = ["| name | what it does | needs |", "| --- | --- | --- |"]
    rows += [
        f"| [`{entry.name}`](#{entry.name}) | {entry.summary} | {', '.join(entry.needs) or '-'} |"
        for entry in ours
    ]
    return "\n".join([HEAD, *rows, "", *(section(entry) for entry in ours)]).rstrip() + "\n"


def section(entry: Entry) -> str:
    """One stage: its docstring, its settings with their defaults, and its paper."""
    lines = [f"## {entry.name}", "", inspect.getdoc(registry.stage_type(entry.name)) or ""]
    if entry.settings:
        settings = (
            f"`{name}={schema.get('default')!r}`" for name, schema in entry.settings.items()
        )
        lines += ["", f"Settings: {', '.join(settings)}."]
    if entry.paper:
        lines += ["", f"Paper: {entry.paper}"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
