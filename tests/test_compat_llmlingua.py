"""The interface of llmlingua: what its callers pass, what they get, and what must not go wrong."""
# ruff: noqa: RUF001 - texts of many scripts

from __future__ import annotations

import ast
import json
import pydoc_data.topics as topics
import re
import socket
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.compat.llmlingua import PromptCompressor
from tersely.errors import ConfigError, ModelError
from tersely.middleware.compat_settings import NAMES, STRUCTURED, TRAINED, budgeted
from tersely.middleware.compat_tags import parts_of
from tersely.tokens import counter

DOCUMENTS = [topics.topics["with"][:900], topics.topics["while"][:700], topics.topics["if"][:700]]
QUESTION = "What runs when the loop ends?"
LONG = {"question": QUESTION, "rank_method": "longllmlingua"}
FACTS = (
    "The invoice 2024-INV-00017 over $1,299.50 is due on 2025-03-14. As everybody in the whole"
    " department has been told more than once by now, it was not paid. The plate is ZH-882771."
)
RECORDS = json.dumps([{"id": f"ord_{i:05}", "sku": f"A-{i}", "n": i / 7} for i in range(30)])

count = counter("gpt-3.5-turbo")
each_method = pytest.mark.parametrize("method", [{}, LONG], ids=["llmlingua", "longllmlingua"])


@pytest.fixture(scope="module")
def compressor(tiny_llama: Path) -> PromptCompressor:
    return PromptCompressor(str(tiny_llama))


