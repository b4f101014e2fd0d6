"""Quotes across a cut get their wording back; all else in an answer stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from little_stages import Halve

import tersely
from tersely.contracts import Context, StageModel
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.recover import changes
from tersely.prompt import KINDS, Kind, Prompt
from tersely.registry import stage
from tersely.render import rendering
from tersely.units import split

TEXT = (
    "The kettle was designed by John Quincy Smith in Graz. It cost $1,299.50 in 2024, net. "
    "Mary Jones sold it. Peter Brown who was there bought it.\n\n"
    "John Smith never knew. The order INV-00017 is from Acme Limited Holdings."
)


class Without(StageModel):
    """Drops some words, and tells where the rest came from unless it is `silent`."""

    name = "without"
    kinds: tuple[Kind, ...] = KINDS
    words: tuple[str, ...]
    silent: bool = False

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        made = {}
        for i in prompt.open:
            units = split(prompt.segments[i].text, "token")
            made[i] = rendering(units, np.array([u not in self.words for u in units.texts]))
        told = {i: None if self.silent else one.origins for i, one in made.items()}
        return prompt.with_texts({i: one.text for i, one in made.items()}, origins=told)


def sent(text: object, *words: str, silent: bool = False) -> Result:
    return Pipeline([Without(words=words, silent=silent)]).run(text)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("It was designed by John Smith.", "It was designed by John Quincy Smith."),
        ("DESIGNED BY JOHN  SMITH!", "designed by John Quincy Smith!"),
        ("It says that it cost $1,299 in all.", "It says that it cost $1,299.50 in all."),
        ("See order INV.", "See order INV-00017."),
        ("From Acme Holdings, it says.", "From Acme Limited Holdings, it says."),
        (
            "Peter Brown bought it from Acme Holdings",
            "Peter Brown who was there bought it from Acme Limited Holdings",
        ),
    ],
)
def test_a_quote_across_a_cut_is_recovered(answer: str, wanted: str, silent: bool) -> None:
    gone = ("Quincy", "50", ".", "-", "00017", "Limited", "who", "was", "there")
    assert sent(TEXT, *gone, silent=silent).recover(answer) == wanted


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Nothing like it.",
        "Smith",  # too short to tell
        "It was John Smith.",  # stands uncut as well
        "John Smith never knew",
        "in Graz It cost",  # of two sentences
        "sold it. Peter Brown",
        "Smith designed John",
        "of the in by",
        "designed by Johns Smithy",
    ],
)
def test_an_answer_to_which_nothing_applies_stays(answer: str) -> None:
    assert sent(TEXT, "Quincy", "Limited", "Mary").recover(answer) == answer


def test_only_common_words_are_no_quote() -> None:
    text = "He is the great one and of the very old ones."
    assert (
        sent(text, "great", "very").recover("He is the one, of the old")
        == "He is the one, of the old"
    )


def test_two_places_that_read_differently_leave_a_quote_as_it_is() -> None:
    text = "A blue kettle of new steel. A blue kettle of old steel. It is tin of pure kind."
    result = sent(text, "new", "old", "pure")
    assert result.recover("kettle of steel, tin of kind") == "kettle of steel, tin of pure kind"


def test_how_much_makes_a_quote_can_be_set() -> None:
    result = sent(TEXT, "Quincy", "Limited")
    assert result.recover("Acme Holdings", min_words=3) == "Acme Holdings"
    assert result.recover("Acme Holdings", min_chars=13) == "Acme Holdings"
    assert result.recover("Acme Holdings") == "Acme Limited Holdings"


def test_texts_without_spaces() -> None:
    result = sent("東京の本当に美しい天気は晴れです。", "本", "当", "に")
    assert result.output == "東京の美しい天気は晴れです。"
    assert result.recover("「東京の美しい天気」") == "「東京の本当に美しい天気」"
    assert result.recover("東京の", min_chars=4) == "東京の"


def test_what_goes_out_as_it_is_recovers_nothing() -> None:
    answer = "designed by John Smith"
    for mode in ("off", "audit"):
        pipeline = Pipeline([Without(words=("Quincy",))], mode=mode)
        assert pipeline.run(TEXT).recover(answer) == answer
    assert Pipeline([Without(words=("Quincy",))]).run(object()).recover(answer) == answer
    assert sent(TEXT).recover(answer) == answer


def test_an_uncut_text_elsewhere_in_the_request_counts() -> None:
    texts = ["designed by John Quincy Smith", "it was designed by John Smith"]
    request = [{"role": "user", "content": text} for text in texts]
    request[1]["role"] = "system"
    pipeline = Pipeline([Without(words=("Quincy",), kinds=("question", "context", "history"))])
    assert pipeline.run(request).recover("designed by John Smith") == "designed by John Smith"
    first = pipeline.run(request[:1])
    assert first.recover("designed by John Smith") == "designed by John Quincy Smith"


def test_moved_documents_are_not_joined() -> None:
    text = "One kettle of steel lies here somewhere.\n\nThe big green bicycle is what we ask for"
    recipe = stage("lexical", order="best_first", unit="phrase", fill=None)
    result = Pipeline([recipe], budget=0.8).run(text, question="big green bicycle")
    words = result.output.split()
    for i in range(len(words)):
        for answer in (" ".join(words[i : i + n]) for n in range(2, 8)):
            assert len(result.recover(answer)) <= len(answer) + 40
    crossing = " ".join(words[len(words) // 2 - 2 :])
    assert "\n" not in result.recover(crossing)


def test_tags_do_not_come_back() -> None:
    text = "The <keep>kettle</keep> was very nicely designed by John Quincy Smith in Graz."
    result = sent(text, "Quincy", "nicely")
    assert "<keep>" not in result.output
    assert result.recover("designed by John Smith") == "designed by John Quincy Smith"


NAMES = ["Ada", "Byron", "Clara", "Dora", "Emil", "Franz", "Gerda", "Hugo", "Ida", "Jakob"]
WORDS = [*NAMES, "the", "of", "met", "1.50", "12,000", "kettle", "kettle,", "steel.", "tin.\n\n"]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=12, max_size=60).map(" ".join)


def quotes(words: Sequence[str]) -> st.SearchStrategy[str]:
    ends = st.tuples(st.integers(0, len(words)), st.integers(1, 12))
    return ends.map(lambda at: " ".join(words[at[0] : at[0] + at[1]]))


@given(text=SENTENCES, ratio=st.sampled_from([0.4, 0.7]), data=st.data())
@settings(max_examples=40)
def test_a_quote_of_uncut_text_stays(text: str, ratio: float, data: st.DataObject) -> None:
    result = Pipeline(["random"], budget=ratio).run(text)
    assume(result.provenance)
    origin = data.draw(st.sampled_from(result.provenance))
    whole = result.output[slice(*origin.output)]
    answer = data.draw(quotes(whole.split()))
    assume(answer in whole)
    assert result.recover(answer) == answer


@given(text=SENTENCES, ratio=st.sampled_from([0.4, 0.7]), data=st.data())
@settings(max_examples=40)
def test_what_is_recovered_is_of_the_original(text: str, ratio: float, data: st.DataObject) -> None:
    result = Pipeline([stage("random", unit="token"), Halve()], budget=ratio).run(text)
    answer = data.draw(st.lists(quotes(str(result.output).split()), max_size=3).map(" so ".join))
    assert result.trace is not None
    at = 0
    left: list[str] = []
    for start, end, piece in changes(answer, result.trace, min_words=2, min_chars=4):
        assert at <= start < end
        assert piece in text
        assert answer[start:end] != piece
        letters = iter(piece)
        assert all(letter in letters for letter in answer[start:end] if not letter.isspace())
        left += answer[at:start], piece
        at = end
    assert result.recover(answer) == "".join(left) + answer[at:]


@given(st.text(max_size=60))
def test_any_answer_is_an_answer(answer: str) -> None:
    result = sent(TEXT, "Quincy", "Limited", "the")
    assert isinstance(result.recover(answer), str)
    assert tersely.compress(TEXT, "none").recover(answer) == answer
