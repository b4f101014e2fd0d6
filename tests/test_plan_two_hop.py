"""Two hops: what the first search finds leads to the second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from little_library import PASSAGES, WORDS, Library, Obeying, asking, run

from tersely.errors import BackendError
from tersely.prompt import messages_of
from tersely.rag.plan_two_hop import TwoHop, named

QUESTION = "Where was the builder of the tower in Paris born?"


def test_a_title_that_the_best_passage_names_is_looked_up_without_a_call() -> None:
    library = Library()
    backend = Obeying(["In Dijon."])
    answer = run(TwoHop(k=3), backend, "Who built the Eiffel Tower?", library)
    assert len(backend.requests) == 1
    assert library.asked[0] == "Who built the Eiffel Tower?"
    assert len(library.asked) <= 2
    assert answer.text == "In Dijon."


def test_the_model_is_asked_for_the_next_query() -> None:
    library = Library(PASSAGES[3:] + PASSAGES[:3])
    backend = Obeying(['Search query: "Gustave Eiffel birthplace"\nbecause', "In Dijon [2]."])
    answer = run(TwoHop(k=1, bridge="ask"), backend, QUESTION, library)
    assert library.asked == [QUESTION, "Gustave Eiffel birthplace"]
    assert [one.id for one in answer.passages] == ["tower", "founder"]
    assert [call.purpose for call in answer.account.calls] == ["query", "answer"]
    assert answer.citations[0].numbers == (2,)


def test_the_second_prompt_begins_as_the_first() -> None:
    backend = Obeying(["Gustave Eiffel birthplace", "In Dijon [2]."])
    run(TwoHop(k=1, bridge="ask"), backend, QUESTION)
    first, second = (messages_of(one.prompt)[0]["content"] for one in backend.requests)
    block = first[: first.index("</passages")]
    assert "[1]" in block and second.startswith(block) and "[2]" in second


@pytest.mark.parametrize("said", ["nothing", "None.", "", "  \n"])
def test_the_model_may_lack_nothing(said: str) -> None:
    library = Library()
    answer = run(TwoHop(bridge="ask"), Obeying([said, "In Dijon."]), QUESTION, library)
    assert (answer.text, library.asked) == ("In Dijon.", [QUESTION])
    assert "no second search is needed" in answer.account.notes


def test_names_lead_on_where_no_model_is_asked() -> None:
    library = Library(
        [replace(one, text=one.text.partition("\n")[2] or one.text) for one in PASSAGES]
    )
    backend = Obeying(["In Dijon."])
    run(TwoHop(k=1, bridge="names"), backend, QUESTION, library)
    assert library.asked == [QUESTION, f"{QUESTION} eiffel tower 1889"]
    assert len(backend.requests) == 1


def test_names_lead_on_where_the_model_fails() -> None:
    library = Library()
    backend = Obeying([BackendError("busy"), "In Dijon."])
    answer = run(TwoHop(k=1, bridge="ask"), backend, QUESTION, library)
    assert len(library.asked) == 2
    assert answer.account.notes[0] == "no query from the model: busy"
    assert "names in the best passages" in answer.account.notes[1]


def test_a_query_that_can_not_be_paid_is_made_of_names() -> None:
    library = Library()
    answer = run(
        TwoHop(k=1, bridge="ask", tokens=120),
        Obeying(["In Dijon."]),
        asking(QUESTION, max_tokens=10),
        library,
    )
    assert [call.purpose for call in answer.account.calls] == ["answer"]
    assert answer.account.spent <= 120


def test_nothing_found_is_not_followed() -> None:
    library = Library([])
    assert run(TwoHop(), Obeying(["Seven."]), QUESTION, library).text == "Seven."
    assert library.asked == [QUESTION]


def test_the_first_passages_leave_room_for_the_second() -> None:
    backend = Obeying(["mustard Burgundy", "In Dijon."])
    answer = run(
        TwoHop(k=4, bridge="ask").model_copy(
            update={"evidence": TwoHop().evidence.model_copy(update={"tokens": 90})}
        ),
        backend,
        QUESTION,
    )
    assert WORDS(answer.evidence) <= 90
    assert "dijon" in [one.id for one in answer.passages]


def test_titles_that_others_name() -> None:
    found = [*PASSAGES[:3]]
    assert named(found[:2], "Where?") == []
    assert named(found, "Where?") == ["Dijon"]
    told = replace(found[2], text="The capital.", metadata={"title": "Dijon"})
    assert named([*found[:2], told], "Where?") == ["Dijon"]
