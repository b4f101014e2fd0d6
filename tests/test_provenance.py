"""Where every character of the output came from: exact, through every stage, tags and all."""

from __future__ import annotations

import pickle
import pydoc_data.topics as topics
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from little_stages import Halve, Rewrite
from test_stage_contract import EASY, HARD, NEEDS_A_MODEL, SETTINGS

import tersely
from tersely.compressors.structured import Structured
from tersely.contracts import Context, Stage, StageModel
from tersely.errors import UnknownName
from tersely.middleware.align import align, by_origins
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.origins import Copy, Origins, composed, faithful, landed, origins_of, without
from tersely.prompt import KINDS, Path, Prompt, Segment, traced
from tersely.registry import stage, stage_type
from tersely.select import MARK
from tersely.tokens import counter

TEXT = topics.topics["with"]

WORDS = [
    *("The", "kettle", "holds", "1.7", "litres.", "It", "is", "blue.", "Who", "asked?", "not"),
    *("東京の天気は晴れです。", "привет", "мир.", "שלום", "👍🏽", "e\u0301", "<keep>", "</keep>"),
    *("\n", "\n\n", "  ", "\t", "\x00", "\ud800", "…", "```\n", "- item", "# Head\n", "a\r\n\r\nb"),
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join) | st.text(max_size=40)
LONG = st.lists(st.sampled_from(WORDS), min_size=20, max_size=120).map(" ".join)

FREE = sorted(
    name
    for name in SETTINGS
    if stage_type(name).needs <= {"question"}
    and name not in NEEDS_A_MODEL
    and not any({"model", "policy"} & given.keys() for given in SETTINGS[name])
)
"""The stages that need no model."""

TELLING = [name for name in FREE if not issubclass(stage_type(name), Structured)]
"""Those that tell where a text came from. What takes a text apart by its form writes it anew."""

telling_stages = pytest.mark.parametrize(
    ("name", "level"), [(name, level) for name in TELLING for level in (EASY, HARD)]
)


def built(name: str, level: str) -> Stage:
    return stage(name, **SETTINGS[name][level == HARD])


ELISION = "[...]"
"""What the stage `retrieve` writes in its harder settings where it left something out."""


LEFT_OUT = re.compile(r"\[\d+ [a-z ]+ left out\]")
"""What stages write that take a text apart by its form."""

ONE_KEPT = re.compile(r"<keep>\s*\S?\s*</keep>")
"""A kept passage too short to be found again where a stage does not tell."""


def check(before: str, after: str, runs: Origins, elision: str = "") -> None:
    """What is promised of the origins of a text."""
    at = 0
    new = ""
    for output, source, length in runs:
        assert output >= at
        assert length > 0
        assert after[output : output + length] == before[source : source + length]
        new += after[at:output]
        at = output + length
    new += after[at:]
    new = LEFT_OUT.sub("", new.replace(elision or MARK, "").replace(MARK, ""))
    assert not new.strip()
    for (_, source, length), (_, later, _) in pairwise(sorted(runs, key=lambda run: run[1])):
        assert source + length <= later


def checked(result: Result) -> None:
    """The same for every text that changed in a request."""
    assert result.trace is not None
    runs: dict[Path, list[Copy]] = {}
    for origin in result.provenance:
        (begin, end), (start, stop) = origin.output, origin.source
        assert end - begin == stop - start
        runs.setdefault(origin.path, []).append((begin, start, end - begin))
    for old, new in zip(result.trace.before.leaves, result.trace.after.leaves, strict=True):
        if old.text != new.text:
            check(old.text, new.text, tuple(runs.pop(new.path, [])))
    assert not runs


def test_there_are_stages_without_a_model() -> None:
    assert {"lexical", "none", "random", "truncate"} <= set(FREE)


@telling_stages
@given(text=LONG, ratio=st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=6)
def test_every_stage_tells_where_its_text_came_from(
    name: str, level: str, text: str, ratio: float
) -> None:
    prompt = Prompt((Segment(text=text), Segment(text="Next to it. " * 9)), question="What kettle?")
    context = Context(count=counter("gpt-4o"))
    context = context.within(max(1, int(context.tokens(prompt) * ratio)))
    made = built(name, level)(prompt, context)
    for old, new in zip(prompt.segments, made.segments, strict=True):
        runs = traced(old, new)
        assert runs is not None, "it did not tell"
        check(old.text, new.text, runs, ELISION if name == "retrieve" else "")