@pytest.fixture(scope="module")
def trained(tiny_classifier: Path) -> PromptCompressor:
    return PromptCompressor(str(tiny_classifier), use_llmlingua2=True)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever opens a connection fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("it asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield


def words(text: str) -> set[str]:
    return set(text.split())


@each_method
def test_the_answer_is_the_mapping_that_callers_expect(
    compressor: PromptCompressor, method: dict[str, Any]
) -> None:
    made = compressor.compress_prompt(DOCUMENTS, instruction="Answer.", rate=0.4, **method)
    assert list(made) == [
        "compressed_prompt",
        "origin_tokens",
        "compressed_tokens",
        "ratio",
        "rate",
        "saving",
    ]
    before = count("\n\n".join(["Answer.", *DOCUMENTS, method.get("question", "")]).strip())
    assert made["origin_tokens"] == before
    assert made["compressed_tokens"] == count(made["compressed_prompt"])
    assert made["ratio"] == f"{before / made['compressed_tokens']:.1f}x"
    assert made["rate"] == f"{100 * made['compressed_tokens'] / before:.1f}%"
    assert made["saving"] == f", Saving {before - made['compressed_tokens']} tokens."
    first, *rest = made["compressed_prompt"].split("\n\n")
    assert first == "Answer."
    assert not method or rest[-1].strip() == QUESTION
    assert compressor(DOCUMENTS, "Answer.", rate=0.4, **method) == made


@each_method
@pytest.mark.parametrize("target", [20, 77, 150, 300])
def test_target_token_is_met_exactly(
    compressor: PromptCompressor, method: dict[str, Any], target: int
) -> None:
    made = compressor.compress_prompt(DOCUMENTS, target_token=target, **method)
    assert 0.9 * target <= made["compressed_tokens"] <= target


@each_method
@pytest.mark.parametrize("text", [FACTS, "It was a dark and stormy night, as they always are."])
def test_short_texts_are_compressed_too(
    compressor: PromptCompressor, method: dict[str, Any], text: str
) -> None:
    made = compressor.compress_prompt([text], rate=0.6, **method)
    assert made["compressed_tokens"] <= 0.6 * made["origin_tokens"]


@each_method
def test_neither_the_last_segment_nor_the_last_sentence_is_special(
    compressor: PromptCompressor, method: dict[str, Any]
) -> None:
    text = "\n\n".join(DOCUMENTS)
    for target in (0, 1, 30):
        with warnings.catch_warnings(action="ignore"):  # the question alone is longer
            made = compressor.compress_prompt([text], target_token=target, **method)
        left = made["compressed_prompt"].removesuffix(QUESTION).strip()
        assert count(left) <= max(target, 1)
        assert text[-80:] not in left
    half = compressor.compress_prompt([text], rate=0.5, **method)["compressed_prompt"]
    assert text[-300:] not in half


def test_a_rate_of_1_keeps_every_character(compressor: PromptCompressor) -> None:
    made = compressor.compress_prompt(DOCUMENTS, rate=1.0)
    assert made["compressed_prompt"] == "\n\n".join(DOCUMENTS)


@each_method
@pytest.mark.parametrize("context", [[], [""], [" \n"], "", ["", "  ", ""], None])
def test_empty_and_blank_contexts(
    compressor: PromptCompressor, method: dict[str, Any], context: Any
) -> None:
    made = compressor.compress_prompt(context, instruction="Answer.", **method)
    assert made["compressed_prompt"].startswith("Answer.")
    nothing = compressor.compress_prompt(context)
    assert nothing["compressed_prompt"] == ""
    assert (nothing["compressed_tokens"], nothing["ratio"]) == (0, "1.0x")


@each_method
def test_special_tokens_are_text(compressor: PromptCompressor, method: dict[str, Any]) -> None:
    text = "before <|endoftext|> and <|im_end|> after. " * 10
    made = compressor.compress_prompt([text], **method)
    left = made["compressed_prompt"].removesuffix(QUESTION)
    assert words(left) <= words(text)


@each_method
@pytest.mark.parametrize("rate", [0.3, 0.5, 0.8])
def test_numbers_and_ids_stay_whole(
    compressor: PromptCompressor, method: dict[str, Any], rate: float
) -> None:
    left = compressor.compress_prompt([FACTS], rate=rate, **method)["compressed_prompt"]
    left = left.removesuffix(QUESTION)
    whole = set(re.findall(r"[\w$][\w.,-]*\d", FACTS))
    assert set(re.findall(r"[\w$][\w.,-]*\d", left)) <= whole


@each_method
@pytest.mark.parametrize(
    "text",
    [
        "日本語のテキストです。短い文もあります！" * 8,
        "今天天气很好，我们去公园。" * 12,
        "👨‍👩‍👧‍👦👍🏽🇩🇪 ok " * 20,
    ],
)
def test_characters_stay_whole(
    compressor: PromptCompressor, method: dict[str, Any], text: str
) -> None:
    made = compressor.compress_prompt([text], **method)
    left = made["compressed_prompt"].removesuffix(QUESTION)
    assert "\ufffd" not in left
    assert left.strip()
    assert set(left) <= set(text) | {"\n"}
    assert set(regex.findall(r"\X", left)) <= {*regex.findall(r"\X", text), "\n"}


@each_method
def test_json_stays_as_it_is(compressor: PromptCompressor, method: dict[str, Any]) -> None:
    with warnings.catch_warnings(action="ignore"):
        made = compressor.compress_prompt([DOCUMENTS[0], RECORDS], rate=0.3, **method)
    assert RECORDS in made["compressed_prompt"]


def test_it_is_said_when_what_may_not_change_is_too_long(compressor: PromptCompressor) -> None:
    with pytest.warns(UserWarning, match=r"tokens may not change.*no room in 50"):
        made = compressor.compress_prompt([DOCUMENTS[0], RECORDS], target_token=50)
    rest = made["compressed_prompt"].replace(RECORDS, "")
    assert 40 <= count(rest) <= 52
    with pytest.warns(UserWarning, match="no room"):
        made = compressor.compress_prompt([DOCUMENTS[0]], DOCUMENTS[1] * 3, rate=0.5)
    assert (
        0.4 < count(made["compressed_prompt"].split(DOCUMENTS[1])[-1]) / count(DOCUMENTS[0]) < 0.55
    )


@pytest.mark.parametrize(
    ("spelled", "number"), [("+100", 300), ("*1.3", 260), ("-50", 150), (" / 2 ", 100)]
)
def test_a_context_budget_is_read(spelled: str, number: float) -> None:
    assert budgeted(spelled, 200) == pytest.approx(number)


@pytest.mark.parametrize(
    "spelled",
    ["", "100", "**9", "+1e9", "+1;1", "/0", "+__import__('os').getpid()", "+-1", "+1\n+1"],
)
def test_a_context_budget_is_never_run(compressor: PromptCompressor, spelled: str) -> None:
    with pytest.raises(ConfigError, match="context_budget"):
        compressor.compress_prompt(DOCUMENTS, context_budget=spelled)


def test_a_larger_context_budget_spreads_over_more_contexts(compressor: PromptCompressor) -> None:
    def touched(**how: Any) -> int:
        left = compressor.compress_prompt(DOCUMENTS, target_token=100, **how)["compressed_prompt"]
        own = [words(one) - words(" ".join(o for o in DOCUMENTS if o != one)) for one in DOCUMENTS]
        return sum(bool(some & words(left)) for some in own)

    assert touched(context_budget="*1") < touched(use_context_level_filter=False) == 3


RATES = st.sampled_from([None, 0.0, 0.3, 1.0])
FLAGS = st.sampled_from([None, True, False])
INSIDE = st.text(st.characters(codec="utf-8") | st.sampled_from("<>&/, =\n")).filter(
    lambda text: "llmlingua" not in text
)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            INSIDE, st.sampled_from([None, 0.0, 0.3, 1.0]), st.sampled_from([None, True, False])
        ),
        max_size=5,
    )
)
def test_any_text_may_stand_inside_of_tags(parts: list[tuple[str, Any, Any]]) -> None:
    tagged = ""
    for text, rate, compress in parts:
        options = "" if rate is None else f", rate={rate}"
        options += "" if compress is None else f", compress={compress}"
        tagged += f"<llmlingua{options}>{text}</llmlingua>"
    read = [(part.text, part.rate, part.compress) for part in parts_of(tagged)]
    assert read == [(text, rate, compress is not False) for text, rate, compress in parts if text]


