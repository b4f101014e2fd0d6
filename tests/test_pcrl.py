"""A policy finds the words that a model's answers depend on, and the stage keeps those."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import little_bert
import numpy as np
import pytest
from little_bert import FILLER, TELLING

from tersely.artefact import About, page, read_tensors, save
from tersely.backends.scripted import ScriptedBackend
from tersely.compressors.pcrl import PCRL
from tersely.compressors.policy import labels, pooled
from tersely.compressors.reinforce import drawn
from tersely.contracts import Context, Request
from tersely.errors import ConfigError, ModelError, OutOfTime, UnknownName
from tersely.prompt import Prompt, Segment
from tersely.registry import stage, trainer
from tersely.tokens import counter
from tersely.training import Training
from tersely.units import Units, split

WANTED = set(TELLING.split())


def prompts(many: int, seed: int = 0) -> list[dict[str, str]]:
    """Instructions in which the words that tell something stand among others."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(many):
        words = [*rng.choice(TELLING.split(), 4), *rng.choice(FILLER.split(), 8)]
        rows.append({"prompt": " ".join(rng.permutation(words))})
    return rows


def obedient(request: Request) -> str:
    """Answers to the words that tell something, whatever stands between them."""
    return " ".join(word for word in request.prompt.text.split() if word in WANTED)


QUICK = {"steps": 150, "batch": 8, "samples": 8, "rate": 0.005, "entropy": 0.05, "hidden": 32}


def learned(out: Path, encoder: Path | str, **settings: Any) -> Path:
    made = trainer("policy", encoder=str(encoder), **(QUICK | settings))
    return made.train(Training(rows=prompts(24), out=out, backend=ScriptedBackend(obedient)))


