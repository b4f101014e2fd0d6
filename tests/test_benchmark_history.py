"""How the benchmark of compaction tells wishes, ids and facts: by patterns of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.history import drawn, extracted, truncated
from benchmarks.history_items import COUNT, Item, asked, facts_in, gone, shares, summary

OLD = [
    {"role": "user", "content": "I want a seat. My ID is mia_li_3668. Never before 11 AM."},
    {"role": "assistant", "content": "There is HAT069 on May 20, and Maria Lund flies it."},
]
NOW = {"role": "user", "content": "Take HAT069."}
LATER = [
    {"role": "assistant", "content": "So Maria Lund flies HAT069 on May 20. It costs 305 dollars."},
    {"role": "tool", "content": "mia_li_3668"},
]


def test_facts_are_found() -> None:
    text = "It was HAT069 at 12:30 on 2024-05-20 for $1,250.50, by Maria Lund, in src/app.py."
    assert facts_in(text) == {
        "hat069",
        "12:30",
        "2024-05-20",
        "1,250.50",
        "maria lund",
        "src/app.py",
    }


def test_what_has_to_survive_is_what_stands_nowhere_else_and_is_used() -> None:
    item = Item("tau-bench", [*OLD, NOW], LATER)
    needs = asked(item, OLD)
    assert needs.wishes == {"I want a seat.", "Never before 11 AM."}
    assert needs.ids == {"mia_li_3668", "11"}
    assert needs.used == {"maria lund", "may 20", "may", "20"}
    assert shares(needs, "I  want a seat. Mia_li_3668: MAY 20") == {
        "wishes": (1, 2),
        "ids": (1, 2),
        "used": (3, 4),
    }


def test_what_is_gone_and_what_stands_for_it() -> None:
    item = Item("tau-bench", [*OLD, NOW], LATER)
    made = [{"role": "user", "content": "Summary of the conversation so far, ..."}, NOW]
    assert gone(item, made) == OLD
    assert summary(made).startswith("Summary")


def test_other_methods_keep_to_the_same_tokens() -> None:
    text = "\n".join(f"Line {i} tells of a kettle that is blue." for i in range(40))
    for method in (truncated, drawn, extracted):
        assert 0 < COUNT(method(text, 120)) <= 120
    assert truncated(text, 120).endswith("Line 39 tells of a kettle that is blue.")