@pytest.mark.parametrize(
    ("tagged", "texts"),
    [
        ("before <llmlingua>in</llmlingua> after", ["before ", "in", " after"]),
        ("<llmlingua, compress=False, rate=0.5>never closed", ["never closed"]),
        ("< llmlingua> a <llmlinguas> </b>", ["< llmlingua> a <llmlinguas> </b>"]),
        ("<llmlingua , rate = 0.5 >x</llmlingua></llmlingua>y", ["x", "y"]),
        ("", []),
    ],
)
def test_what_stands_outside_of_tags_is_kept(tagged: str, texts: list[str]) -> None:
    assert [part.text for part in parts_of(tagged)] == texts


@pytest.mark.parametrize(
    "tag", ["rate=2", "rate=x", "compress=yes", "compress=0.5", "speed=3", "rate=-1", "rate=nan"]
)
def test_a_tag_that_cannot_be_read_is_told(tag: str) -> None:
    with pytest.raises(ConfigError, match=tag.partition("=")[0]):
        list(parts_of(f"<llmlingua, {tag}>x</llmlingua>"))


def test_each_part_keeps_its_own_rate(compressor: PromptCompressor) -> None:
    closed = " \tSpeaker 4: a < b && <c> stays.\n"
    context = (
        f"<llmlingua, compress=False>{closed}</llmlingua>"
        f"<llmlingua, rate=0.2>{DOCUMENTS[0]}</llmlingua>"
        f"<llmlingua>{DOCUMENTS[1]}</llmlingua><llmlingua, rate=1>{DOCUMENTS[2]}</llmlingua>"
        "<llmlingua, rate=0>gone</llmlingua>"
    )
    made = compressor.structured_compress_prompt([context, "gone"], "", QUESTION, rate=0.6)
    left = made["compressed_prompt"]
    assert left.startswith(closed)
    assert DOCUMENTS[2] in left
    assert left.endswith(QUESTION)
    assert "<llmlingua" not in left
    middle = left.removeprefix(closed).partition(DOCUMENTS[2])[0]
    allowed = 0.2 * count(DOCUMENTS[0]) + 0.6 * count(DOCUMENTS[1])
    assert 0.85 * allowed < count(middle) <= allowed + 2


