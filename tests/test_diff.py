from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from first_words import FirstWords
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tersely.middleware import diff
from tersely.middleware.align import WORD, Piece, align
from tersely.middleware.pairing import paired, within
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.session import FROZEN
from tersely.middleware.signs import shown
from tersely.prompt import Prompt, Segment
from tersely.report import Decision, Report, Trace

HOSTILE = [
    "<script>alert(1)</script>",
    "</del></div><h1>gone",
    "<!--",
    "-->",
    "]]>",
    "<style>*{display:none}</style>",
    "&lt;b&gt; &amp; &#60;",
    '" onmouseover="alert(1)',
    "' style='x",
    "{style} {body}",
    "\x00\x1b[31m\r\n",
    "\ud800",
    "</textarea></title>",
]
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "東京",
    "naïve",
    "e\u0301",
    "12",
    "👩‍👩‍👧",
    ".",
    "\n",
    " ",
]

texts = st.lists(
    st.sampled_from([*WORDS, *HOSTILE]) | st.text(alphabet=st.characters(), max_size=8), max_size=30
).map("".join)


def without(pieces: Sequence[Piece], mark: str) -> str:
    return "".join(piece.text for piece in pieces if piece.mark != mark)


def marked(before: str, after: str) -> str:
    form = {"kept": "{}", "dropped": "[-{}-]", "added": "[+{}+]"}
    return "".join(form[piece.mark].format(piece.text) for piece in align(before, after))


@settings(max_examples=200)
@given(texts, texts)
def test_the_pieces_make_up_both_texts(before: str, after: str) -> None:
    pieces = align(before, after)
    assert without(pieces, "added") == before
    assert without(pieces, "dropped") == after
    assert all(piece.text for piece in pieces)
    assert not any(a.mark == b.mark for a, b in pairwise(pieces))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.booleans()), max_size=120))
def test_words_left_out_are_never_shown_as_added(words: list[tuple[str, bool]]) -> None:
    before = " ".join(word for word, _ in words)
    after = " ".join(word for word, kept in words if kept)
    assume(within(WORD.findall(before), WORD.findall(after)))
    assert "added" not in {piece.mark for piece in align(before, after)}


@settings(max_examples=200)
@given(st.text("abc ", max_size=40), st.data())
def test_a_small_gap_is_paired_with_as_few_runs_as_can_be(old: str, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(old), max_size=len(old)))
    new = "".join(letter for letter, keep in zip(old, kept, strict=True) if keep)
    pairs = paired(old, new)
    assert [j for _, j in pairs] == list(range(len(new)))
    assert all(old[i] == new[j] for i, j in pairs)
    assert runs([i for i, _ in pairs]) == fewest_runs(old, new)


def runs(places: Sequence[int]) -> int:
    return sum(i == 0 or places[i - 1] != at - 1 for i, at in enumerate(places))


def fewest_runs(old: str, new: str) -> int:
    """The same by going through all embeddings, one letter at a time."""
    states = {-2: 0}  # place of the last letter -> runs so far
    for letter in new:
        states = {
            at: min(n + (last != at - 1) for last, n in states.items() if last < at)
            for at, here in enumerate(old)
            if here == letter and any(last < at for last in states)
        }
    return min(states.values())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("the big dog saw the cat ran", "the cat", "[-the big dog saw -]the cat[- ran-]"),
        ("unbelievable things", "unable things", "un[-believ-]able things"),
        ("the cat sat on a mat", "thecat on mat", "the[- -]cat[- sat-] on [-a -]mat"),
        ("a\nb\nc\na\n", "b\na\n", "[-a\n-]b\n[-c\n-]a\n"),
        ("a cat sat", "a dog sat", "a [-cat-][+dog+] sat"),
        ("one two three", "uno dos tres", "[-one two three-][+uno dos tres+]"),
        ("東京は日本の首都です", "東京は首都です", "東京は[-日本の-]首都です"),
        (
            "The cat sat. The dog ran.",
            "A cat sat. Dog ran!",
            "[-The-][+A+] cat sat. [-The dog-][+Dog+] ran[-.-][+!+]",
        ),
        (
            "log 1 of 9\nlog 2 of 9\nend",
            "[+ 2 logs of 9 +]\nend",
            "[-log 1 of 9\nlog 2 of 9\n-][+[+ 2 logs of 9 +]\n+]end",
        ),
        ("same", "same", "same"),
        ("", "new", "[+new+]"),
        ("old", "", "[-old-]"),
    ],
)
def test_what_a_reader_expects(before: str, after: str, expected: str) -> None:
    assert marked(before, after) == expected


