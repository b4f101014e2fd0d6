"""What is summarised: meetings with questions and what people answered, and texts full of facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import read_lines, speeches
from tersely.tokens import counter

STRETCH = 450
"""Words of a text of which a model is to tell."""

SKIPPED = 600
"""Words of a speech or meeting before that: what opens it holds few facts."""


@dataclass(frozen=True, slots=True)
class Item:
    """A meeting, a question about it, and what people answered.

    Settings were chosen on every other meeting; `held_out` are the others.
    """

    meeting: str
    question: str
    answer: str
    held_out: bool
    whole: bool
    """Whether the question is about all of the meeting."""


def items(data: Path, quick: bool) -> list[Item]:
    """All questions about all meetings; of two meetings for a quick look."""
    rows = list(read_lines(data / "summ" / "qmsum_val.jsonl"))
    chosen = list(enumerate(rows))
    return [one for i, row in (chosen[-3:-1] if quick else chosen) for one in _asked(row, i % 2)]


def _asked(row: Mapping[str, Any], held_out: int) -> Iterator[Item]:
    text = meeting(row)
    for name, whole in (("specific_query_list", False), ("general_query_list", True)):
        for one in row[name]:
            yield Item(text, one["query"], one["answer"], bool(held_out), whole)


def meeting(row: Mapping[str, Any]) -> str:
    """What was said, one turn a line."""
    turns = row["meeting_transcripts"]
    return "\n".join(f"{turn['speaker']}: {turn['content'].strip()}" for turn in turns)


def few(chosen: list[Item], count: int) -> list[int]:
    """Questions about the shortest meetings that are held out, for what takes long."""
    count_tokens = counter("gpt-4o")
    sizes = {text: count_tokens(text) for text in {one.meeting for one in chosen if one.held_out}}
    order = sorted(
        (i for i, one in enumerate(chosen) if one.held_out),
        key=lambda i: (sizes[chosen[i].meeting], i),
    )
    return order[:count]


@dataclass(frozen=True, slots=True)
class Source:
    """A text to be summarised, of a set, and what it is asked about ("": all of it)."""

    set: str
    text: str
    question: str = ""


def sources(data: Path, count: int) -> list[Source]:
    """So many stretches of each: meetings, speeches, talks with agents, and chats."""
    found: list[Source] = []
    for read in (_meetings, _speeches, _agents, _chats):
        texts = list(read(data))
        step = max(len(texts) // count, 1)
        found += texts[::step][:count]
    return found


def _meetings(data: Path) -> Iterator[Source]:
    for row in read_lines(data / "summ" / "qmsum_val.jsonl"):
        asked = row["specific_query_list"][0]["query"]
        yield Source("meetings", stretch(meeting(row), SKIPPED), asked)


def _speeches(data: Path) -> Iterator[Source]:
    for text in speeches(data):
        yield Source("speeches", stretch(text, SKIPPED))


def _agents(data: Path) -> Iterator[Source]:
    rows = json.loads((data / "agents" / "tau-bench-airline-dev.json").read_text(encoding="utf-8"))
    for row in rows:
        turns = [turn for turn in row["traj"][1:] if turn.get("content")]
        text = "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
        yield Source("agents", stretch(text, 0))


def _chats(data: Path) -> Iterator[Source]:
    for row in read_lines(data / "chat" / "mtbench101-dev.jsonl"):
        turns = [f"user: {one['user']}\nassistant: {one['bot']}" for one in row["history"]]
        text = "\n".join(turns)
        if len(text.split()) >= STRETCH // 3:
            yield Source("chats", stretch(text, 0))


def stretch(text: str, skipped: int) -> str:
    """A part of a text, by words."""
    return " ".join(text.split(" ")[skipped : skipped + STRETCH])
