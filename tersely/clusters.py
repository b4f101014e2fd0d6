"""Where a text may be cut: between what readers see as characters, never within one."""

from __future__ import annotations

import numpy as np
import regex
from numpy.typing import NDArray

GLUED = regex.compile(
    r"[\p{GCB=EX}\p{GCB=SM}\p{GCB=ZWJ}\p{GCB=V}\p{GCB=T}]"
    r"|(?<=\p{GCB=ZWJ})\p{Extended_Pictographic}"
    r"|(?<=[\p{GCB=PP}\p{GCB=L}])\S"
    r"|\p{Regional_Indicator}\p{Regional_Indicator}"
)
"""Its last character belongs to the one before it (Unicode's grapheme clusters)."""

MAY_GLUE = regex.compile("[^\u0000-\u02ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u3001-\u3029]")
"""What most texts are made of sticks to nothing: a quick look spares the search for clusters."""


def whole(text: str) -> NDArray[np.int64] | None:
    """The places where no character cluster is cut, both ends included; None where any will do."""
    if MAY_GLUE.search(text) is None:
        return None
    glued = [match.end() - 1 for match in GLUED.finditer(text)]
    if not glued:
        return None
    free = np.ones(len(text) + 1, np.bool_)
    free[glued] = False
    free[0] = True
    return np.flatnonzero(free)