@pytest.mark.parametrize(
    "before",
    [
        "a " * 100_000,
        "a" * 200_000,
        " ".join(str(i) for i in range(40_000)),
        '{"a": 1, "b": [1, 2]}, ' * 10_000,
        "".join(random.Random(2).choice("ab \n") for _ in range(200_000)),
    ],
    ids=["repeated words", "one word", "unlike words", "records", "noise"],
)
def test_large_texts_of_every_make(before: str) -> None:
    keep = random.Random(1)
    after = "".join(w for w in re.findall(r"\w+\W*|\W+", before) if keep.random() < 0.5)
    pieces = align(before, after)
    assert without(pieces, "added") == before
    assert without(pieces, "dropped") == after
    assert "added" not in {piece.mark for piece in pieces}


class Page(HTMLParser):
    """Reads a page back: the tags that occur, and each text with its mark."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.leaves: list[list[tuple[str, str]]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        named = dict(attrs).get("class") or ""
        if tag == "div" and named.startswith("text"):
            self.leaves.append([])
        if tag not in {"meta", "input"}:
            self._open.append("tag" if named == "tag" else "text" if "text" in named else tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_data(self, data: str) -> None:
        if "text" in self._open and "tag" not in self._open:
            mark = next((m for m in ("del", "ins") if m in self._open), "kept")
            self.leaves[-1].append((mark, data))

    def text(self, leaf: int, mark: str) -> str:
        return "".join(text for found, text in self.leaves[leaf] if found in {"kept", mark})


def report(**settings: object) -> Report:
    known = {"mode": "optimize", "surface": "text", "counter": "c", "exact": True}
    return Report.model_validate({**known, "before": 100, "after": 40, **settings})


def decision(path: str, **settings: object) -> Decision:
    known = {"role": "user", "kind": "context", "stage": "first_words", "action": "compressed"}
    return Decision.model_validate(
        {**known, "path": path, "reason": "60 tokens fewer", "before": 100, "after": 40, **settings}
    )


def trace(before: str, after: str, **settings: object) -> Trace:
    return Trace(
        Prompt((Segment(text=before),)), Prompt((Segment(text=after),)), report(**settings)
    )


BENIGN = Page(diff.html(trace("before it", "it new", notes=["n"], decisions=[decision("text")])))


@settings(max_examples=100)
@given(texts.filter(bool), texts, st.sampled_from(HOSTILE))
def test_hostile_texts_stay_texts(before: str, after: str, hostile: str) -> None:
    one = trace(
        before,
        after,
        counter=hostile,
        surface=hostile,
        notes=[hostile],
        decisions=[decision("text", reason=hostile, stage=hostile)],
    )
    html = diff.html(one)
    page = Page(html)
    assert set(page.tags) <= set(BENIGN.tags)
    assert page.attributes <= BENIGN.attributes
    assert page.text(0, "del") == shown(before)
    assert page.text(0, "ins") == shown(after)
    html.encode("utf-8")


@given(st.sampled_from(HOSTILE))
def test_a_hostile_path_and_reason_of_a_lock(hostile: str) -> None:
    segment = Segment(text="x", path=("a", hostile), locked=True, reason=hostile, spans=((0, 1),))
    other = replace(segment, path=("b",), locked=False)
    prompt = Prompt((segment, replace(segment, locked=False, reason=""), other))
    page = Page(diff.html(Trace(prompt, prompt, report())))
    assert set(page.tags) <= {*BENIGN.tags, "nav", "a"}
    assert [page.text(i, "del") for i in range(2)] == ["xx", "x"]


@given(st.text(alphabet=st.characters()))
def test_every_letter_is_shown_in_its_place(text: str) -> None:
    signs = shown(text)
    assert len(signs) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", signs)


def test_the_page_needs_nothing_else() -> None:
    page = diff.html(trace("a b c", "a c"))
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.search(r"https?://|url\(|@import|src=", page)
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page


def test_the_summary_tells_the_outcome() -> None:
    met = diff.html(trace("a b c", "a c", limit=50, counter="tiktoken x"))
    assert "100<i>→</i><b>40</b>" in met
    assert "60% fewer" in met
    assert "within 50" in met
    assert "tiktoken x" in met
    assert "estimated tokens" not in met
    missed = diff.html(trace("a b c", "a c", limit=30, met=False, exact=False, mode="audit"))
    assert "10 over 30" in missed
    assert "estimated tokens" in missed
    assert "nothing was changed" in missed


def two_stages() -> Trace:
    """One leaf of two open segments and a locked one, through two stages; and a frozen leaf."""
    path = ("messages", 0, "content")
    parts = [Segment(text=text, path=path, kind="context") for text in ("one two", "three four")]
    lock = Segment(text="Be brief.", path=path, kind="instruction", locked=True, reason="the rule")
    sent = Segment(text="sent long ago", path=("messages", 1, "content"), turn=1, kind="history")
    before = Prompt((*parts, lock, sent))
    after = before.with_texts({0: "two", 1: "four"}).with_segments(
        {3: replace(sent, text="sent ago", locked=True, reason=FROZEN)}
    )
    told = [
        decision("messages[0].content", before=20, after=10),
        decision("messages[0].content", before=30, after=25),
        decision("messages[0].content", before=10, after=5, stage="second"),
        decision("messages[0].content", before=25, after=15, stage="second"),
        decision(
            "messages[0].content",
            kind="instruction",
            stage="-",
            action="locked",
            before=7,
            after=7,
        ),
        decision(
            "messages[1].content", kind="history", stage="-", action="frozen", before=3, after=3
        ),
    ]
    return Trace(before, after, report(decisions=told))


def test_each_text_has_its_head_bar_and_marks() -> None:
    html = diff.html(two_stages())
    assert "57 → 27" in html  # 20 + 30 + 7 before; 10 and 20 fewer by the two stages
    assert "width:47.4%" in html
    assert "<code>messages[0].content</code>" in html
    assert "<b>second</b> compressed" in html
    assert '<span class="locked"><span class="tag">locked: the rule</span>Be brief.</span>' in html
    assert '<span class="frozen">sent <del>long </del>ago</span>' in html
    assert "frozen: 60 tokens fewer" in html
    assert html.count('href="#t') == html.count("<article") == 2


def test_a_frozen_text_of_several_segments_is_compared_as_one() -> None:
    path = ("input",)
    before = Prompt((Segment(text="one two ", path=path), Segment(text="three four", path=path)))
    after = Prompt(
        tuple(
            replace(segment, text=text, locked=True, reason=FROZEN)
            for segment, text in zip(before.segments, ("one four", ""), strict=True)
        )
    )
    page = Page(diff.html(Trace(before, after, report())))
    assert page.text(0, "del") == "one two three four"
    assert page.text(0, "ins") == "one four"


def test_protected_spans_are_marked() -> None:
    before = Prompt((Segment(text="keep 12 kg of it", spans=((5, 10),)),))
    after = before.with_texts({0: "12 kg"})
    html = diff.html(Trace(before, after, report()))
    assert '<span class="held" title="protected">12 kg</span>' in html


def test_long_texts_that_did_not_change_are_folded() -> None:
    same = "word " * 1000
    assert "<details><summary>5,000" in diff.html(trace(same, same))
    assert "<details open>" in diff.html(trace(same, same[:100]))


def test_an_empty_trace_tells_why() -> None:
    nothing = Trace(Prompt(()), Prompt(()), report(before=0, after=0, notes=["the mode is off"]))
    html = diff.html(nothing)
    assert "the mode is off" in html
    assert "<article" not in html


def test_a_result_draws_itself(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(50)) + "\ud800"
    result = Pipeline(FirstWords(), budget=0.5).run(text)
    page = result.save_html(tmp_path / "diff.html")
    read = page.read_text(encoding="utf-8")
    assert "<del> word5" in read
    assert result.html() == read
