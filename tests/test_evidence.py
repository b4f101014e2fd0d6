"""Evidence: exact budgets, gluing, pruning, order, and the way into a prompt."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.contracts import Context, StageModel
from tersely.origins import faithful
from tersely.prompt import Prompt, Segment, messages_of
from tersely.rag.bundle import stretch_of
from tersely.rag.evidence import Evidence
from tersely.rag.evidence_order import Recent
from tersely.rag.fence import restored
from tersely.rag.gluing import glued
from tersely.rag.placing import with_evidence
from tersely.retrieval import Passage
from tersely.tokens import counter
from tersely.units import split

CONTEXT = Context(count=counter("gpt-4o"))

SENTENCES = [
    "The kettle holds 1.7 litres of water.",
    "It was made in Ulm in 1931.",
    "Anna Meier painted it blue!",
    "Nobody knows who broke the lid.",
    "<|im_start|> is a token that nobody may write.",
    "Wer den Kessel kaufte, ist nicht bekannt.",
    "東京は晴れです。",
    "A very long sentence goes on and on, past the harbour, over the bridge, along the river, and"
    " through the old town, until at last it comes to its end.",
]
QUESTION = "Who painted the kettle?"


def sources() -> st.SearchStrategy[dict[str, str]]:
    text = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=12).map(" ".join)
    return st.lists(text, min_size=1, max_size=3).map(
        lambda texts: {f"s{i}": text for i, text in enumerate(texts)}
    )


@st.composite
def found(draw: st.DrawFn) -> tuple[dict[str, str], list[Passage]]:
    """Sources, and passages of whole sentences of theirs that may touch, overlap and repeat."""
    texts = draw(sources())
    passages = []
    for i in range(draw(st.integers(0, 8))):
        source = draw(st.sampled_from(sorted(texts)))
        units = split(texts[source], "sentence")
        first = draw(st.integers(0, len(units) - 1))
        last = draw(st.integers(first, min(first + 3, len(units) - 1)))
        start, end = int(units.starts[first]), int(units.ends[last])
        text = texts[source][start:end]
        score = draw(st.sampled_from([0.9, 0.5, 0.1, -1.0]))
        passages.append(
            Passage(text=text, id=f"p{i}", source=source, start=start, end=end, score=score)
        )
    return texts, passages


def passage(text: str, source: str = "", start: int = 0, **more: Any) -> Passage:
    return Passage(text=text, source=source, start=start, end=start + len(text), **more)


RECIPES = st.sampled_from([None, "truncate", {"lexical": {"fill": None}}, "random"])
ORDERS = st.sampled_from(["relevance", "edges", "document", "cached"])


@given(found(), st.integers(1, 260), RECIPES, ORDERS)
def test_the_budget_is_exact_and_every_character_has_a_source(
    given_: tuple[dict[str, str], list[Passage]], tokens: int, recipe: Any, order: Any
) -> None:
    texts, passages = given_
    evidence = Evidence(tokens=tokens, recipe=recipe, order=order, about="{source}")
    bundle = evidence.bundle(passages, QUESTION, CONTEXT, recent=Recent())
    assert bundle.tokens == (CONTEXT.count(bundle.text) if bundle.text else 0) <= tokens
    assert bool(bundle) == bool(bundle.text) == (not bundle.reason)
    assert [one.number for one in bundle.shown] == [*range(1, len(bundle.shown) + 1)]
    seen: set[tuple[str, int]] = set()
    for one in bundle.shown:
        assert faithful(one.origins, texts[one.source], bundle.text)
        for start, end in one.spans:
            here = {(one.source, at) for at in range(start, end)}
            assert not here & seen  # no text twice
            seen |= here
        assert one.passage.start <= one.spans[0][0] and one.spans[-1][1] <= one.passage.end
        assert one.score in {p.score for p in passages if p.id in one.ids}
    names = {name for one in bundle.shown for name in one.ids}
    assert not names & {one.id for one in bundle.dropped}


@given(found(), st.integers(60, 260))
def test_without_a_recipe_sentences_are_whole(
    given_: tuple[dict[str, str], list[Passage]], tokens: int
) -> None:
    texts, passages = given_
    for recipe in (None, {"lexical": {"fill": None}}):
        bundle = Evidence(tokens=tokens, recipe=recipe).bundle(passages, QUESTION, CONTEXT)
        for one in bundle.shown:
            units = split(texts[one.source], "sentence")
            starts, ends = set(units.starts.tolist()), set(units.ends.tolist())
            assert all(start in starts and end in ends for start, end in one.spans)


@given(found())
def test_with_room_for_all_nothing_is_lost(
    given_: tuple[dict[str, str], list[Passage]],
) -> None:
    _, passages = given_
    bundle = Evidence(tokens=10**5).bundle(passages, QUESTION, CONTEXT)
    shown = {
        (one.source, at)
        for one in bundle.shown
        for start, end in one.spans
        for at in range(start, end)
    }
    for one in passages:
        whole = {(one.source, at) for at in range(one.start, one.end)}
        twins = [p for p in passages if p.text == one.text]
        if twins[0] is one:
            gaps = {
                place for place in whole - shown if not one.text[place[1] - one.start].isspace()
            }
            assert not gaps
    assert bundle.dropped == ()


@given(found())
def test_gluing_leaves_stretches_that_lie_apart(
    given_: tuple[dict[str, str], list[Passage]],
) -> None:
    texts, passages = given_
    made = glued([stretch_of(one) for one in passages])
    for one in made:
        text, where = one.passage.text, one.passage
        assert faithful(one.origins, texts[where.source], text)
        assert where.end - where.start == len(text)
        assert text.split() == texts[where.source][where.start : where.end].split()
    by_source = sorted((one.passage.source, one.passage.start, one.passage.end) for one in made)
    for before, after in pairwise(by_source):
        assert before[0] != after[0] or after[1] - before[2] > 2
    assert {name for one in made for name in one.ids} == {one.id for one in passages}


def test_passages_that_disagree_about_their_source_are_not_glued() -> None:
    old, new = passage("The lid is red.", "k"), passage("lid was red. Yes.", "k", 4)
    assert [one.passage for one in glued([stretch_of(old), stretch_of(new)])] == [old, new]


def test_passages_of_no_known_place_are_not_glued() -> None:
    rows = [Passage(text="One."), Passage(text="Two."), Passage(text="x", source="s", end=9)]
    assert [one.passage for one in glued([stretch_of(one) for one in rows])] == rows


def test_a_passage_too_large_is_passed_over_for_later_ones() -> None:
    large = passage("Words and more words, without an end in sight. " * 30, "a")
    small = [passage("The kettle is blue.", "b"), passage("The lid is red.", "c")]
    bundle = Evidence(tokens=70, recipe=None).bundle([large, *small], QUESTION, CONTEXT)
    assert bundle.passages == tuple(small)
    assert bundle.dropped == (large,)


def test_what_room_is_left_goes_to_the_best_that_did_not_fit() -> None:
    rest = "Of the harbour there is nothing to tell. " * 30
    large = passage(f"{rest}Anna Meier painted the kettle. {rest}", "a", score=0.9)
    small = passage("The kettle is blue.", "b", score=0.5)
    bundle = Evidence(tokens=80).bundle([large, small], QUESTION, CONTEXT)
    pruned = bundle.shown[1]
    assert bundle.passages[0] == small
    assert "Anna Meier painted the kettle." in pruned.passage.text
    assert pruned.source == "a" and pruned.score == 0.9
    assert restored(bundle.text, pruned.origins).count("Anna") == 1


def test_one_is_shown_if_any_sentence_of_it_fits() -> None:
    large = passage("Of the harbour nothing is told. " * 30 + "Anna Meier painted it.", "a")
    bundle = Evidence(tokens=50, recipe=None).bundle([large], QUESTION, CONTEXT)
    assert "Anna Meier painted it." in bundle.text
    assert bundle.tokens <= 50


@pytest.mark.parametrize(
    ("passages", "settings", "reason"),
    [
        ([], {}, "nothing was found"),
        ([Passage(text="\n ")], {}, "nothing that was found is good enough"),
        ([Passage(text="Weak.", score=0.1)], {"least": 0.2}, "nothing that was found is good"),
        ([Passage(text="A kettle. " * 9)], {"tokens": 9}, "no sentence fits 9 tokens"),
    ],
)
def test_nothing_is_an_answer(passages: list[Passage], settings: Any, reason: str) -> None:
    bundle = Evidence(**settings).bundle(passages, QUESTION, CONTEXT)
    assert not bundle and bundle.text == "" and bundle.tokens == 0
    assert bundle.reason.startswith(reason)
    prompt = Prompt((Segment(text="Hello."),))
    assert with_evidence(prompt, bundle) is prompt


class Failing(StageModel):
    """A stage that can't do what it is for."""

    name = "failing"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        raise RuntimeError("no parser")


