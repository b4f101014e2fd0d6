"""Nothing is embedded twice, whoever asks; and what goes wrong with the file is in nobody's way."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.rag.embedding_cache import BATCH, CachedEmbedder
from tersely.rag.vector_file import OVERHEAD, VectorFile
from tersely.retrieval import Embedder, Vectors, unit

WIDTH = 8


class Counting:
    """Embeds by hashing, another way for questions, and notes what it was asked."""

    def __init__(self, key: str = "one") -> None:
        self.key = key
        self.width = WIDTH
        self.asked: list[str] = []
        self._lock = Lock()

    def documents(self, texts: Sequence[str], /) -> Vectors:
        return self._read("d", texts)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        return self._read("q", texts)

    def _read(self, kind: str, texts: Sequence[str]) -> Vectors:
        with self._lock:
            self.asked += [kind + text for text in texts]
        data = [(self.key + kind + text).encode(errors="surrogatepass") for text in texts]
        rows = [np.frombuffer(sha256(one).digest()[:WIDTH], np.int8) for one in data]
        return unit(np.array(rows, np.float32).reshape(-1, WIDTH))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "vectors.sqlite3"


def test_each_text_is_embedded_once(path: Path) -> None:
    inner = Counting()
    one = CachedEmbedder(inner, path)
    texts = ["a", "b", "a", "", "\ud800"]
    first = one.documents(texts)
    assert inner.asked == ["da", "db", "d", "d\ud800"]
    assert (first == one.documents(texts)).all()
    assert (one.documents(["\ud800", "c"])[0] == first[4]).all()
    assert inner.asked[4:] == ["dc"]
    assert isinstance(one, Embedder)
    assert (one.key, one.width) == (inner.key, inner.width)
    assert one.documents([]).shape == one.queries([]).shape == (0, WIDTH)


def test_another_one_on_the_same_file_knows_it_too(path: Path) -> None:
    first = CachedEmbedder(Counting(), path).documents(["a"])
    inner = Counting()
    assert (CachedEmbedder(inner, path).documents(["a"]) == first).all()
    assert inner.asked == []


def test_questions_tenants_models_and_exactness_are_apart(path: Path) -> None:
    texts = ["a", "b"]
    inner, other = Counting(), Counting("two")
    asks = [
        CachedEmbedder(inner, path).documents,
        CachedEmbedder(inner, path).queries,
        CachedEmbedder(inner, path, tenant="x").documents,
        CachedEmbedder(inner, path, exact=True).documents,
        CachedEmbedder(other, path).documents,
    ]
    found = [ask(texts) for ask in asks]
    assert len(inner.asked + other.asked) == 10
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found[0], found[4])
    for ask, rows in zip(asks, found, strict=True):
        assert (ask(texts) == rows).all()
    assert len(inner.asked + other.asked) == 10


@given(parts=st.tuples(*[st.text(max_size=3)] * 3), others=st.tuples(*[st.text(max_size=3)] * 3))
def test_no_two_texts_share_a_key(
    parts: tuple[str, str, str], others: tuple[str, str, str]
) -> None:
    def key(name: str, tenant: str, text: str) -> bytes:
        one = CachedEmbedder(Counting(name), "unused", tenant=tenant)
        return next(one._keys("document", [text]))

    assert (key(*parts) == key(*others)) == (parts == others)


def test_how_exactly_vectors_are_kept(path: Path) -> None:
    texts = [str(i) for i in range(50)]
    expected = Counting().documents(texts)
    exact = CachedEmbedder(Counting(), path, exact=True)
    rough = CachedEmbedder(Counting(), path)
    for _ in range(2):
        assert (exact.documents(texts) == expected).all()
        rows = rough.documents(texts)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1)
        assert np.abs(rows @ rows.T - expected @ expected.T).max() < 1e-3


def test_what_was_used_longest_ago_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersely.rag.vector_file.LATELY", 0)
    row = WIDTH * 2 + 4 + OVERHEAD
    inner = Counting()
    one = CachedEmbedder(inner, path, max_bytes=100 * row)
    for i in range(100):
        one.documents([str(i)])
    one.documents(["0", "1"])
    one.documents(["new"])  # makes room for itself and ten more
    inner.asked.clear()
    one.documents(["0", "1", "new"])
    assert inner.asked == []
    one.documents([str(i) for i in range(2, 100)])
    assert inner.asked == [f"d{i}" for i in range(2, 13)]
    assert VectorFile(path, 100 * row).size <= 100 * row


def test_the_size_is_that_of_what_is_kept(path: Path) -> None:
    file = VectorFile(path, 10_000)
    file.put({b"a": b"1" * 10, b"b": b"2" * 20})
    file.put({b"a": b"1" * 30})
    assert file.size == 30 + 20 + 2 * (4 + OVERHEAD)
    file.put({b"big": b"3" * 20_000})
    assert file.size <= 10_000
    for i in range(300):
        file.put({str(i).encode(): b"4" * 40})
        assert file.size <= 10_000
    with sqlite3.connect(path) as database:
        kept = database.execute(f"SELECT TOTAL(LENGTH(value) + {OVERHEAD}) FROM kept").fetchone()
    database.close()
    assert kept == (file.size,)


def test_no_room_at_all(path: Path) -> None:
    inner = Counting()
    one = CachedEmbedder(inner, path, max_bytes=0)
    assert (one.documents(["a"]) == one.documents(["a"])).all()
    assert inner.asked == ["da", "da"]


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_damaged_file_is_set_aside(path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    inner = Counting()
    one = CachedEmbedder(inner, path)
    expected = Counting().documents(["a"])
    for _ in range(4):
        assert np.allclose(one.documents(["a"]), expected, atol=1e-3)
    assert len(inner.asked) <= 2
    assert path.with_name(path.name + ".damaged").read_bytes() == damage


def test_a_file_that_is_damaged_while_it_is_in_use(path: Path) -> None:
    inner = Counting()
    one = CachedEmbedder(inner, path)
    texts = [str(i) for i in range(500)]
    expected = one.documents(texts)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 8192))
    fresh = CachedEmbedder(inner, path)
    for _ in range(3):
        assert (fresh.documents(texts) == expected).all()
        assert (one.documents(texts) == expected).all()
    inner.asked.clear()
    assert (fresh.documents(texts) == expected).all()
    assert inner.asked == []


def test_a_damaged_value_is_not_known(path: Path) -> None:
    inner = Counting()
    one = CachedEmbedder(inner, path)
    expected = one.documents(["a", "b"])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE kept SET value = ZEROBLOB(LENGTH(value)) WHERE row = 1")
    database.close()
    for _ in range(2):
        assert (one.documents(["a", "b"]) == expected).all()
    assert inner.asked == ["da", "db", "da"]


def test_no_file_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inner = Counting()
    one = CachedEmbedder(inner, tmp_path / "file" / "vectors.sqlite3")
    assert (one.documents(["a"]) == one.documents(["a"])).all()
    assert inner.asked == ["da", "da"]
    assert (tmp_path / "file").read_text() == ""


def test_what_was_made_before_a_failure_is_kept(path: Path) -> None:
    class Failing(Counting):
        def documents(self, texts: Sequence[str], /) -> Vectors:
            if "bad" in texts:
                raise ValueError("bad")
            return super().documents(texts)

    inner = Failing()
    one = CachedEmbedder(inner, path)
    texts = [str(i) for i in range(BATCH)]
    with pytest.raises(ValueError, match="bad"):
        one.documents([*texts, "bad"])
    one.documents(texts)
    assert len(inner.asked) == BATCH


WORK = """
import sys
from pathlib import Path
from test_embedding_cache import embed_many

