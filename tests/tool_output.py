"""What a tool gave, as an agent's client sends it, and what a stage writes for it."""

from __future__ import annotations

from tersely.contracts import Context, Stage
from tersely.prompt import Prompt, Segment
from tersely.tokens import counter


def prompt_of(text: str, question: str = "", handed: str = "") -> Prompt:
    """What an agent's client sends after a tool gave this text."""
    call = Segment(
        text=handed or "{}",
        role="assistant",
        kind="history",
        locked=True,
        turn=1,
        path=("messages", 1, "tool_calls", 0, "function", "arguments"),
    )
    result = Segment(text=text, role="tool", kind="json", turn=2, path=("messages", 2, "content"))
    return Prompt((call, result), question=question, turns=3)


def written(
    stage: Stage, text: str, share: float | None, question: str = "", handed: str = ""
) -> str:
    """The text as a stage leaves it under a share of its tokens, and leaves it again."""
    prompt = prompt_of(text, question, handed)
    context = Context(count=counter("gpt-4o"))
    context = context.within(None if share is None else int(context.tokens(prompt) * share))
    made = stage(prompt, context)
    assert stage(made, context) == made
    return made.segments[1].text
