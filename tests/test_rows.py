"""Tables and search hits, written shorter and thinned."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_output import written

from tersely.compressors.rows import Rows
from tersely.compressors.search_hits import SearchHits


def table(many: int = 200) -> list[str]:
    rows = [f"{i},order-{5000 + i},{20 + i % 7}.50,shipped" for i in range(many)]
    return ["id,order,price,status", *rows]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_rows_that_matter_stay(share: float) -> None:
    lines = table()
    lines[60] = lines[60].replace("shipped", "lost")
    lines[90] = "89,order-5089,98000.00,shipped"
    made = written(Rows(), "\n".join(lines), share, "Where is order-5140?").split("\n")
    for i in (0, 1, 60, 90, 141, 200):
        assert lines[i] in made
    kept = [line for line in made if not line.startswith("[")]
    gone = sum(int(line[1:].split()[0]) for line in made if line.startswith("["))
    assert len(kept) + gone == len(lines)
    assert kept == [line for line in lines if line in kept]


def test_a_markdown_table_loses_its_padding_only() -> None:
    text = "\n".join(
        [
            "| name      |  price |",
            "|:----------|-------:|",
            *(f"| item {i:<4} | {i:>6} |" for i in range(20)),
        ]
    )
    made = written(Rows(), text, None).split("\n")
    assert made[:3] == ["|name|price|", "|:---|---:|", "|item 0|0|"]
    assert len(made) == 22


@given(st.lists(st.tuples(st.text(max_size=6), st.integers()), min_size=8, max_size=40))
def test_lines_of_a_table_stay_as_they_were(rows: list[tuple[str, int]]) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([("name", "x", "y"), *((*r, 1) for r in rows)])
    text = file.getvalue()
    made = written(Rows(), text, 0.3).split("\n")
    rest = iter(text.split("\n"))
    assert all(line in rest for line in made if "left out]" not in line)


def hits() -> list[str]:
    return [
        *(f"src/app/models.py:{10 + i}:    value_{i} = compute(value_{i + 1})" for i in range(40)),
        *(f"src/app/views.py:{3 + i}:from app import compute" for i in range(20)),
        "src/app/one.py:7:def compute(value):",
    ]


def test_a_file_is_named_once_and_nothing_is_lost() -> None:
    lines = hits()
    made = written(SearchHits(), "\n".join(lines), None).split("\n")
    assert made[0] == "src/app/models.py"
    assert made[1] == "10:    value_0 = compute(value_1)"
    assert made[-1] == lines[-1]
    told, above = [], ""
    for line in made:
        if line.startswith("src/") and ":" not in line:
            above = line
        else:
            told.append(line if line.startswith("src/") else f"{above}:{line}")
    assert told == lines


@pytest.mark.parametrize("share", [0.4, 0.15])
def test_hits_that_say_the_same_go_first(share: float) -> None:
    made = written(SearchHits(), "\n".join(hits()), share, "Where is value_23 set?")
    assert made.count("from app import compute") == 1
    assert "value_23 = compute(value_24)" in made
    assert "src/app/one.py:7:def compute(value):" in made
    assert "lines left out]" in made


def test_context_lines_of_grep_stay_with_their_file() -> None:
    text = "\n".join(
        f"lib/x.c:{i}:int a{i};\nlib/x.c-{i + 1}-int b{i};\n--" for i in range(0, 40, 5)
    )
    made = written(SearchHits(), text, None).split("\n")
    assert made[:5] == ["lib/x.c", "0:int a0;", "1-int b0;", "--", "lib/x.c"]


@pytest.mark.parametrize("line", ["a:" * 100_000, "x" * 300_000, "-1-" * 100_000, "|" * 300_000])
def test_hostile_lines_pass(line: str) -> None:
    for lines in (hits(), table()):
        text = "\n".join([*lines, line, *lines])
        for one in (Rows, SearchHits):
            assert len(written(one(), text, 0.5)) <= len(text)
