"""Summaries that are said while they are made, made denser, and held to what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_summary import BEES, BOATS, KETTLES, TEXT, Scribe, asking, context, long, staged, summary

from tersely.compressors.summarise import Summarise
from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError, ModelError
from tersely.faithful import faithful
from tersely.inference import Inference
from tersely.middleware.drive import astream, drive, stream
from tersely.summaries import Summary
from tersely.units import split

ANSWER = f"Zorg came. {KETTLES} It was bought in 1999. {BOATS} {BEES}"


def said(
    answer: str | Callable[[Request], Any], request: Request | None = None, **settings: Any
) -> tuple[list[str], Summary]:
    """What is shown, piece by piece, and the answer."""
    backend = Scribe(answer if callable(answer) else lambda _: answer)
    made = Summarise(encoder="", aloud=True, **settings)
    steps = made.steps(request or asking(), context(backend))
    *pieces, last = stream(steps, backend)
    assert isinstance(last.completion, Summary)
    return [chunk.text for chunk in pieces], last.completion


# said while it is made


def test_sentences_are_said_as_they_come_and_only_those_the_text_bears_out() -> None:
    pieces, found = said(ANSWER, ratio=0.9)
    assert [one.strip() for one in pieces] == split(f"{KETTLES} {BOATS} {BEES}", "sentence").texts[
        :5
    ]
    assert "".join(pieces) == found.text
    assert [one.was for one in found.dropped] == ["Zorg came.", "It was bought in 1999."]


def test_a_sentence_is_said_before_the_answer_has_ended() -> None:
    heard: list[str] = []

    class Slow(Scribe):
        async def astream(self, request: Request, /) -> Any:
            async for chunk in super().astream(request):
                heard.append(chunk.text)
                yield chunk
                await asyncio.sleep(0)

    backend = Slow(lambda _: f"{KETTLES} {BEES}")

    async def first() -> tuple[str, str]:
        steps = Summarise(encoder="", aloud=True, ratio=0.9).steps(asking(), context(backend))
        async for chunk in astream(steps, backend):
            return chunk.text, "".join(heard)
        raise AssertionError

    text, until = asyncio.run(first())
    assert text == split(KETTLES, "sentence").texts[0]
    assert BEES not in until


def test_what_comes_beyond_the_length_is_neither_said_nor_made() -> None:
    pieces, found = said(f"{KETTLES} {BOATS} {BEES}", tokens=19)
    assert found.text == KETTLES == "".join(pieces)
    assert any("left out to meet the length" in note for note in found.account.notes)
    (call,) = found.account.calls
    assert 0 < call.completion < len(f"{KETTLES} {BOATS} {BEES}".split())


@given(st.integers(1, 60), st.lists(st.sampled_from(split(ANSWER, "sentence").texts), max_size=8))
def test_what_is_said_is_what_is_answered(tokens: int, sentences: list[str]) -> None:
    pieces, found = said(" ".join(sentences), tokens=tokens)
    assert "".join(pieces) == found.text
    assert found.account.made <= tokens
    checked = faithful(found.text, TEXT).sentences
    assert all(one.fate == "kept" for one in checked)


def test_all_ways_end_aloud() -> None:
    ways: list[dict[str, Any]] = [
        {"route": "refine"},
        {"route": "map_reduce", "ratio": 0.02},
        {"route": "clusters"},
        {"density": 1},
    ]
    for way in ways:
        pieces, found = said(first_half, asking(long(120)), window=512, **way)
        assert found.text
        assert "".join(pieces) == found.text


def first_half(request: Request) -> str:
    text = request.prompt.text.split("<text>\n")[-1].split("\n</text>")[0]
    texts = split(text, "sentence").texts
    return " ".join(texts[: max(len(texts) // 4, 1)])


def test_where_nothing_can_be_said_the_text_speaks_or_nothing_does() -> None:
    pieces, found = said("Zorg drank 99 cups.", ratio=0.5)
    assert "".join(pieces) == found.text != ""
    assert any("stand in" in note for note in found.account.notes)
    assert said("NONE", asking(question="Who sings?"))[1].text == ""


def test_an_error_of_the_backend_is_raised() -> None:
    with pytest.raises(BackendError, match="it is down"):
        said(lambda _: BackendError("it is down"))


# denser


def dense(answers: list[str], **settings: Any) -> tuple[Summary, Scribe]:
    backend = Scribe(lambda request: answers[min(len(backend.requests), len(answers)) - 1])
    return summary(backend, **{"tokens": 40, "retries": 0, **settings}), backend


def test_each_round_tells_more_in_the_same_length() -> None:
    told = ["The kettle is blue.", "The kettle of Ann is blue.", "Ann's kettle holds 2 litres."]
    found, backend = dense(told, density=2)
    assert found.text == told[2]
    assert [call.purpose for call in found.account.calls] == ["summary", "denser", "denser"]
    asked = backend.requests[1].prompt.text
    assert "does not tell of: " in asked
    assert told[0] in asked
    named = asked.split("does not tell of: ")[1].split(". Rewrite")[0].split("; ")
    assert 0 < len(named) <= 3
    assert all(one in TEXT for one in named)
    assert TEXT not in asked


def test_a_round_that_tells_no_more_is_not_taken() -> None:
    for worse in ("It is blue.", "Zorg has 99 kettles.", f"{KETTLES} {BOATS} {BEES}", "NONE"):
        found, backend = dense(["The kettle of Ann is blue.", worse], density=3)
        assert found.text == "The kettle of Ann is blue."
        assert len(backend.requests) == 2
        assert any("not taken" in note for note in found.account.notes)


def test_a_question_tells_what_is_missing_first() -> None:
    answers = ["The kettle is blue.", "The boat of Bob leaves Hamburg."]
    backend = Scribe(lambda request: answers[len(backend.requests) - 1])
    request = asking(question="When does the boat leave Hamburg?")
    found = summary(backend, request, tokens=40, retries=0, density=1)
    named = backend.requests[1].prompt.text.split("does not tell of: ")[1].split(". Rewrite")[0]
    assert "Hamburg" in named
    assert "Ann" not in named
    assert found.text == answers[1]


def test_there_is_no_round_where_nothing_is_missing() -> None:
    _, backend = dense(["Tea is hot.", "never asked"], density=2)
    request = asking("Tea is hot, and it is good in the morning, when rain falls on the roof.")
    backend = Scribe(lambda _: "Tea is hot.")
    assert summary(backend, request, density=2, ratio=0.5).text == "Tea is hot."
    assert len(backend.requests) == 1


def test_rounds_count_in_what_a_summary_costs() -> None:
    backend = Scribe()
    staged(backend, 200, price=0.2, density=0)
    assert len(backend.requests) == 1
    staged(backend, 200, price=0.2, density=40)
    assert len(backend.requests) == 1


# what follows


@pytest.fixture(scope="module")
def judge(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of natural language inference that takes one thing alone to follow: itself."""
    return judging(tiny_bert, tmp_path_factory.mktemp("judge"))


