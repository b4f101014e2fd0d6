"""Put what was found into a prompt: with the question, behind all that a cache may know."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from tersely.prompt import Prompt, Segment
from tersely.rag.bundle import Bundle

Place = Literal["before", "after"]
"""Where the evidence stands to the user's last turn."""

WHY = "evidence"
"""By what an evidence segment is known: the reason why it is locked, and where its path begins."""


def with_evidence(prompt: Prompt, bundle: Bundle, *, place: Place = "before") -> Prompt:
    """The prompt with the bundle in the user's last turn, in front of what stands there or after.

    System text, tools and history come before it, so that a prompt cache goes on matching them;
    evidence that is there already stays in front of what is added. It becomes a locked segment of
    the kind context, said by the user, and no other segment changes. Where the user has no turn
    it becomes one, the last. An empty bundle changes nothing.
    """
    if not bundle:
        return prompt
    segments = prompt.segments
    turn, own = _last_turn(prompt)
    taken = {segment.path for segment in segments}
    number = next(n for n in range(len(segments) + 1) if (WHY, n) not in taken)
    new = Segment(text=bundle.text, locked=True, turn=turn, path=(WHY, number), reason=WHY)
    at = own[-1] + 1 if own else len(segments)
    if own and place == "before":
        at = next((i for i in own if segments[i].reason != WHY), at)
    turns = prompt.turns if own else prompt.turns + 1
    return replace(prompt, segments=(*segments[:at], new, *segments[at:]), turns=turns)


def _last_turn(prompt: Prompt) -> tuple[int, list[int]]:
    """The number of the user's last turn and the places of its segments; else of a new one."""
    said = [segment.turn for segment in prompt.segments if segment.role == "user"]
    if not said:
        return max((segment.turn for segment in prompt.segments), default=-1) + 1, []
    places = enumerate(prompt.segments)
    return said[-1], [i for i, one in places if one.turn == said[-1] and one.role == "user"]
