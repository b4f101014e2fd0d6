"""What every registered stage must hold, under two settings: an easy one and a hard one."""
# ruff: noqa: RUF001 - texts of many scripts

from __future__ import annotations

import pydoc_data.topics as topics
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import little_bert
import pytest

import tersely.registry as registry
from tersely.contracts import Context, Stage
from tersely.prompt import Prompt, Segment
from tersely.tokens import counter

EASY, HARD = "easy", "hard"

CACHE = TemporaryDirectory(prefix="tersely-cache-")

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "attention": ({}, {"unit": "word", "reach": 0}),
    "auto": ({}, {"lossless": True}),
    "autocompressor": ({"model": "a writer"}, {"model": "a writer", "kinds": ("instruction",)}),
    "cached": (
        {"recipe": "lexical", "megabytes": 0},
        {"recipe": {"truncate": {"unit": "paragraph"}}, "folder": CACHE.name},
    ),
    "code": ({}, {"lossless": True}),
    "cot_influx": ({}, {"policy": "untrained_cot_influx", "coarse": 2}),
    "diff": ({}, {"lossless": True}),
    "dynaicl": ({}, {"choose": "lexical", "most": None}),
    "ensemble": (
        {"recipes": ["lexical", {"random": {"unit": "sentence"}}]},
        {"recipes": [{"random": {"unit": "token"}}, "lexical"], "weights": [0.5, 2]},
    ),
    "extractive": (
        {"encoder": ""},
        {"unit": "line", "encoder": "", "centrality": "centroid", "diversity": 0, "fill": "word"},
    ),
    "html": ({}, {"lossless": True}),
    "json": ({}, {"lossless": True, "tables": False}),
    "lexical": ({}, {"unit": "paragraph", "document": 0, "fill": None}),
    "gist": ({"model": "a writer"}, {"model": "a writer", "kinds": ("instruction",)}),
    "icae": ({"model": "a writer"}, {"model": "a writer", "precision": "float32"}),
    "llmlingua": ({}, {"unit": "token", "coarse": 1}),
    "llmlingua2": (
        {"model": "tiny_classifier"},
        {"model": "tiny_classifier", "unit": "token", "pool": "max", "digits": True}
        | {"forced": ("the", "?", "\n"), "drop_consecutive": True},
    ),
    "logs": ({}, {"lossless": True}),
    "longllmlingua": ({}, {"unit": "token", "coarse": 10, "dynamic": 1}),
    "markdown": ({}, {"lossless": True}),
    "none": ({}, {"kinds": ("context", "code")}),
    "pcrl": (
        {"policy": "untrained_pcrl", "kinds": ("context",)},
        {"policy": "untrained_pcrl", "fill": None},
    ),
    "query": ({"encoder": ""}, {"unit": "paragraph", "encoder": "", "order": "kept"}),
    "random": ({}, {"unit": "token"}),
    "ratios": (
        {"recipe": "lexical", "ratio": 0.8},
        {"recipe": {"truncate": {"unit": "token"}}, "by": {"[1]": 0.05, "context": 0.5}},
    ),
    "recomp": ({}, {"unit": "line", "document": 1, "titles": True, "fill": "word"}),
    "retrieve": (
        {"embedder": ""},
        {"embedder": "static", "order": "edges", "elision": "[...]", "size": 16, "reach": 0},
    ),
    "rows": ({"kinds": ("table",)}, {"lossless": True}),
    "search_hits": ({}, {"lossless": True}),
    "selective_context": ({}, {"unit": "token"}),
    "soft": ({}, {"unfit": True, "kinds": ("instruction",)}),
    "stdc": ({}, {"beyond": True, "fill": "word"}),
    "summary": ({"encoder": ""}, {"encoder": "", "route": "clusters", "folder": CACHE.name}),
    "truncate": ({}, {"unit": "paragraph"}),
}
"""Two settings for each stage. A new stage adds its line here."""

MADE: dict[str, str] = {}
"""Folders that fixtures make, by the name that stands for them in the settings."""

NEEDS_A_MODEL = {"dynaicl", "llmlingua", "longllmlingua", "recomp", "selective_context"}
KEEPS_EVERYTHING = {"none", "soft", "autocompressor", "gist", "icae"}
HAS_A_BUDGET_OF_ITS_OWN = {"pcrl", "ratios"}
KEEPS_PROSE = {"auto", "code", "diff", "html", "json", "logs", "markdown", "rows", "search_hits"}
"""Stages that shorten texts of a form of their own, and leave all others."""

RATIOS = {EASY: 0.5, HARD: 0.1}

TEXTS = {
    "prose": topics.topics["with"],
    "empty": "",
    "one word": "word",
    "one character": "x",
    "white space": " \n\t ",
    "emoji": "👨‍👩‍👧‍👦👍🏽🇩🇪 " * 60,
    "combining": "e\u0301\u0323a\u0308 " * 100,
    "right to left": "שלום עולם, هذا نص قصير. " * 40,
    "no spaces": "日本語のテキストです。短い文もあります！" * 20,
    "nul": "a\x00b\x00 " * 100,
    "lone surrogates": "x \ud800\udc00 \udfff y. " * 50,
    "special tokens": "before <|im_end|> and <|endoftext|> after. " * 20,
    "code": "See:\n\n```python\n" + "x = f(x)\n" * 30 + "```\n\nand more words. " * 10,
    "table": "| a | b |\n|---|---|\n" + "| 1.10 | 2 |\n" * 40,
    "brackets": "[" * 3000,
}