@pytest.fixture(scope="module")
def policy(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learned(tmp_path_factory.mktemp("policy"), tiny_bert)


@pytest.fixture(scope="module")
def untrained(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return little_bert.untrained(tiny_bert, tmp_path_factory.mktemp("untrained"), "pcrl")


def kept(policy: Path, ratio: float | None) -> tuple[float, float]:
    """How many of the words that tell something are kept of new prompts, and of the others."""
    counts = np.zeros((2, 2))
    for row in prompts(20, seed=9):
        prompt, context = Prompt((Segment(text=row["prompt"]),)), Context(count=counter())
        limit = None if ratio is None else int(context.tokens(prompt) * ratio)
        made = PCRL(policy=str(policy))(prompt, context.within(limit))
        for i, text in enumerate((made.text, prompt.text)):
            telling = [word in WANTED for word in text.split()]
            counts[i] += sum(telling), len(telling) - sum(telling)
    told, others = counts[0] / counts[1]
    return told, others


def test_training_finds_the_words_that_matter(policy: Path, untrained: Path) -> None:
    figures = page(policy, "pcrl").figures
    assert figures["similarity"] > 0.95
    assert figures["ratio"] < 0.6
    assert figures["random_similarity"] < 0.75
    assert figures["random_ratio"] == pytest.approx(figures["ratio"], abs=0.15)
    assert kept(policy, 0.5)[0] > 0.9
    assert kept(untrained, 0.5)[0] < 0.75


def test_without_a_budget_the_policy_decides(policy: Path) -> None:
    told, others = kept(policy, None)
    assert told > 0.95
    assert others < 0.3
    text = "please kindly translate the words now"
    prompt, context = Prompt((Segment(text=text),)), Context(count=counter())
    sizes = [
        len(PCRL(policy=str(policy), threshold=edge)(prompt, context).text)
        for edge in (0.001, 0.5, 0.999)
    ]
    assert sizes[0] == len(text)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[1] > 0


def test_what_fits_is_left_alone(policy: Path) -> None:
    prompt = Prompt((Segment(text="please kindly just translate"),))
    context = Context(count=counter())
    assert PCRL(policy=str(policy))(prompt, context.within(context.tokens(prompt))) == prompt


def test_facts_negations_and_labels_are_no_matter_of_choice(untrained: Path) -> None:
    text = "Instruction: please kindly do not maybe send $1,299.50 now\nInput: well 2024-03-01 then"
    prompt = Prompt((Segment(text=text, kind="instruction"),))
    made = PCRL(policy=str(untrained), threshold=0.999)(prompt, Context(count=counter())).text
    for kept in ("Instruction:", "not", "$1,299.50", "Input:", "2024-03-01"):
        assert kept in made
    assert "kindly" not in made
    assert labels("Note this: a: b\n- To do: c")[1:] == [(16, 24)]


def test_marked_text_is_kept_without_a_budget(untrained: Path) -> None:
    segment = Segment(text="please kindly just translate", spans=((7, 18),))
    sure = PCRL(policy=str(untrained), threshold=0.999)
    made = sure(Prompt((segment,)), Context(count=counter()))
    assert made.text == "kindly just"


class Stopped(Exception):
    pass


def test_stopped_work_ends_as_if_it_had_not_been(tiny_bert: Path, tmp_path: Path) -> None:
    settings = {"encoder": str(tiny_bert), "steps": 12, "every": 5, "batch": 3, "samples": 2}
    backend = ScriptedBackend(obedient)
    rows = prompts(8)

    def stop(done: int, total: int, figures: Mapping[str, float], /) -> None:
        assert {"loss", "reward"} <= set(figures)
        if done == 8:
            raise Stopped

    whole = trainer("policy", **settings)
    whole.train(Training(rows=rows, out=tmp_path / "a", backend=backend))
    broken = Training(rows=rows, out=tmp_path / "b", backend=backend, progress=stop)
    with pytest.raises(Stopped):
        whole.train(broken)
    assert not (tmp_path / "b" / "tersely.json").exists()
    asked = len(backend.requests)
    whole.train(Training(rows=rows, out=tmp_path / "b", backend=backend))
    a, b = (read_tensors(tmp_path / name / "model.safetensors") for name in "ab")
    assert a.keys() == b.keys()
    assert all((a[name] == b[name]).all() for name in a)
    first = {r.prompt.text for r in backend.requests[asked : asked + len(rows)]}
    assert first != {row["prompt"] for row in rows}, "the originals were asked again"
    assert page(tmp_path / "a", "pcrl").figures == page(tmp_path / "b", "pcrl").figures
    assert not (tmp_path / "b" / "checkpoint").exists()


def test_other_seeds_and_settings_are_other_work(tiny_bert: Path, tmp_path: Path) -> None:
    short = {"steps": 2, "every": 1, "batch": 2, "samples": 2}
    a, b = (learned(tmp_path / str(s), tiny_bert, seed=s, **short) for s in (0, 1))
    tensors = [read_tensors(folder / "model.safetensors") for folder in (a, b)]
    assert any((tensors[0][name] != tensors[1][name]).any() for name in tensors[0])


def test_a_missing_policy_names_the_trainer(tmp_path: Path) -> None:
    from tersely.middleware.pipeline import compress

    for policy in ("", str(tmp_path)):
        with pytest.raises(ModelError, match="tersely train policy"):
            compress("some text", [stage("pcrl", policy=policy)], budget=0.5)
    save(tmp_path, About(recipe="cot_influx"))
    with pytest.raises(ModelError, match="'cot_influx', not for 'pcrl'"):
        PCRL(policy=str(tmp_path)).ready()


def test_other_weights_of_the_encoder_are_told(untrained: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tersely.json"):
        (tmp_path / name).write_bytes((untrained / name).read_bytes())
    told = json.loads((tmp_path / "tersely.json").read_text())
    (tmp_path / "tersely.json").write_text(json.dumps(told | {"model_sha256": "0" * 64}))
    prompt, context = Prompt((Segment(text="some text"),)), Context(count=counter(), limit=1)
    with pytest.raises(ModelError, match="trained on other weights"):
        PCRL(policy=str(tmp_path))(prompt, context)


def test_heads_of_another_shape_are_told(untrained: Path, tmp_path: Path) -> None:
    save(tmp_path, page(untrained, "pcrl"), {"words.0.weight": read_tensors_of(untrained)})
    prompt, context = Prompt((Segment(text="some text"),)), Context(count=counter(), limit=1)
    with pytest.raises(ModelError, match="holds no policy for pcrl"):
        PCRL(policy=str(tmp_path))(prompt, context)


def read_tensors_of(folder: Path) -> Any:
    return next(iter(read_tensors(folder / "model.safetensors").values()))


def test_a_policy_that_was_trained_again_is_read_again(
    untrained: Path, policy: Path, tmp_path: Path
) -> None:
    prompt = Prompt((Segment(text=prompts(1)[0]["prompt"]),))
    context = Context(count=counter(), limit=6)
    texts = []
    for source in (untrained, policy):
        for name in ("model.safetensors", "tersely.json"):
            (tmp_path / name).write_bytes((source / name).read_bytes())
        texts.append(PCRL(policy=str(tmp_path))(prompt, context).text)
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("row", "told"),
    [({"prompt": ""}, "row 2.*give a `prompt`"), ({"prompt": 3}, "row 2.*prompt.*3")],
)
def test_a_bad_row_is_named(row: Any, told: str, tiny_bert: Path, tmp_path: Path) -> None:
    work = trainer("policy", encoder=str(tiny_bert))
    rows = [{"instruction": "translate", "input": "the words"}, row]
    with pytest.raises(ConfigError, match=told):
        work.train(Training(rows=rows, out=tmp_path, backend=ScriptedBackend(obedient)))


def test_too_few_rows_or_nobody_to_ask(tiny_bert: Path, tmp_path: Path) -> None:
    work = trainer("policy", encoder=str(tiny_bert))
    with pytest.raises(ConfigError, match="2 rows at least"):
        work.train(Training(rows=prompts(1), out=tmp_path, backend=ScriptedBackend([])))
    with pytest.raises(ConfigError, match="needs a backend"):
        work.train(Training(rows=prompts(2), out=tmp_path))


def test_samples_follow_the_odds_and_fixed_words_stay() -> None:
    import torch

    odds = torch.tensor([4.0, -4.0, 0.5, -9.0])
    fixed = np.array([False, False, False, True])
    choices = drawn(odds, fixed, 500, np.random.default_rng(0))
    assert choices.kept[0].tolist() == [True, False, True, True]
    assert choices.kept[1:].mean(0) == pytest.approx([0.982, 0.018, 0.622, 1], abs=0.06)
    assert not choices.free[:, 3].any()


def test_better_samples_become_likelier() -> None:
    import torch

    odds = torch.zeros(3, requires_grad=True)
    choices = drawn(odds, np.array([False, False, True]), 64, np.random.default_rng(0))
    better = np.where(choices.kept[1:, 0] & ~choices.kept[1:, 1], 1.0, -1.0)
    choices.loss(better, 0.0).backward()
    assert odds.grad is not None
    assert odds.grad[0] < 0 < odds.grad[1]
    assert odds.grad[2] == 0


def test_long_texts_are_read_in_windows(tiny_bert: Path) -> None:
    words = " ".join(row["prompt"] for row in prompts(40))
    units = split(words, "word")
    long, short, empty = pooled(
        [units, split("keep lines", "word"), split("", "word")], str(tiny_bert)
    )
    assert long.states.shape == (len(units), 64)
    assert (long.tokens == 1).all()
    assert (long.states.abs().sum(1) > 0).all()
    assert short.states.shape[0] == 2
    assert empty.states.shape == (0, 64)
    alone = pooled([split("keep lines", "word")], str(tiny_bert))[0]
    assert (alone.states - short.states).abs().max() < 0.05


def test_a_unit_is_the_mean_of_its_tokens(tiny_bert: Path) -> None:
    text = "keep zq lines"
    words, both, nothing = pooled(
        [
            split(text, "word"),
            Units(text, np.array([0]), np.array([len(text)])),
            Units("\x00\x00", np.array([0]), np.array([2])),
        ],
        str(tiny_bert),
    )
    assert words.tokens.tolist() == [1, 2, 1]
    mean = (words.states[0] + 2 * words.states[1] + words.states[2]) / 4
    assert (both.states[0] - mean).abs().max() < 0.05
    assert nothing.tokens.tolist() == [0]
    assert not nothing.states.any()


def test_reading_stops_when_time_is_up(tiny_bert: Path) -> None:
    from tersely.budget import Budget

    context = Context(count=counter(), budget=Budget(ms=1), deadline=0.0)
    with pytest.raises(OutOfTime):
        pooled([split("keep lines", "word")], str(tiny_bert), context)


@pytest.mark.model
def test_it_learns_on_the_real_encoder(tmp_path: Path) -> None:
    folder = learned(tmp_path, "minilm", steps=40, rate=0.005)
    assert page(folder, "pcrl").figures["similarity"] > 0.9
    assert kept(folder, 0.5)[0] > 0.9


def test_an_encoder_that_is_not_there_is_told_before_training(tiny_bert: Path) -> None:
    trainer("policy", encoder=str(tiny_bert)).ready()
    with pytest.raises(UnknownName, match="nearest: minilm"):
        trainer("policy", encoder="minilmm").ready()
