"""FLARE: what is sure stands, what is not is looked up, and nothing sure is made twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_library import WORDS, Library, Obeying, asking, run

from tersely.contracts import Chunk, Completion, Context, Request
from tersely.errors import BackendError, ConfigError
from tersely.middleware.drive import stream
from tersely.prompt import messages_of
from tersely.rag.doubt import agreement, calibrated, facts, marks, unmarked
from tersely.rag.draft import Draft, between, placed, repeated, sentences
from tersely.rag.plan_flare import Flare

QUESTION = "When was the Eiffel Tower completed, and where was Gustave Eiffel born?"
SURE = "The tower was completed in 1889. Gustave Eiffel was born in Dijon. He built bridges."
SEEING = ("logprobs", "prefill")


def told_so_far(request: Request) -> str:
    """The beginning of the answer that a request goes on with."""
    last = request.prompt.segments[-1]
    if last.role == "assistant":
        return last.text
    return last.text.rpartition("\n\n")[2] if "already written" in last.text else ""


def teller(*versions: str) -> Obeying:
    """Goes on with a version of the answer: the one that is `searched` for."""
    whole = versions[0]

    def answer(request: Request) -> str:
        return whole[len(told_so_far(request)) :]

    return Obeying(answer, SEEING)


def test_a_sure_answer_is_made_once() -> None:
    backend = teller(SURE)
    answer = run(Flare(), backend, QUESTION)
    assert answer.text == SURE
    assert (answer.finish_reason, answer.account.searches) == ("stop", 1)
    assert answer.account.completion == WORDS(SURE) + 1
    assert answer.account.wasted == 1  # a word too far, before it is known that spaces are kept


def test_every_prompt_begins_as_the_one_before() -> None:
    backend = teller(SURE)
    backend.unsure = {"Dijon": 0.1}
    library = Library()
    run(Flare(k=3, first=1), backend, QUESTION, library)
    assert len(library.asked) == 2
    users = [messages_of(one.prompt)[0]["content"] for one in backend.requests]
    assert all(later.startswith(sooner) for sooner, later in pairwise(users))
    assert users[0] != users[-1]
    assert "[1]" in users[0] and "[2]" in users[-1] and "[2]" not in users[0]


def test_an_unsure_sentence_is_looked_up_without_what_is_unsure() -> None:
    def answer(request: Request) -> str:
        found = "born in Dijon" in messages_of(request.prompt)[0]["content"]
        right = SURE if found else SURE.replace("Dijon", "Lyon")
        return right[len(told_so_far(request)) :]

    backend = Obeying(answer, SEEING, {"Lyon": 0.1})
    library = Library()
    answer_ = run(Flare(first=0, k=2), backend, QUESTION, library)
    assert answer_.text == SURE
    (query,) = library.asked
    assert query == f"{QUESTION} Gustave Eiffel was born in ."
    assert answer_.account.wasted == 1 + WORDS("Gustave Eiffel was born in Lyon. He")
    assert "founder" in [one.id for one in answer_.passages]


def test_what_is_made_anew_stands() -> None:
    backend = teller(SURE)
    backend.unsure = {"Dijon": 0.1, "bridges": 0.1}
    library = Library()
    answer = run(Flare(first=0, k=1), backend, QUESTION, library)
    assert answer.text == SURE
    assert len(library.asked) == 2


def test_no_more_searches_than_allowed() -> None:
    backend = teller(SURE)
    backend.unsure = {"1889": 0.1, "Dijon": 0.1, "bridges": 0.1}
    library = Library()
    answer = run(Flare(first=0, k=1, searches=1), backend, QUESTION, library)
    assert (answer.text, len(library.asked)) == (SURE, 1)


def test_little_words_are_never_unsure() -> None:
    backend = teller(SURE)
    backend.unsure = {"was": 0.01, "in": 0.01, "The": 0.01}
    library = Library()
    run(Flare(first=0), backend, QUESTION, library)
    assert library.asked == []


def test_sentences_ahead_spare_prompts() -> None:
    one, three = teller(SURE), teller(SURE)
    assert run(Flare(), one, QUESTION).text == run(Flare(ahead=3), three, QUESTION).text == SURE
    assert len(three.requests) < len(one.requests)


def test_a_backend_without_prefill_is_asked_to_go_on() -> None:
    def answer(request: Request) -> str:
        so_far = told_so_far(request)
        last = so_far.split()[-3:]
        return " ".join([*last, SURE[len(so_far) :].strip()])

    backend = Obeying(answer, ("logprobs",))
    answer_ = run(Flare(), backend, QUESTION)
    assert answer_.text == SURE
    assert all(one.prompt.segments[-1].role == "user" for one in backend.requests)
    again = [call.wasted for call in answer_.account.calls[1:]]
    assert min(again) >= 3


def test_the_space_between_sentences_is_kept_where_a_server_strips_it() -> None:
    backend = Obeying(lambda one: SURE[len(told_so_far(one)) :].strip(), SEEING)
    assert run(Flare(), backend, QUESTION).text == SURE


def test_an_answer_that_repeats_itself_ends() -> None:
    backend = Obeying(lambda request: " It is tall. It is tall. It is tall.", SEEING)
    answer = run(Flare(), backend, QUESTION)
    assert answer.text == "It is tall."
    assert "repeat itself" in answer.account.notes[-1]


def test_decimals_and_abbreviations_end_no_sentence() -> None:
    text = "Dr. Eiffel paid 3.5 million francs. He was born in St. Denis."
    assert [text[a:b] for a, b in sentences(text)] == [
        "Dr. Eiffel paid 3.5 million francs.",
        "He was born in St. Denis.",
    ]
    backend = teller(text)
    run(Flare(), backend, QUESTION)
    assert told_so_far(backend.requests[1]).startswith("Dr. Eiffel paid 3.5 million francs.")


def test_the_answer_ends_with_its_budget() -> None:
    backend = teller(SURE)
    answer = run(Flare(tokens=160), backend, QUESTION)
    assert answer.account.spent <= 160
    assert SURE.startswith(answer.text) and answer.text.endswith(".")
    assert answer.finish_reason == "length"
    assert "tokens are spent" in answer.account.notes[-1]


def test_accepted_sentences_are_shown_as_they_come() -> None:
    backend = teller(SURE)
    plan, context = Flare(first=0), Context(count=WORDS, backend=backend)
    *shown, last = stream(plan.steps(asking(QUESTION), context), backend, Library())
    assert [chunk.text for chunk in shown] == [
        "The tower was completed in 1889.",
        " Gustave Eiffel was born in Dijon.",
        " He built bridges.",
    ]
    assert last.completion is not None and last.completion.text == SURE


# Without log-probabilities.


def test_what_an_answer_marks_is_looked_up() -> None:
    backend = Obeying(
        ["The tower was completed in 1887 [?]. He built bridges.", "In 1889, in Dijon."]
    )
    library = Library()
    answer = run(Flare(first=0, k=1), backend, QUESTION, library)
    assert answer.text == "In 1889, in Dijon."
    assert library.asked == [f"{QUESTION} The tower was completed in."]
    assert answer.account.wasted == 10
    assert "marks as unsure" in answer.account.notes[0]
    assert "[?]" in backend.requests[0].prompt.text
    assert "[?]" not in backend.requests[1].prompt.text


def test_a_marked_answer_stands_unmarked_where_nothing_is_found() -> None:
    backend = Obeying(["It was in 1887 [?]."])
    answer = run(Flare(first=0), backend, QUESTION, Library([]))
    assert answer.text == "It was in 1887."


def test_samples_that_agree_let_an_answer_stand() -> None:
    backend = Obeying(["It was in 1889.", "In 1889.", "1889, I think."])
    answer = run(Flare(first=0), backend, QUESTION)
    assert (answer.text, answer.account.searches) == ("It was in 1889.", 0)
    assert "agree in 100%" in answer.account.notes[0]
    assert {one.temperature for one in backend.requests[1:]} == {0.7}
    assert backend.requests[1].seed != backend.requests[2].seed


def test_samples_that_disagree_have_the_question_looked_up() -> None:
    backend = Obeying(["It was in 1889.", "In 1887.", "In 1925.", "In 1889 [1]."])
    library = Library()
    answer = run(Flare(first=0), backend, QUESTION, library)
    assert library.asked == [f"{QUESTION} 1887 1925"]
    assert answer.text == "In 1889 [1]."
    assert "agree in 0%" in answer.account.notes[0]


def test_without_samples_it_is_plain_retrieval() -> None:
    backend = Obeying(["In 1880.", BackendError("busy"), "In 1889 [1]."])
    answer = run(Flare(first=0), backend, QUESTION)
    assert answer.text == "In 1889 [1]."
    assert "no samples" in answer.account.notes[0]
    assert "the question is looked up" in answer.account.notes[1]


def test_without_a_first_answer_it_is_plain_retrieval() -> None:
    answer = run(Flare(first=0), Obeying(["", "In 1889 [1]."]), QUESTION)
    assert answer.text == "In 1889 [1]."


# The parts.


def completion(words: Sequence[tuple[str, float]]) -> Completion:
    tokens = tuple(word for word, _ in words)
    return Completion(
        text="".join(tokens), tokens=tokens, logprobs=tuple(log(chance) for _, chance in words)
    )


def test_a_word_is_as_likely_as_its_first_token_and_a_number_as_its_least() -> None:
    heard = completion([("Ada", 0.9), (" Love", 0.6), ("lace", 0.1), (" 18", 0.8), ("15", 0.2)])
    words = Draft.of(heard).words((0, len(heard.text)))
    assert [round(word.chance, 6) for word in words] == [0.9, 0.6, 0.2]


def test_tokens_that_are_told_otherwise_are_left_out() -> None:
    assert placed("Zürich is", ["Z", "\ufffd", "\ufffd", "rich", " is"])[3:] == [(2, 6), (6, 9)]
    assert placed("ab", ["", "x", "ab"]) == [(0, 0), (0, 0), (0, 2)]


@given(st.lists(st.text(min_size=1, max_size=5), max_size=20), st.integers(0, 40))
def test_a_draft_can_be_cut_and_joined(tokens: list[str], at: int) -> None:
    text = "".join(tokens)
    draft = Draft.of(Completion(text=text, tokens=tuple(tokens), logprobs=(-1.0,) * len(tokens)))
    assert [text[a:b] for a, b in draft.spans] == tokens
    rest = draft.after(at)
    assert rest.text == text[at:]
    assert all(0 <= a < b <= len(rest.text) for a, b in rest.spans)
    both = draft.joined(rest, " ")
    assert both.text == f"{text} {text[at:]}"
    assert [both.text[a:b] for a, b in both.spans[: len(tokens)]] == tokens


@pytest.mark.parametrize(
    ("said", "more", "size"),
    [
        ("It stands in Paris.", "stands in Paris. It is tall.", 16),
        ("It stands in Paris.", "It stands in Paris. It is tall.", 19),
        ("It stands in Par", "Paris.", 3),
        ("It stands in Paris.", "It is tall.", 0),
        ("banana", "nana split", 0),
        ("", "word", 0),
    ],
)
def test_what_is_said_again(said: str, more: str, size: int) -> None:
    assert repeated(said, more) == size


@pytest.mark.parametrize(
    ("said", "more", "space"),
    [
        ("Paris.", "It", " "),
        ("Paris.", " It", ""),
        ("Par", "is", ""),
        ("", "It", ""),
        ("東京です。", "人口は", ""),
        ("in 1889", ", they", ""),
    ],
)
def test_the_space_between(said: str, more: str, space: str) -> None:
    assert between(said, more) == space


def test_marks_of_doubt() -> None:
    text = "Born in 1832 [?] in Dijon[?], he built. [?]"
    assert [text[a:b] for a, b in marks(text)] == ["1832", "Dijon", "built."]
    assert unmarked(text) == "Born in 1832 in Dijon, he built."


def test_facts_are_numbers_and_names() -> None:
    told = facts("He met Ada Lovelace on 10.12.1815. Then he left.", "Who met Ada?")
    assert told == {"lovelace", "10.12.1815"}


def test_agreement() -> None:
    assert agreement(["In 1889.", "1889!"]) == 1.0
    assert agreement(["In 1889.", "In 1887."]) == 0.0
    assert agreement(["a green bird", "a green frog"]) == pytest.approx(1 / 3)
    assert agreement(["", ""]) == 1.0


def test_theta_is_a_quantile_of_a_models_own_chances() -> None:
    sure, unsure = [("It", 0.9), (" stands", 0.8), (".", 1.0)], [("Dijon", 0.3), (".", 1.0)]
    samples = [completion(sure)] * 3 + [completion(unsure)]
    assert calibrated(samples, 0.0) == pytest.approx(0.3)
    assert calibrated(samples, 1.0) == pytest.approx(0.8)
    plan = Flare(mask=0.7).calibrated(samples, 0.0)
    assert (plan.theta, plan.mask) == (pytest.approx(0.3), pytest.approx(0.3))
    with pytest.raises(ConfigError, match="logprobs=True"):
        calibrated([Completion(text="It stands.")], 0.5)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        calibrated(samples, 2)


def test_an_endless_sentence_ends_with_the_answers_length() -> None:
    class Endless(Obeying):
        def stream(self, request: Request, /):  # type: ignore[no-untyped-def]
            while True:
                yield Chunk(text=" on", tokens=(" on",), logprobs=(-0.01,))

    for can in (SEEING, ("logprobs",)):
        answer = run(Flare(), Endless([], can), asking(QUESTION, max_tokens=30))
        assert answer.account.completion < 2_000
