"""The order of evidence: at the edges, by document, and as a prompt cache knows it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, takewhile

from hypothesis import given
from hypothesis import strategies as st

from tersely.contracts import Context
from tersely.rag.evidence import Evidence
from tersely.rag.evidence_order import Recent, at_the_edges, by_document
from tersely.retrieval import Passage
from tersely.tokens import counter

CONTEXT = Context(count=counter("gpt-4o"))

KEYS = st.lists(st.sampled_from("abcdefgh"), max_size=6, unique=True)


def passages(names: str) -> list[Passage]:
    return [Passage(text=f"This tells of {name}.", id=name) for name in names]


def names_of(order: list[int], keys: list[str]) -> str:
    return "".join(keys[i] for i in order)


@given(st.integers(0, 30))
def test_at_the_edges_the_best_is_first_and_the_second_last(number: int) -> None:
    order = at_the_edges(number)
    assert sorted(order) == list(range(number))
    depth = [min(order.index(i), number - 1 - order.index(i)) for i in range(number)]
    assert all(one <= other for one, other in pairwise(depth))
    assert order[:1] == [0][:number]
    assert order[-1:] == [1] or number < 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=9))
def test_by_document_sources_stay_together_and_in_order(rows: list[tuple[str, int]]) -> None:
    found = [Passage(text="x", source=source, start=start) for source, start in rows]
    order = by_document(found)
    assert sorted(order) == list(range(len(rows)))
    sources = [rows[i][0] for i in order]
    assert sorted(set(sources), key=sources.index) == list(dict.fromkeys(s for s, _ in rows))
    for one, other in pairwise(order):
        assert rows[one][0] != rows[other][0] or (rows[one][1], one) < (rows[other][1], other)
    assert len([1 for a, b in pairwise(sources) if a != b]) == max(len(set(sources)) - 1, 0)


@given(st.lists(KEYS, max_size=12), KEYS, st.integers(1, 4))
def test_the_longest_row_that_was_sent_goes_first(
    sent: list[list[str]], keys: list[str], most: int
) -> None:
    """The tree finds what looking through the rows that are still remembered finds."""
    recent = Recent(sequences=most)
    rows: list[tuple[str, ...]] = []
    for one in sent:
        recent.sent(one)
        if one:
            rows = [*(row for row in rows if row != tuple(one)), tuple(one)][-most:]
    order = recent.arranged(keys, [1] * len(keys))
    made = [keys[i] for i in order]
    assert sorted(order) == list(range(len(keys)))
    longest = max((len([*takewhile(keys.__contains__, row)]) for row in rows), default=0)
    shared = [
        len([*takewhile(lambda p: p[0] == p[1], zip(row, made, strict=False))]) for row in rows
    ]
    assert max(shared, default=0) >= longest
    rest = order[longest:]
    assert rest == sorted(rest) or max(shared) > longest
    assert len(recent) == len(rows)


def test_the_greatest_row_wins_not_the_one_of_most_passages() -> None:
    recent = Recent()
    recent.sent(["a", "b"])
    recent.sent(["c"])
    assert recent.arranged(["a", "b", "c"], [1, 1, 9]) == [2, 0, 1]


def test_tenants_and_models_do_not_see_each_other() -> None:
    recent = Recent(shelves=2)
    recent.sent(["b", "a"], tenant="one", model="m")
    assert recent.arranged(["a", "b"], [1, 1], tenant="one", model="m") == [1, 0]
    assert recent.arranged(["a", "b"], [1, 1], tenant="two", model="m") == [0, 1]
    assert recent.arranged(["a", "b"], [1, 1], tenant="one", model="n") == [0, 1]
    recent.sent(["b", "a"], tenant="two", model="m")
    recent.sent(["b", "a"], tenant="two", model="n")
    assert recent.arranged(["a", "b"], [1, 1], tenant="one", model="m") == [0, 1]  # forgotten
    assert len(recent) == 2


def test_threads_leave_the_tree_whole() -> None:
    recent = Recent(sequences=8, shelves=2)

    def work(seed: int) -> None:
        for i in range(200):
            keys = [str((seed * 7 + i * step) % 11) for step in range(1, 5)]
            keys = list(dict.fromkeys(keys))
            order = recent.arranged(keys, [1] * len(keys), tenant=str(seed % 2))
            assert sorted(order) == list(range(len(keys)))
            recent.sent([keys[j] for j in order], tenant=str(seed % 2))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(recent) == 16


def test_the_bytes_of_what_was_sent_before_come_again() -> None:
    """A provider's cache matches the prompt up to the last passage that was there before."""
    recent = Recent()
    evidence = Evidence(order="cached", tenant="t", model="m")
    first = evidence.bundle(passages("abc"), "", CONTEXT, recent=recent)
    again = evidence.bundle(passages("cxab"), "", CONTEXT, recent=recent)
    assert [one.id for one in again.passages] == ["a", "b", "c", "x"]
    before = first.text[: first.text.rindex("\n</passages")]
    assert again.text.startswith(before)
    other = evidence.model_copy(update={"tenant": "u"})
    assert [
        one.id for one in other.bundle(passages("cxab"), "", CONTEXT, recent=recent).passages
    ] == ["c", "x", "a", "b"]


def test_a_passage_whose_text_changed_is_another_one() -> None:
    recent = Recent()
    evidence = Evidence(order="cached")
    evidence.bundle(passages("ba"), "", CONTEXT, recent=recent)
    changed = [*passages("a"), Passage(text="This tells of b, and more.", id="b")]
    bundle = evidence.bundle(changed, "", CONTEXT, recent=recent)
    assert [one.id for one in bundle.passages] == ["a", "b"]


@given(st.permutations(list("abcde")), st.sampled_from(["relevance", "edges", "document"]))
def test_the_same_passages_are_the_same_bytes(order: list[str], how: str) -> None:
    rows = passages("".join(order))
    evidence = Evidence(order=how)  # type: ignore[arg-type]
    made = evidence.bundle(rows, "", CONTEXT)
    assert made == evidence.bundle(rows, "", CONTEXT)
    assert sorted(one.id for one in made.passages) == list("abcde")
    if how != "edges":
        assert [one.id for one in made.passages] == order
    else:
        assert [made.passages[0].id, made.passages[-1].id] == order[:2]
