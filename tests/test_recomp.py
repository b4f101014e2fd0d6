"""RECOMP: sentences nearest to the question, each encoded once; and training the encoder."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from tersely.budget import Budget
from tersely.compressors import sentences
from tersely.compressors.recomp import Recomp
from tersely.compressors.sentences import similarity, vectors
from tersely.contracts import Context
from tersely.errors import ConfigError, ModelError, OutOfTime
from tersely.middleware.pipeline import Pipeline, compress
from tersely.prompt import Prompt, Segment
from tersely.registry import trainer
from tersely.select import MARK
from tersely.tokens import counter
from tersely.training import Training
from tersely.units import split
from tersely.weights import Encoder, encoder

QUESTION = "Where is the treasure buried?"
ANSWER = "The gold lies hidden beneath the old oak."
TEXT = f"{topics.topics['with'][:2500]}\n\n{ANSWER} {topics.topics['while']}"

WORDS = "the gold lies hidden under old oak kettle holds water boils at night who where what when"


def context(limit: int | None = None) -> Context:
    return Context(count=counter("gpt-4o"), limit=limit)


def asked(text: str, question: str = QUESTION) -> Prompt:
    return Prompt((Segment(text=text),), question=question)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny sentence encoder of random weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = list("abcdefghijklmnopqrstuvwxyz")
    entries = [*special, *WORDS.split(), *letters, *(f"##{c}" for c in letters)]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    base = tmp_path_factory.mktemp("tiny-bert")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **names
    ).save_pretrained(base)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(base)
    folder = str(tmp_path_factory.mktemp("tiny-encoder"))
    SentenceTransformer(str(base), device="cpu").save(folder, create_model_card=False)
    return folder


@pytest.fixture
def watched(tiny_encoder: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that an encoder reads from here on."""
    sentences.MEMORY.clear()
    read: list[str] = []
    real = Encoder.vectors

    def vectors(self: Encoder, texts: Sequence[str], *, batch: int = 64) -> Any:
        read.extend(texts)
        return real(self, texts, batch=batch)

    monkeypatch.setattr(Encoder, "vectors", vectors)
    return read


@pytest.mark.model
def test_the_nearest_sentence_is_kept_by_its_meaning() -> None:
    for ratio in (0.5, 0.05):
        made = compress(TEXT, Recomp(), budget=ratio, question=QUESTION, strict=True)
        assert ANSWER in made.output
        assert made.report.met


@pytest.mark.model
def test_sentences_stay_whole_and_in_order() -> None:
    made = compress(TEXT, "recomp", budget=0.4, question=QUESTION).output
    left = "".join(made.split())
    for sentence in split(TEXT, "sentence").texts:
        left = left.removeprefix("".join(sentence.split()))
    assert left == ""


@pytest.mark.model
def test_below_the_threshold_nothing_is_kept_though_there_is_room() -> None:
    text = f"{topics.topics['with'][:2500]} {ANSWER}"
    for budget in (0.9, None):
        made = compress(text, Recomp(threshold=0.35), budget=budget, question=QUESTION)
        assert made.output.strip() == ANSWER


@pytest.mark.model
def test_nothing_that_helps_leaves_a_mark() -> None:
    text = topics.topics["with"][:2500]
    made = compress(text, Recomp(threshold=0.9), budget=0.5, question=QUESTION)
    assert made.output == MARK


def test_the_best_few_are_kept(tiny_encoder: str) -> None:
    prompt = asked(TEXT)
    texts = split(TEXT, "sentence").texts
    scores = similarity(texts, QUESTION, tiny_encoder, context())
    made = Recomp(model=tiny_encoder, most=3)(prompt, context())
    best = sorted(np.argsort(-scores, kind="stable")[:3].tolist())
    assert split(made.text, "sentence").texts == [texts[i] for i in best]


def test_what_is_marked_outlives_every_threshold(tiny_encoder: str) -> None:
    prompt = Prompt((Segment(text=TEXT, spans=((10, 40),)),), question=QUESTION)
    made = Recomp(model=tiny_encoder, threshold=1.0)(prompt, context())
    assert made.text.strip() == TEXT[10:40].strip()


