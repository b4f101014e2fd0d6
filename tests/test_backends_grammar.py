"""Answers that follow a grammar, and answers that repeat themselves less."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tersely.backends import grammar as grammars
from tersely.backends.batch import Batch
from tersely.backends.decode import ends_of
from tersely.backends.gbnf import lark
from tersely.backends.grammar import Guide, guide
from tersely.backends.langchain import LangChainBackend
from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Backend, Request
from tersely.errors import ConfigError
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM, causal_lm
from tersely.wishes import refuse_unable, wishes

LIST = r"root ::= item{2,4}" "\n" r'item ::= [1-9] ". " [a-z]{1,6} "\n"'
SKELETON = r"""
root  ::= "1. " point "2. " point "3. " point
point ::= word (" " word){0,4} "\n"   # three to five words
word  ::= [A-Za-z]{2,12}
"""


def ask(text: str, **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **{"max_tokens": 40, **wishes})


# --- what a grammar means --------------------------------------------------------------------


@dataclass(frozen=True)
class Same:
    """The same language, in GBNF and as a regular expression of Python."""

    gbnf: str
    regex: str


def literal(text: str) -> Same:
    return Same(json.dumps(text, ensure_ascii=False), re.escape(text))


units = st.one_of(
    st.text('ab.*/é\n"\\]', min_size=1, max_size=4).map(literal),
    st.sampled_from(
        [
            Same("[a-c]", "[a-c]"),
            Same("[^a\\n]", "[^a\\n]"),
            Same("[&~b]", "[&~b]"),
            Same("[\\u00e9\\u0041]", "[éA]"),
            Same(r'"\x41\u00E9\U0001F44D"', "Aé👍"),
            Same(".", "(?s:.)"),
        ]
    ),
)


def bigger(part: st.SearchStrategy[Same]) -> st.SearchStrategy[Same]:
    times = st.sampled_from(
        [("?", "?"), ("*", "*"), ("+", "+"), ("{2}", "{2}"), ("{1,3}", "{1,3}")]
    )
    few = st.lists(part, min_size=1, max_size=3)
    return st.one_of(
        few.map(lambda all: Same(*(" ".join(p.gbnf for p in all), "".join(p.regex for p in all)))),
        few.map(
            lambda all: Same(
                f"({' | '.join(p.gbnf for p in all)})", f"(?:{'|'.join(p.regex for p in all)})"
            )
        ),
        st.tuples(part, times).map(
            lambda one: Same(f"({one[0].gbnf}){one[1][0]}", f"(?:{one[0].regex}){one[1][1]}")
        ),
    )


parts = st.recursive(units, bigger, max_leaves=6)


def whole(part: Same, recursive: bool) -> Same:
    """Rules of a part, with or without a rule that speaks of itself."""
    if recursive:
        return Same(f'root ::= "!" root | the-Part\nthe-Part ::= {part.gbnf}', f"!*{part.regex}")
    return Same(f"root ::= the-Part\nthe-Part ::= {part.gbnf}\n", part.regex)


def allowed(following: Guide, ends: frozenset[int]) -> list[int]:
    """The tokens with which an answer may go on."""
    import torch

    scores = following.bend(torch.zeros(320))
    return [i for i, score in enumerate(scores.tolist()) if score == 0 and i not in ends]


@given(part=parts, recursive=st.booleans(), data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_every_text_of_the_grammar_may_be_said(
    lm: CausalLM, part: Same, recursive: bool, data: st.DataObject
) -> None:
    same = whole(part, recursive)
    text = data.draw(st.from_regex(re.compile(same.regex), fullmatch=True))
    following = guide(lm, same.gbnf)
    for token in lm.tokenizer.encode(text, add_special_tokens=False):
        assert following.finish is None
        assert token in allowed(following, ends_of(lm))
        following.take(token)
    ends = following.bend(_zeros())[[*ends_of(lm)]].tolist()
    assert following.finish == "stop" or 0 in ends


@given(part=parts, recursive=st.booleans(), rolls=st.lists(st.integers(0, 999), min_size=12))
@settings(max_examples=60)
def test_nothing_else_may_be_said(
    lm: CausalLM, part: Same, recursive: bool, rolls: list[int]
) -> None:
    same = whole(part, recursive)
    following, made = guide(lm, same.gbnf), []
    for roll in rolls:
        may = allowed(following, ends_of(lm))
        ends = following.bend(_zeros())[[*ends_of(lm)]].tolist()
        if 0 in ends:
            assert re.fullmatch(same.regex, lm.tokenizer.decode(made))
        if not may:
            break
        made.append(may[roll % len(may)])
        following.take(made[-1])
        if following.finish:
            assert following.finish == "stop"
            assert re.fullmatch(same.regex, lm.tokenizer.decode(made))
            break


def _zeros() -> Any:
    import torch

    return torch.zeros(320)


def test_a_text_may_end_where_a_repeated_character_could_go_on(lm: CausalLM) -> None:
    following = guide(lm, 'root ::= head "b"\nhead ::= [a-z]*')
    for token in lm.tokenizer.encode("abb", add_special_tokens=False):
        following.take(token)
    assert following.bend(_zeros())[[*ends_of(lm)]].tolist() == [0.0]


def test_brackets_close_as_they_were_opened(lm: CausalLM) -> None:
    following = guide(lm, 'root ::= "(" root* ")"')
    for token in lm.tokenizer.encode("(()())", add_special_tokens=False):
        assert following.finish is None
        following.take(token)
    assert following.finish == "stop"
    open_ = guide(lm, 'root ::= "(" root* ")"')
    open_.take(lm.tokenizer.encode("(", add_special_tokens=False)[0])
    said = {lm.tokenizer.decode([token]) for token in allowed(open_, ends_of(lm))}
    assert said == {"(", ")"}


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ('rot ::= "a"', "has no rule 'root', with which an answer begins"),
        ("root ::= word", "has no rule 'word', and speaks of it"),
        ('root ::= "a', "can't be read: Unexpected end of input at line 1"),
        ("root ::= [a", "can't be read"),
        ("root = 1", "can't be read: Expected ::="),
        ('root ::= "a"{3,1}', "can't be followed: .*range end must be >= start"),
        ("root ::= root", "rule 'root' never ends"),
        ('root ::= "a" | more\nmore ::= "b" more+', "rule 'more' never ends"),
        (r'root ::= "\ud800"', "is no character"),
        (r"root ::= [z-a]", "can't be followed"),
        ("root ::= " + "(" * 5000 + '"a"' + ")" * 5000, "can't be read"),
    ],
)
def test_the_fault_of_a_grammar_is_named(backend: LocalBackend, grammar: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"the grammar.*{message}"):
        backend.complete([ask("Hello"), ask("Hello", grammar=grammar)])


def test_rules_are_told_apart_whatever_their_names() -> None:
    found = lark('root ::= fooBar foo-bar start\nfooBar ::= "a"\nfoo-bar ::= "b"\nstart ::= "c"')
    assert found.count("/a/") == found.count("/b/") == found.count("/c/") == 1
    assert len(re.findall(r"^R\d: ", found, re.MULTILINE)) == 4


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_follows_its_grammar_and_ends_with_it(
    backend: LocalBackend, temperature: float
) -> None:
    request = ask("The quick", grammar=LIST, temperature=temperature, seed=3, max_tokens=90)
    (done,) = backend.complete([request])
    assert re.fullmatch(r"([1-9]\. [a-z]{1,6}\n){2,4}", done.text)
    assert done.finish_reason == "stop"
    assert "".join(chunk.text for chunk in backend.stream(request)) == done.text


def test_an_answer_is_cut_where_it_is_too_long_and_where_it_is_to_stop(
    backend: LocalBackend,
) -> None:
    long = ask("The quick", grammar='root ::= "a"{200}', max_tokens=5)
    (done,) = backend.complete([long])
    assert (done.finish_reason, done.completion_tokens) == ("length", 5)
    (done,) = backend.complete([replace(long, grammar='root ::= "abc;def"', stop=(";",))])
    assert (done.text, done.finish_reason) == ("abc", "stop")
    (done,) = backend.complete([replace(long, grammar='root ::= ""')])
    assert (done.text, done.finish_reason, done.completion_tokens) == ("", "stop", 0)


def test_neighbours_keep_their_own_grammar_or_none(backend: LocalBackend) -> None:
    asked = [
        ask("12 times a day"),
        ask("12 times a day", grammar=LIST),
        ask("12 times a day", grammar='root ::= "yes" | "no"', repetition_penalty=1.3),
        ask("12 times a day", repetition_penalty=1.3),
    ]
    alone = [backend.complete([request])[0].text for request in asked]
    assert [done.text for done in backend.complete(asked)] == alone
    assert len({*alone}) == 4


def test_log_probabilities_stay_those_of_the_model(backend: LocalBackend, lm: CausalLM) -> None:
    import torch

    bent = ask("12 times", grammar='root ::= "yes" | "no"', logprobs=True, repetition_penalty=1.5)
    answers = backend._answers([bent], lm)
    batch = Batch(lm)
    batch.enter(answers)
    while batch.answers:
        batch.step()
    ids = torch.tensor([[*answers[0].prompt, *answers[0].made]])
    with torch.inference_mode():
        whole = lm.model(ids).logits[0].log_softmax(-1)
    first = len(answers[0].prompt) - 1
    expected = [float(whole[first + i, token]) for i, token in enumerate(answers[0].made)]
    assert answers[0].logprobs == pytest.approx(expected, abs=1e-4)
    assert "".join(answers[0].tokens) in {"yes", "no"}


def test_a_mixture_follows_the_grammar_of_its_first_request(backend: LocalBackend) -> None:
    grammar = 'root ::= "no" | "yes" | "perhaps"'
    asked = [ask("12 times", grammar=grammar, repetition_penalty=1.2), ask("Ein Tag")]
    done = backend.mix(asked, [0.5, 0.5])
    assert (done.text in {"no", "yes", "perhaps"}, done.finish_reason) == (True, "stop")


def test_a_grammar_is_made_ready_once(backend: LocalBackend) -> None:
    grammars._matcher.cache_clear()
    backend.complete([ask(text, grammar=LIST) for text in ("The", "12", "Ein")])
    assert grammars._matcher.cache_info().misses == 1


def test_nothing_is_followed_where_no_grammar_is_given(backend: LocalBackend, lm: CausalLM) -> None:
    (answer,) = backend._answers([ask("The quick", grammar=" \n")], lm)
    assert answer.guide is None
    assert not answer.bends


@pytest.mark.model
def test_the_embedded_model_writes_a_skeleton(smollm2: Path) -> None:
    backend = LocalBackend(precision="float32")
    request = ask("How can I sleep better?", grammar=SKELETON, repetition_penalty=1.15)
    (done,) = backend.complete([replace(request, max_tokens=60)])
    assert re.fullmatch(r"(?:\d\. [A-Za-z]+(?: [A-Za-z]+){0,4}\n){3}", done.text)
    assert done.finish_reason == "stop"


# --- repetition penalty ----------------------------------------------------------------------


def generated(lm: CausalLM, prompt: list[int], tokens: int, penalty: float) -> str:
    """What transformers' own generate makes of a prompt, greedily."""
    import torch

    ids = torch.tensor([prompt])
    made = lm.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        repetition_penalty=penalty,
    )
    answer = lm.tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True)
    return str(answer).rstrip("�")


