"""Documents cut into pieces that know their place, their name and what they stand under."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from tersely.errors import ConfigError
from tersely.rag.documents import KEY, document_of, passage_of, pieces
from tersely.tokens import counter

COUNT = counter("gpt-4o")

GUIDE = """# Kettles

They boil water. They come in many colours, and most of them are blue.

```sh
# this is no heading
```

## Care ##

Rinse it once a week. Never let it boil dry. Keep the lid shut while it boils.

### Scale

Use vinegar. Wait an hour.

## Repair

Ask a professional.
"""


def cut(*documents: Document | str, size: int = 20) -> list[Document]:
    return list(pieces(documents, size=size, count=COUNT))


@given(st.lists(st.text(max_size=300), max_size=4), st.integers(1, 40))
def test_a_piece_is_what_stands_at_its_place(texts: list[str], size: int) -> None:
    documents = [
        Document(text, metadata={"source": f"s{i}", "page": i}) for i, text in enumerate(texts)
    ]
    made = cut(*documents, size=size)
    assert len({one.id for one in made}) == len(made)
    for i, text in enumerate(texts):
        mine = [one for one in made if one.metadata["source"] == f"s{i}"]
        spans = [(one.metadata["start"], one.metadata["end"]) for one in mine]
        assert [one.page_content for one in mine] == [text[start:end] for start, end in spans]
        assert all(one.metadata["page"] == i for one in mine)
        ends = [0, *(end for _, end in spans)]
        starts = [*(start for start, _ in spans), len(text)]
        gaps = zip(ends, starts, strict=True)
        assert all(not text[end:start].strip() for end, start in gaps)


def test_headings_are_kept() -> None:
    made = cut(GUIDE, size=8)
    under = [(one.page_content, one.metadata["headings"]) for one in made]
    asked = {"Rinse": "Care", "Use": "Care > Scale", "Ask": "Repair", "most": ""}
    for word, below in asked.items():
        (found,) = [headings for text, headings in under if word in text]
        assert found.removeprefix("Kettles").removeprefix(" > ") == below
    assert not any("no heading" in headings for _, headings in under)


@pytest.mark.parametrize("gap", ["\n", "\n\n", "\n \n\n"])
def test_a_first_line_is_a_title(gap: str) -> None:
    made = cut(f"Blue kettles{gap}They boil water. They are blue. {'Yes, they are. ' * 20}")
    assert len(made) > 2
    assert {one.metadata["title"] for one in made} == {"Blue kettles"}
    assert "title" not in cut("They boil water.\nThey are blue.")[0].metadata


def test_what_the_loader_told_goes_before_what_is_found() -> None:
    given_ = Document(GUIDE, metadata={"source": "a.md", "title": "Kettles, 2nd edition"})
    assert {one.metadata["title"] for one in cut(given_)} == {"Kettles, 2nd edition"}
    assert "start" not in given_.metadata


def test_ids_stay_when_text_moves() -> None:
    before = cut(Document("One thing is said here.", metadata={"source": "a"}), size=6)
    longer = "Another thing goes first. One thing is said here."
    after = cut(Document(longer, metadata={"source": "a"}), size=6)
    assert before[-1].id in {one.id for one in after}
    other = cut(Document("One thing is said here.", metadata={"source": "b"}), size=6)
    assert not {one.id for one in before} & {one.id for one in other}


def test_equal_pages_of_a_source_are_told_apart() -> None:
    page = Document("The same footer.", metadata={"source": "a.pdf"})
    assert len({one.id for one in cut(page, page, page)}) == 3


def test_texts_that_a_splitter_cut_keep_their_places() -> None:
    (one,) = cut(Document("They boil water.", metadata={"source": "a", "start_index": 100}))
    assert (one.metadata["start"], one.metadata["end"]) == (100, 116)


def test_a_source_is_never_missing() -> None:
    plain, named = cut("They boil water."), cut(Document("They boil water.", id="k-1"))
    assert plain[0].metadata["source"]
    assert named[0].metadata["source"] == "k-1"
    with pytest.raises(ConfigError, match="was 7"):
        cut(7)  # type: ignore[arg-type]


def test_passages_and_documents_are_the_same_thing() -> None:
    (one,) = cut(Document("They boil water.", metadata={"source": "a", "page": 3}))
    passage = passage_of(one, 0.7)
    assert (passage.text, passage.id, passage.score) == ("They boil water.", one.id, 0.7)
    assert (passage.source, passage.start, passage.end) == ("a", 0, 16)
    back = document_of(passage)
    assert back.metadata == {**one.metadata, KEY: {"score": 0.7}}
    assert passage_of(back, 0.7).id == passage.id


def test_a_foreign_document_becomes_a_passage() -> None:
    passage = passage_of(Document("They boil water.", metadata={"start_index": 5}))
    assert (passage.source, passage.start, passage.end) == ("", 5, 21)
    assert passage.id == passage_of(Document("They boil water.")).id