@given(
    text=LONG,
    names=st.lists(st.sampled_from(FREE), min_size=2, max_size=3),
    ratio=st.sampled_from([0.2, 0.6]),
)
@settings(max_examples=40)
def test_origins_hold_through_stages_in_a_row(text: str, names: list[str], ratio: float) -> None:
    assume(not ONE_KEPT.search(text))  # one character among marks is taken for chance
    stages = [Halve(), *(built(name, EASY) for name in names)]
    for some in (stages[1:], stages):
        checked(Pipeline(some, budget=ratio).run(text, question="How much does a kettle hold?"))


@given(text=LONG, ratio=st.sampled_from([0.2, 0.6]))
@settings(max_examples=40)
def test_keep_tags_are_counted_as_the_caller_wrote_them(text: str, ratio: float) -> None:
    text = f"Begin. <keep>so </keep>{text}<keep> it ends</keep> at last. " + "More of it. " * 9
    result = Pipeline(["lexical", {"random": {"unit": "token"}}], budget=ratio).run(text)
    checked(result)
    held = [o for o in result.provenance if text[slice(*o.source)].startswith("so ")]
    assert result.output == text or "so " in result.output
    assert all(origin.source[0] == len("Begin. <keep>") for origin in held)


def test_parts_of_one_text_are_told_as_one() -> None:
    said = f"{TEXT}\n\nNow to something else.\n\n{TEXT[:1500]}\n\nWhat does `with` do?"
    request = [{"role": "user", "content": said}]
    result = tersely.compress(request, "random", budget=0.5)
    assert result.trace is not None
    assert len(result.trace.after.segments) > 1
    checked(result)
    assert {origin.path for origin in result.provenance} == {(0, "content")}


def test_a_text_that_is_gone_has_no_origin() -> None:
    other = "nothing of this is of any use, " * 60
    result = Pipeline([stage("lexical", fill=None)], budget=0.3).run(
        [TEXT, other], question="How is a context manager made?"
    )
    checked(result)
    gone = [i for i, text in enumerate(result.output) if text == MARK]
    assert gone
    assert not [origin for origin in result.provenance if origin.path[0] in gone]


def test_nothing_changed_nothing_told() -> None:
    result = Pipeline(["truncate"]).run(TEXT)
    assert result.provenance == ()
    assert result.source_of((), 10, 20) == ((10, 20),)


def test_the_source_of_a_span() -> None:
    text = "Keep this. Drop these words here, all of them. Keep that."

    class Middle(StageModel):
        name = "middle"

        def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
            runs = ((0, 0, 10), (10, 46, 11))
            return prompt.with_texts({0: text[:10] + text[46:]}, origins={0: runs})

    result = Pipeline([Middle()]).run(text)
    assert result.output == "Keep this. Keep that."
    assert result.source_of((), 5, 15) == ((5, 10), (46, 51))
    assert result.source_of((), 3, 3) == ()
    with pytest.raises(UnknownName, match="nope"):
        result.source_of(("nope",), 0, 1)


def test_a_stage_that_does_not_tell_is_aligned() -> None:
    squeeze = Rewrite(how=lambda text: " ".join(text.split()))
    for stages in ([squeeze], [Halve()], ["random", squeeze], [squeeze, "random"], [Halve()] * 2):
        checked(Pipeline(stages, budget=0.6).run(TEXT))


class Liar(StageModel):
    """Tells origins that are not true."""

    name = "liar"
    runs: Origins

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        text = prompt.segments[0].text
        return prompt.with_texts({0: text[: len(text) // 2]}, origins={0: self.runs})


@pytest.mark.parametrize(
    "runs",
    [
        ((0, 5, 9),),
        ((0, 0, 9_999_999),),
        ((5, 5, 5), (0, 0, 5)),
        ((-3, -3, 2),),
        ((0, 0, -1),),
    ],
)
def test_a_stage_that_tells_what_is_not_so_is_not_believed(runs: Origins) -> None:
    checked(Pipeline([Liar(runs=runs)]).run(TEXT))


def test_stale_origins_are_not_believed() -> None:
    class Stale(StageModel):
        name = "stale"

        def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
            made = prompt.with_texts({0: TEXT[5:90]}, origins={0: ((0, 5, 85),)})
            return made.with_segments({0: replace(made.segments[0], text=TEXT[50:90])})

    checked(Pipeline([Stale()]).run(TEXT))


def test_a_pipeline_within_a_pipeline_tells_too() -> None:
    inner = Pipeline(["random"], budget=0.7)
    result = Pipeline([inner, "truncate"], budget=0.5).run(TEXT)
    assert result.trace is not None
    assert result.trace.after.segments[0].origins is not None
    checked(result)


def test_what_was_sent_before_is_aligned() -> None:
    pipeline = Pipeline([stage("random", kinds=KINDS)], budget=0.5)
    first = {"role": "user", "content": f"{TEXT}\n\nWhat is it?"}
    with tersely.session("provenance"):
        once = pipeline.run([first])
        more = [
            {"role": "assistant", "content": "A statement."},
            {"role": "user", "content": "So?"},
        ]
        again = pipeline.run([first, *more])
    assert again.output[0] == once.output[0] != first
    checked(again)
    assert again.provenance


def test_an_audit_tells_what_would_be() -> None:
    result = Pipeline(["random"], budget=0.5, mode="audit").run(TEXT)
    assert result.output == TEXT
    assert result.provenance
    checked(result)


def test_a_request_that_nobody_reads_has_no_origins() -> None:
    assert Pipeline(["random"]).run(object()).provenance == ()


def test_spans_follow_their_origin_and_not_the_first_words_like_them() -> None:
    segment = Segment(text="yes a yes b", spans=((6, 9),))
    assert segment.changed("yes yes", ((0, 0, 4), (4, 6, 3))).spans == ((4, 7),)
    assert segment.changed("yes yes").spans == ((0, 3),)


def test_a_segment_with_origins_is_a_value() -> None:
    one = Segment(text="a c", origins=((0, 0, 1), (1, 3, 2)))
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(replace(one)) == hash(one)
    assert one != replace(one, origins=None)
    assert "origins" not in repr(one)


RUNS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 6)), max_size=8)


