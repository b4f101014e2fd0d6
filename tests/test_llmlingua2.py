"""What the classifier keeps: its own numbers, whatever its tokenizer, and what is forced."""

from __future__ import annotations

import pydoc_data.topics as topics
import re
import shutil
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from conftest import CORPUS
from hypothesis import given
from hypothesis import strategies as st

from tersely.budget import Budget
from tersely.compressors import chances as module
from tersely.compressors.chances import MEMORY, Chances, chances, chances_of, tokens_of, windows
from tersely.contracts import Context
from tersely.errors import ModelError, OutOfTime
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.tokens import counter
from tersely.units import split
from tersely.weights import token_classifier

TEXT = topics.topics["with"]
CONTEXT = Context(count=counter("gpt-4o"))


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As XLM-R is: SentencePiece's pieces, and positions that begin behind the padding."""
    import torch
    from tokenizers import SentencePieceUnigramTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import (
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForTokenClassification,
    )

    folder = tmp_path_factory.mktemp("tiny-roberta")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trained = SentencePieceUnigramTokenizer()
    trained.train_from_iterator(
        CORPUS * 9, vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    trained._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, **names).save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=trained.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=66,
        pad_token_id=1,
        initializer_range=0.3,
    )
    torch.manual_seed(7)
    XLMRobertaForTokenClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=["tiny_classifier", "tiny_roberta"])
def folder(request: pytest.FixtureRequest) -> Path:
    """A classifier of each sort of tokenizer, in a folder whose name says nothing."""
    found: Path = request.getfixturevalue(request.param)
    return found


def pruned(text: str, folder: Path, ratio: float = 0.5, **settings: Any) -> str:
    prompt = Prompt((Segment(text=text),))
    context = CONTEXT.within(int(CONTEXT.tokens(prompt) * ratio))
    made = stage("llmlingua2", model=str(folder), **settings)(prompt, context)
    assert context.tokens(made) <= (context.limit or 0)
    return made.text


# chances


def test_chances_are_the_model_s_own(folder: Path) -> None:
    import torch

    classifier = token_classifier(str(folder))
    text = "The quick brown fox jumps over 12 Brücken."
    (found,) = chances([text], classifier, CONTEXT)
    encoded = classifier.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    with torch.no_grad():
        logits = classifier.model(encoded["input_ids"]).logits.float()
    offsets = encoded["offset_mapping"][0, 1:-1].numpy()
    solid = [bool(text[start:end].strip()) for start, end in offsets.tolist()]
    wanted = logits.softmax(-1)[0, 1:-1, 1].numpy()[solid]
    assert len(found) == len(wanted)
    assert found.scores == pytest.approx(wanted, abs=0.01)
    assert found.ends.tolist() == offsets[solid, 1].tolist()


def test_padding_changes_nothing(folder: Path) -> None:
    classifier = token_classifier(str(folder), precision="float32")
    texts = [CORPUS[0], CORPUS[0][:20], "fox"]
    together = chances(texts, classifier, CONTEXT)
    for text, found in zip(texts, together, strict=True):
        (alone,) = chances([text], classifier, CONTEXT)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)


def test_the_longest_window_fits_the_model(folder: Path) -> None:
    classifier = token_classifier(str(folder))
    assert (
        classifier.max_length
        == {"bert": 128, "xlm-roberta": 64}[classifier.model.config.model_type]
    )
    tokens = tokens_of(TEXT, classifier)
    cut = windows(TEXT, tokens, classifier.max_length - 2)
    assert cut[0][0] == 0
    assert cut[-1][1] == len(tokens.ids)
    assert [end for _, end in cut[:-1]] == [start for start, _ in cut[1:]]
    assert max(end - start for start, end in cut) <= classifier.max_length - 2
    (found,) = chances([TEXT], classifier, CONTEXT)
    assert 0 < found.scores.min() < found.scores.max() < 1


def test_windows_are_cut_between_sentences_else_words(folder: Path) -> None:
    classifier = token_classifier(str(folder))
    for text, unit in (("The fox is lazy. " * 200, "sentence"), ("fox dog " * 400, "word")):
        tokens = tokens_of(text, classifier)
        starts = set(split(text, unit).starts.tolist())
        cut = windows(text, tokens, 60)
        assert len(cut) > 2
        assert {int(tokens.starts[start]) for start, _ in cut} <= starts


@given(st.text(max_size=400))
def test_every_text_has_chances(tiny_classifier: Path, text: str) -> None:
    (found,) = chances([text], token_classifier(str(tiny_classifier)), CONTEXT)
    assert (np.diff(found.starts) >= 0).all()
    assert (found.starts < found.ends).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    for pool in ("mean", "max"):
        worth = found.of(split(text, "word"), pool)
        assert ((worth >= 0) & (worth <= 1)).all()


def test_a_word_is_worth_the_mean_or_the_highest_of_its_pieces() -> None:
    found = Chances(np.array([0, 3, 6, 8]), np.array([3, 5, 8, 9]), np.array([0.2, 0.6, 0.5, 0.1]))
    words = split("abcde fgh ij", "word")
    assert found.of(words, "mean").tolist() == pytest.approx([0.4, 0.3, 0])
    assert found.of(words, "max").tolist() == pytest.approx([0.6, 0.5, 0])