def cases(names: set[str]) -> list[Any]:
    """Stages with both settings, those that need weights marked so."""
    return [
        pytest.param(
            name,
            level,
            id=f"{name}-{level}",
            marks=[pytest.mark.model] if name in NEEDS_A_MODEL else [],
        )
        for name in sorted(names)
        for level in (EASY, HARD)
    ]


every_stage = pytest.mark.parametrize(("name", "level"), cases(set(registry.STAGES)))
every_pruner = pytest.mark.parametrize(
    ("name", "level"), cases(set(registry.STAGES) - KEEPS_EVERYTHING - KEEPS_PROSE)
)


@pytest.fixture(scope="module", autouse=True)
def _made(tiny_classifier: Path, tiny_bert: Path, tmp_path_factory: Any) -> None:
    MADE["tiny_classifier"] = str(tiny_classifier)
    for recipe in ("cot_influx", "pcrl"):
        folder = tmp_path_factory.mktemp(recipe)
        MADE[f"untrained_{recipe}"] = str(little_bert.untrained(tiny_bert, folder, recipe))


def built(name: str, level: str) -> Stage:
    settings = SETTINGS[name][level == HARD]
    folders = {k: MADE[v] for k, v in settings.items() if isinstance(v, str) and v in MADE}
    return registry.stage(name, **(settings | folders))


def context_for(prompt: Prompt, level: str) -> Context:
    context = Context(count=counter("gpt-4o"))
    return context.within(max(1, int(context.tokens(prompt) * RATIOS[level])))


def prompt_of(text: str) -> Prompt:
    """A prompt with a locked text, the text itself, and one in two parts with a kept span."""
    kept = topics.topics["while"]
    return Prompt(
        (
            Segment(text="You answer.", role="system", kind="instruction", locked=True, path=(0,)),
            Segment(text=text, path=(1,)),
            Segment(text=kept, spans=((3, 50), (200, 217)), path=(2,)),
            Segment(text="\n\nNever drop this.", locked=True, path=(2,)),
            Segment(text="What is asked?", kind="question", locked=True, path=(3,)),
        ),
        question="What does the else clause do?",
        turns=3,
    )


def test_every_stage_has_its_line() -> None:
    assert set(SETTINGS) == set(registry.STAGES)


@every_stage
@pytest.mark.parametrize("text", TEXTS)
def test_the_contract_holds(name: str, level: str, text: str) -> None:
    prompt = prompt_of(TEXTS[text])
    before = replace(prompt)
    context = context_for(prompt, level)
    made = built(name, level)(prompt, context)

    assert prompt == before
    assert len(made.segments) == len(prompt.segments)
    for old, new in zip(prompt.segments, made.segments, strict=True):
        assert replace(new, text="", spans=(), origins=None) == replace(old, text="", spans=())
        assert new.text == old.text or not old.locked
        at = 0
        for start, end in old.spans:
            at = new.text.index(old.text[start:end], at) + end - start
    for old, new in zip(prompt.leaves, made.leaves, strict=True):
        was, now = context.tokens_of([old.text, new.text])
        assert now <= was
        assert new.text.strip() or not old.text.strip()
    assert built(name, level)(prompt, context) == made


@every_pruner
@pytest.mark.parametrize("text", ["prose", "emoji", "right to left", "no spaces", "code", "table"])
def test_the_budget_is_kept(name: str, level: str, text: str) -> None:
    prompt = Prompt((Segment(text=TEXTS[text]),))
    context = context_for(prompt, level)
    assert context.limit is not None
    assert context.tokens(built(name, level)(prompt, context)) <= context.limit


@every_stage
def test_without_a_budget_or_within_it_nothing_changes(name: str, level: str) -> None:
    prompt = prompt_of(TEXTS["prose"])
    context = Context(count=counter("gpt-4o"))
    for limit in (None, context.tokens(prompt)):
        if limit is None and name in HAS_A_BUDGET_OF_ITS_OWN:
            continue
        assert built(name, level)(prompt, context.within(limit)) == prompt


@every_stage
def test_a_second_pass_changes_nothing(name: str, level: str) -> None:
    prompt = Prompt((Segment(text=TEXTS["prose"]),))
    context = context_for(prompt, level)
    once = built(name, level)(prompt, context)
    assert built(name, level)(once, context) == once


@every_stage
def test_a_prompt_of_locked_text_comes_back(name: str, level: str) -> None:
    prompt = Prompt((Segment(text=TEXTS["prose"], locked=True), Segment(text="[1]", path=(1,))))
    context = Context(count=counter("gpt-4o"), limit=1)
    assert built(name, level)(prompt, context).segments[0] == prompt.segments[0]


@every_stage
def test_a_repr_makes_it_again(name: str, level: str) -> None:
    stage = built(name, level)
    kind = type(stage)
    assert eval(repr(stage), {kind.__name__: kind}) == stage


@pytest.mark.parametrize("name", sorted(set(registry.STAGES) - NEEDS_A_MODEL))
def test_a_hundred_kilobytes_are_no_matter(name: str) -> None:
    text = (topics.topics["compound"] * 3)[:100_000]
    prompt = Prompt((Segment(text=text),), question="What does the else clause do?")
    context = context_for(prompt, EASY)
    made = built(name, EASY)(prompt, context)
    assert name in KEEPS_EVERYTHING | KEEPS_PROSE or context.tokens(made) <= (context.limit or 0)
