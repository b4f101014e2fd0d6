"""Put words of a plan's own into a prompt, and the beginning of an answer behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from tersely.errors import ConfigError
from tersely.prompt import Prompt, Segment

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
        turn=next_turn(prompt.segments),
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


def turns_of(segments: Sequence[Segment]) -> set[int]:
    """The numbers of the turns in which something is said."""
    return {one.turn for one in segments}


def next_turn(segments: Sequence[Segment]) -> int:
    """The number of a turn behind all that are there."""
    return max(turns_of(segments), default=-1) + 1
