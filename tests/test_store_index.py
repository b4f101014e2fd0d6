"""The index of a store: of any kind, made anew, saved, put aside; many readers beside a writer."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_embedder import Hashing

from tersely.errors import StoreError
from tersely.rag import FaissStore
from tersely.rag.database import FILE
from tersely.rag.vector_index import IndexSettings

KINDS = ["flat", "sq8", "ivf", "hnsw"]
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
WORDS = [f"w{i}" for i in range(60)]


def passages(count: int, start: int = 0) -> list[str]:
    random = np.random.default_rng(start)
    return [f"{i + start} " + " ".join(random.choice(WORDS, 5)) for i in range(count)]


def filled(path: Path, count: int = 600, kind: str = "auto", **more: Any) -> FaissStore:
    store = FaissStore(path, embedder=Hashing(), settings={"kind": kind, **more})
    names = [str(i) for i in range(count)]
    store.add_texts(passages(count), [{"n": i} for i in range(count)], ids=names)
    return store


def exact(store: FaissStore, vector: Any, k: int, ids: list[str]) -> list[str]:
    scores = store.vectors(ids) @ vector
    return [ids[i] for i in np.argsort(-scores, kind="stable")[:k]]


def folder(store: FaissStore) -> Path:
    return store.shelf.database.folder


def snapshots(store: FaissStore) -> list[str]:
    return sorted(path.name for path in folder(store).glob("snapshot-*"))


class TestKinds:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_finds_the_nearest(self, tmp_path: Path, kind: str) -> None:
        store = filled(tmp_path, kind=kind, recall=1.0)
        store.save()
        assert store.stats().kinds == (kind,)
        ids = [str(i) for i in range(600)]
        vectors = Hashing().queries(passages(30, start=1))
        found = [[name for name, _ in store.dense(vector, 10)] for vector in vectors]
        right = [exact(store, vector, 10, ids) for vector in vectors]
        shares = [len({*a} & {*b}) / 10 for a, b in zip(found, right, strict=True)]
        assert np.mean(shares) >= (1.0 if kind in ("flat", "sq8") else 0.9)
        scores = [score for _, score in store.dense(vectors[0], 10)]
        assert np.allclose(scores, store.vectors(found[0]) @ vectors[0], atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_filters_leave_as_many_as_there_are(self, tmp_path: Path, kind: str) -> None:
        store = filled(tmp_path, 3000, kind=kind)
        store.save()
        vector = Hashing().queries(passages(1, start=1))[0]
        for low in (2995, 2900, 500, 0):  # few are compared by themselves, many in the index
            wanted = {"n": {"$gte": low}}
            found = store.dense(vector, 10, wanted)
            assert len(found) == min(10, 3000 - low)
            assert all(int(name) >= low for name, _ in found)
            right = exact(store, vector, 10, [str(i) for i in range(low, 3000)])
            assert len({name for name, _ in found} & {*right}) >= 0.7 * len(right)

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_deleted_or_added_later(self, tmp_path: Path, kind: str) -> None:
        store = filled(tmp_path, kind=kind)
        store.save()
        store.delete([str(i) for i in range(0, 600, 6)])
        store.add_texts(passages(60, start=7000), ids=[f"new {i}" for i in range(60)])
        ids = [str(i) for i in range(600) if i % 6] + [f"new {i}" for i in range(60)]
        for text in passages(60, start=7000)[::20] + passages(600)[:3]:
            vector = Hashing().queries([text])[0]
            found = {name for name, _ in store.dense(vector, 700)}
            assert found <= {*ids}
            if kind != "ivf":
                assert len(found) >= 0.9 * len(ids)
        best = store.dense(Hashing().queries(passages(60, start=7000))[5], 1)
        assert best[0][0] == "new 5"
        assert store.stats().passages == len(ids)

    def test_the_kind_goes_by_number_and_use(self) -> None:
        known = IndexSettings()
        assert [known.kind_for(n) for n in (0, 100_000, 100_001, 200_000, 200_001)] == [
            *("flat", "flat", "sq8", "sq8", "ivf")
        ]
        assert IndexSettings(mutable=False).kind_for(200_001) == "hnsw"
        assert IndexSettings(kind="sq8").kind_for(5) == "sq8"

    def test_a_grown_store_gets_another_kind_by_itself(self, tmp_path: Path) -> None:
        store = filled(tmp_path, 600, flat_rows=100, sq8_rows=300, save_every=50)
        assert store.stats().kinds[0] == "ivf"
        assert len(snapshots(store)) == 1
        generation = store.stats().generation
        store.add_texts(passages(20, start=9000))
        assert int(snapshots(store)[0].split("-")[1]) == generation  # too few to save again
        store.delete()
        store.add_texts(passages(90, start=20_000))
        assert store.stats().kinds == ("flat",)

    def test_nothing_of_faiss_is_set_for_others(self, tmp_path: Path) -> None:
        store = filled(tmp_path, kind="ivf")
        store.save()
        threads = faiss.omp_get_max_threads()
        store.dense(np.ones(32), 10, {"n": {"$gte": 0}})
        assert faiss.omp_get_max_threads() == threads
        (segment,) = store.shelf._view.segments  # type: ignore[union-attr]
        assert segment.effort > 1 and segment.index.nprobe == 1


@settings(max_examples=20)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 30), st.integers(0, 40)),
            st.tuples(st.just("delete"), st.integers(0, 40), st.integers(0, 40)),
            st.tuples(st.just("save"), st.just(0), st.just(0)),
            st.tuples(st.just("open"), st.just(0), st.just(0)),
            st.tuples(st.just("reindex"), st.just(0), st.just(0)),
        ),
        max_size=12,
    ),
    st.sampled_from(["flat", "sq8"]),
)
def test_any_course_of_things_ends_in_what_was_done(
    steps: list[tuple[str, int, int]], kind: str
) -> None:
    store = FaissStore(embedder=Hashing(8), settings={"kind": kind})
    other = FaissStore(store.path, embedder=Hashing(8), settings={"kind": "flat"})
    held: dict[str, str] = {}
    for number, (what, a, b) in enumerate(steps):
        if what == "add":
            new = {str(b + i): f"passage {number} {i}" for i in range(a)}
            store.add_texts(list(new.values()), ids=list(new), batch_size=7)
            held |= new
        elif what == "delete":
            gone = [str(i) for i in range(min(a, b), max(a, b))]
            store.delete(gone)
            held = {name: text for name, text in held.items() if name not in gone}
        elif what == "save":
            store.save()
        elif what == "reindex":
            store.reindex()
        else:
            other = FaissStore(store.path, embedder=Hashing(8), settings={"kind": "flat"})
        for one in (store, other):
            assert {name for name, _ in one.dense(np.ones(8), 99)} == {*held}
            assert {name for name, _ in one.lexical("passage", 99)} == {*held}
    assert {one.id: one.page_content for one in other.get_by_ids(list(held))} == held
    assert store.stats().damaged == ()


class TestSnapshots:
    def test_a_saved_index_is_loaded(self, tmp_path: Path) -> None:
        store = filled(tmp_path, kind="ivf")
        store.save()
        again = FaissStore(tmp_path, embedder=Hashing())  # its settings would make it flat
        assert again.stats().kinds == ("ivf",)
        vector = Hashing().queries(["w1 w2 w3"])[0]
        assert again.dense(vector, 10) == store.dense(vector, 10)

    def test_one_is_kept_and_scratch_is_cleared(self, tmp_path: Path) -> None:
        store = filled(tmp_path)
        (folder(store) / ".scratch-of-a-killed-process").mkdir()
        store.save()
        store.add_texts(["one more"])
        store.save()
        assert len(snapshots(store)) == 1
        assert not list(folder(store).glob(".scratch*"))
        assert store.stats().index_bytes > 0

    def test_an_old_one_is_brought_up_to_date(self, tmp_path: Path) -> None:
        store = filled(tmp_path)
        store.save()
        old = folder(store) / snapshots(store)[0]
        shutil.copytree(old, tmp_path / "kept")
        store.delete(["3"])
        store.add_texts(["w1 something new"], ids=["new"])
        store.save()
        shutil.rmtree(folder(store) / snapshots(store)[0])
        shutil.copytree(tmp_path / "kept", old)
        again = FaissStore(tmp_path, embedder=Hashing())
        found = {name for name, _ in again.dense(Hashing().queries(["w1"])[0], 999)}
        assert "new" in found and "3" not in found and len(found) == 600
        assert again.stats().damaged == ()

    @pytest.mark.parametrize("harm", ["torn", "flipped", "missing", "page", "page torn", "edited"])
    @pytest.mark.parametrize("kind", ["flat", "ivf"])
    def test_a_damaged_one_is_put_aside(
        self, tmp_path: Path, harm: str, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = filled(tmp_path, kind=kind)
        store.save()
        vector = Hashing().queries(["w1 w2 w3"])[0]
        right = exact(store, vector, 10, [str(i) for i in range(600)])
        damage(folder(store) / snapshots(store)[0], harm)
        again = FaissStore(tmp_path, embedder=Hashing())
        assert [name for name, _ in again.dense(vector, 10)] == right
        (name,) = again.stats().damaged
        assert name.startswith("damaged-") and (folder(again) / name).is_dir()
        assert "is damaged" in caplog.text and name in caplog.text
        again.save()
        assert len(snapshots(again)) == 1 and again.stats().damaged == (name,)

    def test_one_of_another_store(self, tmp_path: Path) -> None:
        store, other = filled(tmp_path / "a"), filled(tmp_path / "b", 300)
        for one in (store, other):
            one.save()
        foreign = folder(other) / snapshots(other)[0]
        shutil.rmtree(folder(store) / snapshots(store)[0])
        shutil.copytree(foreign, folder(store) / foreign.name)
        again = FaissStore(tmp_path / "a", embedder=Hashing())
        assert len(again.dense(np.ones(32), 999)) == 600
        assert len(again.stats().damaged) == 1

    def test_one_of_texts_that_were_undone(self, tmp_path: Path) -> None:
        """The database is put back, and goes on otherwise: same numbers, other texts."""
        store = filled(tmp_path, 20)
        store.close()
        shutil.copy(folder(store) / FILE, tmp_path / "backup")
        store.add_texts(["alpha beta"], ids=["undone"])
        store.save()
        store.close()
        shutil.copy(tmp_path / "backup", folder(store) / FILE)
        again = FaissStore(tmp_path, embedder=Hashing())
        again.add_texts(["gamma delta"], ids=["instead"])
        names = {name for name, _ in again.dense(Hashing().queries(["alpha beta"])[0], 99)}
        assert names == {*map(str, range(20)), "instead"}
        assert len(again.stats().damaged) == 1

    def test_a_newer_layout_is_left_alone(self, tmp_path: Path) -> None:
        store = filled(tmp_path, 5)
        with store.shelf.database.writing() as connection:
            connection.execute("PRAGMA user_version = 99")
        store.close()
        with pytest.raises(StoreError, match=r"newer release \(layout 99"):
            FaissStore(tmp_path, embedder=Hashing())

    def test_a_damaged_database_is_told_of(self, tmp_path: Path) -> None:
        store = filled(tmp_path, 5)
        store.close()
        (folder(store) / FILE).write_bytes(b"no database at all" * 500)
        with pytest.raises(StoreError, match="failed: file is not a database"):
            FaissStore(tmp_path, embedder=Hashing())

    def test_other_words_are_indexed_anew(self, tmp_path: Path) -> None:
        store = filled(tmp_path, 5)
        with store.shelf.database.writing() as connection:
            connection.execute("UPDATE facts SET value = 'old' WHERE name = 'tokeniser'")
            connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
        assert store.lexical("w1 w2 w3 w4 w5", 5) == []
        with pytest.raises(StoreError, match="open it again"):
            store.add_texts(["more"])
        before = {name for name, _ in filled(tmp_path / "other", 5).lexical(passages(1)[0], 9)}
        again = FaissStore(tmp_path, embedder=Hashing())
        assert {name for name, _ in again.lexical(passages(1)[0], 9)} == before


def damage(snapshot: Path, harm: str) -> None:
    index, page = snapshot / "0.faiss", snapshot / "about.json"
    if harm == "torn":
        index.write_bytes(index.read_bytes()[:-100])
    elif harm == "flipped":
        data = bytearray(index.read_bytes())
        data[len(data) // 2] ^= 1
        index.write_bytes(data)
    elif harm == "missing":
        (snapshot / "0.npy").unlink()
    elif harm == "page":
        page.unlink()
    elif harm == "page torn":
        page.write_text(page.read_text()[:50])
    else:
        written = json.loads(page.read_text())
        written["about"]["last"] += 1
        page.write_text(json.dumps(written))


class TestAtOnce:
    def test_eight_readers_beside_a_writer(self, tmp_path: Path) -> None:
        """All passages carry the round in which they were written; no read may mix two."""
        store = FaissStore(tmp_path, embedder=Hashing(8), settings={"save_every": 40})
        ids = [str(i) for i in range(30)]
        done = threading.Event()

        def write() -> None:
            try:
                for round_ in range(8):
                    texts = [f"passage {i} round{round_}" for i in ids]
                    extra = [f"more {i} round{round_}" for i in range(round_)]
                    names = [f"x{round_}-{i}" for i in range(round_)]
                    metadatas = [{"round": round_}] * (30 + round_)
                    store.add_texts([*texts, *extra], metadatas, ids=[*ids, *names])
                    if round_ % 3 == 0:
                        store.save()
            finally:
                done.set()

        def read(number: int) -> int:
            mine = store if number % 2 else FaissStore(tmp_path, embedder=Hashing(8))
            reads = 0
            while not done.is_set() or not reads:
                reads += one_read(mine, number)
            return reads

        def one_read(mine: FaissStore, number: int) -> int:
            with mine.reading() as now:
                dense = {name for name, _ in mine.dense(np.ones(8), 999)}
                words = {name for name, _ in mine.lexical("passage more", 999)}
                found = mine.passages(sorted(dense))
                assert mine.vectors(sorted(dense)).shape == (len(dense), 8) or not dense
                assert now.state.generation == mine.stats().generation
            assert dense == words == {one.id for one in found}
            rounds = {one.metadata["round"] for one in found if one.id in ids}
            assert len(rounds) <= 1, rounds
            if rounds:
                (last,) = rounds
                assert len(found) == 30 + sum(range(last + 1))
            shown = mine.similarity_search("passage", 5)
            assert len({one.metadata["round"] for one in shown if one.id in ids}) <= 1
            return bool(rounds)

        store.add_texts([f"passage {i} round0" for i in ids], [{"round": 0}] * 30, ids=ids)
        with ThreadPoolExecutor(9) as pool:
            readers = [pool.submit(read, number) for number in range(8)]
            writing = pool.submit(write)
            writing.result(timeout=120)
            assert all(reader.result(timeout=120) for reader in readers)
        assert store.stats().damaged == ()

    @forks
    def test_several_processes_write(self, tmp_path: Path) -> None:
        FaissStore(tmp_path, embedder=Hashing(8)).add_texts(["kettle of the parent"])
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=added, args=(tmp_path, n)) for n in range(3)]
        store = FaissStore(tmp_path, embedder=Hashing(8))
        store.dense(np.ones(8), 1)
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert store.stats().passages == 61
        assert len(store.dense(np.ones(8), 99)) == len(store.lexical("kettle", 99)) == 61

    @forks
    def test_a_store_that_was_forked(self, tmp_path: Path) -> None:
        store = FaissStore(tmp_path, embedder=Hashing(8))
        store.add_texts(["kettle"])
        child = multiprocessing.get_context("fork").Process(target=used, args=(store,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert store.stats().passages == 2

    def test_a_thread_that_writes_while_it_reads(self, tmp_path: Path) -> None:
        store = FaissStore(tmp_path, embedder=Hashing(8))
        store.add_texts(["kettle"])
        with store.reading():
            store.add_texts(["another kettle"])
            assert len(store.dense(np.ones(8), 9)) == len(store.lexical("kettle", 9)) == 1
        assert len(store.dense(np.ones(8), 9)) == 2


def added(path: Path, number: int) -> None:
    store = FaissStore(path, embedder=Hashing(8))
    for i in range(4):
        store.add_texts([f"kettle {number} {i} {j}" for j in range(5)])
        store.save()


def used(store: FaissStore) -> None:
    store.add_texts(["kettle of the child"])
    assert len(store.dense(np.ones(8), 9)) == 2