def laid(rows: list[tuple[int, int, int]]) -> tuple[Origins, dict[int, int]]:
    """Runs with gaps between them, and the same as a table of single characters."""
    at = 0
    columns: list[tuple[int, int, int]] = []
    for gap, source, length in rows:
        columns.append((at + gap, source, length))
        at += gap + length
    single = {o + i: s + i for o, s, n in columns for i in range(n)}
    return origins_of(*zip(*columns, strict=True)) if columns else (), single


def single(runs: Origins) -> dict[int, int]:
    return {output + i: source + i for output, source, n in runs for i in range(n)}


@given(RUNS, RUNS)
def test_maps_compose_as_single_characters_do(
    later: list[tuple[int, int, int]], earlier: list[tuple[int, int, int]]
) -> None:
    (new, to_middle), (old, to_source) = laid(later), laid(earlier)
    assert single(new) == to_middle
    made = composed(new, old)
    assert single(made) == {o: to_source[m] for o, m in to_middle.items() if m in to_source}
    assert all(
        (a + n, s + n) != (b, t) for (a, s, n), (b, t, _) in pairwise(made)
    )  # neighbours are one


@given(RUNS, st.lists(st.tuples(st.integers(0, 99), st.integers(1, 4)), min_size=1, max_size=4))
def test_spans_land_where_their_characters_do(
    rows: list[tuple[int, int, int]], spans: list[tuple[int, int]]
) -> None:
    runs, _ = laid([(gap, 30 * i + source, n) for i, (gap, source, n) in enumerate(rows)])
    there = {source: output for output, source in single(runs).items()}
    wanted = [[there.get(start + i, -99) for i in range(length)] for start, length in spans]
    rows_of = [list(range(row[0], row[0] + len(row))) for row in wanted]
    pairs = zip(wanted, rows_of, strict=True)
    together = [row if row == whole and row[0] >= 0 else None for row, whole in pairs]
    found = landed(runs, [(start, start + length) for start, length in spans])
    assert [span and list(range(*span)) for span in found] == together


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=6, unique=True))
def test_what_is_left_between_cuts(text: str, edges: list[int]) -> None:
    inside = sorted(edge for edge in edges if edge <= len(text))
    cuts = list(zip(inside[::2], inside[1::2], strict=False))
    left = text
    for start, end in reversed(cuts):
        left = left[:start] + left[end:]
    runs = without(len(text), cuts)
    assert faithful(runs, text, left)
    assert sum(length for *_, length in runs) == len(left)


@given(text=LONG, ratio=st.sampled_from([0.3, 0.7]))
@settings(max_examples=40)
def test_the_page_shows_what_was_told(text: str, ratio: float) -> None:
    result = Pipeline(["random"], budget=ratio).run(text)
    assert result.trace is not None
    (old,), (new,) = result.trace.before.segments, result.trace.after.segments
    runs = traced(old, new)
    assert runs is not None
    pieces = by_origins(old.text, new.text, runs)
    assert "".join(p.text for p in pieces if p.mark != "added") == old.text
    assert "".join(p.text for p in pieces if p.mark != "dropped") == new.text
    added = [p.text for p in align(old.text, new.text) if p.mark == "added"]
    shown = [p.text for p in pieces if p.mark == "added"]
    assert sum(map(len, shown)) <= sum(map(len, added)) or not "".join(shown).strip()