def test_a_target_bounds_a_structured_prompt(compressor: PromptCompressor) -> None:
    context = [f"<llmlingua, compress=False>Head:</llmlingua>{one}" for one in DOCUMENTS]
    made = compressor.structured_compress_prompt(context, target_token=120)
    assert 100 < made["compressed_tokens"] <= 120
    assert made["compressed_prompt"].count("Head:") == 3


def test_parts_may_be_given_as_lists(compressor: PromptCompressor) -> None:
    made = compressor.compress_prompt(
        [DOCUMENTS[0]],
        context_segs=[[DOCUMENTS[0][:100], DOCUMENTS[0][100:]]],
        context_segs_rate=[[1.0, 0.2]],
        context_segs_compress=[[False, True]],
    )
    assert made["compressed_prompt"].startswith(DOCUMENTS[0][:100])
    assert made["compressed_tokens"] < 0.5 * made["origin_tokens"]
    with pytest.raises(ConfigError, match="shape"):
        compressor.compress_prompt(["x"], context_segs=[["x"]], context_segs_rate=[[1, 0.2]])


@each_method
def test_forced_contexts_and_sentences_stay(
    compressor: PromptCompressor, method: dict[str, Any]
) -> None:
    made = compressor.compress_prompt(DOCUMENTS, rate=0.5, force_context_ids=[1], **method)
    assert DOCUMENTS[1] in made["compressed_prompt"]
    text = "First of all. " + DOCUMENTS[0] + "\n\nAnd this is the end."
    made = compressor.compress_prompt(
        [text], target_token=60, keep_first_sentence=1, keep_last_sentence=1, **method
    )
    assert "First of all." in made["compressed_prompt"]
    assert "And this is the end." in made["compressed_prompt"]
    assert made["compressed_tokens"] <= 60


def test_whole_sentences_where_words_are_not_to_be_cut(compressor: PromptCompressor) -> None:
    from tersely.units import split

    contexts = [
        FACTS,
        "It rained. Nobody came, as usual. Then it was over.",
        topics.topics["if"][200:],
    ]
    sentences = [s for one in contexts for s in split(one, "sentence").texts]
    for method in ({}, LONG):
        made = compressor.compress_prompt(contexts, use_token_level_filter=False, **method)
        left = "".join(made["compressed_prompt"].removesuffix(QUESTION).split())
        assert left
        for sentence in sentences:
            left = left.removeprefix("".join(sentence.split()))
        assert left == ""


@pytest.mark.parametrize(("order", "at"), [("sort", 0), ("two_stage", 0), ("original", 1)])
@pytest.mark.model
def test_contexts_are_put_in_order(smollm2: Path, order: str, at: int) -> None:
    texts = [
        "Taxes on windows were raised once more by the council, and most members went home early.",
        "The treasure of the old pirate is buried beneath the oak behind the harbour church.",
        "The farmers grow barley and oats on narrow fields, and keep their sheep on the hills.",
    ]
    made = PromptCompressor().compress_prompt(
        texts,
        question="Where is the treasure of the pirate buried?",
        rate=0.8,
        rank_method="longllmlingua",
        condition_in_question="after_condition",
        condition_compare=True,
        reorder_context=order,
        dynamic_context_compression_ratio=0.3,
    )
    documents = made["compressed_prompt"].split("\n\n")[:-1]
    assert "treasure" in documents[at]


def test_the_question_may_be_left_out_of_the_prompt(compressor: PromptCompressor) -> None:
    made = compressor.compress_prompt(DOCUMENTS, concate_question=False, target_token=90, **LONG)
    assert QUESTION not in made["compressed_prompt"]
    assert 80 <= made["compressed_tokens"] <= 90
    assert made["origin_tokens"] == count("\n\n".join([*("", *DOCUMENTS), QUESTION]).strip())


