"""Put evidence, and an answer that has begun, into a prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from tersely.errors import ConfigError
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

NAME = re.compile(r"\{(\w+)\}")


def question_of(prompt: Prompt) -> str:
    """What is asked: the prompt's question, else the last text of the user.

    Raises ConfigError when there is none.
    """
    said = [one.text.strip() for one in prompt.segments if one.role == "user"]
    question = prompt.question.strip() or next(filter(None, reversed(said)), "")
    if not question:
        raise ConfigError("the request asks nothing: give Prompt(..., question='...')")
    return question


def without_context(prompt: Prompt) -> Prompt:
    """The prompt without its open segments of the kind `context`, and asking its question.

    Those are what is searched, so that only what is found comes along; locked ones stay.
    """
    left = tuple(one for one in prompt.segments if one.locked or one.kind != "context")
    turns = prompt.turns - len(_turns(prompt.segments) - _turns(left))
    bare = replace(prompt, segments=left, turns=max(turns, 0))
    if any(one.role == "user" and one.text.strip() for one in left):
        return bare
    asked = Segment(text=question_of(prompt), kind="question", turn=_next(left), path=("question",))
    return replace(bare, segments=(*left, asked), turns=bare.turns + 1)


def before(prompt: Prompt, *texts: str) -> Prompt:
    """The prompt with texts ahead of what the user asks, in the same turn."""
    return _put(prompt, texts, _asked(prompt)[0])


def after(prompt: Prompt, *texts: str) -> Prompt:
    """The prompt with texts behind what the user asks, in the same turn.

    All that stood there before is the beginning of the new prompt, byte for byte.
    """
    return _put(prompt, texts, _asked(prompt)[-1] + 1)


def begun(prompt: Prompt, answer: str) -> Prompt:
    """The prompt with the beginning of the answer as the assistant's turn."""
    turn = Segment(
        text=answer,
        role="assistant",
        kind="history",
        locked=True,
        turn=_next(prompt.segments),
        path=("answer",),
    )
    return replace(prompt, segments=(*prompt.segments, turn), turns=prompt.turns + 1)


def filled(template: str, **values: str) -> str:
    """A template with its names in braces replaced; other braces are left alone."""
    return NAME.sub(lambda found: values.get(found[1], found[0]), template)


def _asked(prompt: Prompt) -> list[int]:
    """The places of the segments of the last turn in which the user speaks."""
    last = max(one.turn for one in prompt.segments if one.role == "user")
    told = enumerate(prompt.segments)
    return [i for i, one in told if one.role == "user" and one.turn == last]


def _put(prompt: Prompt, texts: Sequence[str], at: int) -> Prompt:
    turn = prompt.segments[_asked(prompt)[0]].turn
    new = tuple(
        Segment(text=text, kind="instruction", locked=True, turn=turn, path=("plan", at, i))
        for i, text in enumerate(texts)
        if text
    )
    return replace(prompt, segments=(*prompt.segments[:at], *new, *prompt.segments[at:]))


def _turns(segments: Sequence[Segment]) -> set[int]:
    return {one.turn for one in segments}


def _next(segments: Sequence[Segment]) -> int:
    return max(_turns(segments), default=-1) + 1
