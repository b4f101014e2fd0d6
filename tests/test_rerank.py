"""Rerankers of both sorts, tiny ones of random weights made here."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import little_bert
import numpy as np
import pytest

from tersely.errors import ConfigError, ModelError
from tersely.rag.rerank import Reranker, Reranks, as_reranker, kind_of

QUESTION = "how many apples are there"
TEXTS = [
    "apples and pears",
    "keep the table short",
    "",
    "milk and bread and tea " * 40,
    "10 apples",
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return little_bert.make(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def cross(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(encoder, tmp_path_factory.mktemp("cross"), labels=1)


@pytest.fixture(scope="module")
def late(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sentence_transformers import MultiVectorEncoder

    folder = tmp_path_factory.mktemp("late")
    MultiVectorEncoder(str(encoder), local_files_only=True).save_pretrained(str(folder))
    return folder


def classifier(encoder: Path, folder: Path, labels: int) -> Path:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(3)
    config = BertConfig.from_pretrained(encoder, num_labels=labels)
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("which", ["cross", "late"])
def test_scores_are_those_of_each_pair_by_itself(
    which: str, request: pytest.FixtureRequest
) -> None:
    model = Reranker(model=str(request.getfixturevalue(which)), precision="float32", batch=2)
    together = model.scores(QUESTION, TEXTS)
    alone = [float(model.scores(QUESTION, [text])[0]) for text in TEXTS]
    assert together.shape == (len(TEXTS),)
    assert len(set(together.tolist())) > 2
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_cross_encoder_reads_as_transformers_does(cross: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cross)
    read = tokenizer(QUESTION, TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        raw = AutoModelForSequenceClassification.from_pretrained(cross)(**read).logits
    found = Reranker(model=str(cross), precision="float32").scores(QUESTION, TEXTS[:1])
    assert found[0] == pytest.approx(float(torch.sigmoid(raw)), abs=1e-5)


def test_late_interaction_adds_up_the_nearest_tokens(late: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(late), local_files_only=True)
    asked, text = model.encode_query(QUESTION), model.encode_document(TEXTS[0])
    found = Reranker(model=str(late), precision="float32").scores(QUESTION, TEXTS[:1])
    assert found[0] == pytest.approx(float((asked @ text.T).max(dim=1).values.sum()), abs=1e-4)


def test_threads_share_a_model(cross: Path) -> None:
    model = Reranker(model=str(cross), precision="float32")
    alone = model.scores(QUESTION, TEXTS)
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: model.scores(QUESTION, TEXTS), range(8)))
    for run in runs:
        np.testing.assert_allclose(run, alone, atol=1e-6)


def test_nothing_to_rerank_loads_nothing() -> None:
    assert Reranker(model="no/such-model").scores(QUESTION, []).shape == (0,)


def test_kinds_are_told_by_the_files(cross: Path, late: Path, encoder: Path) -> None:
    assert kind_of(cross) == "cross-encoder"
    assert kind_of(late) == "multi-vector"
    with pytest.raises(ModelError, match="BertModel, which can't rerank"):
        kind_of(encoder)


def test_several_labels_are_no_score(encoder: Path, tmp_path: Path) -> None:
    folder = classifier(encoder, tmp_path, labels=3)
    with pytest.raises(ModelError, match="3 labels"):
        Reranker(model=str(folder)).ready()


def test_a_damaged_model(tmp_path: Path) -> None:
    told = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="no reranker that can be loaded"):
        Reranker(model=str(tmp_path)).ready()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json can't be read"):
        Reranker(model=str(tmp_path)).ready()


def test_what_a_reranker_is_made_from() -> None:
    given = Reranker(model="x/y", batch=4)
    assert as_reranker(given) is given
    assert as_reranker("x/y") == Reranker(model="x/y")
    assert as_reranker({"model": "x/y", "batch": 4}) == given
    assert as_reranker(None) is None
    assert as_reranker("") is None
    assert isinstance(given, Reranks)
    with pytest.raises(ConfigError, match="batch"):
        as_reranker({"model": "x/y", "batch": 0})
    with pytest.raises(ConfigError, match="was 7"):
        as_reranker(7)
