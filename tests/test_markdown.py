"""Markdown and web pages, thinned."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_output import written

from tersely.compressors.html import Html, as_markdown
from tersely.compressors.markdown import Markdown


def manual() -> str:
    parts = ["# Manual", "", "How the kettle is used.", ""]
    for i in range(30):
        parts += [f"## Part {i}", "", f"The knob number {i} turns left and then right again.", ""]
        parts += ["- it is red", "- it is round, and made of good old bakelite", ""]
    parts += ["```sh", "kettle --boil", "", "kettle --off", "```", ""]
    return "\n".join(parts)


@pytest.mark.parametrize("share", [0.7, 0.4, 0.3])
def test_headings_and_what_is_asked_for_stay(share: float) -> None:
    text = manual()
    made = written(Markdown(), text, share, "What of knob number 17?")
    assert [x for x in text.split("\n") if x.startswith("#")] == [
        x for x in made.split("\n") if x.startswith("#")
    ]
    assert "The knob number 17 turns left and then right again." in made
    assert "How the kettle is used." in made
    rest = iter(text.split("\n"))
    assert all(line in rest for line in made.split("\n") if line and "left out]" not in line)


def test_fenced_code_goes_as_a_whole_or_stays_as_a_whole() -> None:
    for share in (0.9, 0.7, 0.5, 0.35):
        made = written(Markdown(), manual(), share)
        assert ("kettle --boil\n\nkettle --off\n```" in made) == ("```" in made)


def test_gaps_say_how_many_lines_they_were() -> None:
    text = manual()
    made = written(Markdown(), text, 0.35)
    gone = sum(int(number) for number in re.findall(r"\[(\d+) lines? left out\]", made))
    said = [line for line in made.split("\n") if line.strip() and "left out]" not in line]
    assert gone + len(said) == sum(1 for line in text.split("\n") if line.strip())


PAGE = """<!DOCTYPE html><html><head><title> The  shop </title><style>p {}</style></head><body>
<script>track()</script><nav><a href="/home">Home</a> <a href="#top">Top</a></nav>
<h1>Our <b>kettles</b></h1><p>They boil.<br>Fast &amp; well.</p>
<ul><li>red</li><li>blue, see <a href="https://x.y/z">here</a></li></ul>
<table><tr><th>size</th><th>price</th></tr><tr><td>1.10 l</td><td>20</td></tr></table>
<pre>kettle --boil
  kettle   --off</pre><p>Use <code>--off</code>.</p></body></html>"""


def test_a_page_is_told_as_markdown() -> None:
    assert as_markdown(PAGE) == (
        "# The shop\n\n[Home](/home) Top\n\n# Our kettles\n\nThey boil.\nFast & well.\n\n"
        "- red\n- blue, see [here](https://x.y/z)\n\nsize | price |\n1.10 l | 20 |\n\n"
        "```\nkettle --boil\n  kettle   --off\n```\n\nUse `--off`."
    )


def test_forms_can_still_be_filled_in() -> None:
    form = (
        '<html><body><form method="post" action="/login">Name '
        '<input name="user" type="text">'
        '<img src="x.png" alt="A key"><button>Go</button></form></body></html>'
    )
    assert as_markdown(form) == (
        "[form: method=post, action=/login] Name [input: name=user, type=text] [img: A key] Go"
    )


def test_markup_goes_before_anything_that_is_said() -> None:
    assert written(Html(), PAGE, None) == PAGE
    assert written(Html(), PAGE, 0.9) == as_markdown(PAGE)


def test_then_paragraphs_go_but_not_what_is_asked_for() -> None:
    said = "".join(f"<p>Kettle number {i} is a fine thing to have.</p>" for i in range(80))
    made = written(Html(), PAGE.replace("<p>Use", said + "<p>Use"), 0.15, "Kettle number 44?")
    assert "Kettle number 44 is a fine thing" in made
    assert "# Our kettles" in made and "left out]" in made


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 3000 + "deep" + "</div>" * 3000,
        "<html>" + "<p" * 50_000,
        "<html><body>" + "<a href='x'>" * 20_000 + "y",
        "<html><script>" + "x" * 100_000,
        "<html>" + " \n" * 100_000,
    ],
    ids=range(5),
)
def test_hostile_pages_pass(page: str) -> None:
    assert len(written(Html(), page, 0.5)) <= len(page)


@given(st.text(alphabet="<>/ab p=\"'&;\n", max_size=200))
def test_any_markup_gives_a_text(page: str) -> None:
    assert isinstance(as_markdown(page), str)
