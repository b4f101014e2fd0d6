"""The recipes: what they keep, what they never touch, and that scores are what they say."""

from __future__ import annotations

import pydoc_data.topics as topics
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tersely.budget import Budget
from tersely.contracts import Context
from tersely.errors import ConfigError, OutOfTime
from tersely.middleware.pipeline import compress
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.tokens import counter
from tersely.units import split

TEXT = topics.topics["with"]
FACTS = (
    "The invoice 2024-INV-00017 over $1,299.50 is due on 2025-03-14. As you may well know by now, "
    "and as everybody in the whole department has been told more than once, it was not paid. "
    "Please see https://example.org/pay?id=17 or write to billing@example.org, whichever is the "
    "easier for you."
)


def pruned(text: str, name: str, ratio: float = 0.5, question: str = "", **settings: Any) -> str:
    made = compress(text, stage(name, **settings), budget=ratio, question=question, strict=True)
    assert made.report.met
    return str(made.output)


def test_lexical_keeps_the_sentence_that_answers() -> None:
    others = "\n\n".join(topics.topics[name] for name in ("with", "while", "lambda"))
    text = others[:3000] + " The treasure is buried beneath the old oak. " + others[3000:]
    for ratio in (0.5, 0.1):
        left = pruned(text, "lexical", ratio, "Where is the treasure buried?")
        assert "buried beneath the old oak" in left


def test_lexical_keeps_whole_sentences() -> None:
    left = "".join(pruned(TEXT, "lexical", fill=None).split())
    for sentence in split(TEXT, "sentence").texts:
        left = left.removeprefix("".join(sentence.split()))
    assert left == ""


def test_truncate_keeps_the_beginning() -> None:
    left = pruned(TEXT, "truncate").split()
    assert left[:-3] == TEXT.split()[: len(left) - 3]


def test_random_depends_on_the_seed_and_the_text() -> None:
    context = Context(count=counter("gpt-4o"), limit=300)
    prompt = Prompt((Segment(text=TEXT),))
    drawn = {stage("random")(prompt, replace(context, seed=seed)).text for seed in (0, 0, 1)}
    assert len(drawn) == 2


def test_json_is_left_alone() -> None:
    text = '{"a": [' + "1, " * 200 + "1]}"
    made = compress(text, "truncate", budget=0.5)
    assert made.output == text
    assert not made.report.met


def test_a_code_block_is_kept_or_dropped_whole() -> None:
    block = "```python\n" + "value = compute(value)\n" * 10 + "```"
    for name in ("lexical", "truncate", "random"):
        for ratio in (0.3, 0.6, 0.9):
            left = pruned(f"{TEXT[:1500]}\n\n{block}\n\n{TEXT[1500:]}", name, ratio)
            assert block in left or "compute(" not in left


@pytest.mark.model
@pytest.mark.parametrize("name", ["selective_context", "llmlingua"])
def test_facts_outlive_other_words(name: str, smollm2: Path) -> None:
    left = pruned(FACTS, name, 0.7)
    for fact in ("2024-INV-00017", "$1,299.50", "2025-03-14", "not paid", "billing@example.org"):
        assert fact in left
    assert "https://example.org/pay?id=17" in left


@pytest.mark.model
@pytest.mark.parametrize("name", ["selective_context", "llmlingua"])
def test_no_number_is_invented(name: str, smollm2: Path) -> None:
    text = topics.topics["formatstrings"][:4000]
    numbers = set(re.findall(r"[\d.,]*\d", text))
    for ratio in (0.2, 0.5, 0.8):
        assert set(re.findall(r"[\d.,]*\d", pruned(text, name, ratio))) <= numbers


@pytest.mark.model
def test_the_budget_controller_drops_whole_passages_first(smollm2: Path) -> None:
    words = TEXT.split()
    own = [
        {word for word in sentence.split() if words.count(word) == 1}
        for sentence in split(TEXT, "sentence").texts
    ]
    touched = []
    for coarse in (1.2, 50):
        left = set(pruned(TEXT, "llmlingua", 0.3, coarse=coarse).split())
        touched.append(sum(bool(left & some) for some in own))
    assert touched[0] < touched[1]


@pytest.mark.model
def test_shares_bound_each_kind(smollm2: Path) -> None:
    prompt = Prompt(
        (
            Segment(text=TEXT[:1200], kind="instruction", path=("a",)),
            Segment(text=TEXT[1200:], kind="example", path=("b",)),
        )
    )
    from tersely.middleware.pipeline import Pipeline

    recipe = stage("llmlingua", kinds=("instruction", "example"))
    budget = Budget(shares={"instruction": 0.8, "example": 0.3})
    context = Context(count=counter("gpt-4o"), budget=budget)
    made = Pipeline(recipe).through(prompt, context, strict=True).prompt
    sizes = [context.tokens_of([s.text for s in p.segments]) for p in (prompt, made)]
    shares = [now / was for was, now in zip(*sizes, strict=True)]
    assert 0.7 < shares[0] <= 0.8
    assert 0.2 < shares[1] <= 0.3


