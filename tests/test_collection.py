"""Text files in a store: read, brought up to date, told of, opened again with their embedder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_embedder import Hashing

from tersely import registry
from tersely.collection import Added
from tersely.errors import ConfigError, RequestError, StoreError, UnknownName
from tersely.rag import FaissStore, collection, files
from tersely.rag.collection import FileCollection
from tersely.rag.embedding import as_embedder
from tersely.rag.files import Reading, listed
from tersely.rag.remembered import spelling

KETTLE = "# Kettle\n\nThe kettle holds 1.7 litres. It is blue.\n\n# Tea\n\nTea wants 90 degrees.\n"
BREAD = "Bread rises slowly in a cold kitchen. A knife wants to be sharp.\n"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with texts and what is none."""
    monkeypatch.chdir(tmp_path)
    docs = tmp_path / "docs"
    (docs / "inner").mkdir(parents=True)
    (docs / "kettle.md").write_text(KETTLE)
    (docs / "inner" / "bread.txt").write_text(BREAD)
    (docs / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (docs / ".hidden").write_text("nobody reads this")
    return tmp_path


def shelf(**settings: Any) -> FileCollection:
    return FileCollection("index", **{"embedder": "static", **settings})


def added(one: FileCollection, *paths: str, **settings: Any) -> Added:
    return one.add(one.files([Path(path) for path in paths]), **settings)


def texts(one: FileCollection, question: str, k: int = 9) -> list[str]:
    return [found.text for found in one.searcher().search(question, k)]


class TestListing:
    def test_all_files_below_a_folder_in_order(self, desk: Path) -> None:
        found = listed([Path("docs")], (), desk / "index")
        names = ["docs/kettle.md", "docs/picture.png", "docs/inner/bread.txt"]
        assert [file.as_posix() for file in found] == names

    @pytest.mark.parametrize(
        ("globs", "names"),
        [
            (["*.md"], ["kettle.md"]),
            (["*.md", "*.txt"], ["kettle.md", "bread.txt"]),
            (["inner/*"], ["bread.txt"]),
        ],
    )
    def test_of_folders_those_that_fit(
        self, desk: Path, globs: Sequence[str], names: Sequence[str]
    ) -> None:
        assert [file.name for file in listed([Path("docs")], globs, desk)] == names
        assert listed([Path("docs/picture.png")], globs, desk)  # named by itself: taken

    def test_each_file_once_and_the_index_never(self, desk: Path) -> None:
        added(shelf(), "docs")
        found = listed([Path("docs/kettle.md"), Path()], (), Path("index"))
        assert [file.name for file in found] == ["kettle.md", "picture.png", "bread.txt"]

    def test_where_there_is_nothing(self, desk: Path) -> None:
        with pytest.raises(RequestError, match="can't read nope: no such file"):
            listed([Path("docs"), Path("nope")], (), desk)
        with pytest.raises(RequestError, match=r"no file that fits \*\.pdf or \*\.doc in docs"):
            listed([Path("docs")], ["*.pdf", "*.doc"], desk)


class TestReading:
    @given(
        text=st.text(alphabet=st.sampled_from("ab. \n\r\té👍"), max_size=60),
        block=st.integers(1, 12),
    )
    def test_blocks_are_the_text_with_its_places(
        self, text: str, block: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        file = tmp_path_factory.mktemp("texts") / "a.txt"
        file.write_bytes(text.encode())
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(files, "BLOCK", block)
            found = list(Reading("utf-8").documents([file]))
        assert "".join(one.page_content for one in found) == text
        starts = [one.metadata.get("start_index", 0) for one in found]
        for start, one in zip(starts, found, strict=True):
            assert text[start:].startswith(one.page_content)

    def test_a_mark_at_the_beginning_is_no_text(self, desk: Path) -> None:
        Path("a.txt").write_bytes(b"\xef\xbb\xbfTea.")
        (found,) = Reading("UTF-8").documents([Path("a.txt")])
        assert found.page_content == "Tea."

    def test_rows_are_texts_of_their_own(self, desk: Path) -> None:
        rows = [
            {"text": "One.", "id": "a", "metadata": {"year": 2024}},
            {"text": "Two.", "metadata": {"source": "https://b.example"}},
            {"text": "Three."},
        ]
        lines = [json.dumps(row) for row in rows]
        Path("rows.jsonl").write_text("\n".join([*lines[:2], "", lines[2]]))
        found = list(Reading("utf-8").documents([Path("rows.jsonl")]))
        assert [one.page_content for one in found] == ["One.", "Two.", "Three."]
        sources = ["rows.jsonl#a", "https://b.example", "rows.jsonl#4"]
        assert [one.metadata["source"] for one in found] == sources
        assert found[0].metadata["year"] == 2024
        assert {one.metadata["read_from"] for one in found} == {"rows.jsonl"}

    @pytest.mark.parametrize("text", ["", "no json\n", '{"prompt": "x"}\n', "[" * 9999, "[1]\n"])
    def test_other_lines_are_plain_text(self, desk: Path, text: str) -> None:
        Path("rows.jsonl").write_text(text)
        found = list(Reading("utf-8").documents([Path("rows.jsonl")]))
        assert "".join(one.page_content for one in found) == text

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{broken", "rows.jsonl:2 is no JSON"),
            ('{"prompt": "x"}', "rows.jsonl:2 has no text"),
            ('{"text": "x", "metadata": [1]}', r"rows.jsonl:2: metadata .* was \[1\]"),
            ('{"text": "x", "metadata": {"start_index": "y"}}', "rows.jsonl:2: metadata"),
            ('{"text": "\\ud800"}', "rows.jsonl:2 holds half a character"),
        ],
    )
    def test_a_wrong_row_is_named(self, desk: Path, line: str, said: str) -> None:
        Path("rows.jsonl").write_text(f'{{"text": "One."}}\n{line}\n')
        with pytest.raises(RequestError, match=said):
            list(Reading("utf-8").documents([Path("rows.jsonl")]))

    def test_what_is_no_text_is_skipped_with_the_reason(self, desk: Path) -> None:
        Path("zeros.bin").write_bytes(b"a\0b")
        Path("latin.txt").write_bytes(b"caf\xe9")
        given = [Path("zeros.bin"), Path("latin.txt"), Path("gone.txt"), Path("docs/kettle.md")]
        reading = Reading("utf-8")
        assert [one.page_content for one in reading.documents(given)] == [KETTLE]
        assert reading.skipped == {
            "zeros.bin": "it is binary",
            "latin.txt": "it is not utf-8",
            "gone.txt": "No such file or directory",
        }
        assert reading.done == ["docs/kettle.md"]
        assert reading.bytes == len(KETTLE)
        (latin,) = Reading("latin-1").documents([Path("latin.txt")])
        assert latin.page_content == "caf\xe9"
        with pytest.raises(ConfigError, match="no encoding named 'klingon'"):
            list(Reading("klingon").documents([Path("latin.txt")]))


class TestAdding:
    def test_passages_stand_where_they_say(self, desk: Path) -> None:
        one = shelf()
        assert one.ready() == "static"
        told = added(one, "docs", size=12)
        assert told.files == 2
        assert told.passages == told.new > 3
        assert (told.deleted, told.skipped) == (0, {"docs/picture.png": "it is not utf-8"})
        for found in one.searcher().search("kettle tea bread knife", 20):
            assert Path(found.source).read_text()[found.start : found.end] == found.text
        assert len(texts(one, "kettle tea bread knife", 20)) == told.passages

    def test_again_changes_nothing(self, desk: Path) -> None:
        first = added(shelf(), "docs", size=12)
        before = shelf().stats()
        again = added(shelf(), "docs", size=12)
        assert (again.passages, again.new, again.deleted) == (first.passages, 0, 0)
        assert shelf().stats() == before

    def test_what_is_gone_from_a_file_is_deleted(self, desk: Path) -> None:
        added(shelf(), "docs", size=12)
        Path("docs/kettle.md").write_text(KETTLE.replace("1.7", "2.5"))
        told = added(shelf(), "docs/kettle.md", size=12)
        assert (told.new, told.deleted) == (1, 1)
        assert not [text for text in texts(shelf(), "kettle litres", 20) if "1.7" in text]
        assert any("knife" in text for text in texts(shelf(), "knife"))  # of another file
        Path("docs/kettle.md").write_text("")
        assert added(shelf(), "docs/kettle.md").deleted == told.passages
        assert shelf().stats()["sources"] == 1

    def test_rows_that_are_gone_are_deleted(self, desk: Path) -> None:
        row = '{"text": "%s", "metadata": {"source": "docs/kettle.md"}}\n'
        Path("rows.jsonl").write_text(row % "Copper pipe." + row % "Brass tap.")
        added(shelf(), "docs", "rows.jsonl")
        Path("rows.jsonl").write_text(row % "Brass tap.")
        assert added(shelf(), "rows.jsonl").deleted == 1
        assert "Copper pipe." not in texts(shelf(), "copper pipe brass tap")
        added(shelf(), "docs")  # a file takes away what was read from it, no other of its name
        assert "Brass tap." in texts(shelf(), "brass tap")

    def test_work_that_was_broken_off_goes_on(
        self, desk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(collection, "BATCH", 4)
        rows = [f'{{"text": "Passage number {i}.", "id": {i}}}' for i in range(10)]
        Path("rows.jsonl").write_text("\n".join([*rows[:9], "{broken"]))
        steps: list[tuple[int, int]] = []
        with pytest.raises(RequestError, match=r"rows\.jsonl:10"):
            added(shelf(), "rows.jsonl", watch=lambda *step: steps.append(step))
        assert [kept for _, kept in steps] == [4, 8]
        assert shelf().stats()["passages"] == 8
        Path("rows.jsonl").write_text("\n".join(rows))
        told = added(shelf(), "rows.jsonl", watch=lambda *step: steps.append(step))
        assert (told.passages, told.new, told.deleted) == (10, 2, 0)
        assert steps[-1] == (Path("rows.jsonl").stat().st_size, 10)

    def test_nothing_to_read(self, desk: Path) -> None:
        with pytest.raises(RequestError, match=r"docs/picture\.png can't be taken, it is not"):
            added(shelf(), "docs/picture.png")

    def test_files_that_are_gone_are_pruned_below_the_folder(self, desk: Path) -> None:
        Path("other.txt").write_text("Copper pipe.")
        one = shelf()
        added(one, "docs", "other.txt")
        FaissStore("index", embedder="static").add_texts(["Mine."], [{"source": "docs/mine"}])
        Path("docs/inner/bread.txt").unlink()
        Path("other.txt").unlink()
        assert one.prune([Path("docs")]) == 1
        assert texts(one, "bread knife copper pipe mine")
        assert {found.source for found in one.searcher().search("copper mine knife", 9)} >= {
            "other.txt",
            "docs/mine",
        }
        assert "inner" not in str(one.searcher().search("bread knife", 9))

    def test_deleted_by_source_and_by_id(self, desk: Path) -> None:
        one = shelf()
        added(one, "docs", size=12)
        (best,) = one.searcher().search("kettle litres", 1)
        assert one.delete(ids=[best.id, "unknown"]) == 1
        assert one.delete(["docs/inner/bread.txt"]) == 2
        assert one.delete(["docs/inner/bread.txt"]) == 0
        assert one.stats()["sources"] == 1

    def test_tenants_are_apart(self, desk: Path) -> None:
        added(shelf(tenant="a"), "docs")
        assert texts(shelf(tenant="a"), "kettle")
        with pytest.raises(StoreError, match="no index of tenant 'b' at 'index'"):
            shelf(tenant="b").searcher()
        with pytest.raises(StoreError, match="no index at 'index'"):
            shelf().stats()
        assert [folder.name[:8] for folder in Path("index").iterdir()] == ["tenant-a"]


class TestEmbedders:
    def test_it_is_remembered(self, desk: Path) -> None:
        added(shelf(), "docs")
        for name in ("auto", "static"):
            assert shelf(embedder=name).ready() == "static"
            assert texts(shelf(embedder=name), "kettle")
        with pytest.raises(ConfigError, match="made with the embedder 'static', not ''"):
            shelf(embedder="").ready()

    def test_none_is_remembered_too(self, desk: Path) -> None:
        assert shelf(embedder="").ready() == "none: found by words alone"
        added(shelf(embedder=""), "docs")
        assert shelf(embedder="auto").stats()["embedder"] == "none: found by words alone"
        with pytest.raises(ConfigError, match="made with the embedder '', not 'static'"):
            shelf().ready()

    def test_the_best_is_taken_and_the_reason_told(
        self, desk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        static = registry.embedder("static", width=64)
        monkeypatch.setattr(collection, "best", lambda: (static, "it is small"))
        one = shelf(embedder="auto")
        assert one.ready() == "{'static': {'width': 64}} (it is small)"
        added(one, "docs")
        monkeypatch.setattr(collection, "best", lambda: (None, "nothing else is at hand"))
        assert shelf(embedder="auto").ready() == "{'static': {'width': 64}}"

    def test_stores_made_in_python(self, desk: Path) -> None:
        FaissStore("index", embedder={"static": {"width": 64}}).add_texts(["Tea."])
        assert shelf(embedder="auto").stats()["embedder"] == "{'static': {'width': 64}}"
        FaissStore("index", embedder="static").reindex()
        assert shelf(embedder="auto").stats()["embedder"] == "static"
        FaissStore("index").reindex()
        assert shelf(embedder="auto").stats()["embedder"] == "none: found by words alone"

    def test_what_has_no_plain_name_is_not_kept(self, desk: Path) -> None:
        FaissStore("index", embedder=Hashing()).add_texts(["Tea."])
        with pytest.raises(ConfigError, match="embedded by 'hashing-32', which can't be opened"):
            shelf(embedder="auto").searcher()
        secret = {"http": {"base_url": "http://127.0.0.1:1", "model": "m", "api_key": "s3cret"}}
        assert spelling(as_embedder(secret)) == ""

    def test_a_models_folder_is_known_by_its_whole_path(
        self, desk: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tiny_bert.parent)
        added(FileCollection(desk / "index", embedder=f"./{tiny_bert.name}"), str(desk / "docs"))
        monkeypatch.chdir(desk)
        named = {"sentence_transformers": {"model": str(tiny_bert.resolve())}}
        assert shelf(embedder="auto").stats()["embedder"] == str(named)

    def test_unknown_names(self, desk: Path) -> None:
        with pytest.raises(UnknownName, match="nearest: static"):
            shelf(embedder="statics").ready()
        with pytest.raises(UnknownName, match="no collection named 'fais'"):
            registry.collection("fais", folder="index")
        with pytest.raises(ConfigError, match="collection 'faiss'"):
            registry.collection("faiss", place="index")
