"""A tiny encoder of random weights, which knows some words and all letters."""

from __future__ import annotations

from pathlib import Path

from tersely.artefact import About

FILLER = "please kindly just really very quite simply some rather perhaps maybe also well now then"
NOUNS = "apples pears bread milk tea salt rice beans corn eggs"
TELLING = "translate summarise sort french german short formal words list table keep lines"
OTHERS = "question answer is the of and to in a how many what there are so q : . , ? = + - *"


def make(folder: Path) -> Path:
    """Write it into a folder."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    known = [
        *f"{FILLER} {NOUNS} {TELLING} {OTHERS}".split(),
        *letters,
        *(f"##{c}" for c in letters),
    ]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *known]))}
    tokenizer = BertWordPieceTokenizer(vocabulary)
    BertTokenizerFast(tokenizer_object=tokenizer._tokenizer, model_max_length=64).save_pretrained(
        folder
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(7)
    model = BertModel(config)
    model.embeddings.position_embeddings.weight.data *= 0.1  # what is said tells more than where
    model.save_pretrained(folder)
    return folder


def untrained(encoder: Path, folder: Path, recipe: str) -> Path:
    """Write a policy for a recipe that has learned nothing."""
    from tersely.compressors.policy import new_policy, save_policy

    widths = {"pcrl": {"words": 1}, "cot_influx": {"shots": 2, "words": 1}}
    policy = new_policy(str(encoder), widths[recipe], hidden=32, seed=0)
    return save_policy(policy, folder, About(recipe=recipe))
