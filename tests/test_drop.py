"""Passages that the caller marked as to go: what is removed, what stays, and what is told."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.documents import Document
from little_stages import Cut, Halve
from strategies import long_prose, prose, tagged

from tersely import Pipeline, optimize
from tersely.contracts import Context
from tersely.middleware.adapter_chat import CHAT
from tersely.middleware.adapter_text import TEXT
from tersely.middleware.drop import going, masked
from tersely.middleware.keep import kept
from tersely.tokens import counter

WORDS = "The quick brown fox jumps over the lazy dog and then it sleeps all day . " * 20
PLAIN = Pipeline([])


def solid(text: str) -> str:
    """A text without its white space."""
    return "".join(text.split())


# -- what goes, and what stays --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a <drop>x</drop> b", "a b"),
        ("a <drop>x</drop>, b", "a , b"),
        ("a. <drop>x\n\ny</drop> b", "a. b"),
        ("a.\n\n<drop>x</drop>\n\nb", "a.\n\nb"),
        ("- a\n<drop>- x</drop>\n  - b\n", "- a\n  - b\n"),
        ("a<drop>x</drop>b", "a b"),
        ("1<drop>x</drop>2", "1 2"),
        ("(<drop>x</drop>)", "()"),
        ("<drop>x</drop> b", "b"),
        ("<drop>x</drop><drop>y</drop>b", "b"),
        ("a <drop></drop>b", "a b"),
        ("a <drop>x <drop>y</drop> z</drop> b", "a b"),
        ("<drop>x</drop>", "…"),
        (" <drop>x</drop>\n", "…"),
        # keeping wins
        ("a <drop>x <keep>k</keep> y</drop> b", "a k b"),
        ("<drop><keep>k</keep> x <keep>l</keep></drop>", "k l"),
        ("<drop><keep>k</keep></drop>", "k"),
        ("<drop>x <keep></keep></drop>", "<keep></keep>"),
        ("a <drop>x</drop> <keep>k <drop>y</drop></keep>", "a k <drop>y</drop>"),
        # what is no pair is text
        ("a <drop>x", "a <drop>x"),
        ("a </drop> x <drop>", "a </drop> x <drop>"),
        ("a <drop>b <drop>x</drop>", "a <drop>b"),
        ("a <drop>x</drop> b</drop>", "a b</drop>"),
        ("<keep>a <drop></keep> x</drop>", "<keep>a <drop></keep> x</drop>"),
        ("<drop>a <keep>x</drop> b</keep>", "<drop>a <keep>x</drop> b</keep>"),
        ("a <DROP>x</DROP>", "a <DROP>x</DROP>"),
        ("a < drop>x</drop>", "a < drop>x</drop>"),
    ],
)
def test_what_is_left(text: str, left: str) -> None:
    assert PLAIN.run(text).output == left


PIECES = st.lists(
    st.tuples(
        st.sampled_from(["plain", "drop", "keep", "kept in dropped"]), prose(6).filter(str.strip)
    ),
    max_size=8,
)


def written(kind: str, text: str) -> str:
    match kind:
        case "drop":
            return f"<drop>{text}</drop>"
        case "keep":
            return f"<keep>{text}</keep>"
        case "kept in dropped":
            return f"<drop>{text} <keep>{text}</keep> {text}</drop>"
    return text


@given(PIECES)
def test_all_else_survives_to_the_byte(pieces: list[tuple[str, str]]) -> None:
    text = " ".join(written(*piece) for piece in pieces)
    left = PLAIN.run(text).output
    if not any("drop" in kind for kind, _ in pieces):
        assert left == text
        return
    wanted = [text for kind, text in pieces if kind != "drop"]
    assert solid(left) == (solid("".join(wanted)) or "…")
    at = 0
    for piece in wanted:
        at = left.index(piece.strip(), at) + len(piece.strip())


@given(PIECES, st.sampled_from([0.2, 0.5, 20]))
def test_what_is_kept_survives_any_budget(pieces: list[tuple[str, str]], budget: Any) -> None:
    text = " ".join(written(*piece) for piece in [*pieces, ("plain", WORDS), ("drop", "gone")])
    result = Pipeline("truncate", budget=budget).run(text)
    assert "gone" not in result.output
    assert "drop>" not in result.output
    at = 0
    for kind, piece in pieces:
        if "keep" in written(kind, piece):
            at = result.output.index(piece, at) + len(piece)


@example("<keep><drop></drop></keep>")
@example("<keep><drop></drop>")
@given(tagged() | long_prose().flatmap(lambda text: tagged().map(lambda tags: tags + text)))
def test_tags_of_any_order(text: str) -> None:
    gone = going(text, kept(text))
    assert all(end <= start for (_, end), (start, _) in pairwise(gone))
    assert all(text[start:end].strip() == text[start:end] != "" for start, end in gone)
    assert len(masked(text, kept(text))) == len(text)
    assert going(masked(text, kept(text)), kept(text)) == []
    rest = text
    for start, end in reversed(gone):
        rest = rest[:start] + rest[end:]
    if gone:
        left = PLAIN.run(text).output
        plain = rest.replace("<keep>", "").replace("</keep>", "")
        wanted = solid(plain) if rest.strip() else "…"  # tags alone are not nothing
        assert solid(left).replace("<keep>", "").replace("</keep>", "") == wanted


@pytest.mark.parametrize("text", ["<drop>", "</drop>", "<drop></drop>", "<drop><keep></keep>x"])
def test_a_hundred_thousand_tags(text: str) -> None:
    many = text * 100_000 + "</drop>" * 100_000
    assert len(PLAIN.run(many).output) <= len(many)


# -- where ----------------------------------------------------------------------------------


def said(role: str, text: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


def test_every_text_that_may_change() -> None:
    mark = "a <drop>x</drop> b"
    request = [
        said("system", mark),
        said("user", mark),
        said("assistant", [{"type": "text", "text": mark}]),
        said("user", mark),
    ]
    made = PLAIN.run(request).output
    assert [m["content"] for m in made] == ["a b", "a b", [{"type": "text", "text": "a b"}], "a b"]
    documents = [Document(page_content=mark, metadata={"x": mark})]
    assert PLAIN.run(documents).output == [Document(page_content="a b", metadata={"x": mark})]
    given = {"context": [mark, mark]}
    assert PLAIN.run(given).output == {"context": ["a b", "a b"]}
    assert Pipeline([], floor=1000).run(mark).output == "a b"


def test_a_text_that_may_not_change_keeps_it() -> None:
    mark = "a <drop>x</drop> b"
    cached = {"type": "text", "text": mark, "cache_control": {"type": "ephemeral"}}
    call = {"id": "1", "function": {"name": "f", "arguments": '{"x": "<drop>y</drop>"}'}}
    request = [
        said("user", [cached]),
        said("assistant", "", tool_calls=[call]),
        said("tool", mark, tool_call_id="1"),
    ]
    result = Pipeline(Halve(), budget=1000).run(request)
    assert result.output == request
    assert not [d for d in result.report.decisions if d.stage == "<drop>"]


def test_json_stays_json() -> None:
    inside = '{"a": "x <drop>y</drop> z", "n": 1.10}'
    assert PLAIN.run(inside).output == '{"a": "x z", "n": 1.10}'
    across = '{"a": "x <drop>y", "b": ["</drop> z"]}'
    result = PLAIN.run(across)
    assert result.output == across
    (decision,) = [d for d in result.report.decisions if d.stage == "<drop>"]
    assert (decision.action, decision.before) == ("reverted", decision.after)
    assert "JSON" in decision.reason


def test_what_goes_is_not_the_question() -> None:
    def question(*texts: str) -> str:
        return CHAT.read([said("user", text) for text in texts]).question

    mixed = "How <drop>x</drop>much <drop>a <keep>is</keep> b</drop> it?"
    assert question(mixed).split() == ["How", "much", "is", "it?"]
    assert TEXT.read({"context": "x", "question": mixed}).question == question(mixed)
    assert question("How much?", "<drop>Why?</drop>") == "How much?"
    long = f"<drop>Question: which fox?</drop>\n\n{WORDS}\n\nQuestion: which dog?"
    assert question(long) == "which dog?"
    long = f"Question: which dog?\n\n{WORDS}\n\n<drop>Question: which fox?</drop>"
    assert question(long) == "which dog?"


def test_a_passage_may_reach_from_the_question_into_the_material() -> None:
    long = f"Read this <drop>and that:\n\n{WORDS}</drop>\n\n{WORDS}\n\nQuestion: which dog?"
    read = CHAT.read([said("user", long)])
    assert [s.kind for s in read.segments] == ["question", "context", "question"]
    (made,) = PLAIN.run([said("user", long)]).output
    assert made["content"] == f"Read this\n\n{WORDS}\n\nQuestion: which dog?"


def test_of_a_text_in_parts_one_may_go() -> None:
    long = f"<drop>Read this:</drop>\n\n{WORDS}\n\nQuestion: which dog?"
    result = Pipeline("lexical", budget=0.3).run([said("user", long)])
    assert "Read this" not in result.output[0]["content"]
    assert result.output[0]["content"].strip().startswith("The quick")


def test_an_argument_of_a_prompt_function() -> None:
    @optimize(budget=0.5, context=["notes"])
    def prompt(notes: str) -> str:
        return f"Notes: {notes} <drop>not an argument</drop>"

    made = prompt(f"{WORDS} <drop>the code is 4711</drop> <keep>and a dog</keep>")
    assert "4711" not in made
    assert made.endswith("and a dog <drop>not an argument</drop>")


# -- what is told ---------------------------------------------------------------------------


def test_the_report_tells() -> None:
    request = {"context": [f"{WORDS}<drop>{WORDS}</drop> <drop>x</drop>", "y"], "question": "fox?"}
    result = Pipeline(Cut(), budget=0.5, model="gpt-4o").run(request)
    report = result.report
    gone, *rest = report.decisions
    assert (gone.path, gone.stage, gone.action) == ("context[0]", "<drop>", "compressed")
    assert gone.reason == "the caller marked 2 passages as to go"
    assert {d.path for d in rest} == {"context[0]", "context[1]", "question"}
    assert sum(d.before - d.after for d in report.decisions) == report.saved
    context = Context(count=counter("gpt-4o"))
    left = context.tokens_of([WORDS, "y"])
    assert report.limit is not None
    assert report.after <= report.limit <= sum(left) * 0.5 + 5  # half of what was not to go
    assert "context[0]" in result.html()
    assert f"{gone.before:,} → " in result.html()


def test_an_audit_changes_nothing_and_tells() -> None:
    text = f"{WORDS}<drop>x</drop>"
    result = Pipeline("truncate", budget=0.5, mode="audit").run(text)
    assert result.output == text
    assert result.report.decisions[0].stage == "<drop>"
    assert result.report.after < result.report.before * 0.6


def test_where_what_is_left_came_from() -> None:
    text = f"<drop>gone</drop> {WORDS}<drop>gone</drop> and <keep>never lose this</keep> {WORDS}"
    result = Pipeline("truncate", budget=0.5).run(text)
    assert result.provenance
    for origin in result.provenance:
        (a, b), (c, d) = origin.output, origin.source
        assert result.output[a:b] == text[c:d]
    at = result.output.index("never lose this")
    (span,) = result.source_of((), at, at + 15)
    assert text[slice(*span)] == "never lose this"


def test_a_conversation_goes_on_with_what_was_sent() -> None:
    pipeline = Pipeline("truncate", budget=0.5)
    first = [said("user", f"Mind <drop>the gap and</drop> this: {WORDS}")]
    sent = pipeline.run(first).output
    assert "gap" not in sent[0]["content"]
    more = [*first, said("assistant", "Yes."), said("user", "And <drop>x</drop> now?")]
    again = pipeline.run(more).output
    assert again[0] == sent[0]
    assert again[2]["content"] == "And now?"