def test_longllmlingua_needs_a_question(compressor: PromptCompressor) -> None:
    with pytest.raises(ConfigError, match="needs a question"):
        compressor.compress_prompt(DOCUMENTS, rank_method="longllmlingua")


def test_contexts_by_a_trained_classifier(trained: PromptCompressor) -> None:
    made = trained.compress_prompt(
        DOCUMENTS,
        instruction="not sent",
        rate=0.5,
        force_tokens=["\n", "?", "the"],
        force_reserve_digit=True,
        drop_consecutive=True,
        return_word_label=True,
    )
    assert "not sent" not in made["compressed_prompt"]
    assert "\n\n".join(made["compressed_prompt_list"]) == made["compressed_prompt"]
    assert 0.4 < made["compressed_tokens"] / made["origin_tokens"] <= 0.5
    labels = [pair.rsplit(" ", 1) for pair in made["fn_labeled_original_prompt"].split("\t\t|\t\t")]
    assert [word for word, _ in labels] == " ".join(DOCUMENTS).split()
    assert {label for _, label in labels} == {"0", "1"}
    kept = [word for word, label in labels if label == "1"]
    assert words(" ".join(kept)) <= words(made["compressed_prompt"])
    assert 0.5 * len(made["compressed_prompt"].split()) < len(kept)
    again = trained.compress_prompt_llmlingua2(DOCUMENTS, target_token=50)
    assert 40 <= again["compressed_tokens"] <= 50
    assert "fn_labeled_original_prompt" not in again


def test_a_classifier_has_to_be_named() -> None:
    with pytest.raises(ModelError, match="classifier"):
        PromptCompressor(use_llmlingua2=True)


def test_a_model_that_is_not_here_is_told_and_not_fetched(offline: None) -> None:
    with pytest.raises(ModelError, match="nowhere/no-such-model"):
        PromptCompressor("nowhere/no-such-model", device_map="auto")


def test_nothing_asks_the_network(tiny_llama: Path, offline: None) -> None:
    made = PromptCompressor(str(tiny_llama)).compress_prompt([FACTS * 3], rate=0.5, **LONG)
    assert made["compressed_tokens"] < made["origin_tokens"]


@pytest.mark.filterwarnings("ignore:without effect")
def test_calls_leave_nothing_behind(compressor: PromptCompressor) -> None:
    compressor.compress_prompt(DOCUMENTS, iterative_size=100, **LONG)
    before = {name: repr(value) for name, value in vars(compressor).items()}
    for i in range(20):
        compressor.compress_prompt([f"{i} {FACTS}", FACTS], iterative_size=i, **LONG)
    assert {name: repr(value) for name, value in vars(compressor).items()} == before


