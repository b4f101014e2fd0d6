"""The same conversations, summed up by a small model: alone, and beside what is carried anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.harness import Row, options, save, show
from benchmarks.history_items import (
    COUNT,
    Item,
    Message,
    agents,
    asked,
    chats,
    gone,
    row_of,
    said,
    scored,
    sizes_of,
    summary_of,
    text_of,
)
from tersely.contracts import Backend, Context, Request
from tersely.middleware.compaction import Compaction
from tersely.middleware.drive import drive
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt, Segment
from tersely.registry import backend, plan

FEW = 6
"""Conversations of each source: minutes each."""

LONGEST = 2200
"""Tokens of old turns that SmolLM2 is given at most."""

Writer = Callable[[Item, Sequence[Message], int, Backend], str]


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table and write `history_models.json`."""
    given = options(__doc__ or "", argv)
    if given.data is None:
        print("history_models: needs --data, a folder with chat/ and agents/")
        return
    items = [*agents(given.data), *chats(given.data)]
    table = measured(items, 1 if given.quick else FEW)
    show("Beside summaries that SmolLM2 writes", table)
    save("history_models", given, {"table": table})


def measured(items: Sequence[Item], few: int) -> list[Row]:
    """A few conversations of each source, summed up in each way by SmolLM2."""
    ours = backend("local", model="smollm2")
    rows: list[Row] = []
    for source in dict.fromkeys(one.source for one in items):
        chosen = [one for one in items if one.source == source]
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("history", *WRITERS)}
        for item in chosen[:: max(len(chosen) // few, 1)]:
            if len(found["history"]) < few:
                _one(item, ours, found)
        rows += (row_of(source, 1.0, name, some) for name, some in found.items() if some)
    return rows


def _one(item: Item, ours: Backend, found: dict[str, list[dict[str, Any]]]) -> None:
    """Sum one conversation up in each way, in as many tokens as compaction took."""
    made = written(item, ours)
    old = gone(item, made)
    whole = "\n".join(map(said, old))
    if not old or COUNT(whole) > LONGEST:
        return
    needs = asked(item, old)
    summary = summary_of(made)
    room = COUNT(summary["content"]) if summary else 0
    stays = text_of([one for one in made if one is not summary])
    found["history"].append(scored(needs, text_of(made), sizes_of(item, made, old, 0.0)))
    for name, writer in WRITERS.items():
        text = stays + "\n" + writer(item, old, room, ours)
        found[name].append(scored(needs, text, sizes_of(item, made, old, 0.0)))


def written(item: Item, ours: Backend) -> list[Message]:
    """The request compacted, with the rest of the old turns summed up by the model."""
    size = Pipeline().run(item.request, model="gpt-4o").report.before
    terms = Compaction(limit=size - 1, keep=item.keep, least=0, to=1.0)
    line = Pipeline(history=terms, backend=ours)
    return list(line.run(item.request, model="gpt-4o").output)


def planned(item: Item, old: Sequence[Message], room: int, ours: Backend) -> str:
    """Our summary plan over all of it."""
    whole = "\n".join(f"{one['role']}: {said(one)}" for one in old)
    request = Request(prompt=Prompt((Segment(text=whole),)))
    context = Context(count=COUNT, backend=ours)
    return drive(plan("summarise", tokens=max(room, 24)).steps(request, context), ours).text


def langchains(item: Item, old: Sequence[Message], room: int, ours: Backend) -> str:
    """LangChain's SummarizationMiddleware over the same messages, with its own prompt."""
    from langchain.agents.middleware import SummarizationMiddleware
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, HumanMessage, convert_to_messages
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Model(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "smollm2"

        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            prompt = Prompt((Segment(text=str(messages[-1].content)),))
            (made,) = ours.complete([Request(prompt=prompt, max_tokens=max(room, 24))])
            return ChatResult(generations=[ChatGeneration(message=AIMessage(made.text))])

    middleware = SummarizationMiddleware(Model(), trigger=("messages", 1), keep=("messages", 1))
    state: Any = {"messages": [*convert_to_messages([{"content": "", **one} for one in old])]}
    state["messages"].append(HumanMessage("And now?"))
    told = middleware.before_model(state, None)  # type: ignore[arg-type]
    return str(told["messages"][1].content) if told else ""


WRITERS: dict[str, Writer] = {
    "summarise (plan)": planned,
    "LangChain's SummarizationMiddleware": langchains,
}
