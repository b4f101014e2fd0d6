"""Conversations whose older turns are compacted, and what has to be left of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regex

from benchmarks.harness import Row, mean_interval, read_lines
from tersely.tokens import counter

# What counts as a wish, an id or a fact is told here by patterns of its own: what is measured must
# not be found by the rules that carried it on.

SENTENCES = regex.compile(r"(?<=[.!?])\s+|\n+")
WISH = regex.compile(
    r"(?i)\b(not|never|no|don't|can't|won't|shouldn't|only|must|should|have to|need|want|prefer"
    r"|would like|'d like|please|at least|at most|no more than|less than|before|after|instead"
    r"|unless|without|make sure|remember|from now on|always|avoid|limit|budget)\b"
)
PATTERNS = {
    "id": r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{4,}(?![\w-])",
    "number": r"(?<![\w.,:-])\$?\d[\d,.:]*\d(?![\w-])",
    "date": r"(?<!\w)\d{4}-\d\d-\d\d(?!\w)|\b(?:January|February|March|April|May|June|July|August"
    r"|September|October|November|December) \d{1,2}(?:st|nd|rd|th)?\b",
    "name": r"(?<=[a-z,] )[A-Z][a-z]{2,}\b(?: [A-Z][a-z]{2,}\b)*",
    "path": r"(?<![\w/])(?:https?:/)?/?[\w.-]+(?:/[\w.-]+)+|[\w.+-]+@[\w-]+\.[\w.]+",
}
FACT = {name: regex.compile(pattern) for name, pattern in PATTERNS.items()}

KEEP = {"tau-bench": 3, "MT-Bench-101": 1}
COUNT = counter("gpt-4o")

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """A request in the midst of a conversation, and what was said after it."""

    source: str
    request: list[Message]
    later: list[Message]

    @property
    def keep(self) -> int:
        return KEEP[self.source]


@dataclass(frozen=True, slots=True)
class Asked:
    """What has to be there: of the user's old turns, and of what is used later."""

    wishes: frozenset[str]
    ids: frozenset[str]
    used: frozenset[str]


def chats(data: Path) -> Iterator[Item]:
    """The last request of each dialogue of three turns or more."""
    for row in read_lines(data / "chat" / "mtbench101-dev.jsonl"):
        turns = [
            {"role": role, "content": turn[name]}
            for turn in row["history"]
            for role, name in (("user", "user"), ("assistant", "bot"))
        ]
        if len(row["history"]) >= 3:
            yield Item("MT-Bench-101", turns[:-1], turns[-1:])


def agents(data: Path) -> Iterator[Item]:
    """Requests at the half and at three quarters of each agent's way."""
    rows = json.loads((data / "agents" / "tau-bench-airline-dev.json").read_text())
    for row in rows:
        turns = way(row)
        for share in (0.5, 0.75):
            at = int(len(turns) * share)
            while at < len(turns) and turns[at - 1]["role"] == "assistant":
                at += 1
            if at < len(turns):
                yield Item("tau-bench", turns[:at], turns[at:])


def way(row: Mapping[str, Any]) -> list[Message]:
    """All messages of one agent's way."""
    return [{k: v for k, v in one.items() if v is not None} for one in row["traj"]]


def facts_in(text: str) -> set[str]:
    """Ids, numbers, dates, names and paths of a text, in lower case."""
    found = (match[0] for pattern in FACT.values() for match in pattern.finditer(text))
    return {one.strip(".,:$").casefold() for one in found if len(one.strip(".,:$")) > 1}


def said(message: Message) -> str:
    """Everything that a message says, calls included."""
    calls = message.get("tool_calls") or ()
    told = (f"{c['function']['name']} {c['function']['arguments']}" for c in calls)
    return "\n".join([content(message), *told])


def content(message: Message) -> str:
    return message.get("content") or ""


def asked(item: Item, old: Sequence[Message]) -> Asked:
    """What has to be there of old turns, where nothing that stays says it as well."""
    users = [content(one) for one in old if one["role"] == "user"]
    sentences = (one.strip() for text in users for one in SENTENCES.split(text))
    stays = [one for one in item.request if not any(one is gone for gone in old)]
    there = facts_in("\n".join(map(said, stays)))
    spoken = [said(one) for one in item.later if one["role"] != "tool"]
    used = facts_in("\n".join(spoken)) & facts_in("\n".join(map(said, old)))
    return Asked(
        wishes=frozenset(" ".join(x.split()) for x in sentences if WISH.search(x)),
        ids=frozenset(facts_in("\n".join(users))),
        used=frozenset(used - there),
    )


def shares(item: Asked, text: str) -> dict[str, tuple[int, int]]:
    """How many of each are there, of how many."""
    plain = " ".join(text.split())
    lower = plain.casefold()
    return {
        "wishes": (sum(one in plain for one in item.wishes), len(item.wishes)),
        "ids": (sum(_stands(one, lower) for one in item.ids), len(item.ids)),
        "used": (sum(_stands(one, lower) for one in item.used), len(item.used)),
    }


def _stands(fact: str, text: str) -> bool:
    edge = r"[\p{L}\p{N}]"
    return regex.search(rf"(?<!{edge}){regex.escape(fact)}(?!{edge})", text) is not None


def sizes_of(
    item: Item, made: Sequence[Message], old: Sequence[Message], seconds: float
) -> tuple[float, ...]:
    """Tokens of the request before and after, of the old turns and of what stands for them."""
    before, after = tokens_of(item.request), tokens_of(made)
    return before, after, COUNT(text_of(old)), COUNT(summary(made)), seconds


def scored(needs: Asked, text: str, sizes: tuple[float, ...]) -> dict[str, Any]:
    return {**shares(needs, text), "sizes": sizes}


def row_of(source: str, to: float, name: str, found: Sequence[Mapping[str, Any]]) -> Row:
    row: dict[str, Any] = {"source": source, "to": to, "method": name, "n": len(found)}
    for key in ("wishes", "ids", "used"):
        some = [one[key] for one in found if one[key][1]]
        row[key] = mean_interval([there / there_were for there, there_were in some] or [1.0])
        row[f"{key} kept"] = f"{sum(a for a, _ in some)}/{sum(b for _, b in some)}"
    sizes = np.array([one["sizes"] for one in found])
    row["request"] = float(np.mean(sizes[:, 1] / sizes[:, 0]))
    row["old"] = float(np.mean(sizes[:, 3] / sizes[:, 2]))
    row["ms"] = float(np.median(sizes[:, 4]) * 1000)
    return row


def gone(item: Item, made: Sequence[Message]) -> list[Message]:
    return [one for one in item.request if not any(one is left for left in made)]


def summary_of(made: Sequence[Message]) -> Message | None:
    return next((x for x in made if content(x).startswith("Summary of the conversation")), None)


def summary(made: Sequence[Message]) -> str:
    found = summary_of(made)
    return content(found) if found else ""


def text_of(messages: Sequence[Message]) -> str:
    return "\n".join(map(said, messages))


def tokens_of(messages: Sequence[Message]) -> int:
    return COUNT(text_of(messages)) + COUNT.framing * len(messages)
