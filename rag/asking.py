"""What plans that look things up say to the model, and the prompt without what they search in."""

from __future__ import annotations

from dataclasses import replace

from tersely.asking import next_turn, question_of, turns_of
from tersely.prompt import Prompt, Segment

SOURCES = (
    "Answer with the help of the numbered passages, and cite them like [1]. Leave out of account"
    " those that do not bear on the question."
)
"""What a plan says of the evidence that it brings along."""

SHORT = "Answer with a few words only, no sentence."

GO_ON = (
    "You have already written the beginning of the answer. Continue exactly after its last word,"
    " without repeating it:\n\n{answer}"
)
"""How an answer is gone on with where a backend can't be given its beginning."""


def without_context(prompt: Prompt) -> Prompt:
    """The prompt without its open segments of the kind `context`, and asking its question.

    Those are what is searched, so that only what is found comes along; locked ones stay.
    """
    left = tuple(one for one in prompt.segments if one.locked or one.kind != "context")
    turns = prompt.turns - len(turns_of(prompt.segments) - turns_of(left))
    bare = replace(prompt, segments=left, turns=max(turns, 0))
    if any(one.role == "user" and one.text.strip() for one in left):
        return bare
    asked = Segment(
        text=question_of(prompt), kind="question", turn=next_turn(left), path=("question",)
    )
    return replace(bare, segments=(*left, asked), turns=bare.turns + 1)
