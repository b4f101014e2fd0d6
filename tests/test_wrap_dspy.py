"""DSPy's language models, wrapped: programs ask with fewer tokens and read the same answers."""

from __future__ import annotations

import copy
import json
import os
import pickle
import warnings
from typing import Any
from uuid import uuid4

import pytest
from first_words import LONG, SHORT, first_words
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Loopback

import tersely
from tersely.errors import ConfigError
from tersely.middleware.adapter_dspy import READER, closed, opened
from tersely.middleware.pipeline import Pipeline

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # DSPy may open LiteLLM
pytest.importorskip("dspy")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dspy
    from dspy.lm15 import Message, Request

PASSAGES = [
    f"The kettle {i} holds 1.{i} litres. It was made in Graz in 19{i:02}. " * 9 for i in range(9)
]
ANSWER = "[[ ## answer ## ]]\n1.7 litres\n\n[[ ## completed ## ]]"


class Answer(dspy.Signature):  # type: ignore[misc]
    """Answer from the passages."""

    passages: list[str] = dspy.InputField()
    notes: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


ASKED: dict[str, Any] = {
    "passages": PASSAGES,
    "notes": f"Notes.\n\n{LONG} {LONG} {LONG} {LONG}",
    "question": "How much does kettle 7 hold?",
}


def lm(server: Loopback, **given: Any) -> Any:
    server.answer = ANSWER
    base = {"api_base": f"{server.url}/v1", "api_key": "key", "cache": False, "num_retries": 0}
    return dspy.LM("openai/gpt-4o", **base | given)


def said(server: Loopback) -> str:
    (seen,) = server.take()
    (last,) = seen.body["messages"][-1:]
    content = last["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


ANSWERS = {
    "ChatAdapter": ANSWER,
    "JSONAdapter": '{"answer": "1.7 litres"}',
    "XMLAdapter": "<answer>\n1.7 litres\n</answer>",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_long_fields_are_shortened_and_nothing_else(server: Loopback, name: str) -> None:
    adapter = getattr(dspy, name)()
    wrapped = tersely.wrap(lm(server), Pipeline("lexical", budget=0.3))
    server.answer = ANSWERS[name]
    with dspy.context(lm=wrapped, adapter=adapter):
        assert dspy.Predict(Answer)(**ASKED).answer == "1.7 litres"
    plain = adapter.format(Answer, [], ASKED)[-1]["content"]
    sent = said(server)
    assert len(sent) < len(plain) / 2
    assert "How much does kettle 7 hold?" in sent and "1.7 litres" in sent
    for frame in ("passages", "notes", "question", "Respond with"):
        assert sent.count(frame) == plain.count(frame)
    report = tersely.last_report()
    assert report is not None and report.exact and report.saved > 0
    kinds = {decision.kind for decision in report.decisions if decision.action == "compressed"}
    assert kinds == {"context"}


def test_a_list_of_texts_stays_json(server: Loopback) -> None:
    with dspy.context(lm=tersely.wrap(lm(server), Pipeline("lexical", budget=0.3))):
        dspy.Predict(Answer)(**ASKED)
    listed = said(server).partition("[[ ## passages ## ]]\n")[2].partition("\n\n[[ ##")[0]
    assert len(json.loads(listed)) == len(PASSAGES)


async def test_the_same_without_blocking(server: Loopback) -> None:
    wrapped = tersely.wrap(lm(server), first_words())
    with dspy.context(lm=wrapped):
        assert (await dspy.Predict(Answer).acall(**ASKED)).answer == "1.7 litres"
    assert "word9" not in said(server)
    report = tersely.last_report()
    assert report is not None and report.saved > 0


def test_a_text_and_a_request_of_dspys_own(server: Loopback) -> None:
    wrapped = tersely.wrap(lm(server), first_words())
    text = "\n\n".join(["What is said of kettle 7?", *PASSAGES])
    wrapped(text)
    assert len(said(server)) < len(text) / 2
    request = Request(model="openai/gpt-4o", messages=(Message.user(text),))
    assert wrapped(request).text == ANSWER
    assert len(said(server)) < len(text) / 2


def test_it_is_a_model_of_its_own_type(server: Loopback) -> None:
    model = lm(server)
    wrapped = tersely.wrap(model, first_words())
    assert isinstance(wrapped, type(model)) and type(model) is dspy.LM
    assert wrapped.history is not model.history and wrapped.dump_state() == model.dump_state()
    for made in (
        wrapped.copy(temperature=0.5),
        copy.copy(wrapped),
        copy.deepcopy(wrapped),
        pickle.loads(pickle.dumps(wrapped)),
    ):
        with dspy.context(lm=made):
            dspy.Predict(Answer)(**ASKED)
        assert "word9" not in said(server)
    with dspy.context(lm=model):
        dspy.Predict(Answer)(**ASKED)
    assert LONG in said(server)


def test_wrapping_again_and_wishes(server: Loopback) -> None:
    once = tersely.wrap(lm(server), first_words())
    twice = tersely.wrap(once, first_words(), mode="off")
    assert type(twice) is type(once)
    for model, extra in ((twice, {}), (once, {"tersely": {"mode": "off"}})):
        with dspy.context(lm=model):
            dspy.Predict(Answer)(config=extra, **ASKED)
        assert LONG in said(server)
    with pytest.raises(ConfigError, match="sot can't take"):
        tersely.wrap(lm(server), sot="auto")


def test_a_session_counts_every_call(server: Loopback) -> None:
    with (
        tersely.session(uuid4().hex) as session,
        dspy.context(lm=tersely.wrap(lm(server), first_words())),
    ):
        dspy.Predict(Answer)(**ASKED)
    assert session.requests == 1 and session.saved > 0


def test_demonstrations_are_left_alone(server: Loopback) -> None:
    """They are what was said before, unless a stage takes history."""
    predict = dspy.Predict(Answer)
    predict.demos = [dspy.Example(**ASKED, answer="1.7 litres")]
    with dspy.context(lm=tersely.wrap(lm(server), Pipeline("lexical", budget=0.3))):
        predict(**ASKED)
    (seen,) = server.take()
    assert LONG in str(seen.body["messages"][1]["content"])
    assert LONG not in str(seen.body["messages"][-1]["content"])


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
values = st.one_of(texts, st.lists(texts, max_size=3).map(json.dumps), st.just("[[ ## x ## ]]\n"))


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=4), texts, st.booleans())
def test_opening_and_closing_changes_nothing(fields: list[str], tail: str, marked: bool) -> None:
    parts = [
        f"<f{i}>\n{value}\n</f{i}>" if marked else f"[[ ## f{i} ## ]]\n{value}"
        for i, value in enumerate(fields)
    ]
    message = {"role": "user", "content": "\n\n".join([*parts, tail])}
    taken = opened([message])
    assert closed(taken) == [message]
    assert message["content"] or not READER.read(taken).segments


def test_short_words_are_the_question() -> None:
    (message,) = dspy.ChatAdapter().format(Answer, [], ASKED)[-1:]
    read = READER.read(opened([message]))
    assert read.question == ASKED["question"]
    assert {s.text for s in read.segments if s.kind == "context" and not s.locked} == {
        *PASSAGES,
        ASKED["notes"],
    }
    assert SHORT not in read.question
