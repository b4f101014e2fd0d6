"""Demonstrations are chosen before words, reasoning outlives talk, and both can be learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_bert import FILLER, NOUNS

from tersely.artefact import About, page, read_tensors, save
from tersely.backends.scripted import ScriptedBackend
from tersely.compressors.cot_influx import CoTInflux, features, whole
from tersely.compressors.policy import policy_at, pooled
from tersely.compressors.train_demonstrations import is_right
from tersely.contracts import Completion, Context, Request
from tersely.errors import ConfigError, ModelError
from tersely.prompt import Prompt, Segment
from tersely.registry import stage, trainer
from tersely.tokens import counter
from tersely.training import Training

SHOTS = [
    "Question: How many apples are there in 3 bags of 4 apples?\n"
    "Every one of the bags has 4 apples in it, and so we have 3 * 4 = 12 apples.\n"
    "The answer is 12.",
    "Question: Tom runs 5 miles a day. How far does he run in a week?\n"
    "A week has 7 days, and he runs on each of them, so that it is 5 * 7 = 35 miles.\n"
    "The answer is 35.",
    "Question: A train leaves at 9:15 and rides for 2 hours. When does it arrive?\n"
    "We have to add the 2 hours to the time at which it leaves.\n"
    "The answer is 11:15.",
    "Question: A shirt costs $20 and is sold at 25% off. What is its price?\n"
    "The discount is 20 * 0.25 = 5 dollars, which is to be taken from the price.\n"
    "The answer is $15.",
]
TEXT = "\n\n".join(SHOTS)
ABOUT_TRAINS = "When does the train from the capital arrive if it leaves at 8:00?"


def shortened(text: str, tokens: float, question: str = ABOUT_TRAINS, **settings: Any) -> str:
    """What is left of a text; `tokens` below 1 are a share of it."""
    prompt = Prompt((Segment(text=text, kind="example"),), question=question)
    context = Context(count=counter("gpt-4o"))
    limit = int(context.tokens(prompt) * tokens) if tokens < 1 else int(tokens)
    made = stage("cot_influx", **settings)(prompt, context.within(limit))
    assert isinstance(made, Prompt)
    assert context.tokens(made) <= limit
    return made.text


def whole_in(text: str) -> list[bool]:
    return [shot in text for shot in SHOTS]


def touched(text: str) -> int:
    """How many demonstrations something is left of."""
    return sum(" ".join(shot.split()[1:6]) in " ".join(text.split()) for shot in SHOTS)


def test_only_whole_demonstrations_at_1() -> None:
    for ratio in (0.3, 0.5, 0.8):
        left = shortened(TEXT, ratio, coarse=1)
        assert set(left.split("\n\n")) <= set(SHOTS)
        assert SHOTS[2] in left, "the one that the question is about"


def test_more_demonstrations_with_fewer_words_the_coarser() -> None:
    whole, finer = (shortened(TEXT, 0.55, coarse=coarse) for coarse in (1, 2))
    answers = ["The answer is 12.", "The answer is 35.", "The answer is 11:15.", "answer is $15."]
    counts = [sum(answer in left for answer in answers) for left in (whole, finer)]
    assert counts[0] < counts[1] == 4
    assert not any(whole_in(finer))


def test_reasoning_outlives_talk() -> None:
    left = shortened(TEXT, 0.7, coarse=3)
    for kept in ("3 * 4 = 12", "5 * 7 = 35", "20 * 0.25 = 5", "25%", "$20", "9:15", "is 11:15."):
        assert kept in left
    assert " of the bags" not in left


def test_what_is_first_can_be_asked_for() -> None:
    assert whole_in(shortened(TEXT, 0.6, coarse=1, choose="first"))[:2] == [True, True]


def test_a_marked_span_keeps_its_demonstration_whole() -> None:
    at = TEXT.index("5 * 7")
    segment = Segment(text=TEXT, kind="example", spans=((at, at + 5),))
    prompt = Prompt((segment,), question=ABOUT_TRAINS)
    context = Context(count=counter("gpt-4o"), limit=60)
    made = CoTInflux(coarse=1)(prompt, context)
    assert SHOTS[1] in made.text
    again = CoTInflux(coarse=2)(prompt, context.within(30))
    assert "5 * 7" in again.text


def test_demonstrations_of_several_texts_share_the_budget() -> None:
    segments = tuple(Segment(text=s, kind="example", path=(i,)) for i, s in enumerate(SHOTS))
    prompt = Prompt(segments, question=ABOUT_TRAINS)
    context = Context(count=counter("gpt-4o"))
    made = CoTInflux(coarse=1)(prompt, context.within(context.tokens(prompt) // 2))
    assert [s.text for s in made.segments].count("…") in (2, 3)
    assert made.segments[2].text == SHOTS[2]


@given(
    shots=st.lists(st.text(max_size=80), min_size=1, max_size=5),
    ratio=st.floats(0.05, 0.95),
    coarse=st.sampled_from([1, 1.2, 3]),
)
def test_no_word_is_invented(shots: list[str], ratio: float, coarse: float) -> None:
    text = "\n\n".join(shots)
    prompt = Prompt((Segment(text=text, kind="example"),), question="What then?")
    context = Context(count=counter("gpt-4o"))
    size = context.tokens(prompt)
    made = CoTInflux(coarse=coarse)(prompt, context.within(max(1, int(size * ratio))))
    assert context.tokens(made) <= max(size, 1)
    rest = iter(text)
    assert all(c in rest for c in "".join(made.text.split()) if c != "…")


@pytest.mark.model
def test_nearness_is_by_meaning() -> None:
    question = "At what hour will the railway carriage get to the station?"
    assert SHOTS[2] in shortened(TEXT, 0.3, question, coarse=1, choose="nearest")


# --- learning --------------------------------------------------------------------------------


def rows(many: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions with four demonstrations; one of them shows what to do, by one word."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(many):
        nouns = rng.choice(NOUNS.split(), 8, replace=False).tolist()
        fill = rng.choice(FILLER.split(), 12).tolist()
        pairs = [[nouns.pop(), nouns.pop()] for _ in range(4)]
        pairs[int(rng.integers(4))][1] = "translate"
        shots = [
            " ".join([*fill[i * 3 : i * 3 + 3], *pair]) + "?\nThe answer is so."
            for i, pair in enumerate(pairs)
        ]
        question = f"how many {rng.choice(NOUNS.split())} are there?"
        made.append({"question": question, "answer": "done", "demonstrations": shots})
    return made


def taught(request: Request) -> str:
    """Knows what to do when a demonstration says it."""
    *shots, _ = request.prompt.text.split("\n\n")
    return "I have done it" if any("translate" in shot for shot in shots) else "unknown"


QUICK = {"steps": 80, "batch": 6, "samples": 6, "rate": 0.01, "hidden": 32, "held": 0.25}


def learned(out: Path, encoder: Path | str, **settings: Any) -> Path:
    made = trainer("demonstrations", encoder=str(encoder), **(QUICK | {"ratio": 0.4} | settings))
    return made.train(Training(rows=rows(60), out=out, backend=ScriptedBackend(taught)))


@pytest.fixture(scope="module")
def policy(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learned(tmp_path_factory.mktemp("demonstrations"), tiny_bert)


def found(tokens: float, **settings: Any) -> float:
    """How often the word that shows what to do is kept."""
    new = rows(30, seed=5)
    left = [
        shortened("\n\n".join(row["demonstrations"]), tokens, row["question"], **settings)
        for row in new
    ]
    return sum("translate" in text for text in left) / len(new)


def test_training_finds_the_demonstration_that_helps(policy: Path) -> None:
    assert found(0.4, coarse=1, policy=str(policy)) > 0.75
    for choose in ("first", "lexical"):
        assert found(0.4, coarse=1, choose=choose) < 0.5
    figures = page(policy, "cot_influx").figures
    assert set(figures) == {"accuracy", "untrained_accuracy", "random_accuracy"}
    assert figures["accuracy"] > max(figures["untrained_accuracy"], figures["random_accuracy"])


def test_training_finds_the_words_that_help(policy: Path) -> None:
    assert found(0.55, coarse=9, policy=str(policy)) > 0.9
    assert found(0.55, coarse=9) < 0.5


def test_the_budget_pulls_the_number_of_demonstrations(tiny_bert: Path, tmp_path: Path) -> None:
    kept = []
    for ratio in (0.1, 1.0):
        folder = learned(tmp_path / str(ratio), tiny_bert, ratio=ratio, steps=20)
        model = policy_at(str(folder), "cot_influx")
        row = rows(1, seed=3)[0]
        texts = [row["question"], *row["demonstrations"]]
        asked, *shots = pooled([whole(text) for text in texts], model.encoder)
        kept.append(model.log_odds("shots", features(shots, asked)).mean())
    assert kept[0] < kept[1]


class Stopped(Exception):
    pass


def test_stopped_work_ends_as_if_it_had_not_been(tiny_bert: Path, tmp_path: Path) -> None:
    settings = {"encoder": str(tiny_bert), "steps": 9, "every": 4, "batch": 3, "samples": 2}
    backend = ScriptedBackend(taught)
    data = rows(8)

    def stop(done: int, total: int, figures: Mapping[str, float], /) -> None:
        if done == 6:
            raise Stopped

    work = trainer("demonstrations", **settings)
    work.train(Training(rows=data, out=tmp_path / "a", backend=backend))
    with pytest.raises(Stopped):
        work.train(Training(rows=data, out=tmp_path / "b", backend=backend, progress=stop))
    work.train(Training(rows=data, out=tmp_path / "b", backend=backend))
    a, b = (read_tensors(tmp_path / name / "model.safetensors") for name in "ab")
    assert {name.partition(".")[0] for name in a} == {"shots", "words"}
    assert all((a[name] == b[name]).all() for name in a)
    assert page(tmp_path / "a", "cot_influx") == page(tmp_path / "b", "cot_influx")


def test_a_sure_answer_is_worth_more(tiny_bert: Path, tmp_path: Path) -> None:
    def told(sure: float) -> float:
        rewards: list[float] = []
        backend = ScriptedBackend(
            lambda request: Completion(text=taught(request), logprobs=(np.log(0.5),)),
            capabilities=frozenset({"logprobs"}),
        )
        work = trainer(
            "demonstrations", encoder=str(tiny_bert), steps=1, batch=6, sureness=sure, pull=0
        )
        watch = lambda done, total, figures: rewards.append(figures["reward"])  # noqa: E731
        work.train(Training(rows=rows(8), out=tmp_path, backend=backend, progress=watch))
        assert all(request.logprobs for request in backend.requests)
        return rewards[0]

    assert told(0.0) == 1.0
    assert told(1.0) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("So it is 3 * 4 = 12.", "12", True),
        ("12 and then 13", "12", False),
        ("That makes $1,200.00.", "So we get 5. #### 1200", True),
        ("-5", "5", False),
        ("nothing", "5", False),
        ("It lies in New York, I think", "new york", True),
        ("It lies in York", "new york", False),
        ("7-5", "5", True),
    ],
)
def test_when_an_answer_is_right(said: str, wanted: str, right: bool) -> None:
    assert is_right(said, [wanted]) is right
    assert is_right(said, ["something else", wanted]) is right
    assert not is_right(said, [])


def test_a_policy_of_another_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tersely train demonstrations"):
        stage("cot_influx", policy=str(tmp_path)).ready()
    save(tmp_path, About(recipe="pcrl"))
    with pytest.raises(ModelError, match="'pcrl', not for 'cot_influx'"):
        shortened(TEXT, 0.5, policy=str(tmp_path))


def test_other_weights_of_the_encoder_are_told(policy: Path, tmp_path: Path) -> None:
    about = page(policy, "cot_influx").model_copy(update={"model_sha256": "0" * 64})
    save(tmp_path, about, read_tensors(policy / "model.safetensors"))
    with pytest.raises(ModelError, match="trained on other weights"):
        shortened(TEXT, 0.5, policy=str(tmp_path))


@pytest.mark.parametrize("missing", ["question", "answer", "demonstrations"])
def test_a_bad_row_is_named(missing: str, tiny_bert: Path, tmp_path: Path) -> None:
    data = rows(3)
    data[2] = {**data[2], missing: ""}
    work = trainer("demonstrations", encoder=str(tiny_bert))
    with pytest.raises(ConfigError, match=f"row 3: {missing}"):
        work.train(Training(rows=data, out=tmp_path, backend=ScriptedBackend(taught)))


@pytest.mark.parametrize("bad", [{"coarse": 0.5}, {"choose": "best"}, {"unit": "word"}])
def test_a_bad_setting_is_told(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        stage("cot_influx", **bad)