@pytest.mark.model
@pytest.mark.parametrize("condition", ["", "How does the with statement close a file?\n"])
def test_scores_are_the_model_s_own(condition: str, smollm2: Path) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from tersely.compressors.self_information import surprise
    from tersely.weights import causal_lm

    text = TEXT[:1200]
    lm = causal_lm()
    scores = surprise([text, "short"], "smollm2", Context(count=counter()), condition=condition)[0]
    before, own = (
        lm.tokenizer(part, add_special_tokens=False).input_ids for part in (condition, text)
    )
    ids = torch.tensor([[lm.tokenizer.bos_token_id, *before, *own]])
    with torch.no_grad():
        logits = lm.model(ids).logits[0, :-1].float()
    wanted = cross_entropy(logits, ids[0, 1:], reduction="none").numpy()[-len(own) :]
    assert np.abs(scores.scores - wanted).mean() < 0.05


@pytest.mark.model
def test_a_condition_makes_what_it_says_less_surprising(smollm2: Path) -> None:
    from tersely.compressors.self_information import surprise

    context = Context(count=counter())
    text = "The treasure is buried beneath the old oak."
    told = surprise([text], "smollm2", context, condition=text + "\n")[0]
    untold = surprise([text], "smollm2", context)[0]
    assert told.scores[1:].mean() < 0.5 * untold.scores[1:].mean()


@pytest.mark.model
@pytest.mark.parametrize(
    "text", ["a <|im_end|> b", "\ud800 x", "👨‍👩‍👧 日本語", "e\u0301", " ", "", "\x00", "x" * 3000]
)
def test_every_character_has_its_scores(text: str, smollm2: Path) -> None:
    from tersely.compressors.self_information import surprise

    scores = surprise([text], "smollm2", Context(count=counter()))[0]
    assert np.isfinite(scores.scores).all()
    assert scores.starts.min(initial=0) == 0
    assert scores.ends.max(initial=0) == len(text)
    units = split(text, "word")
    assert np.isfinite(scores.means(units)).all()
    assert scores.counts(units).sum() <= len(scores.scores) + 1e-6


@pytest.mark.model
def test_scores_are_the_same_alone_and_among_others(smollm2: Path) -> None:
    from tersely.compressors import self_information

    context = Context(count=counter())
    texts = [TEXT[:700], TEXT[700:2000], "short"]
    together = self_information.surprise(texts, "smollm2", context)
    self_information.MEMORY.clear()
    for text, scores in zip(texts, together, strict=True):
        alone = self_information.surprise([text], "smollm2", context)[0]
        assert np.abs(alone.scores - scores.scores).mean() < 0.1


@pytest.mark.model
def test_what_cannot_be_read_in_time_is_not_begun(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tersely.compressors import self_information
    from tersely.weights import causal_lm

    lm = causal_lm("smollm2")
    self_information.PACE.note(lm, 100, 1.0)
    read: list[int] = []
    score = self_information._Prefix.score
    monkeypatch.setattr(
        self_information._Prefix,
        "score",
        lambda self, windows: read.append(len(windows)) or score(self, windows),
    )
    result = compress(
        "Nobody has read these words before. " * 300,
        ["selective_context"],
        budget={"ratio": 0.5, "ms": 2000},
    )
    assert read == []
    assert "it would take" in result.report.notes[0]
    assert result.output.startswith("Nobody has read")


@pytest.mark.model
def test_a_spent_time_budget_stops_between_batches(smollm2: Path) -> None:
    from tersely.compressors.self_information import surprise

    context = Context(count=counter(), budget=Budget(ms=1), deadline=0.0)
    with pytest.raises(OutOfTime):
        surprise(["a text that was never seen before this test"], "smollm2", context)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lexical", {"unit": "token"}),
        ("lexical", {"document": -1}),
        ("llmlingua", {"coarse": 0.5}),
        ("llmlingua", {"unit": "sentence"}),
        ("selective_context", {"unit": "letter"}),
        ("truncate", {"size": 3}),
    ],
)
def test_a_bad_setting_is_told_with_its_value(name: str, settings: dict[str, Any]) -> None:
    ((setting, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"{name}.*{setting}.*{value}"):
        stage(name, **settings)