@given(
    texts=st.lists(st.text("Theqick 12é", min_size=1, max_size=12), min_size=1, max_size=3),
    penalties=st.lists(st.sampled_from([0.8, 1.0, 1.15, 2.0, 30.0]), min_size=3, max_size=3),
)
@settings(max_examples=20)
def test_a_penalty_is_that_of_transformers(
    backend: LocalBackend, lm: CausalLM, texts: list[str], penalties: list[float]
) -> None:
    asked = [
        ask(text, repetition_penalty=penalty, max_tokens=12)
        for text, penalty in zip(texts, penalties, strict=False)
    ]
    for request, done in zip(asked, backend.complete(asked), strict=True):
        prompt = backend.encode(request)
        assert done.text == generated(lm, prompt, 12, request.repetition_penalty)


@pytest.mark.model
def test_a_penalty_is_that_of_transformers_in_the_embedded_model(smollm2: Path) -> None:
    backend = LocalBackend(precision="float32")
    lm = causal_lm("smollm2", precision="float32")
    request = ask("Name three colours.", repetition_penalty=1.2, max_tokens=24)
    (done,) = backend.complete([request])
    assert done.text == generated(lm, backend.encode(request), 24, 1.2)
    (plain,) = backend.complete([replace(request, repetition_penalty=1.0)])
    assert plain.text != done.text


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan"), float("inf")])
def test_a_penalty_is_a_number_above_zero(backend: LocalBackend, penalty: float) -> None:
    with pytest.raises(ConfigError, match=f"repetition_penalty must be above 0.*was {penalty}"):
        backend.complete([ask("The", repetition_penalty=penalty)])


