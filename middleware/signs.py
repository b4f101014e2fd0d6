"""Visible signs for letters that a page or a terminal would swallow or act on."""

from __future__ import annotations

SIGNS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), 0xFFFD),
}
"""Control characters have pictures in Unicode; lone surrogates and the rest are shown as lost."""


def shown(text: str) -> str:
    """A text of the same length in which nothing is invisible or broken."""
    return text.translate(SIGNS)
