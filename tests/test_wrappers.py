"""Stages that hold other stages: what is remembered, put to the vote, or given a ratio."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_stages import Rewrite
from strategies import prose

from tersely import Pipeline, registry
from tersely.backends.http import HttpBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.budget import Budget
from tersely.compressors.baselines import Nothing, Truncate
from tersely.compressors.cached import MEMORY, Cached
from tersely.compressors.ensemble import Ensemble, onto
from tersely.compressors.holding import through
from tersely.compressors.lexical import Lexical
from tersely.compressors.ratios import Ratios
from tersely.compressors.store import FILE, Store
from tersely.contracts import Context, Need, StageModel
from tersely.errors import ConfigError, ModelError, UnknownName
from tersely.prompt import Prompt, Segment
from tersely.select import FORCED, Part
from tersely.tokens import counter
from tersely.units import Unit, split

SENTENCES = " ".join(
    f"Sentence {i} speaks of {thing} and goes on for a while without saying very much at all."
    for i, thing in enumerate(["apples", "boats", "clocks", "doors", "eggs", "ferns"] * 8)
)
KETTLE = "The kettle holds 1.7 litres. "


class Tally(StageModel):
    """Cuts every open text in half, and counts how often it is asked to."""

    name: ClassVar[str] = "tally"
    calls: ClassVar[list[int]] = []
    weights: str = ""
    fails: bool = False

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        self.calls.append(1)
        if self.fails:
            raise ModelError("no weights")
        texts = {i: prompt.segments[i].text for i in prompt.open}
        return prompt.with_texts({i: text[: len(text) // 2] for i, text in texts.items()})


@pytest.fixture
def tally() -> Iterator[list[int]]:
    MEMORY.clear()
    Tally.calls.clear()
    yield Tally.calls
    MEMORY.clear()


def asked(text: str = SENTENCES, **settings: Any) -> Prompt:
    rules = Segment(text="Be brief.", role="system", kind="instruction", locked=True, path=(0,))
    return Prompt((rules, Segment(text=text, path=(1,), **settings)), question="What of boats?")


def within(limit: int | None = 100, **settings: Any) -> Context:
    return Context(count=counter("gpt-4o"), limit=limit, **settings)


# -- cached ---------------------------------------------------------------------------------


def test_the_same_prompt_is_compressed_once(tally: list[int], tmp_path: Path) -> None:
    stage = Cached(recipe=Tally(), folder=str(tmp_path))
    made = stage(asked(), within())
    assert made.segments[1].text == SENTENCES[: len(SENTENCES) // 2]
    assert stage(asked(), within()) == made
    MEMORY.clear()
    assert Cached(recipe=Tally(), folder=str(tmp_path))(asked(), within()) == made
    assert len(tally) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda: (asked(SENTENCES + "."), within()),
        lambda: (asked(kind="log"), within()),
        lambda: (asked(spans=((0, 8),)), within()),
        lambda: (asked(role="assistant"), within()),
        lambda: (asked(turn=1), within()),
        lambda: (replace(asked(), question="What of eggs?"), within()),
        lambda: (replace(asked(), tools="[]"), within()),
        lambda: (replace(asked(), segments=asked().segments[1:]), within()),
        lambda: (asked(), within(99)),
        lambda: (asked(), within(None)),
        lambda: (asked(), within(seed=1)),
        lambda: (asked(), within(only=("context",))),
        lambda: (asked(), within(budget=Budget(shares={"log": 0.5}))),
        lambda: (asked(), replace(within(), count=counter("claude-sonnet-5"))),
    ],
)
def test_whatever_differs_is_compressed_anew(
    other: Callable[[], tuple[Prompt, Context]], tally: list[int]
) -> None:
    stage = Cached(recipe=Tally(), megabytes=0)
    stage(asked(), within())
    stage(*other())
    stage(*other())
    assert len(tally) == 2


def test_another_recipe_is_another_matter(tally: list[int], tmp_path: Path) -> None:
    weights = tmp_path / "trained"
    weights.mkdir()
    (weights / "model.safetensors").write_text("one")
    for settings in ({}, {"weights": "none"}, {"weights": str(weights)}):
        Cached(recipe=Tally(**settings), megabytes=0)(asked(), within())
    assert len(tally) == 3
    (weights / "model.safetensors").write_text("trained again")
    Cached(recipe=Tally(weights=str(weights)), megabytes=0)(asked(), within())
    assert len(tally) == 4


def test_the_time_that_is_left_makes_no_difference(tally: list[int]) -> None:
    stage = Cached(recipe=Tally(), megabytes=0)
    stage(asked(), within(budget=Budget(ms=50)))
    stage(asked(), within(budget=Budget(ms=60)))
    assert len(tally) == 1


def test_a_failure_is_not_remembered(tally: list[int], tmp_path: Path) -> None:
    stage = Cached(recipe=Tally(fails=True), folder=str(tmp_path))
    for _ in range(2):
        with pytest.raises(ModelError):
            stage(asked(), within())
    assert len(tally) == 2


@given(st.text(min_size=1), st.integers(1, 30))
def test_what_is_remembered_is_the_same_to_the_byte(text: str, limit: int) -> None:
    prompt = Prompt((Segment(text=f"{text} \ud800\udc00 {text} <keep>x</keep>", spans=()),))
    at = len(prompt.segments[0].text) - 14
    prompt = prompt.with_segments({0: replace(prompt.segments[0], spans=((at, at + 14),))})
    stage = Cached(recipe="random", megabytes=0)
    made = stage(prompt, within(limit))
    again = stage(prompt, within(limit))
    assert again == made == Cached(recipe="random", megabytes=0).recipe(prompt, within(limit))


def test_it_is_remembered_on_disk_to_the_byte(tmp_path: Path) -> None:
    text = f"\ud800\udc00 {SENTENCES} <keep>this</keep>"
    prompt = asked(text, spans=((len(text) - 17, len(text)),))
    stage = Cached(recipe="lexical", folder=str(tmp_path))
    MEMORY.clear()
    made = stage(prompt, within())
    assert made != prompt
    MEMORY.clear()
    again = stage(prompt, within())
    assert again == made
    assert [s.origins for s in again.segments] == [s.origins for s in made.segments]


def test_nothing_but_the_compressed_texts_is_stored(tmp_path: Path) -> None:
    MEMORY.clear()
    text = f"Only the word SECRET is not asked for. {SENTENCES}"
    stage = Cached(recipe="lexical", folder=str(tmp_path))
    made = stage(replace(asked(text), tools="SECRET"), within())
    assert "SECRET" not in made.segments[1].text
    with sqlite3.connect(tmp_path / FILE) as database:
        rows = database.execute("SELECT * FROM made").fetchall()
    database.close()
    ((key, value, size, _),) = rows
    stored = zlib.decompress(value).decode()
    assert (len(key), size) == (16, len(value))
    assert made.segments[1].text[:40] in stored
    assert "SECRET" not in stored
    assert "Be brief" not in stored


def test_memory_alone_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    Cached(recipe="lexical", megabytes=0)(asked(), within())
    assert not list(tmp_path.iterdir())
    Cached(recipe="truncate")(asked(), within())
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


WRITER = """
import sys
from pathlib import Path
from tersely.compressors.store import Store
store = Store(Path(sys.argv[1]), 10_000_000)
for i in range(100):
    store.put(f"{sys.argv[2]} {i}".encode(), f"value {i}".encode() * 50)
    store.put(b"shared", b"the same")
