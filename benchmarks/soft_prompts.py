"""Three real prompts that never change, with what people ask after them.

The turns that are learned from and those that are measured with come from different conversations
(agent policy) or are different questions (few-shot block, language reference); the questions on the
reference, and the facts, are written by hand (`soft_questions.json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import read_lines

QUESTIONS = Path(__file__).with_name("soft_questions.json")
SHOTS = 8
LEARNED, HELD = 40, 24
"""Turns to learn from, and to measure with, of each prompt."""

SPLIT = 25
"""Conversations about tasks below this number are learned from; the others are held out."""

LENGTHS = range(60, 400)
"""Characters of a turn that says something and is not endless."""

TOPICS = ("raise", "with")
ASKED = "Solve the problem as in these examples, step by step, and end with #### and the number."
FORM = "Question: {question}\nAnswer:"


@dataclass(frozen=True, slots=True)
class Fact:
    """A question that a text answers, and what the answer must say. Case does not matter."""

    question: str
    gold: str

    def given_by(self, answer: str) -> bool:
        return self.gold.casefold() in answer.casefold()


@dataclass(frozen=True, slots=True)
class Fixed:
    """A prompt that stands before many turns, as the system message."""

    name: str
    text: str
    learned: Sequence[str]
    held: Sequence[str]
    facts: Sequence[Fact]
    fact_tokens: int = 32
    """The longest answer in which a fact is looked for."""


def fixed(data: Path) -> list[Fixed]:
    """All three: 1,300 to 1,900 tokens each, as the embedded model counts."""
    written = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    return [_policy(data, written["policy"]), _shots(data), _reference(written["reference"])]


def _policy(data: Path, written: dict[str, Any]) -> Fixed:
    """Rules of an airline's agent (tau-bench), before what its users wrote."""
    folder = data / "agents"
    talks = json.loads((folder / "tau-bench-airline-dev.json").read_text(encoding="utf-8"))
    learned = dict.fromkeys(_said(talk for talk in talks if talk["task_id"] < SPLIT))
    others = dict.fromkeys(_said(talk for talk in talks if talk["task_id"] >= SPLIT))
    held = [turn for turn in others if turn not in learned]
    text = (folder / "tau_bench_airline_policy.md").read_text(encoding="utf-8").strip()
    return Fixed("policy", text, _some(list(learned), LEARNED), _some(held, HELD), _facts(written))


def _shots(data: Path) -> Fixed:
    """Eight solved problems (GSM8K), before others. Its facts are their own results."""
    rows = list(read_lines(data / "reasoning" / "gsm8k-dev.jsonl"))
    first, rest = rows[:SHOTS], [FORM.format_map(row) for row in rows[SHOTS:]]
    shown = [f"{FORM.format_map(row)} {row['answer']}" for row in first]
    results = [
        Fact(FORM.format_map(row), f"####{row['answer'].rpartition('####')[2]}") for row in first
    ]
    text = "\n\n".join((ASKED, *shown))
    return Fixed("shots", text, rest[:LEARNED], rest[-HELD:], results, 120)


def _reference(written: dict[str, Any]) -> Fixed:
    """Two pages of the language reference that Python brings, before questions about them."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name].strip("\n") for name in TOPICS)
    return Fixed("reference", text, written["train"], written["held"], _facts(written))


def _said(talks: Iterator[dict[str, Any]]) -> Iterator[str]:
    """What users wrote, save what only ends a conversation."""
    for talk in talks:
        for message in talk["traj"]:
            said = (message.get("content") or "").strip()
            if message["role"] == "user" and "###" not in said and len(said) in LENGTHS:
                yield said


def _some(turns: Sequence[str], count: int) -> list[str]:
    """So many of them, from all over."""
    step = max(len(turns) // count, 1)
    return list(turns[::step][:count])


def _facts(written: dict[str, Any]) -> list[Fact]:
    return [Fact(question, gold) for question, gold in written["facts"]]
