"""What a text is taken for, so that the right parser takes it apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.forms import FORMS, form_of

SAMPLES = {
    "json": '{"a": [1, 2]}',
    "ndjson": '{"id": 1, "on": true}\n{"id": 2, "on": false}\n',
    "diff": "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n",
    "tests": "===== test session starts =====\ncollected 2 items\n\ntests/test_a.py ..  [100%]\n",
    "traceback": 'Traceback (most recent call last):\n  File "x.py", line 3, in f\n    g()\nBoo\n',
    "log": "".join(f"2026-11-23 10:00:{i:02d} INFO job {i} is done\n" for i in range(20)),
    "html": "<!DOCTYPE html>\n<html><body><p>Hello</p></body></html>",
    "search": "".join(f"src/app/m{i}.py:{i + 3}:    return helper(value)\n" for i in range(9)),
    "table": "id,name,city\n" + "".join(f"{i},n{i},c{i}\n" for i in range(9)),
    "markdown": "# Title\n\nSome words.\n\n- one\n- two\n\n## Next\n\nMore words here.\n",
    "code": "import os\n\n\ndef f(x):\n    if x:\n        return os.name\n    return None\n",
    "prose": "It was a dark night.\nThe rain fell in torrents.\nNobody was about, it seemed.\n",
}


def test_every_form_has_its_sample() -> None:
    assert set(SAMPLES) == set(FORMS)


@pytest.mark.parametrize("form", SAMPLES)
def test_a_form_is_known_by_its_looks(form: str) -> None:
    assert form_of(SAMPLES[form]) == form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", "prose"),
        ("{", "prose"),
        ('{"a": 1}\n{"b": \n', "prose"),
        ("tests/test_a.py::test_x PASSED\ntests/test_a.py::test_y FAILED\nx\n", "tests"),
        ("running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n", "tests"),
        ("=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", "tests"),
        ("Exception in thread main\n\tat com.x.Y(Z.java:3)\n\tat com.x.W(Z.java:4)\n", "traceback"),
        ("<div><p>a</p><p>b</p></div><div><p>c</p></div>", "html"),
        ("```python\nx = 1\n```\n", "markdown"),
        ("Collecting a\n  Downloading a-1.0.whl (3 kB)\nCollecting b\nDone.\n", "log"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n", "table"),
    ],
)
def test_other_looks(text: str, form: str) -> None:
    assert form_of(text) == form


@given(st.text(max_size=400))
def test_any_text_has_a_form(text: str) -> None:
    assert form_of(text) in FORMS


@pytest.mark.parametrize(
    "text",
    ["x" * 500_000, "=" * 500_000, "a:" * 200_000, "\n" * 200_000, '{"' * 200_000, "<p" * 200_000],
    ids=range(6),
)
def test_hostile_texts_have_one_too(text: str) -> None:
    assert form_of(text) in FORMS


def test_json_is_read_to_its_end() -> None:
    assert form_of(json.dumps(list(range(9000))) + "x") != "json"