def test_a_recipe_that_fails_takes_nothing_along_and_says_so() -> None:
    context = Context(count=counter("gpt-4o"))
    rows = [passage("The kettle is blue.", "a"), passage("Some words. " * 90, "b")]
    bundle = Evidence(tokens=100, recipe=Failing()).bundle(rows, QUESTION, context)
    assert bundle.passages == (rows[0],)
    assert context.said == ("evidence: a passage was left out, its recipe failed: no parser",)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="does not touch the kind 'context'"):
        Evidence(recipe={"lexical": {"kinds": ("code",)}})
    with pytest.raises(ValueError, match=r"about=.* is no template"):
        Evidence(about="{")
    with pytest.raises(ValueError, match="no stage named 'no_such_stage'"):
        Evidence(recipe="no_such_stage")


def test_settings_are_written_and_read_back() -> None:
    evidence = Evidence(tokens=9, recipe={"lexical": {"fill": None}}, order="edges")
    assert Evidence(**evidence.model_dump(mode="json")) == evidence


def test_numbers_go_on_where_others_were_brought_along_before() -> None:
    bundle = Evidence().bundle([passage("One."), passage("Two.")], "", CONTEXT, first=4)
    assert [one.number for one in bundle.shown] == [4, 5]
    assert "[4]\nOne.\n\n[5]\nTwo." in bundle.text


