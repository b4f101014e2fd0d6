"""Stages of a few lines, for tests of what happens around stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

from tersely.contracts import Context, Need, StageModel
from tersely.prompt import KINDS, Kind, Prompt, Segment

OPEN_KINDS: tuple[Kind, ...] = ("context", "tool_output", "log")


class Cut(StageModel):
    """Drops words from the end of open texts, the last text first, until the prompt fits."""

    name: ClassVar[str] = "cut"
    kinds: tuple[Kind, ...] = KINDS

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        for i in reversed(prompt.open):
            while context.limit is not None and context.tokens(prompt) > context.limit:
                words = prompt.segments[i].text.split(" ")
                if len(words) == 1:
                    break
                prompt = prompt.with_texts({i: " ".join(words[: max(1, len(words) * 3 // 4)])})
        return prompt


class Halve(StageModel):
    """Keeps every second word of each open text, and what lies in spans."""

    name: ClassVar[str] = "halve"
    kinds: tuple[Kind, ...] = KINDS

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        return prompt.with_texts({i: halved(prompt.segments[i]) for i in prompt.open})


def halved(segment: Segment) -> str:
    parts: list[str] = []
    at = 0
    for start, end in (*segment.spans, (len(segment.text), len(segment.text))):
        parts += " ".join(segment.text[at:start].split(" ")[::2]), segment.text[start:end]
        at = end
    return "".join(parts)


class Rewrite(StageModel):
    """Does to every open text what it is told."""

    name: ClassVar[str] = "rewrite"
    kinds: tuple[Kind, ...] = KINDS
    how: Callable[[str], Any]

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        segments = list(prompt.segments)
        for i in prompt.open:
            segments[i] = replace(segments[i], text=self.how(segments[i].text))
        return replace(prompt, segments=tuple(segments))


class Misuse(StageModel):
    """Gives back something else than it should."""

    name: ClassVar[str] = "misuse"
    kinds: tuple[Kind, ...] = KINDS
    how: Callable[[Prompt], Any]

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        made: Prompt = self.how(prompt)
        return made


class AboutTheQuestion(StageModel):
    """Keeps the words of the question, once each."""

    name: ClassVar[str] = "about_the_question"
    needs: ClassVar[frozenset[Need]] = frozenset({"question"})
    kinds: tuple[Kind, ...] = OPEN_KINDS

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        asked = set(prompt.question.split())
        return prompt.with_texts(
            {
                i: " ".join(w for w in prompt.segments[i].text.split() if w in asked) or "nothing"
                for i in prompt.open
            }
        )


class Dice(StageModel):
    """Keeps words as chance has it, which depends on the question and on all of the prompt."""

    name: ClassVar[str] = "dice"
    kinds: tuple[Kind, ...] = KINDS

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        chance = Random(prompt.question + prompt.text)
        return prompt.with_texts({i: self.some(prompt.segments[i], chance) for i in prompt.open})

    def some(self, segment: Segment, chance: Random) -> str:
        words = segment.text.split(" ")
        return " ".join(word for word in words if chance.random() < 0.5) or words[0]
