"""A pruner is trained: on a teacher's scores or on pairs, the same however often it was stopped."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.artefact import page, read_tensors
from tersely.compressors import train_pruner as module
from tersely.compressors.alignment import survivors
from tersely.compressors.self_information import surprise
from tersely.contracts import Context
from tersely.errors import ConfigError, ModelError
from tersely.prompt import Prompt, Segment
from tersely.registry import stage, trainer
from tersely.tokens import counter
from tersely.training import Training, silent
from tersely.units import split

FILLER = ("the", "over", "a", "die")
WORDS = ("quick", "brown", "fox", "dog", "Tag", "Limmat", "jumps", "lazy", "times", "day")


def kept(original: str, shorter: str, reach: int = 50) -> tuple[list[str], float]:
    words = split(original, "word")
    taken, strange = survivors(words, split(shorter, "word"), reach)
    return [word for word, own in zip(words.texts, taken, strict=True) if own], strange


# alignment


def test_words_are_found_whatever_their_case_and_marks() -> None:
    assert kept("Well, the Meeting was (very) long.", "meeting very long") == (
        ["Meeting", "(very)", "long."],
        0,
    )


def test_a_moved_word_is_found_near_its_place() -> None:
    assert kept("on Monday we met the board", "met board Monday") == (["Monday", "met", "board"], 0)


def test_another_form_of_a_word_is_the_word() -> None:
    assert kept("it compresses prompts", "compress prompt") == (["compresses", "prompts"], 0)
    assert kept("it was there", "them") == ([], 1)


def test_the_next_of_equal_words_is_taken() -> None:
    words = split("a b a c a", "word")
    taken, _ = survivors(words, split("b a", "word"), 50)
    assert taken.tolist() == [False, True, True, False, False]


def test_words_far_away_are_other_words() -> None:
    text = "start " + "x " * 100 + "end"
    assert kept(text, "start end", 10) == (["start"], 0.5)
    assert kept(text, "end", 200) == (["end"], 0)


def test_a_passage_may_be_left_out() -> None:
    text = "start " + " ".join(f"w{i}" for i in range(100)) + " middle of the end"
    assert kept(text, "start middle of the end", 60) == (["start", "of", "the", "end"], 0.2)
    assert kept(text, "start middle of the end", 20) == (["start"], 0.8)


@given(st.lists(st.sampled_from(["aa", "bb", "cc", "dd", "ee", "ff"]), max_size=40), st.randoms())
def test_a_shorter_text_is_found_word_for_word(words: list[str], chance: random.Random) -> None:
    some = [word for word in words if chance.random() < 0.5]
    found, strange = kept(" ".join(words), " ".join(some), 100)
    assert (found, strange) == (some, 0)


# training


@pytest.fixture(scope="session")
def base(tiny_classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a head."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("base")
    AutoModel.from_pretrained(tiny_classifier).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_classifier).save_pretrained(folder)
    return folder


def pairs(count: int = 60) -> list[dict[str, str]]:
    """Texts, and what is left of them without the filler."""
    chance = random.Random(7)
    texts = [[chance.choice(FILLER + WORDS) for _ in range(30)] for _ in range(count)]
    return [
        {"original": " ".join(t), "compressed": " ".join(w for w in t if w not in FILLER)}
        for t in texts
    ]


def texts(count: int = 40) -> list[dict[str, str]]:
    return [{"text": row["original"]} for row in pairs(count)]


def trained(
    base: Path, out: Path, rows: list[dict[str, str]], progress: Any = silent, **settings: Any
) -> Path:
    small = {"steps": 12, "batch": 4, "rate": 0.01, "every": 5, "max_tokens": 64} | settings
    made = trainer("pruner", base=str(base), **small)
    return made.train(Training(rows=rows, out=out, progress=progress))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


class Stopped(Exception):
    """What stops the work."""


def stopping(at: int, total: int) -> Any:
    """A progress that stops once so much is done."""

    def progress(done: int, of: int, figures: Mapping[str, float], /) -> None:
        if (done, of) == (at, total):
            raise Stopped

    return progress


def test_it_learns_which_words_go(base: Path, tmp_path: Path) -> None:
    folder = trained(base, tmp_path / "out", pairs(), steps=60, learns="all", held=0.2)
    figures = page(folder, "llmlingua2").figures
    assert figures["agreement"] > 0.95 > 0.7 > figures["chance"]
    assert figures["f1"] > 0.9
    assert figures["loss"] < 0.3

    prompt = Prompt((Segment(text="the quick a fox over die lazy dog " * 5),))
    context = Context(count=counter("gpt-4o"), limit=18)
    made = stage("llmlingua2", model=str(folder))(prompt, context)
    assert not set(made.text.split()) & set(FILLER)


def test_the_artefact_is_an_ordinary_folder(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    rows = pairs(20)
    folder = trained(base, tmp_path / "out", rows)
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert model.config.id2label == {0: "drop", 1: "keep"}
    assert AutoTokenizer.from_pretrained(folder).is_fast
    about = page(folder, "llmlingua2")
    assert (about.rows, about.model) == (20, str(base))
    assert about.settings["steps"] == 12
    assert set(about.figures) == {"loss", "f1", "agreement", "chance", "train_loss"}
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tersely.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_teacher_s_most_surprising_words_are_to_be_kept(
    base: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[bool]]] = []
    lessons = module._lessons

    def noted(labelled: Any, *rest: Any) -> Any:
        seen.append((labelled.words.text, labelled.kept.tolist()))
        return lessons(labelled, *rest)

    monkeypatch.setattr(module, "_lessons", noted)
    trained(base, tmp_path / "out", texts(20), teacher=str(tiny_llama), keep=0.3, steps=1)
    assert len(seen) == 18
    for text, labels in seen:
        words = split(text, "word")
        means = surprise([text], str(tiny_llama), Context(count=counter()))[0].means(words)
        assert sum(labels) == 9
        assert means[labels].min() >= means[~np.array(labels)].max()


@pytest.mark.parametrize(
    "stops", [[(16, 40)], [(1, 12)], [(7, 12), (12, 12)], [(40, 40), (11, 12)]]
)
def test_stopped_work_ends_as_if_it_had_not_been(
    stops: list[tuple[int, int]], base: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    settings = {"teacher": str(tiny_llama)}
    whole = trained(base, tmp_path / "whole", texts(), **settings)
    for at in stops:
        with pytest.raises(Stopped):
            trained(base, tmp_path / "out", texts(), stopping(*at), **settings)
        assert not (tmp_path / "out" / "model.safetensors").exists()
    told: list[tuple[int, int]] = []
    again = trained(
        base,
        tmp_path / "out",
        texts(),
        lambda done, total, _: told.append((done, total)),
        **settings,
    )
    assert weights(again) == weights(whole)
    assert page(again, "llmlingua2") == page(whole, "llmlingua2")
    assert not (again / "checkpoint").exists()
    done, total = stops[-1]
    if total == 12 and done > 5:
        assert told[0][1] == 12
        assert told[0][0] in {6, 11}


def test_what_the_teacher_has_read_is_not_read_again(
    base: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(texts: list[str], *rest: Any) -> Any:
        read.extend(texts)
        return surprise(texts, *rest)

    monkeypatch.setattr(module, "surprise", noted)
    with pytest.raises(Stopped):
        trained(base, tmp_path, texts(), stopping(32, 40), teacher=str(tiny_llama))
    trained(base, tmp_path, texts(), teacher=str(tiny_llama))
    assert read == [row["text"] for row in texts()]


def test_the_seed_decides(base: Path, tmp_path: Path) -> None:
    made = [
        weights(trained(base, tmp_path / name, pairs(10), seed=seed, steps=2))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert made[0] == made[1] != made[2]


def test_training_leaves_the_generator_of_others_alone(base: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    trained(base, tmp_path, pairs(10), steps=2)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("learns", ["all", "layers", "head"])
def test_only_what_learns_changes_and_is_kept(learns: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(base, tmp_path, pairs(20), stopping(6, 12), learns=learns)
    (file,) = (tmp_path / "checkpoint").glob("*.safetensors")
    saved = {n.removeprefix("module.") for n in read_tensors(file) if n.startswith("module.")}
    folder = trained(base, tmp_path, pairs(20), learns=learns)
    before = {f"bert.{name}": t for name, t in read_tensors(base / "model.safetensors").items()}
    after = read_tensors(folder / "model.safetensors")
    changed = {n for n, t in after.items() if n not in before or not t.equal(before[n])}
    assert changed == saved
    table = "bert.embeddings.word_embeddings.weight"
    layers = {name for name in saved if ".layer." in name}
    assert (table in saved, bool(layers)) == {
        "all": (True, True),
        "layers": (False, True),
        "head": (False, False),
    }[learns]


# what is wrong


def test_rows_that_hold_nothing_are_told(base: Path, tmp_path: Path) -> None:
    for row, said in (({"text": 3}, "text"), ({"text": ""}, "is needed"), ({}, "is needed")):
        with pytest.raises(ConfigError, match=f"row 2: .*{said}"):
            trained(base, tmp_path, [pairs(1)[0], row])  # type: ignore[list-item]


def test_pairs_in_other_words_teach_nothing(base: Path, tmp_path: Path) -> None:
    rows = [{"original": "one two three", "compressed": "vier fünf sechs"}] * 3
    with pytest.raises(ConfigError, match="none of the 3 rows teaches anything: see `variation`"):
        trained(base, tmp_path, rows)
    folder = trained(base, tmp_path, [*rows, *pairs(9)], steps=1)
    assert page(folder, "llmlingua2").rows == 12


def test_unfinished_work_of_another_kind_is_not_gone_on_with(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(base, tmp_path, pairs(10), stopping(6, 12))
    with pytest.raises(ConfigError, match="other settings or data"):
        trained(base, tmp_path, pairs(10), steps=13)
    with pytest.raises(ConfigError, match="other settings or data"):
        trained(base, tmp_path, pairs(11))


def test_a_base_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        trainer("pruner", base="./nope").ready()


def test_figures_may_be_none(base: Path, tmp_path: Path) -> None:
    folder = trained(base, tmp_path, pairs(3), held=0, steps=1)
    assert set(json.loads((folder / "tersely.json").read_text())["figures"]) == {"train_loss"}