TURNS = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.integers(1, 2)),
    max_size=6,
)


@given(TURNS, st.sampled_from(["before", "after"]))
def test_evidence_joins_the_last_turn_of_the_user_and_changes_nothing(
    turns: list[tuple[Any, int]], place: Any
) -> None:
    segments = tuple(
        Segment(text=f"{turn}.{part}", role=role, turn=turn, path=(turn, part))
        for turn, (role, parts) in enumerate(turns)
        for part in range(parts)
    )
    prompt = Prompt(segments, question="?", tools="[]", turns=len(turns))
    first = Evidence().bundle([passage("One.")], "", CONTEXT)
    second = Evidence().bundle([passage("Two.")], "", CONTEXT, first=2)
    made = with_evidence(with_evidence(prompt, first, place=place), second, place=place)
    added = [one for one in made.segments if one not in segments]
    assert [one.text for one in added] == [first.text, second.text]
    assert [one for one in made.segments if one in segments] == list(segments)
    assert all(one.role == "user" and one.kind == "context" and one.locked for one in added)
    assert len({one.path for one in made.segments}) == len(made.segments)
    asked = any(role == "user" for role, _ in turns)
    assert replace(made, segments=()) == replace(
        prompt, segments=(), turns=len(turns) + (not asked)
    )
    messages = messages_of(made)
    assert len(messages) == made.turns
    ours = [one for one in messages if first.text in one["content"]]
    assert len(ours) == 1 and second.text in ours[0]["content"] and ours[0]["role"] == "user"
    if asked and place == "before":
        assert ours[0]["content"].startswith(first.text)
    if asked:
        last = max(turn for turn, (role, _) in enumerate(turns) if role == "user")
        assert all(one.turn == last for one in added)
