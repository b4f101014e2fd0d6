"""The store as LangChain sees it: added, found, replaced, deleted, indexed, apart by tenant."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from little_embedder import Hashing

from tersely.errors import ConfigError, ModelError, RequestError, StoreError
from tersely.lexical import terms_of
from tersely.rag import FaissStore
from tersely.rag.rows import worded
from tersely.rag.store_finding import relevance_of_bm25, relevance_of_cosine
from tersely.retrieval import Vectors

TEXTS = [
    "The kettle holds 1.7 litres of water.",
    "Tea is brewed at ninety degrees.",
    "The blue kettle whistles when it boils.",
    "Bread rises slowly in a cold kitchen.",
    "A kitchen knife wants to be sharp.",
]


@pytest.fixture
def embedder() -> Hashing:
    return Hashing()


@pytest.fixture
def store(tmp_path: Path, embedder: Hashing) -> FaissStore:
    return FaissStore(tmp_path / "store", embedder=embedder)


def texts_of(found: list[Document]) -> list[str]:
    return [one.page_content for one in found]


class TestAdding:
    def test_what_was_added_comes_back(self, store: FaissStore) -> None:
        metadatas = [{"n": i, "source": "a.md", "tags": ["x", None]} for i in range(len(TEXTS))]
        ids = store.add_texts(TEXTS, metadatas, ids=[f"t{i}" for i in range(len(TEXTS))])
        assert ids == ["t0", "t1", "t2", "t3", "t4"]
        found = {one.id: one for one in store.get_by_ids(ids)}
        assert [found[name].page_content for name in ids] == TEXTS
        assert [found[name].metadata for name in ids] == metadatas

    def test_another_object_and_another_start_see_it(
        self, store: FaissStore, tmp_path: Path, embedder: Hashing
    ) -> None:
        store.add_texts(TEXTS)
        store.close()
        again = FaissStore(tmp_path / "store", embedder=embedder)
        assert texts_of(again.similarity_search("kettle litres", 1)) == TEXTS[:1]
        store.add_texts(["A kettle in litres"])
        assert again.stats().passages == len(TEXTS) + 1
        assert "A kettle in litres" in texts_of(again.similarity_search("kettle litres", 1))

    def test_unchanged_text_is_not_embedded_again(
        self, store: FaissStore, embedder: Hashing
    ) -> None:
        store.add_texts(TEXTS)
        generation = store.stats().generation
        assert embedder.seen == TEXTS
        assert len(set(store.add_texts(TEXTS))) == len(TEXTS)
        store.add_texts(TEXTS[:2], ids=["other", "names"])
        store.add_texts(TEXTS[:1], [{"new": "metadata"}], ids=["other"])
        assert embedder.seen == TEXTS
        assert store.stats().generation == generation + 2

    def test_adding_the_same_again_changes_nothing(self, store: FaissStore) -> None:
        ids = store.add_texts(TEXTS, ids=list("abcde"))
        generation = store.stats().generation
        assert store.add_texts(TEXTS, ids=list("abcde")) == ids
        assert (store.stats().generation, store.stats().passages) == (generation, len(TEXTS))

    def test_a_known_id_is_replaced(self, store: FaissStore) -> None:
        store.add_texts(TEXTS, ids=list("abcde"))
        store.add_texts(["Nothing but sugar"], ids=["a"])
        assert texts_of(store.get_by_ids(["a"])) == ["Nothing but sugar"]
        assert store.stats().passages == len(TEXTS)
        assert TEXTS[0] not in texts_of(store.similarity_search("kettle holds litres", 5))
        assert store.lexical("litres", 5) == []
        assert [name for name, _ in store.lexical("sugar", 5)] == ["a"]

    def test_documents_bring_their_ids(self, store: FaissStore) -> None:
        documents = [Document(id="x", page_content="one"), Document(page_content="two")]
        ids = store.add_documents(documents)
        assert ids[0] == "x" and ids[1]
        assert store.add_documents(documents, ids=["y", "z"]) == ["y", "z"]
        assert store.stats().passages == 4

    def test_the_last_of_one_id_stays(self, store: FaissStore) -> None:
        assert store.add_texts(["first", "second"], ids=["a", "a"]) == ["a", "a"]
        assert texts_of(store.get_by_ids(["a"])) == ["second"]

    def test_a_stream_is_added_in_batches(self, store: FaissStore) -> None:
        done: list[int] = []
        stream = (Document(page_content=f"passage {i}") for i in range(25))
        store.add_documents(stream, batch_size=10, progress=done.append)
        assert done == [10, 20, 25]
        assert store.stats().passages == 25

    def test_what_a_broken_stream_gave_is_kept(self, store: FaissStore) -> None:
        def broken() -> Iterator[str]:
            yield from (f"passage {i}" for i in range(25))
            raise ValueError("the source broke")

        with pytest.raises(ValueError, match="broke"):
            store.add_texts(broken(), batch_size=10)
        assert store.stats().passages == 20

    @pytest.mark.parametrize(
        ("metadata", "named"),
        [
            ({"at": {1, 2}}, "'at'"),
            ({"day": np.float32(3)}, "'day'"),
            ({"pair": (1, 2)}, "'pair'"),
            ({"inner": {1: 2}}, "'inner'"),
        ],
    )
    def test_metadata_that_would_not_come_back(
        self, store: FaissStore, metadata: dict[str, object], named: str
    ) -> None:
        with pytest.raises(RequestError, match=named):
            store.add_texts(["text"], [metadata])
        assert store.stats().passages == 0

    def test_half_a_character(self, store: FaissStore) -> None:
        with pytest.raises(RequestError, match="half a character at 2"):
            store.add_texts(["ab\ud800"])
        with pytest.raises(RequestError, match="the id"):
            store.add_texts(["ab"], ids=["\ud800"])

    def test_lengths_that_differ(self, store: FaissStore) -> None:
        with pytest.raises(RequestError, match="2 texts, 1 ids"):
            store.add_texts(["a", "b"], ids=["1"])
        with pytest.raises(RequestError, match="2 texts, 3 metadatas"):
            store.add_texts(["a", "b"], [{}, {}, {}])

    def test_a_batch_of_nothing(self, store: FaissStore) -> None:
        with pytest.raises(ConfigError, match="at least one passage, was 0"):
            store.add_texts(["a"], batch_size=0)
        assert store.add_texts([]) == []

    def test_vectors_that_are_not_finite(self, tmp_path: Path) -> None:
        class Broken(Hashing):
            def queries(self, texts: object, /) -> Vectors:
                return np.full((1, 32), np.nan, np.float32)

        with pytest.raises(ModelError, match="no finite vector for 'a text'"):
            FaissStore(tmp_path, embedder=Broken()).add_texts(["a text"])


class TestFinding:
    def test_scores_are_cosines(self, store: FaissStore, embedder: Hashing) -> None:
        store.add_texts(TEXTS, ids=list("abcde"))
        found = store.similarity_search_with_score(TEXTS[2], 5)
        cosines = embedder.queries(TEXTS) @ embedder.queries([TEXTS[2]])[0]
        assert found[0][0].page_content == TEXTS[2]
        assert [one.page_content for one, _ in found] == [TEXTS[i] for i in np.argsort(-cosines)]
        assert np.allclose([score for _, score in found], -np.sort(-cosines), atol=1e-3)
        by_vector = store.similarity_search_by_vector(embedder.queries([TEXTS[2]])[0].tolist(), 5)
        assert by_vector == [one for one, _ in found]

    def test_relevance_is_between_0_and_1_and_falls(self, store: FaissStore) -> None:
        store.add_texts([*TEXTS, "!"])
        found = store.similarity_search_with_relevance_scores("the blue kettle", 6)
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        near = store.similarity_search_with_relevance_scores(TEXTS[0], 6, score_threshold=0.999)
        assert texts_of([one for one, _ in near]) == TEXTS[:1]

    @given(st.lists(st.floats(-1.001, 1.001), min_size=2, max_size=20))
    def test_relevance_of_cosines_is_monotone(self, cosines: list[float]) -> None:
        rising = [relevance_of_cosine(one) for one in sorted(cosines)]
        assert rising == sorted(rising) and rising[0] >= 0 and rising[-1] <= 1

    @given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
    def test_relevance_of_bm25_is_monotone(self, scores: list[float]) -> None:
        rising = [relevance_of_bm25(one) for one in sorted(scores)]
        assert rising == sorted(rising) and rising[0] >= 0 and rising[-1] <= 1

    def test_different_cosines_have_different_relevance(self) -> None:
        assert relevance_of_cosine(-1) == 0 and relevance_of_cosine(1) == 1
        assert relevance_of_cosine(0.95) > relevance_of_cosine(0.94) > relevance_of_cosine(-0.2)

    def test_words_alone(self, tmp_path: Path) -> None:
        store = FaissStore(tmp_path)
        store.add_texts(TEXTS, ids=list("abcde"))
        assert [name for name, _ in store.lexical("a sharp knife", 5)] == ["e"]
        assert texts_of(store.similarity_search("rising bread", 2)) == [TEXTS[3]]
        ((_, score),) = store.similarity_search_with_relevance_scores("rising bread", 2)
        assert 0 < score < 1
        assert store.stats().width == 0 and store.stats().kinds == ()
        with pytest.raises(ConfigError, match="no embedder"):
            store.max_marginal_relevance_search("bread")
        with pytest.raises(ConfigError, match="no vectors"):
            store.vectors(["a"])
        store.save()
        assert store.dense(np.ones(3), 2) == []

    @pytest.mark.parametrize(
        "text",
        [
            "naïve café",
            "東京の天気は晴れ",
            "สวัสดีครับ",
            "snake_case",
            'a "quoted" AND (word) OR *',
            "İß",
        ],
    )
    def test_words_of_all_scripts(self, tmp_path: Path, text: str) -> None:
        store = FaissStore(tmp_path)
        store.add_texts([text, "nothing of the kind", "another one"], ids=["it", "no", "non"])
        assert [name for name, _ in store.lexical(text, 1)] == ["it"]

    @given(st.text())
    def test_words_are_cut_as_everywhere(self, text: str) -> None:
        assert worded(text).split() == terms_of(text)

    def test_a_question_without_words(self, store: FaissStore) -> None:
        store.add_texts(TEXTS)
        assert store.lexical("the of ?!", 3) == []
        assert len(store.similarity_search("?!", 3)) == 3
        assert store.similarity_search("kettle", 0) == []

    def test_more_than_there_are(self, store: FaissStore) -> None:
        assert store.similarity_search("kettle", 4) == []
        store.add_texts(TEXTS)
        assert len(store.similarity_search("kettle", 50)) == len(TEXTS)

    def test_diverse_passages(self, store: FaissStore) -> None:
        store.add_texts(["red kettle", "red kettle!", "the red kettle", "green tea"])
        plain = texts_of(store.similarity_search("red kettle tea", 2))
        assert "green tea" not in plain
        mixed = texts_of(store.max_marginal_relevance_search("red kettle tea", 2, lambda_mult=0.3))
        assert "green tea" in mixed
        alone = store.max_marginal_relevance_search("red kettle tea", 2, lambda_mult=1.0)
        assert texts_of(alone) == plain

    def test_passages_and_vectors_by_id(self, store: FaissStore, embedder: Hashing) -> None:
        metadatas = [{"source": "a", "start": 7, "end": 9}, {"start_index": 3}, {"start": "no"}]
        store.add_texts(TEXTS[:3], metadatas, ids=["a", "b", "c"])
        b, a, c = store.passages(["b", "nobody", "a", "c"])
        assert (a.id, a.source, a.start, a.end, a.text) == ("a", "a", 7, 9, TEXTS[0])
        assert (b.source, b.start, b.end) == ("", 3, 3 + len(TEXTS[1]))
        assert (c.start, c.end) == (0, len(TEXTS[2]))
        vectors = store.vectors(["b", "a", "b"])
        assert np.allclose(vectors, embedder.queries([TEXTS[1], TEXTS[0], TEXTS[1]]), atol=1e-3)
        with pytest.raises(RequestError, match="'nobody'"):
            store.vectors(["a", "nobody"])

    def test_ids_that_are_not_there(self, store: FaissStore) -> None:
        store.add_texts(TEXTS[:1], ids=["a"])
        strange = ["", "a", "a", "\x00", "\ud800", '"', None, 7]
        assert texts_of(store.get_by_ids(strange)) == TEXTS[:1] * 2  # type: ignore[arg-type]

    def test_it_is_a_retriever(self, store: FaissStore) -> None:
        store.add_texts(TEXTS, [{"n": i} for i in range(5)])
        retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"n": {"$gt": 2}}})
        assert texts_of(retriever.invoke("the kettle with cold bread")) == [TEXTS[3]]

    @pytest.mark.parametrize("vector", [np.ones(31), np.full(32, np.inf)])
    def test_a_vector_that_does_not_fit(self, store: FaissStore, vector: Vectors) -> None:
        store.add_texts(TEXTS)
        with pytest.raises((ConfigError, RequestError), match=r"31 numbers|not finite"):
            store.dense(vector, 2)

    @settings(max_examples=25)
    @given(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.text(st.characters(exclude_categories=["Cs"])),
            max_size=6,
        )
    )
    def test_any_ids_and_texts_come_back(self, texts: dict[str, str]) -> None:
        store = FaissStore.from_texts(list(texts.values()), ids=list(texts))
        assert {one.id: one.page_content for one in store.get_by_ids(list(texts))} == texts
        assert store.stats().passages == len(texts)
        store.delete(list(texts))
        assert store.stats().passages == 0


class TestDeleting:
    def test_by_id(self, store: FaissStore) -> None:
        store.add_texts(TEXTS, ids=list("abcde"))
        assert store.delete(["a", "nobody", "\ud800"]) is True
        assert store.delete([]) is True
        assert len(store.similarity_search("kettle", 9)) == 4
        assert store.get_by_ids(["a"]) == []

    def test_by_source_and_by_filter(self, store: FaissStore) -> None:
        store.add_texts(TEXTS, [{"source": f"{i % 2}.md", "n": i} for i in range(5)])
        store.delete(filter={"source": "0.md"})
        assert sorted(one.metadata["n"] for one in store.similarity_search("a", 9)) == [1, 3]
        store.delete(filter=lambda metadata: metadata["n"] > 2)
        assert [one.metadata["n"] for one in store.similarity_search("a", 9)] == [1]

    def test_ids_and_filter_must_both_hold(self, store: FaissStore) -> None:
        store.add_texts(TEXTS, [{"n": i} for i in range(5)], ids=list("abcde"))
        store.delete(["a", "b"], filter={"n": {"$gte": 1}})
        assert {one.id for one in store.get_by_ids(list("abcde"))} == set("acde")

    def test_all(self, store: FaissStore) -> None:
        store.add_texts(TEXTS)
        store.delete()
        assert store.stats().passages == 0
        assert store.similarity_search("kettle", 3) == store.lexical("kettle", 3) == []
        store.add_texts(TEXTS[:1])
        assert len(store.similarity_search("kettle", 3)) == 1


class TestEmbedders:
    def test_another_embedder_is_told_of(self, store: FaissStore, tmp_path: Path) -> None:
        store.add_texts(TEXTS)
        other = FaissStore(tmp_path / "store", embedder=Hashing(16, "other"))
        told = r"'hashing-32' \(32 wide\).* with 'other-16' \(16 wide\).*reindex\(\)"
        with pytest.raises(ConfigError, match=told):
            other.similarity_search("kettle")
        with pytest.raises(ConfigError, match=told):
            other.add_texts(["more"])
        assert len(other.lexical("kettle", 5)) == 2
        without = FaissStore(tmp_path / "store")
        with pytest.raises(ConfigError, match="without an embedder"):
            without.similarity_search("kettle")

    def test_embedding_again(self, store: FaissStore, tmp_path: Path) -> None:
        store.add_texts(TEXTS, ids=list("abcde"))
        store.save()
        new = Hashing(16, "other")
        other = FaissStore(tmp_path / "store", embedder=new)
        done: list[int] = []
        other.reindex(batch_size=2, progress=done.append)
        assert done == [2, 4, 5]
        assert texts_of(other.similarity_search(TEXTS[1], 1)) == [TEXTS[1]]
        assert np.allclose(other.vectors(["c"]), new.queries([TEXTS[2]]), atol=1e-3)
        with pytest.raises(ConfigError, match="'other-16'"):
            store.similarity_search("kettle")
        other.save()
        assert FaissStore(tmp_path / "store", embedder=new).stats().damaged == ()

    def test_embedding_again_all_or_nothing(self, store: FaissStore, tmp_path: Path) -> None:
        class Fails(Hashing):
            def queries(self, texts: object, /) -> Vectors:
                if len(self.seen) > 3:
                    raise RuntimeError("no more")
                return super().queries(texts)  # type: ignore[arg-type]

        store.add_texts(TEXTS)
        before = store.similarity_search_with_score("kettle", 5)
        with pytest.raises(RuntimeError, match="no more"):
            FaissStore(tmp_path / "store", embedder=Fails(16)).reindex(batch_size=2)
        assert store.similarity_search_with_score("kettle", 5) == before

    def test_from_no_embedder_to_one(self, tmp_path: Path, embedder: Hashing) -> None:
        FaissStore(tmp_path).add_texts(TEXTS)
        store = FaissStore(tmp_path, embedder=embedder)
        with pytest.raises(ConfigError, match="holds no vectors"):
            store.similarity_search("kettle")
        store.reindex()
        assert texts_of(store.similarity_search(TEXTS[4], 1)) == [TEXTS[4]]

    def test_embeddings_of_langchain(self, tmp_path: Path) -> None:
        class Theirs(Embeddings):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                return (3 * Hashing().queries(texts)).tolist()  # theirs need not have length 1

            def embed_query(self, text: str) -> list[float]:
                return self.embed_documents([text])[0]

        theirs = Theirs()
        store = FaissStore.from_documents(
            [Document(page_content=text) for text in TEXTS], theirs, path=tmp_path
        )
        assert store.embeddings is theirs
        ((found, score),) = store.similarity_search_with_score(TEXTS[3], 1)
        assert found.page_content == TEXTS[3]
        assert score == pytest.approx(1, abs=1e-3)


class TestTenants:
    def test_nothing_of_another_is_seen(self, tmp_path: Path, embedder: Hashing) -> None:
        a = FaissStore(tmp_path, embedder=embedder, tenant="a")
        b = FaissStore(tmp_path, embedder=embedder, tenant="b")
        a.add_texts(TEXTS, [{"source": "same.md"}] * 5, ids=list("abcde"))
        b.add_texts(["The kettle of b"], [{"source": "same.md"}], ids=["a"])
        assert b.stats().passages == 1 and b.stats().sources == 1
        assert texts_of(b.similarity_search("kettle", 9)) == ["The kettle of b"]
        assert [name for name, _ in b.lexical("kettle tea", 9)] == ["a"]
        assert texts_of(b.get_by_ids(list("abcde"))) == ["The kettle of b"]
        b.delete(filter={"source": "same.md"})
        b.delete()
        assert a.stats().passages == 5
        assert texts_of(a.get_by_ids(["a"])) == TEXTS[:1]

    def test_words_of_another_change_no_score(self, tmp_path: Path) -> None:
        a = FaissStore(tmp_path, tenant="a")
        a.add_texts(TEXTS)
        before = a.lexical("the blue kettle", 5)
        FaissStore(tmp_path, tenant="b").add_texts([f"kettle {i}" for i in range(50)])
        assert a.lexical("the blue kettle", 5) == before

    def test_names_that_look_alike(self, tmp_path: Path) -> None:
        names = ["", "a", "A", "a/../b", "b", "é", "e\u0301", "x" * 500]
        stores = [FaissStore(tmp_path, tenant=name) for name in names]
        for store in stores:
            store.add_texts(["kettle"], [{"of": repr(store.tenant)}])
        assert [one.stats().passages for one in stores] == [1] * len(names)
        assert len(list(tmp_path.iterdir())) == len(names)
        with pytest.raises(ConfigError, match="half a character"):
            FaissStore(tmp_path, tenant="\ud800")

    def test_a_folder_of_another_tenant(self, tmp_path: Path) -> None:
        FaissStore(tmp_path, tenant="a").close()
        FaissStore(tmp_path / "other", tenant="b").close()
        goal = next((tmp_path / "other").iterdir())
        for file in goal.iterdir():
            file.unlink()
        for file in next(tmp_path.glob("tenant-a*")).iterdir():
            file.rename(goal / file.name)
        with pytest.raises(StoreError, match="belongs to tenant 'a'"):
            FaissStore(tmp_path / "other", tenant="b")


class TestIndexing:
    """`langchain_core.indexing` decides what is new; the store does as it is told."""

    def documents(self, *texts: str, source: str = "a.md") -> list[Document]:
        return [Document(page_content=text, metadata={"source": source}) for text in texts]

    @pytest.mark.parametrize("cleanup", ["incremental", "full", "scoped_full"])
    def test_a_changed_source(self, store: FaissStore, embedder: Hashing, cleanup: str) -> None:
        records = InMemoryRecordManager(cleanup)
        records.create_schema()

        def run(documents: list[Document]) -> dict[str, int]:
            done = index(
                documents,
                records,
                store,
                cleanup=cleanup,  # type: ignore[arg-type]
                source_id_key="source",
                key_encoder="sha256",
            )
            return {key.removeprefix("num_"): value for key, value in done.items()}  # type: ignore[misc]

        other = self.documents("bread", source="b.md")
        first = run([*self.documents("kettle", "tea"), *other])
        assert first == {"added": 3, "updated": 0, "skipped": 0, "deleted": 0}
        again = run([*self.documents("kettle", "tea"), *other])
        assert again == {"added": 0, "updated": 0, "skipped": 3, "deleted": 0}
        assert embedder.seen == ["kettle", "tea", "bread"]
        changed = run([*self.documents("kettle", "coffee"), *other])
        assert changed == {"added": 1, "updated": 0, "skipped": 2, "deleted": 1}
        assert embedder.seen == ["kettle", "tea", "bread", "coffee"]
        assert set(texts_of(store.similarity_search("x", 9))) == {"kettle", "coffee", "bread"}

    def test_force_update_embeds_nothing_again(self, store: FaissStore, embedder: Hashing) -> None:
        records = InMemoryRecordManager("forced")
        records.create_schema()
        for forced in (False, True):
            documents = self.documents("kettle", "tea")
            index(documents, records, store, force_update=forced, key_encoder="sha256")
        assert embedder.seen == ["kettle", "tea"]
        assert store.stats().passages == 2

    async def test_without_blocking(self, store: FaissStore) -> None:
        records = InMemoryRecordManager("async")
        await records.acreate_schema()
        for texts in (["kettle", "tea"], ["tea"]):
            await aindex(
                self.documents(*texts),
                records,
                store,
                cleanup="incremental",
                source_id_key="source",
                key_encoder="sha256",
            )
        assert texts_of(await store.asimilarity_search("x", 9)) == ["tea"]


class TestAsync:
    async def test_the_loop_goes_on(self, tmp_path: Path) -> None:
        started, free = threading.Event(), threading.Event()

        class Slow(Hashing):
            def documents(self, texts: object, /) -> Vectors:
                started.set()
                assert free.wait(30)
                return super().documents(texts)  # type: ignore[arg-type]

        store = FaissStore(tmp_path, embedder=Slow())
        adding = asyncio.create_task(store.aadd_texts(TEXTS))
        while not started.is_set():
            await asyncio.sleep(0.001)
        free.set()  # reached only because the loop was not blocked
        assert len(await adding) == 5
        assert texts_of(await store.asimilarity_search(TEXTS[0], 1)) == TEXTS[:1]
        ((_, score),) = await store.asimilarity_search_with_relevance_scores(TEXTS[0], 1)
        assert math.isclose(score, 1, abs_tol=1e-3)
        assert len(await store.amax_marginal_relevance_search("kettle", 2)) == 2
        ids = [one.id for one in await store.asimilarity_search("kettle", 9)]
        assert len(await store.aget_by_ids([str(name) for name in ids])) == 5
        assert await store.adelete() is True
        assert store.stats().passages == 0


def test_a_store_without_a_folder_leaves_nothing() -> None:
    store = FaissStore.from_texts(TEXTS, Hashing())
    path = store.path
    assert path.is_dir() and len(store.similarity_search("kettle", 9)) == 5
    del store
    assert not path.exists()


def test_settings_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"settings: kind: .*given: 'flatt'"):
        FaissStore(tmp_path, settings={"kind": "flatt"})
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="no store can be opened"):
        FaissStore(tmp_path / "file")