print(embed_many(Path(sys.argv[1]), int(sys.argv[2])))
"""


def embed_many(path: Path, start: int) -> int:
    """How many texts had to be embedded, of 800."""
    inner = Counting()
    one = CachedEmbedder(inner, path)
    for i in range(start, start + 40):
        texts = [str(i + k) for k in range(20)]
        assert np.allclose(one.documents(texts), Counting().documents(texts), atol=1e-3)
    return len(inner.asked)


def test_threads_and_processes_at_once(path: Path) -> None:
    here = {"cwd": Path(__file__).parent, "stdout": subprocess.PIPE, "text": True}
    away = [
        subprocess.Popen([sys.executable, "-c", WORK, str(path), start], **here)  # type: ignore[call-overload]
        for start in ("0", "0", "20")
    ]
    with ThreadPoolExecutor(6) as threads:
        asked = sum(threads.map(lambda start: embed_many(path, start), range(0, 60, 10)))
    for one in away:
        said, _ = one.communicate(timeout=60)
        assert one.returncode == 0
        asked += int(said)
    assert asked < 9 * 40 * 20 / 3
    inner = Counting()
    CachedEmbedder(inner, path).documents([str(i) for i in range(100)])
    assert inner.asked == []
    assert not path.with_name(path.name + ".damaged").exists()


def test_a_forked_process_opens_the_file_anew(path: Path) -> None:
    one = CachedEmbedder(Counting(), path)
    one.documents(["a"])
    child = os.fork() if hasattr(os, "fork") else 0
    if child == 0:
        known = not one.embedder.asked.clear() and one.documents(["a"]) is not None  # type: ignore[attr-defined]
        os._exit(0 if known and not one.embedder.asked else 1)  # type: ignore[attr-defined]
    assert os.waitpid(child, 0)[1] == 0
    one.documents(["a", "b"])
    assert one.embedder.asked == ["da", "db"]  # type: ignore[attr-defined]


def test_only_hashes_of_the_texts_are_kept(path: Path) -> None:
    CachedEmbedder(Counting(), path).documents(["a very secret sentence"])
    for file in path.parent.iterdir():
        assert b"secret" not in file.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