def test_what_has_no_effect_is_said_once_with_the_reason(tiny_llama: Path) -> None:
    with pytest.warns(UserWarning, match=r"device_map.*model_config.*no code") as told:
        compressor = PromptCompressor(
            str(tiny_llama), device_map="cuda:1", model_config={"trust_remote_code": True}
        )
    assert len(told) == 1
    assert told[0].filename == __file__
    how = {"iterative_size": 100, "rank_method": "bge", "target_context": 3, "rate": 0.7}
    with pytest.warns(UserWarning, match=r"iterative_size \(.*one pass") as told:
        compressor.compress_prompt([FACTS], **how)
    assert len(told) == 1
    assert "rank_method" in str(told[0].message)
    assert "rate " not in str(told[0].message)
    assert told[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        compressor.compress_prompt([FACTS], **how)
        compressor.compress_prompt([FACTS], iterative_size=200, token_to_word="mean")


def test_unknown_parameters_are_an_error_as_usual(compressor: PromptCompressor) -> None:
    with pytest.raises(TypeError, match=r"compress_prompt.*unexpected keyword argument 'ratio'"):
        compressor.compress_prompt(DOCUMENTS, ratio=0.5)
    with pytest.raises(TypeError, match="force_tokens"):
        compressor.structured_compress_prompt(DOCUMENTS, force_tokens=["x"])
    with pytest.raises(TypeError, match="multiple values for argument 'iterative_size'"):
        compressor.compress_prompt("x", "", "", 0.5, -1, 200, iterative_size=200)
    with pytest.raises(TypeError, match="takes"):
        compressor.compress_prompt(*"x" * 60)
    with pytest.raises(TypeError, match="nope"):
        PromptCompressor(llmlingua2_config={"nope": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", 1.5),
        ("rate", -0.1),
        ("reorder_context", "shuffle"),
        ("rank_method", "magic"),
        ("condition_in_question", "during"),
        ("keep_first_sentence", -1),
        ("question", 7),
    ],
)
def test_a_bad_value_is_told(compressor: PromptCompressor, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{value}"):
        compressor.compress_prompt(DOCUMENTS, **{name: value})


def test_a_context_that_is_no_text_is_told(compressor: PromptCompressor) -> None:
    with pytest.raises(ConfigError, match=r"context\[1\] must be a text, was 7"):
        compressor.compress_prompt(["x", 7])  # type: ignore[list-item]


def test_parameters_by_position(compressor: PromptCompressor) -> None:
    made = compressor.compress_prompt(DOCUMENTS, "Answer.", QUESTION, 0.5, 300, 200, [1])
    named = compressor.compress_prompt(
        DOCUMENTS, instruction="Answer.", question=QUESTION, target_token=300, force_context_ids=[1]
    )
    assert made == named


def test_an_answer_gets_its_words_back(compressor: PromptCompressor) -> None:
    original = "The kettle was designed by John Quincy Smith in the town of Graz. It is blue."
    compressed = "kettle was designed by John Smith in Graz. blue."
    answer = compressor.recover(original, compressed, "It was John Smith, I think.")
    assert answer == "It was John Quincy Smith, I think."
    assert compressor.recover(original, original, answer) == answer
    assert compressor.recover("", "", "x") == "x"


@settings(max_examples=40)
@given(
    contexts=st.lists(
        st.text(st.characters(codec="utf-8") | st.sampled_from(" \n.日👍🏽1{}")), max_size=4
    ),
    target=st.integers(0, 60),
    how=st.fixed_dictionaries(
        {},
        optional={
            "rank_method": st.sampled_from(["llmlingua", "longllmlingua", "bm25"]),
            "reorder_context": st.sampled_from(["original", "sort", "two_stage"]),
            "use_sentence_level_filter": st.booleans(),
            "use_context_level_filter": st.booleans(),
            "use_token_level_filter": st.booleans(),
            "context_budget": st.sampled_from(["+100", "*1.3", "-50"]),
            "concate_question": st.booleans(),
        },
    ),
)
def test_whatever_the_contexts_the_target_holds(
    contexts: list[str], target: int, how: dict[str, Any], compressor: PromptCompressor
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = compressor.compress_prompt(contexts, question="Who?", target_token=target, **how)
    impossible = any("may not change" in str(one.message) for one in told)
    impossible |= made["compressed_prompt"] == "Who?"
    assert made["compressed_tokens"] <= target or impossible
    assert made["compressed_tokens"] == count(made["compressed_prompt"])
    source = "\n\n".join(contexts)
    left = made["compressed_prompt"].removesuffix("Who?")
    assert set(left) <= {*source, *" \n…"}


def signature(name: str) -> list[str]:
    """The parameters of a method of the installed llmlingua, read without running it."""
    spec = find_spec("llmlingua")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llmlingua is not installed")
    path = Path(spec.submodule_search_locations[0]) / "prompt_compressor.py"
    (made,) = (
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    return [argument.arg for argument in made.args.args]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("compress_prompt", NAMES),
        ("structured_compress_prompt", STRUCTURED),
        ("compress_prompt_llmlingua2", TRAINED),
    ],
)
def test_the_parameters_are_those_of_llmlingua(name: str, ours: tuple[str, ...]) -> None:
    assert signature(name) == ["self", "context", *ours]
