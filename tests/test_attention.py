"""Attention from the question: the model's own, ended early, and the heads that see relevance."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tersely.artefact import PAGE
from tersely.budget import Budget
from tersely.calibration import KNOWN, heads_of, place_of
from tersely.compressors.heads import ASKED, attention, check, looks
from tersely.compressors.riddles import riddles
from tersely.contracts import Context
from tersely.errors import ConfigError, ModelError, OutOfTime
from tersely.middleware.cli import app
from tersely.middleware.pipeline import Pipeline, compress
from tersely.registry import trainer
from tersely.tokens import counter
from tersely.training import Training
from tersely.weights import causal_lm, encode

TEXT = topics.topics["with"]
NEEDLE = "The treasure is buried beneath the old oak."
ASK = "Where is the treasure buried?"


def context(**settings: object) -> Context:
    return Context(count=counter(), **settings)  # type: ignore[arg-type]


@pytest.mark.model
def test_it_is_the_model_s_own_attention(smollm2: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    lm = causal_lm("smollm2", precision="float32")
    eager = AutoModelForCausalLM.from_pretrained(
        smollm2, dtype=torch.float32, attn_implementation="eager"
    )
    text, _ = encode(TEXT[:600], lm)
    short, _ = encode("Two words.", lm)
    tail, _ = encode(ASKED.format(question=ASK), lm)
    heads = [(18, 7), (15, 6), (17, 3), (0, 8)]
    found = looks(lm, [text, short], tail, heads)
    for ids, mine in zip((text, short), found, strict=True):
        row = torch.tensor([[lm.tokenizer.bos_token_id, *ids, *tail]])
        with torch.no_grad():
            weights = eager(row, output_attentions=True).attentions
        for (layer, head), scores in zip(heads, mine, strict=True):
            own = weights[layer][0, head, -len(tail) :, 1 : len(ids) + 1].sum(0).numpy()
            assert np.abs(own - scores).max() < 1e-3


@pytest.mark.model
def test_layers_after_the_last_head_are_not_computed(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = causal_lm()
    run: list[int] = []
    for at, layer in enumerate(lm.model.base_model.layers):
        plain = layer.forward
        monkeypatch.setattr(
            layer, "forward", lambda *a, _at=at, _f=plain, **k: run.append(_at) or _f(*a, **k)
        )
    text, _ = encode("Some words that are read.", lm)
    looks(lm, [text], text, [(3, 0), (1, 2)])
    assert run == [0, 1, 2]


@pytest.mark.model
def test_the_sentence_that_answers_is_kept(smollm2: Path) -> None:
    text = f"{TEXT[:1500]} {NEEDLE} {TEXT[1500:3000]}"
    made = compress(text, "attention", budget=0.25, question=ASK)
    assert NEEDLE in made.output


@pytest.mark.model
def test_texts_longer_than_a_window_are_read_whole(smollm2: Path) -> None:
    texts = [TEXT, f"{TEXT}\n\n{NEEDLE}", "", "x" * 3000]
    scores = attention(texts, ASK, "smollm2", KNOWN["smollm2"], context())
    for text, one in zip(texts, scores, strict=True):
        assert one.ends.max(initial=0) == len(text)
        assert np.isfinite(one.scores).all()
        assert (one.scores > 0).all()
    at = texts[1].index("buried beneath")
    inside = (scores[1].starts >= at - 20) & (scores[1].ends <= at + 40)
    assert scores[1].scores[inside].mean() > 5 * scores[1].scores.mean()


@pytest.mark.model
def test_scores_are_remembered(smollm2: Path) -> None:
    first = attention([TEXT], ASK, "smollm2", KNOWN["smollm2"], context())
    spent = context(deadline=0.0, budget=Budget(ms=1))
    again = attention([TEXT], ASK, "smollm2", KNOWN["smollm2"], spent)
    assert again[0] is first[0]
    with pytest.raises(OutOfTime):
        attention([TEXT], "Another question?", "smollm2", KNOWN["smollm2"], spent)


def test_without_a_question_nothing_is_read() -> None:
    pipeline = Pipeline({"attention": {"model": "smollm2"}}, budget=0.5)
    made = pipeline.run(TEXT, question="")
    assert made.output == TEXT
    assert any("question" in decision.reason for decision in made.report.decisions)


def test_riddles_hold_their_answer_once() -> None:
    rows = list(riddles(12, seed=3))
    assert all(str(row["context"]).count(str(row["answer"])) == 1 for row in rows)
    assert rows == list(riddles(12, seed=3))
    assert rows != list(riddles(12, seed=4))


def test_heads_are_found_kept_and_taken(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path / "home"))
    name = str(tiny_llama)
    with pytest.raises(ModelError, match="tersely models calibrate"):
        heads_of(name)
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(short(row)) for row in riddles(8, 0)))
    done = CliRunner().invoke(app, ["models", "calibrate", name, str(data), "--json"])
    assert done.exit_code == 0, done.output
    about = json.loads(done.stdout)["about"]
    assert place_of(name).joinpath(PAGE).is_file()
    assert [list(head) for head in heads_of(name)] == about["settings"]["heads"]
    assert about["figures"]["worth"] >= about["figures"]["worth of the best alone"]
    made = compress(TEXT[:800], {"attention": {"model": name}}, budget=0.5, question=ASK)
    assert made.report.met
    page = place_of(name) / PAGE
    page.write_text(page.read_text().replace(about["model_sha256"], "0" * 64))
    with pytest.raises(ModelError, match="other weights"):
        heads_of(name)


def short(row: object) -> dict[str, str]:
    """A riddle that the tiny model can read: the sentences around the answer."""
    from collections.abc import Mapping

    assert isinstance(row, Mapping)
    text, answer = str(row["context"]), str(row["answer"])
    at = text.index(answer)
    return {
        "question": str(row["question"]),
        "context": text[max(0, at - 60) : at + len(answer) + 60],
        "answer": answer,
    }


def test_a_stopped_calibration_goes_on(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [short(row) for row in riddles(14, 1)]
    finder = trainer("heads", model=str(tiny_llama))

    def stop(done: int, total: int, figures: object, /) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finder.train(Training(rows=rows, out=tmp_path / "a", progress=stop))
    assert (tmp_path / "a" / "checkpoint").is_dir()
    finder.train(Training(rows=rows, out=tmp_path / "a"))
    finder.train(Training(rows=rows, out=tmp_path / "b"))
    pages = [json.loads((tmp_path / one / PAGE).read_text()) for one in "ab"]
    assert pages[0] == pages[1]
    assert not (tmp_path / "a" / "checkpoint").exists()


def test_rows_without_their_answer_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"question": "a?", "context": "Nothing here.", "answer": "elsewhere"}]
    with pytest.raises(ConfigError, match="no row holds its answer"):
        trainer("heads", model=str(tiny_llama)).train(Training(rows=rows, out=tmp_path))


def test_a_model_without_such_attention_is_refused(tmp_path: Path) -> None:
    from types import SimpleNamespace

    lm = SimpleNamespace(model=SimpleNamespace(base_model=SimpleNamespace(layers=[])))
    with pytest.raises(ModelError, match="Llama"):
        check(lm)  # type: ignore[arg-type]