def test_the_threshold_is_a_cosine(tiny_encoder: str) -> None:
    texts = split(TEXT, "sentence").texts
    scores = similarity(texts, QUESTION, tiny_encoder, context())
    edge = float(np.sort(scores)[-4])
    for document in (0.0, 2.0):
        stage = Recomp(model=tiny_encoder, threshold=edge, document=document)
        left = split(stage(asked(TEXT), context()).text, "sentence").texts
        assert left == [text for text, score in zip(texts, scores, strict=True) if score >= edge]


def test_without_a_question_the_beginning_is_kept(tiny_encoder: str) -> None:
    made = Recomp(model=tiny_encoder, threshold=0.99)(asked(TEXT, ""), context(100))
    assert made.text[:200] == TEXT[:200]
    assert context().tokens(made) <= 100


def test_the_best_sentence_lifts_its_paragraph(tiny_encoder: str) -> None:
    text = "\n\n".join(topics.topics[name][:1500] for name in ("with", "while", "lambda"))
    spread = []
    for document in (0.0, 50.0):
        made = Recomp(model=tiny_encoder, document=document)(asked(text), context(250))
        spread.append(len(split(made.text, "paragraph")))
    assert spread[1] < spread[0]


def test_a_title_is_read_with_its_sentences(watched: list[str], tiny_encoder: str) -> None:
    text = "The Old Oak\nIt is very old. Its wood is hard.\n\nIt has no title. Just prose here."
    Recomp(model=tiny_encoder, titles=True)(asked(text), context(5))
    assert sorted(watched) == sorted(
        [
            QUESTION,
            "The Old Oak",
            "The Old Oak\nIt is very old.",
            "The Old Oak\nIts wood is hard.",
            "It has no title.",
            "Just prose here.",
        ]
    )


def test_cosines_are_the_model_s_own(tiny_encoder: str) -> None:
    texts = ["the gold", "", "the kettle holds water", "\ud800", "the gold", "x" * 5000]
    sentences.MEMORY.clear()
    scores = similarity(texts, QUESTION, tiny_encoder, context())
    alone = encoder(tiny_encoder, precision="float32")
    question = alone.vectors([QUESTION])[0]
    wanted = [float(alone.vectors([text])[0] @ question) for text in texts]
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert similarity([], QUESTION, tiny_encoder, context()).shape == (0,)


def test_each_text_is_encoded_once(watched: list[str], tiny_encoder: str) -> None:
    texts = [f"the kettle holds {i}" for i in range(300)] * 2
    first = vectors(texts, tiny_encoder, context())
    assert sorted(watched) == sorted(set(texts))
    watched.clear()
    np.testing.assert_array_equal(vectors(texts, tiny_encoder, context()), first)
    assert watched == []