def judging(encoder: Path, folder: Path, labels: tuple[str, ...] = ("no", "ENTAILMENT")) -> Path:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(3)
    named = dict(enumerate(labels))
    config = BertConfig.from_pretrained(encoder, num_labels=len(labels), id2label=named)
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder


SAID = ("there are many apples", "the bread is short", "salt and rice are words")


def test_a_judge_reads_as_transformers_does(judge: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    raw = AutoModelForSequenceClassification.from_pretrained(judge)
    tokenizer = AutoTokenizer.from_pretrained(judge)
    ask = Inference(str(judge))
    for one in SAID:
        read = tokenizer(SAID[0], one, return_tensors="pt")
        with torch.no_grad():
            wanted = raw(**read).logits.softmax(-1)[0, 1]
        assert ask.chance(one, SAID[0]) == pytest.approx(float(wanted), abs=0.02)


def test_a_long_source_is_cut_and_the_sentence_is_not(judge: Path) -> None:
    ask = Inference(str(judge))
    long_ = " ".join(SAID) * 40
    assert ask.chance(SAID[0], long_) == pytest.approx(ask.chance(SAID[0], long_ + " milk"))
    assert ask.chance(SAID[0], long_) != pytest.approx(ask.chance(SAID[1], long_), abs=1e-6)


def test_what_does_not_follow_is_dropped_and_told(judge: Path) -> None:
    backend = Scribe(lambda _: "The boat of Bob leaves Hamburg.", name="judged")
    _, talk = staged(backend, 200, TEXT * 8, judge=str(judge), entailment=1.0)
    told = "summary: dropped 'The boat of Bob leaves Hamburg.': the source says something else"
    assert told in talk.said


def test_a_model_that_is_no_judge_is_told(tiny_bert: Path, tmp_path: Path) -> None:
    other = judging(tiny_bert, tmp_path, ("good", "bad"))
    with pytest.raises(ModelError, match="good, bad"):
        Inference(str(other)).chance("a", "b")
    with pytest.raises(ModelError, match="no trained classifier of pairs"):
        Inference(str(tiny_bert)).chance("a", "b")


def test_what_follows_by_meaning_takes_an_encoder() -> None:
    with pytest.raises(ConfigError, match="tersely models pull minilm"):
        summary(Scribe(), entailment=0.4)


@pytest.mark.model
def test_by_meaning_what_is_about_something_else_is_dropped_and_told() -> None:
    pytest.importorskip("sentence_transformers")
    strays = "The boat carries grain to Oslo. The kettle rains on the honey of Monday."
    backend = Scribe(lambda _: strays, name="strays")
    made = Summarise(encoder="minilm", entailment=0.6, ratio=0.9, retries=0)
    found = drive(made.steps(asking(), context(backend)), backend)
    assert isinstance(found, Summary)
    assert found.text == "The boat carries grain to Oslo."
    (dropped,) = found.dropped
    assert dropped.reason == "the source says something else"