# --- backends that can't ---------------------------------------------------------------------


def unable() -> list[Backend]:
    from langchain_core.language_models import FakeListChatModel

    chat = LangChainBackend(
        FakeListChatModel(responses=["yes"]), can=frozenset({"grammar", "stream"})
    )
    return [ScriptedBackend(["yes"] * 9), chat]


@pytest.mark.parametrize("wish", [{"grammar": LIST}, {"repetition_penalty": 1.1}])
async def test_who_can_not_keep_to_a_wish_refuses_it(wish: dict[str, Any]) -> None:
    (name,) = wish
    for backend in unable():
        assert not backend.capabilities & {"grammar", "repetition_penalty"}
        request = ask("Yes?", **wish)
        with pytest.raises(ConfigError, match=f"has no {name}: use the local"):
            backend.complete([request])
        with pytest.raises(ConfigError, match=f"has no {name}"):
            [*backend.stream(request)]
        with pytest.raises(ConfigError, match=f"has no {name}"):
            await backend.acomplete([request])
        with pytest.raises(ConfigError, match=f"has no {name}"):
            [chunk async for chunk in backend.astream(request)]
        assert backend.complete([ask("Yes?")])[0].text == "yes"


def test_a_script_that_says_it_can_is_asked() -> None:
    able = ScriptedBackend(["1. a\n"], capabilities=frozenset({"grammar"}))
    assert able.complete([ask("?", grammar=LIST)])[0].text == "1. a\n"
    with pytest.raises(ConfigError, match="has no repetition_penalty"):
        able.complete([ask("?", grammar=LIST, repetition_penalty=2.0)])


def test_wishes_are_what_differs_from_an_ordinary_request() -> None:
    assert wishes(ask("?")) == []
    assert wishes(ask("?", grammar=LIST, repetition_penalty=0.9)) == [
        "grammar",
        "repetition_penalty",
    ]
    with pytest.raises(ConfigError, match="has no grammar: wait, or leave grammar out"):
        refuse_unable(ask("?", grammar=LIST), {"repetition_penalty"}, mend="wait")
    refuse_unable(ask("?", grammar=LIST), LocalBackend.capabilities)
