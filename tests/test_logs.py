"""Logs and the output of tests, folded."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_output import written

from tersely.compressors.log_lines import kinds_of
from tersely.compressors.logs import Logs

MARK = re.compile(r"\[(\d+) lines? left out\]")
ALIKE = re.compile(r"  \[1 of \d+ alike\]$")


shrunk = partial(written, Logs())


def log(many: int = 600) -> list[str]:
    return [
        f"2026-11-23 10:{i // 60:02d}:{i % 60:02d} INFO worker-{i % 7} processed job {i * 7919:06x}"
        for i in range(many)
    ]


def told(made: str) -> list[str]:
    """The lines of the log that are still there."""
    return [ALIKE.sub("", line) for line in made.split("\n") if not MARK.fullmatch(line)]


def test_lines_of_one_kind_are_folded_and_counted() -> None:
    lines = log()
    made = shrunk("\n".join(lines), 0.05)
    kept = told(made)
    gone = sum(int(count) for count in MARK.findall(made))
    assert len(kept) + gone == 600
    assert kept == [line for line in lines if line in kept]
    assert kept[0] == lines[0] and kept[-1] == lines[-1]
    assert made.split("\n")[0].endswith("[1 of 600 alike]")


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_what_is_rare_wrong_or_asked_for_stays(share: float) -> None:
    lines = log()
    lines[100] = "2026-11-23 10:01:40 INFO the maintenance window of tenant acme moves to Friday"
    lines[200] = "2026-11-23 10:03:20 ERROR db-2 refused the connection"
    trace = ["Traceback (most recent call last):", '  File "a.py", line 3, in f', "    g()"]
    lines[300:304] = [*trace, "app.Boom: no such tenant"]
    asked = lines[407].split()[-1]
    handed = lines[512].split()[-1]
    question = f"What became of job {asked}?"
    kept = told(shrunk("\n".join(lines), share, question, f'{{"job": "{handed}"}}'))
    for i in (0, 100, 200, 300, 301, 302, 303, 407, 512, 599):
        assert lines[i] in kept


def test_without_a_budget_only_equal_lines_in_a_row_are_folded() -> None:
    lines = log(20)
    text = "\n".join([*lines[:10], *["2026-11-23 10:00:09 WARN retry"] * 30, *lines[10:]])
    made = shrunk(text, None)
    assert made.split("\n") == [
        *lines[:10],
        "2026-11-23 10:00:09 WARN retry",
        "[the line above 29 more times]",
        *lines[10:],
    ]
    assert shrunk("\n".join(lines), None) == "\n".join(lines)


def test_colours_and_overwritten_bars_go_with_the_rest() -> None:
    lines = log(100)
    lines[40] = "2026-11-23 10:00:40 \x1b[31mERROR\x1b[0m out of disk"
    lines[41] = "".join(f"\r{percent:3d} %" for percent in range(101))
    made = shrunk("\n".join(lines), 0.3)
    assert "10:00:40 ERROR out of disk" in made
    assert "100 %" in made and " 37 %" not in made


def test_the_output_of_an_installation() -> None:
    lines = ["Obtaining file:///repo", "  Checking ... -\b \b\\\b \bdone"]
    for i in range(80):
        lines += [f"Collecting package-{i}", f"  Downloading package-{i}-1.{i}.whl ({i} kB)"]
    lines += ["ERROR: no version of package-90 fits", "Successfully installed 80 packages"]
    made = shrunk("\n".join(lines), 0.2, "Which version of package-33 was taken?")
    assert "  Checking ... done" in made
    assert "  Downloading package-33-1.33.whl (33 kB)" in made
    assert "ERROR: no version of package-90 fits" in made
    assert "left out]" in made


def test_the_same_error_a_thousand_times_is_folded_too() -> None:
    lines = [f"2026-11-23 10:00:{i % 60:02d} ERROR timeout after {i} ms" for i in range(1000)]
    made = shrunk("\n".join(lines), 0.02)
    assert len(told(made)) < 40


@given(
    st.lists(
        st.sampled_from((*log(3), "", "  at f(x:1)", "ERROR x", "a\r\x1b[0m", "Traceback")),
        min_size=14,
        max_size=60,
    ),
    st.sampled_from((0.8, 0.4, 0.1)),
)
def test_lines_that_stay_are_as_they_were(lines: list[str], share: float) -> None:
    text = "\n".join([*lines, *log(9)])
    made = shrunk(text, share)
    if "[the line above" not in made and "\x1b" not in text:
        kept = told(made)
        rest = iter(text.split("\n"))
        assert all(line in rest for line in kept)
        gone = sum(int(count) for count in MARK.findall(made))
        assert len(kept) + gone == text.count("\n") + 1


@pytest.mark.parametrize(
    "text",
    [
        "It was night. It rained.\n" * 40,
        "x = 1\n" * 40,
        "\n".join(log(5)),
        '{"a": 1}\n' * 40,
        "a,b\n" + "1,2\n" * 40,
    ],
    ids=range(5),
)
def test_what_is_no_log_stays(text: str) -> None:
    assert shrunk(text, 0.1) == text


@pytest.mark.parametrize(
    "line",
    ["x" * 300_000, '"' * 300_000, "[" * 300_000, "\r" * 300_000, " " * 300_000],
    ids=range(5),
)
def test_hostile_lines_pass(line: str) -> None:
    text = "\n".join([*log(30), line, *log(30)])
    assert len(shrunk(text, 0.5)) <= len(text)


def test_lines_that_begin_alike_are_of_one_kind() -> None:
    names = ("alpha", "beta", "gamma", "delta", "kappa", "omega", "sigma", "theta", "zeta")
    kinds = kinds_of([f"Collecting {name}" for name in names] + ["Done"])
    assert len(set(kinds)) == 2


RUNS = {
    "pytest": "\n".join(
        [
            "===== test session starts =====",
            *(f"tests/test_m.py::test_case_{w} PASSED" for w in "abcdefghijklmnopqrstuvwxyz" * 4),
            "tests/test_m.py::test_sum FAILED",
            "===== FAILURES =====",
            "_____ test_sum _____",
            "    def test_sum():",
            ">       assert add(1, 2) == 4",
            "E       assert 3 == 4",
            "tests/test_m.py:7: AssertionError",
            "===== 1 failed, 104 passed in 0.31s =====",
        ]
    ),
    "cargo": "\n".join(
        [
            "running 61 tests",
            *(f"test parse::case_{i} ... ok" for i in range(60)),
            "test parse::sum ... FAILED",
            "failures:",
            "---- parse::sum stdout ----",
            "thread 'parse::sum' panicked at src/lib.rs:9:5:",
            "assertion `left == right` failed",
            "test result: FAILED. 60 passed; 1 failed; 0 ignored",
        ]
    ),
    "go": "\n".join(
        [
            *(f"=== RUN   TestCase{i}\n--- PASS: TestCase{i} (0.00s)" for i in range(60)),
            "=== RUN   TestSum",
            "    sum_test.go:9: got 3, want 4",
            "--- FAIL: TestSum (0.00s)",
            "FAIL",
            "exit status 1",
        ]
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_tests_that_passed_are_folded_and_failures_stay_whole(name: str) -> None:
    text = RUNS[name]
    made = shrunk(text, 0.05)
    failing = text.split("\n")[-4:]
    assert all(line in told(made) for line in failing)
    assert len(made) < len(text) / 4
    assert "left out]" in made


def test_real_output_of_unittest(tmp_path: Path) -> None:
    cases = "\n".join(f"    def test_{i}(self): self.assertTrue({i} != 17)" for i in range(40))
    (tmp_path / "test_it.py").write_text(
        f"import unittest\n\nclass Case(unittest.TestCase):\n{cases}\n"
    )
    run = [sys.executable, "-m", "unittest", "-v", "test_it"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    made = shrunk(done.stderr, 0.3)
    for line in ("FAIL: test_17 (test_it.Case.test_17)", "AssertionError: False is not true"):
        assert line in made
    assert "Ran 40 tests" in made
    assert len(told(made)) < 30
