"""What is left out is marked, and counted; a title comes along with what stands under it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tersely.contracts import Context
from tersely.order import arrangement
from tersely.origins import faithful
from tersely.prompt import Prompt, Segment
from tersely.render import rendering
from tersely.select import NEVER, Part, pack
from tersely.tokens import Counter, counter
from tersely.units import Units, split


def by_word(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


PLAIN = Counter("words", True, 0, by_word)

WORDS = st.lists(
    st.sampled_from(["alpha", "be.", "gamma!", "1,000", "日本。", "x\n", "y.\n\n", "  z"]),
    max_size=40,
).map(" ".join)


def kept_of(units: Units, *places: int) -> np.ndarray:
    kept = np.zeros(len(units), np.bool_)
    kept[list(places)] = True
    return kept


def test_a_mark_stands_where_something_was_dropped() -> None:
    units = split("One. Two. Three. Four. Five.", "sentence")
    marked = lambda *places: rendering(units, kept_of(units, *places), mark="…").text  # noqa: E731
    assert marked(0, 3) == "One. … Four. …"
    assert marked(1, 2) == "… Two. Three. …"
    assert marked(3, 4) == "… Four. Five."
    assert marked(0, 1, 2, 3, 4) == units.text


def test_the_mark_stands_apart_as_what_was_dropped_did() -> None:
    units = split("A title\n\nOne is here.\nTwo is here.\n\n  Three is here.", "sentence")
    assert len(units) == 4
    made = rendering(units, kept_of(units, 0, 3), mark="[...]").text
    assert made == "A title\n\n[...]\n\n  Three is here."
    assert rendering(units, kept_of(units, 0, 2), mark="…").text == (
        "A title\n\n…\n\nTwo is here.\n\n…"
    )


@given(WORDS, st.data())
def test_marks_are_all_that_is_new(text: str, data: st.DataObject) -> None:
    units = split(text, "word")
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(units), max_size=len(units))))
    kept = kept.astype(np.bool_)
    made = rendering(units, kept, mark="…")
    assert faithful(made.origins, text, made.text)
    assert "".join(made.text.replace("…", "").split()) == "".join(
        "".join(one for one, there in zip(units.texts, kept, strict=True) if there).split()
    )
    holes = np.diff(np.concatenate(([1], kept, [1]))) == -1
    assert made.text.count("…") == (holes.sum() if kept.any() else 0)


@given(WORDS, st.integers(1, 40), st.sampled_from(["kept", "best_last", "edges"]), st.data())
def test_marks_and_titles_never_go_over_the_budget(
    text: str, limit: int, order: str, data: st.DataObject
) -> None:
    units = split(text, "word")
    leads = np.array([data.draw(st.integers(0, i)) for i in range(len(units))], np.int64)
    leads = np.where(leads[leads] == leads, leads, np.arange(len(units)))
    ranks = np.zeros(len(units), np.int64)
    ranks[leads[leads != np.arange(len(units))]] = NEVER
    part = Part(
        units=units,
        values=-np.arange(len(units), dtype=np.float64) % 7,
        ranks=ranks,
        leads=leads,
        mark="[...]",
        arrangement=arrangement(units, order),  # type: ignore[arg-type]
    )
    prompt = Prompt((Segment(text=text),))
    context = Context(count=counter("gpt-4o"), limit=limit)
    assert context.tokens(pack(prompt, {0: part}, context)) <= max(limit, 1)


def test_a_title_comes_along_and_never_alone() -> None:
    text = "Kettle. It is blue. Teapot. It is red. It is round."
    units = split(text, "sentence")
    leads, ranks = np.array([0, 0, 2, 2, 2]), np.array([NEVER, 0, NEVER, 0, 0])
    part = Part(units=units, values=np.array([9.0, 1, 9, 3, 2]), ranks=ranks, leads=leads)
    made = {
        limit: pack(
            Prompt((Segment(text=text),)), {0: part}, Context(count=PLAIN, limit=limit)
        ).text
        for limit in (3, 4, 7)
    }
    assert made == {
        3: "…",
        4: "Teapot. It is red.",
        7: "Teapot. It is red. It is round.",
    }


def test_marks_stay_within_documents_that_move() -> None:
    text = "Kettle\nIt is blue. It is old.\n\nTeapot\nIt is red. It is new. It is round."
    units = split(text, "sentence")
    assert len(units) == 7
    part = Part(
        units=units,
        values=np.array([5.0, 1, 9, 3, 2, 0, 3]),
        ranks=np.zeros(7, np.int64),
        mark="…",
    )
    moved = arrangement(units, "best_last")
    assert moved is not None
    made = Part(
        **{**_fields(part), "arrangement": moved.__class__(moved.documents, moved.order, "…")}
    )
    kept = kept_of(units, 0, 2, 3, 6)
    assert made.rendering(kept).text == "Teapot\n…\nIt is round.\n\nKettle\n…\nIt is old."


def _fields(part: Part) -> dict[str, object]:
    return {name: getattr(part, name) for name in ("units", "values", "ranks", "mark")}
