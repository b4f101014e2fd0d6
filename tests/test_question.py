"""What is asked in a long text, and what the caller marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import long_prose, marked, tagged

from tersely.middleware.adapter_chat import CHAT
from tersely.middleware.keep import bare, kept
from tersely.middleware.question import LONG, material

DOC = "The ship sails at night. " * 180


def parts(text: str) -> tuple[str, str, str]:
    found = material(text)
    assert found is not None
    return text[: found.start], text[found.end :], found.question


@pytest.mark.parametrize(
    ("text", "head", "tail", "question"),
    [
        (f"{DOC}\n\nWhen?", "", " \n\nWhen?", "When?"),
        (f"When?\n\n{DOC}\n\n{DOC}", "When?\n\n", " ", "When?"),
        (f"When?\n\n{DOC}\n\nThe end.", "When?\n\n", " \n\nThe end.", "When?"),
        (f"Read.\n\n{DOC}\n\nSum it up.", "Read.\n\n", " \n\nSum it up.", "Sum it up."),
        (f"Sum up:\n\n{DOC}", "Sum up:\n\n", " ", "Sum up:"),
        (f"{DOC}\n\nWhen?\n\nAnswer:", "", " \n\nWhen?\n\nAnswer:", "When?\nAnswer:"),
        (f"{DOC}\nQuestion: when\nAnswer:", "", " \nQuestion: when\nAnswer:", "when\nAnswer:"),
        (f"Question: when\n\n{DOC}", "Question: when\n\n", " ", "when"),
        (f"{DOC}\r\n\r\nWhen?", "", " \r\n\r\nWhen?", "When?"),
    ],
)
def test_the_question_is_found(text: str, head: str, tail: str, question: str) -> None:
    assert parts(text) == (head, tail, question)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "When?",
        DOC,
        f"{DOC}\n\n{DOC}",
        f"{DOC}?",
        " " * 5000,
        "\n" * 5000,
        "When?\n\nNow.\n\n" * 2,
    ],
)
def test_no_question_is_made_up(text: str) -> None:
    assert material(text) is None


def test_what_people_type_is_split_only_at_a_labelled_question() -> None:
    rules = "Never sail at night. " * 70
    assert material(f"{rules}\n\n{rules}\n\nWhen do we sail?") is None
    assert parts(f"{rules}\n\nQuestion: when?")[2] == "when?"


@pytest.mark.parametrize(
    "unit", ["a", "\n", " ", "\n \n", "Question:", "Question:\n", "?\n\n", "\r\n"]
)
def test_a_megabyte_of_one_thing(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    found = material(text)
    assert found is None or 0 <= found.start < found.end <= len(text)
    assert kept("<keep>" * 100_000 + text + "</keep>" * 100_000)[0][0] == 0


@given(long_prose() | marked("OPEN").map(lambda text: text * 40))
def test_the_parts_of_a_text_are_the_text(text: str) -> None:
    prompt = CHAT.read({"messages": [{"role": "user", "content": text}]})
    assert "".join(s.text for s in prompt.segments) == text
    if len(prompt.segments) == 1:
        assert prompt.segments[0].kind == "question"
    assert all(s.text for s in prompt.segments)
    assert len(text) >= LONG or len(prompt.segments) == 1


@pytest.mark.parametrize(
    ("text", "passages", "left"),
    [
        ("<keep>a</keep>", ["<keep>a</keep>"], "a"),
        ("x <keep>a < b</keep> y", ["<keep>a < b</keep>"], "x a < b y"),
        ("<keep>a<keep>b</keep>c</keep>", ["<keep>a<keep>b</keep>c</keep>"], "a<keep>b</keep>c"),
        ("<keep>a <keep>b</keep>", ["<keep>b</keep>"], "<keep>a b"),
        ("a</keep> <keep>b</keep>", ["<keep>b</keep>"], "a</keep> b"),
        ("<keep>a", [], "<keep>a"),
        ("</keep>a<keep>", [], "</keep>a<keep>"),
        ("<keep></keep>", ["<keep></keep>"], ""),
        ("< keep>a</ keep>", [], "< keep>a</ keep>"),
    ],
)
def test_kept_passages(text: str, passages: list[str], left: str) -> None:
    assert [text[start:end] for start, end in kept(text)] == passages
    assert bare(text) == left


@given(tagged())
def test_kept_passages_lie_apart_and_in_order(text: str) -> None:
    at = 0
    for start, end in kept(text):
        assert at <= start < end
        assert text[start:end].count("<keep>") == text[start:end].count("</keep>")
        at = end


@given(st.data())
def test_a_kept_passage_is_never_split(data: st.DataObject) -> None:
    text = data.draw(long_prose().map(lambda made: f"x{made}x") | long_prose())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    inner = text[cuts[0] : cuts[1]]
    whole = f"{text[: cuts[0]]}<keep>{inner}</keep>{text[cuts[1] :]}"
    prompt = CHAT.read({"messages": [{"role": "user", "content": whole}]})
    spans = [s.text[a:b] for s in prompt.segments for a, b in s.spans]
    assert spans == [f"<keep>{inner}</keep>"]


def test_a_kept_passage_may_reach_from_the_question_into_the_material() -> None:
    text = f"Read <keep>this:\n\n{DOC}</keep>{DOC}\n\nWhen?"
    prompt = CHAT.read({"messages": [{"role": "user", "content": text}]})
    assert [s.kind for s in prompt.segments] == ["question"]
    assert len(prompt.segments[0].spans) == 1
