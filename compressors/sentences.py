"""How near texts are to a question by their meaning: a dual encoder, each text encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tersely.compressors.memory import Memory, key_of
from tersely.compressors.paced import Pace
from tersely.contracts import Context
from tersely.errors import missing
from tersely.models import at_hand, resolve
from tersely.units import Floats
from tersely.weights import Encoder, Precision, encoder, prompts

Vectors = NDArray[np.float32]

AUTO = "auto"
DEFAULT = "minilm"
"""The encoder that `auto` takes when it is here."""

BATCH = 8192
"""Characters in one call of the model: between two calls the time budget is looked at."""

TOGETHER = 8
"""Texts that are read side by side: a CPU reads many at once more slowly, since they are padded."""

REMEMBERED = 16_000_000
"""Numbers that are kept for the next time: 64 MB, some 40,000 sentences of MiniLM."""

CHARACTERS_A_TOKEN = 4
"""Roughly; a text too long for the model costs no more than what is read of it."""

PRECISION: Precision = "float32"
"""What is remembered was read beside other texts than now. In bfloat16 that moves a cosine by some
thousandths, and the same request could come out in other bytes; in float32 by a ten-millionth."""

MEMORY: Memory[Vectors] = Memory(REMEMBERED)
"""Shared by all recipes: a text that two of them compare is encoded once."""

PACE = Pace()
"""So that work which can't be done in time is not begun."""


def chosen(encoder: str, stage: str, context: Context) -> str:
    """The encoder that a stage takes, and a word in the report when there is none."""
    if encoder != AUTO:
        return encoder
    lacking = missing("sentence_transformers")
    if not lacking and at_hand(DEFAULT):
        return DEFAULT
    mend = "pip install 'tersely[rag]'" if lacking else f"tersely models pull {DEFAULT}"
    context.say(f"{stage}: scored by words alone, for meaning as well: {mend}")
    return ""


def similarity(texts: Sequence[str], question: str, model: str, context: Context) -> Floats:
    """The cosine of each text with the question. Shape: (texts,).

    A model that was trained with a prompt for queries and one for documents gets them. Raises
    OutOfTime between two calls of the model, and what `tersely.weights.encoder` raises.
    """
    if not texts:
        return np.zeros(0)
    asked, told = prompts(encoder(model, precision=PRECISION))
    rows = vectors([asked + question, *(told + text for text in texts)], model, context)
    cosines: Floats = (rows[1:] @ rows[0]).astype(np.float64)
    return cosines


Compared = tuple[Sequence[str], str]
"""Texts, and the question that they are compared with; "" for none."""


def read_for(compared: Sequence[Compared], model: str, context: Context) -> None:
    """Encode all texts and questions together, for what compares them later."""
    asked, told = prompts(encoder(model, precision=PRECISION))
    questions = [asked + question for _, question in compared if question]
    texts = [told + text if question else text for some, question in compared for text in some]
    vectors([*questions, *texts], model, context)


def vectors(texts: Sequence[str], model: str, context: Context) -> Vectors:
    """One vector of length 1 for each text. Shape: (texts, width).

    Each different text is encoded once, together with others of like length, and those that
    were seen lately not at all.
    """
    loaded, folder = encoder(model, precision=PRECISION), str(resolve(model))
    keys = [key_of(folder, text) for text in texts]
    known: dict[bytes, Vectors | None] = {key: MEMORY.get(key) for key in keys}
    new = {key: text for key, text in zip(keys, texts, strict=True) if known[key] is None}
    for batch, rows in _encoded(list(new.items()), loaded, context):
        for (key, _), row in zip(batch, rows, strict=True):
            known[key] = own = row.copy()  # what is remembered must not hold the whole batch
            MEMORY.put(key, own)
    found = [row for key in keys if (row := known[key]) is not None]
    return np.stack(found) if found else np.zeros((0, 1), np.float32)


Named = tuple[bytes, str]
"""A text and what it is known by."""


def _encoded(
    texts: Sequence[Named], loaded: Encoder, context: Context
) -> Iterator[tuple[list[Named], Vectors]]:
    """Batches of texts with their vectors; what was done before time ran out is not lost."""
    longest = CHARACTERS_A_TOKEN * (loaded.model.max_seq_length or BATCH)  # infinite for some
    work = {key: int(min(len(text), longest)) + 1 for key, text in texts}
    size = lambda named: work[named[0]]  # noqa: E731
    for batch in PACE.batches(texts, size, BATCH, reader=loaded, context=context):
        yield batch, loaded.vectors([text for _, text in batch], batch=TOGETHER)