def test_a_model_s_prompts_stand_before_question_and_texts(
    watched: list[str], tiny_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = encoder(tiny_encoder, precision="float32").model
    monkeypatch.setattr(model, "prompts", {"query": "query: ", "passage": "passage: "})
    similarity(["the gold"], "who", tiny_encoder, context())
    assert sorted(watched) == ["passage: the gold", "query: who"]


def test_what_is_remembered_is_bounded(
    tiny_encoder: str, monkeypatch: pytest.MonkeyPatch, watched: list[str]
) -> None:
    from tersely.compressors.memory import Memory

    monkeypatch.setattr(sentences, "MEMORY", Memory(32 * 10))
    texts = [f"the kettle holds {i}" for i in range(20)]
    assert vectors(texts, tiny_encoder, context()).shape == (20, 32)
    watched.clear()
    vectors(texts, tiny_encoder, context())
    assert 10 <= len(watched) <= 20


def test_the_time_budget_stops_it_between_batches(
    watched: list[str], tiny_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([0.0, *[5.0] * 9])
    monkeypatch.setattr("tersely.contracts.monotonic", lambda: next(moments))
    hurried = replace(context(), deadline=1.0, budget=Budget(ms=1))
    with pytest.raises(OutOfTime):
        vectors(["a", "the gold", "the old oak"], tiny_encoder, hurried)
    assert watched == ["a"]


def test_work_that_takes_too_long_is_not_begun(
    watched: list[str], tiny_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentences.PACE, "seconds", lambda model, work: 1e6)
    with pytest.raises(OutOfTime, match="would take"):
        vectors(["the gold"], tiny_encoder, replace(context(), deadline=monotonic() + 1000))
    assert watched == []


def test_a_missing_encoder_is_told_when_the_pipeline_is_built(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        Pipeline(Recomp(model=str(tmp_path / "none")))


# training

PAIRS = {
    "who": "the kettle holds water",
    "where": "under the old oak",
    "what": "the gold lies hidden",
    "when": "boils at night",
}
ROWS: list[dict[str, Any]] = [
    {
        "question": f"{word} {extra}".strip(),
        "positive": f"{answer} {extra}".strip(),
        "negatives": [f"{other} {extra}".strip() for other in PAIRS.values() if other != answer],
    }
    for extra in ("", "a", "b", "c", "d")
    for word, answer in PAIRS.items()
]


def lessons(tiny_encoder: str, **settings: Any) -> Any:
    fixed: dict[str, Any] = {"steps": 60, "batch": 8, "rate": 3e-3, "holdout": 0.2, "every": 20}
    return trainer("sentences", model=tiny_encoder, **fixed | settings)


def test_training_ranks_held_out_answers_higher(tiny_encoder: str, tmp_path: Path) -> None:
    before = encoder(tiny_encoder).vectors(["the gold"])
    out = lessons(tiny_encoder).train(Training(rows=ROWS, out=tmp_path / "out"))
    page = json.loads((out / "tersely.json").read_text())
    assert page["recipe"] == "recomp"
    assert page["rows"] == len(ROWS)
    assert page["figures"]["mrr_after"] > page["figures"]["mrr_before"]
    assert (out / "model.safetensors").is_file()
    assert not list(out.rglob("*.bin"))
    assert not (out / "checkpoint").exists()
    np.testing.assert_array_equal(encoder(tiny_encoder).vectors(["the gold"]), before)

    answers = list(PAIRS.values())
    scores = similarity(answers, "where", str(out), context())
    assert answers[int(np.argmax(scores))] == PAIRS["where"]


class Stopped(Exception):
    pass


def test_training_that_was_stopped_ends_as_if_it_had_not_been(
    tiny_encoder: str, tmp_path: Path
) -> None:
    from tersely.artefact import TENSORS, read_tensors

    def stop(done: int, total: int, figures: Any, /) -> None:
        if done == 13:
            raise Stopped

    made = []
    for name, stops in (("whole", False), ("resumed", True)):
        task = Training(rows=ROWS, out=tmp_path / name)
        work = lessons(tiny_encoder, steps=20, every=5)
        if stops:
            with pytest.raises(Stopped):
                work.train(replace(task, progress=stop))
            assert (task.out / "checkpoint").is_dir()
        made.append(read_tensors(work.train(task) / TENSORS))
    assert made[0].keys() == made[1].keys()
    for name, tensor in made[0].items():
        np.testing.assert_allclose(tensor, made[1][name], atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS[:3], "at least 4 rows, were 3"),
        ([*ROWS, {"question": "who", "positive": " "}], "row 21: positive is a text"),
        ([{"question": 7, "positive": "x"}], "row 1: question is a text that is not empty, was 7"),
        ([{"question": "q", "positive": "x", "negatives": "no"}], "negatives is a list of texts"),
    ],
)
def test_bad_rows_are_told(
    rows: list[dict[str, Any]], said: str, tiny_encoder: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        lessons(tiny_encoder).train(Training(rows=rows, out=tmp_path))


def test_a_right_sentence_is_never_counted_as_wrong(tiny_encoder: str) -> None:
    from tersely.compressors.train_sentences import Example, _twins

    batch = [Example("q", "a", ()), Example("q", "b", ()), Example("r", "a", ("c",))]
    assert _twins(batch, ["a", "b", "a", "c"]) == [
        [False, True, True, False],
        [True, False, True, False],
        [True, False, False, False],
    ]