"""


def write(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Another process that fills a store."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name])


@pytest.mark.parametrize("damage", ["garbage", "halved", "emptied", "pages"])
def test_a_damaged_file_is_begun_anew(damage: str, tally: list[int], tmp_path: Path) -> None:
    assert write(tmp_path, "a").wait() == 0
    file = tmp_path / FILE
    data = file.read_bytes()
    wrecks = {
        "garbage": b"no database " * 500,
        "halved": data[: len(data) // 2],
        "emptied": b"",
        "pages": data[:4096] + b"\xff" * (len(data) - 4096),
    }
    file.write_bytes(wrecks[damage])
    stage = Cached(recipe=Tally(), folder=str(tmp_path))
    for _ in range(4):
        MEMORY.clear()
        assert stage(asked(), within()).segments[1].text == SENTENCES[: len(SENTENCES) // 2]
    assert len(tally) <= 3  # by then the file is whole again


def test_a_folder_that_can_not_be_had_is_told_when_the_pipeline_is_built(
    tally: list[int], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    stage = Cached(recipe=Tally(), folder=str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="is no folder"):
        Pipeline(stage)
    Pipeline(Cached(folder=str(tmp_path / "new" / "one")))
    assert not (tmp_path / "new").exists()
    for _ in range(2):
        MEMORY.clear()
        assert stage(asked(), within()).segments[1].text == SENTENCES[: len(SENTENCES) // 2]
    assert len(tally) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="no right to write"):
        Pipeline(Cached(folder=str(tmp_path / "x")))


def test_a_recipe_that_does_not_tell_its_settings(tally: list[int]) -> None:
    stage = Cached(recipe=Rewrite(how=lambda text: text[: tally.append(1) or 5]), megabytes=0)
    with pytest.raises(ConfigError, match="does not tell its settings"):
        Pipeline(stage)
    assert stage(asked(), within()) == stage(asked(), within())
    assert len(tally) == 2


class AskingTally(Tally):
    """The same, for a stage that asks a model."""

    name: ClassVar[str] = "asking_tally"
    needs: ClassVar[frozenset[Need]] = frozenset({"llm"})


def test_who_answers_makes_a_difference(tally: list[int]) -> None:
    stage = Cached(recipe=AskingTally(), megabytes=0)
    for model in ("one", "one", "another"):
        stage(asked(), within(backend=HttpBackend(base_url="http://localhost", model=model)))
    assert len(tally) == 2
    for _ in range(2):  # it does not tell what it will answer
        stage(asked(), within(backend=ScriptedBackend(["x"])))
    assert len(tally) == 4


# -- the file behind it ---------------------------------------------------------------------


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, room=20_000)
    chance = random.Random(0)
    values = {bytes([i]): chance.randbytes(1000) for i in range(60)}
    first, second, *_ = values
    for key, value in values.items():
        store.put(key, value)
        assert store.get(first) == values[first]
        assert store.size <= 20_000
    assert store.get(second) is None
    assert store.get(bytes([59])) == values[bytes([59])]
    store.put(b"large", chance.randbytes(30_000))
    assert store.get(b"large") is None
    assert store.get(first) == values[first]
    store.clear()
    assert (store.get(first), store.size) == (None, 0)


def test_several_processes_share_a_file(tmp_path: Path) -> None:
    assert [run.wait() for run in [write(tmp_path, name) for name in "ab"]] == [0, 0]
    store = Store(tmp_path, 10_000_000)
    assert store.get(b"shared") == b"the same"
    for name in "ab":
        for i in range(100):
            assert store.get(f"{name} {i}".encode()) == f"value {i}".encode() * 50


def test_a_forked_process_opens_the_file_for_itself(tmp_path: Path) -> None:
    store = Store(tmp_path, 10_000)
    store.put(b"a", b"of the parent")
    forked = get_context("fork").Process(target=store.put, args=(b"b", b"of the child"))
    forked.start()
    forked.join()
    assert (store.get(b"a"), store.get(b"b")) == (b"of the parent", b"of the child")


# -- ensemble -------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["lexical", {"truncate": {"unit": "token"}}])
def test_one_alone_decides_as_ever(member: Any) -> None:
    alone = registry.as_stage(member)
    assert Ensemble(recipes=[member])(asked(), within()) == alone(asked(), within())
    assert Ensemble(recipes=[member, member])(asked(), within()) == alone(asked(), within())


def test_the_weights_decide() -> None:
    text = SENTENCES + " The boats of the harbour are what boats are asked about."
    halves = {
        weight: Ensemble(
            recipes=["lexical", {"truncate": {"unit": "sentence"}}], weights=[1 - weight, weight]
        )(asked(text), within(60))
        .segments[1]
        .text
        for weight in (0, 1)
    }
    assert "are asked about" in halves[0]
    assert halves[1].startswith(SENTENCES[:60])


def test_values_that_are_no_numbers_do_no_harm() -> None:
    units = split("One. Two. Three.", "sentence")
    part = Part(units=units, values=np.array([np.inf, np.nan, 1.0]), ranks=np.zeros(3, np.int64))
    assert onto(part, units)[0].tolist() == [1.0, 0.0, 1.0]


@given(prose(30), st.sampled_from(["token", "word", "phrase", "sentence", "line"]), st.data())
def test_values_are_carried_over_by_the_characters_they_share(
    text: str, unit: Unit, data: st.DataObject
) -> None:
    mine, theirs = split(text, unit), split(text, data.draw(st.sampled_from(["word", "paragraph"])))
    numbers = st.lists(st.integers(-9, 9), min_size=len(mine), max_size=len(mine))
    values = np.array(data.draw(numbers), np.float64)
    ranks = np.array(data.draw(numbers), np.int64)
    worth, rank = onto(Part(units=mine, values=values, ranks=ranks), theirs)
    owners = {
        at: i
        for i, (start, end) in enumerate(zip(mine.starts, mine.ends, strict=True))
        for at in range(start, end)
    }
    for i, (start, end) in enumerate(zip(theirs.starts, theirs.ends, strict=True)):
        shared = [owners[at] for at in range(start, end) if at in owners]
        assert worth[i] == pytest.approx(np.mean(values[shared]))
        assert rank[i] == min(ranks[shared])


def ranked(*recipes: Any) -> dict[str, int]:
    """The rank of each unit of a text with a number and a marked word."""
    prompt = asked(f"It is blue. The big kettle, made of steel, holds 1.7 litres. {SENTENCES}")
    prompt = prompt.with_segments({1: replace(prompt.segments[1], spans=((6, 10),))})
    (part,) = Ensemble(recipes=recipes).weighed([prompt.segments[1]], prompt, within())
    return dict(zip(part.units.texts, part.ranks.tolist(), strict=True))


def test_what_one_keeps_before_all_others_is_kept() -> None:
    phrases = {"lexical": {"unit": "phrase"}}
    words = ranked("truncate", phrases)
    assert (words["blue"], words["1.7"], words["big"]) == (FORCED, 1, 0)
    assert ranked(phrases, "truncate")["holds 1.7 litres."] == 1
    sentences = ranked("lexical", phrases)
    assert sentences["The big kettle, made of steel, holds 1.7 litres."] == 0
    assert sentences["blue"] == FORCED


def test_an_ensemble_needs_what_its_members_need() -> None:
    assert Ensemble(recipes=["lexical", "selective_context"]).needs == {"causal_lm"}
    assert Ensemble().needs == set()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recipes": ["none"]}, "none gives no values"),
        ({"recipes": [{"cached": {}}]}, "cached gives no values"),
        ({"recipes": ["lexicl"]}, "nearest: lexical"),
        ({"recipes": []}, "recipes"),
        ({"weights": [1, 2, 3]}, "2 recipes have 3"),
        ({"weights": [0, 0]}, "above 0"),
        ({"weights": [1, -1]}, "greater than or equal to 0"),
        ({"unit": "word"}, "the first recipe's, 'sentence'"),
    ],
)
def test_an_ensemble_that_can_not_work(settings: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        registry.stage("ensemble", **settings)


def test_settings_follow_from_the_first() -> None:
    first = Lexical(unit="paragraph", fill=None, kinds=("log",), order="kept")
    stage = Ensemble(recipes=[first, "truncate"])
    assert (stage.unit, stage.fill, stage.kinds) == ("paragraph", None, ("log",))
    assert Ensemble(recipes=[first, "truncate"], kinds=("code",), fill="word").kinds == ("code",)


# -- ratios ---------------------------------------------------------------------------------


def shelf(*paths: str) -> Prompt:
    """A prompt with the same text at several places."""
    segments = [
        Segment(text=f"{SENTENCES} Place {i}.", path=(path, i)) for i, path in enumerate(paths)
    ]
    return Prompt(tuple(segments))


def shares(stage: Ratios, prompt: Prompt, context: Context) -> list[float]:
    made = stage(prompt, context)
    pairs = zip(prompt.segments, made.segments, strict=True)
    sizes = [context.tokens_of([old.text, new.text]) for old, new in pairs]
    return [after / before for before, after in sizes]


def test_each_text_keeps_its_share() -> None:
    stage = Ratios(recipe="lexical", ratio=0.25, by={"context[0]": 0.9, "context[2]": 0.5})
    found = shares(stage, shelf("context", "context", "context", "notes"), within(None))
    for share, wanted in zip(found, (0.9, 0.25, 0.5, 0.25), strict=True):
        assert wanted - 0.03 < share <= wanted


def test_the_budget_of_the_prompt_still_holds() -> None:
    prompt = shelf("context", "context")
    context = within(300)
    stage = Ratios(recipe="lexical", by={"context[0]": 0.5, "context[1]": 1})
    assert sum(shares(stage, prompt, within(None))) > 1.4
    assert 290 <= context.tokens(stage(prompt, context)) <= 300


def test_without_a_ratio_the_rest_is_left_to_the_budget() -> None:
    prompt = shelf("context", "notes")
    stage = Ratios(recipe="lexical", by={"notes": 0.1})
    assert shares(stage, prompt, within(None))[0] == 1
    loose = within(700)
    assert stage(prompt, loose.within(loose.tokens(prompt))) == prompt


@pytest.mark.parametrize(
    ("by", "path", "found"),
    [
        ({"messages[3].content": 0.2}, ("messages", 3, "content"), 0.2),
        ({"messages[3]": 0.2}, ("messages", 3, "content"), 0.2),
        ({"messages[3]": 0.2}, ("messages", 31, "content"), None),
        ({"messages[*].content": 0.2}, ("messages", 31, "content"), 0.2),
        ({"messages[?].content": 0.2}, ("messages", 31, "content"), None),
        ({"*": 0.2}, ("context", 0, "page_content"), 0.2),
        ({"text": 0.2}, (), 0.2),
        ({"log": 0.2, "context": 0.3}, ("x",), 0.3),
        ({"x": 0.2, "context": 0.3}, ("x",), 0.2),
        ({"context": 0.3, "x": 0.2}, ("x",), 0.3),
        ({"question": 0.2}, ("question",), None),
        ({"a+b(": 0.2}, ("a+b(", 1), 0.2),
    ],
)
def test_how_texts_are_named(by: Any, path: Any, found: float | None) -> None:
    assert Ratios(by=by)._ratio_of(Segment(text="x", path=path)) == found


@pytest.mark.parametrize("ratio", [0, -1, 1.5, "much"])
def test_a_ratio_is_a_share(ratio: Any) -> None:
    with pytest.raises(ConfigError, match=r"by\.log"):
        registry.stage("ratios", by={"log": ratio})


def test_a_document_of_a_request_is_named_as_in_its_report() -> None:
    request = {"context": [KETTLE * 30, SENTENCES], "question": "How much?"}
    result = Pipeline({"ratios": {"by": {"context[1]": 0.2}}}).run(request)
    assert result.output["context"][0] == request["context"][0]
    told = {d.path: d.after / d.before for d in result.report.decisions}
    assert told["context[1]"] <= 0.2
    for origin in result.provenance:
        now, was = result.output["context"][1], request["context"][1]
        assert now[slice(*origin.output)] == was[slice(*origin.source)]
    assert result.report.limit is None


# -- all of them ----------------------------------------------------------------------------

NESTED: dict[str, Any] = {
    "cached": {
        "recipe": {
            "ratios": {
                "recipe": {
                    "ensemble": {
                        "recipes": ["lexical", {"truncate": {"unit": "phrase"}}],
                        "weights": [1.0, 0.25],
                    }
                },
                "by": {"context[0]": 0.5, "log": 0.25},
            }
        },
        "megabytes": 0,
    }
}


def test_nested_recipes_are_written_and_read() -> None:
    pipeline = Pipeline([NESTED, "lexical"], budget=0.5, fallback="truncate")
    written = pipeline.to_yaml()
    assert Pipeline.from_yaml(written) == pipeline
    assert registry.spelled(pipeline.stages[0]) == NESTED
    assert eval(repr(pipeline.stages[0]), {"Cached": Cached}) == pipeline.stages[0]
    result = pipeline.run({"context": [SENTENCES, SENTENCES], "question": "What of boats?"})
    assert result.report.met
    assert result.report.after < result.report.before


def test_settings_that_follow_are_not_written() -> None:
    assert registry.spelled(Cached(recipe=Lexical(kinds=("log",)), megabytes=0)) == {
        "cached": {"recipe": {"lexical": {"kinds": ["log"]}}, "megabytes": 0}
    }
    kinds = registry.spelled(Ratios(recipe="lexical", kinds=("log",)))
    assert kinds == {"ratios": {"recipe": "lexical", "kinds": ["log"]}}


def test_a_recipe_without_a_name_can_not_be_written() -> None:
    class Nameless(Nothing):
        name = ""

    with pytest.raises(ConfigError, match="no registry name"):
        Pipeline(Cached(recipe=Nameless(), megabytes=0)).to_yaml()
    assert "Nameless" in repr(Cached(recipe=Nameless(), megabytes=0))


@pytest.mark.parametrize("name", ["cached", "ratios"])
def test_what_the_recipe_takes_and_needs(name: str) -> None:
    recipe = {"selective_context": {"kinds": ["log"], "model": "smollm3"}}
    stage = registry.stage(name, recipe=recipe)
    assert (stage.kinds, stage.needs) == (("log",), {"causal_lm"})
    with pytest.raises(UnknownName, match="smollm2"):
        Pipeline(stage)
    with pytest.raises(ConfigError, match="recipe: no stage named"):
        registry.stage(name, recipe="lexicl")


def test_a_recipe_sees_only_the_kinds_that_it_takes() -> None:
    prompt = Prompt((Segment(text="a b", kind="code"), Segment(text="a b", path=(1,))))
    made = Cached(recipe=Tally(), kinds=("code", "context"), megabytes=0)(prompt, within(1))
    assert [(s.text, s.locked) for s in made.segments] == [("a b", False), ("a", False)]
    assert through(Truncate(), prompt, within(1), [0]) == prompt