def test_a_text_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MEMORY.clear()
    sizes = []
    read = module._read

    def noted(batch: Any, classifier: Any) -> Any:
        sizes.append(sum(len(window.ids) for window in batch))
        return read(batch, classifier)

    monkeypatch.setattr(module, "_read", noted)
    first = chances_of([TEXT, TEXT], str(folder), CONTEXT)
    assert sum(sizes) == len(tokens_of(TEXT, token_classifier(str(folder))).ids)
    sizes.clear()
    again = chances_of([TEXT], str(folder), CONTEXT)
    assert sizes == []
    assert again[0] is first[0] is first[1]


def test_time_is_looked_at(folder: Path) -> None:
    MEMORY.clear()
    context = Context(count=counter(), budget=Budget(ms=1), deadline=monotonic() - 1)
    with pytest.raises(OutOfTime):
        chances_of([TEXT], str(folder), context)


# what is no classifier


def test_no_model_named_tells_both_ways_to_one() -> None:
    with pytest.raises(ModelError, match=r"microsoft/llmlingua-2.*tersely train pruner"):
        stage("llmlingua2").ready()  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="tersely train pruner"):
        stage("llmlingua2")(Prompt((Segment(text=TEXT),)), CONTEXT.within(50))


def test_an_encoder_without_a_trained_head_is_refused(
    tiny_classifier: Path, tmp_path: Path
) -> None:
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tiny_classifier).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_classifier).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no trained token classifier: it lacks classifier"):
        pruned(TEXT, tmp_path)


def test_more_than_two_classes_are_refused(tiny_classifier: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(
        tiny_classifier, num_labels=9, ignore_mismatched_sizes=True
    )
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_classifier).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="into 9 classes"):
        pruned(TEXT, tmp_path)


def test_pickled_weights_are_never_opened(tiny_classifier: Path, tmp_path: Path) -> None:
    import torch

    copy = Path(shutil.copytree(tiny_classifier, tmp_path / "model"))
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no token classifier that can be loaded"):
        pruned(TEXT, copy)


# the stage


def test_the_words_of_highest_chance_stay(folder: Path) -> None:
    text = " ".join(f"{a}{b}{a}" for a in "bcdfghjklm" for b in "aeiou")
    words = split(text, "word")
    worth = chances_of([text], str(folder), CONTEXT)[0].of(words)
    left = set(pruned(text, folder, 0.4).split())
    kept = np.array([word in left for word in words.texts])
    assert 5 < kept.sum() < 40
    assert worth[kept].mean() > worth[~kept].mean()
    best = np.argsort(-worth, kind="stable")[: kept.sum() // 2]
    assert kept[best].all()


def test_words_stay_whole_and_in_order(folder: Path) -> None:
    words, left = TEXT.split(), pruned(TEXT, folder, 0.4).split()
    at = iter(words)
    assert all(any(word in other for other in at) for word in left)


def test_forced_words_go_first_and_only_whole_ones(folder: Path) -> None:
    text = "The other men went there. " * 30 + "The the other. "
    left = pruned(text, folder, 0.5, forced=("the",))
    assert re.findall(r"\bthe\b", left) == ["the"]
    every = len(re.findall(r"\bThe\b", text))
    assert len(re.findall(r"\bThe\b", pruned(text, folder, 0.5, forced=("The",)))) == every


def test_forced_signs_are_kept_apart_from_their_words(folder: Path) -> None:
    text = "Is it? Was it so? Who said it, and when? See https://x.org/?a=1 for it. " * 9
    left = pruned(text, folder, 0.5, forced=("?",))
    assert left.count("?") >= 27
    assert set(re.findall(r"\S*x\.org\S*", left)) <= {"https://x.org/?a=1"}


def test_forced_signs_never_break_the_budget(folder: Path) -> None:
    pruned("What? " * 200, folder, 0.1, forced=("?",))


def test_consecutive_forced_signs_stand_once(folder: Path) -> None:
    text = "Is this so? Was that ever? Who says it? Why would they? " * 10
    many = pruned(text, folder, 0.35, forced=("?",))
    once = pruned(text, folder, 0.35, forced=("?",), drop_consecutive=True)
    assert re.search(r"\?\s*\?", many)
    assert not re.search(r"\?\s*\?", once)
    assert len(re.findall(r"\w+", once)) >= len(re.findall(r"\w+", many))


def test_consecutive_signs_of_a_fact_or_a_kept_span_stay(folder: Path) -> None:
    text = "Really? ? " * 20 + "See ftp://a//b and keep: why?? ? " + "What? ? " * 20
    start = text.index("keep:")
    prompt = Prompt((Segment(text=text, spans=((start, start + 13),)),))
    context = CONTEXT.within(int(CONTEXT.tokens(prompt) * 0.6))
    settings = {"forced": ("?", "/"), "drop_consecutive": True, "model": str(folder)}
    made = stage("llmlingua2", **settings)(prompt, context).text
    assert "keep: why?? ?" in made
    assert "ftp://a//b" in made
    assert "Really? ?" not in made


def test_words_with_digits_go_first(folder: Path) -> None:
    text = "It is not so with the men of 1745 or the ships, and never was for B52 there. " * 12
    left = pruned(text, folder, 0.25, digits=True)
    assert left.count("1745") == left.count("B52") == 12


def test_line_breaks_between_kept_words_stay(folder: Path) -> None:
    text = "one two three four five\n" * 30
    left = pruned(text, folder, 0.5, forced=("\n", "one"))
    assert left.count("\n") >= 29


def test_the_settings_are_checked() -> None:
    from tersely.errors import ConfigError

    for wrong in ({"pool": "least"}, {"forced": ("",)}, {"unit": "sentence"}):
        with pytest.raises(ConfigError):
            stage("llmlingua2", **wrong)
