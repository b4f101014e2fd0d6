"""Those who embed: what all of them must hold, and what is particular to each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from loopback import Loopback

from tersely.artefact import model_hash
from tersely.errors import (
    BackendError,
    ConfigError,
    ContextLengthError,
    MissingExtra,
    ModelError,
    UnknownName,
)
from tersely.models import CATALOGUE, folder_of
from tersely.rag.embed_http import Http
from tersely.rag.embed_langchain import LangChain
from tersely.rag.embed_onnx import Onnx
from tersely.rag.embed_sentence_transformers import SentenceTransformers
from tersely.rag.embed_static import Static, _folder, _table
from tersely.rag.embedding import as_embedder, best
from tersely.rag.onnx_export import place_of
from tersely.registry import embedder
from tersely.retrieval import Embedder

TEXTS = [
    "salt and rice: how many apples?",
    "Pears are in the list; translate the table, please.",
    "",
    " \n\t ",
    "x \ud800\udc00 \udfff y",
    "nul \x00 and 東京の天気は晴れ 👩‍👩‍👧 e\u0301",
    "before <s> [SEP] </s> [PAD] after",
    "milk, tea and bread for all of them " * 300,
    "salt and rice: how many apples?",
]


@pytest.fixture(scope="module", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exports go to a folder of the test; the models stay where they are."""
    home = tmp_path_factory.mktemp("home")
    models = folder_of("minilm").parent
    (home / "models").symlink_to(models)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERSELY_HOME", str(home))
        yield


@pytest.fixture(scope="module")
def made(tiny_bert: Path) -> Callable[[str], Embedder]:
    """One embedder of each sort, on a tiny model where it takes one."""
    known: dict[str, Embedder] = {
        "static": Static(),
        "static 64": Static(width=64),
        "onnx": Onnx(model=str(tiny_bert), threads=1),
        "onnx fp32": Onnx(model=str(tiny_bert), precision="fp32", threads=2),
        "sentence_transformers": SentenceTransformers(model=str(tiny_bert), precision="float32"),
        "bfloat16": SentenceTransformers(model=str(tiny_bert), precision="bfloat16"),
        "langchain": LangChain(embeddings=DeterministicFakeEmbedding(size=8)),
    }
    return known.__getitem__


every = pytest.mark.parametrize(
    "name",
    [
        *("static", "static 64", "onnx", "onnx fp32"),
        *("sentence_transformers", "bfloat16", "langchain"),
    ],
)


@every
def test_rows_of_length_one_for_any_text(name: str, made: Callable[[str], Embedder]) -> None:
    one = made(name)
    for ask in (one.documents, one.queries):
        rows = ask(TEXTS)
        assert rows.dtype == np.float32
        assert rows.shape == (len(TEXTS), one.width)
        lengths = np.linalg.norm(rows, axis=1)
        empty = [not text for text in TEXTS]
        assert np.allclose(lengths, [0 if name.startswith("static") and e else 1 for e in empty])
        assert ask([]).shape == (0, one.width)
    assert isinstance(one, Embedder)


@every
def test_a_text_has_one_vector(name: str, made: Callable[[str], Embedder]) -> None:
    """Whatever stands beside it: to the last bit where no batch is read, else nearly."""
    one = made(name)
    together = one.documents(TEXTS)
    alone = np.vstack([one.documents([text]) for text in TEXTS])
    if name in {"sentence_transformers", "bfloat16"}:
        assert np.abs(together - alone).max() < (0.05 if name == "bfloat16" else 1e-5)
    else:
        assert (together == alone).all()
    assert np.allclose(together[0], together[-1], atol=0.05 if name == "bfloat16" else 1e-6)


@every
def test_many_threads_at_once(name: str, made: Callable[[str], Embedder]) -> None:
    one = made(name)
    expected = one.documents(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: one.documents(TEXTS), range(24)):
            assert (found == expected).all()


@every
def test_the_key_is_the_same_every_time(name: str, made: Callable[[str], Embedder]) -> None:
    assert made(name).key == made(name).key


def test_keys_tell_what_makes_other_vectors(
    made: Callable[[str], Embedder], tiny_bert: Path
) -> None:
    names = ["static", "static 64", "onnx", "onnx fp32", "sentence_transformers", "bfloat16"]
    keys = [made(name).key for name in names]
    keys += [
        Onnx(model=str(tiny_bert), query_prompt="q: ").key,
        Onnx(model=str(tiny_bert), document_prompt="q: ").key,
        SentenceTransformers(model=str(tiny_bert), query_prompt="q: ", precision="float32").key,
    ]
    assert len(set(keys)) == len(keys)


def test_the_hash_of_a_model_tells_every_change(tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    before = model_hash(folder)
    assert before == model_hash(tiny_bert)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "README.md").write_text("words about it")
    changed = model_hash(folder)
    assert changed != before
    (folder / "1_Pooling" / "config.json").write_text("{} ")
    assert model_hash(folder) not in {before, changed}


# static


@pytest.fixture(scope="module")
def whole() -> Any:
    """The tokenizer of the package, as it reads a text in one go."""
    from tokenizers import Tokenizer

    (file,) = (_folder() / "tokenizers").glob("l2_*.json")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True
    return tokenizer


@given(text=st.text(st.sampled_from(" \n\t▁abe.,é東👩<s>/") | st.characters(codec="utf-8")))
def test_words_are_read_as_in_the_whole_text(text: str, whole: Any) -> None:
    (found,) = _table().tokens([text])
    assert found == whole.encode(text, add_special_tokens=False).ids


def test_no_token_reaches_over_the_end_of_a_word(whole: Any) -> None:
    tokens = list(whole.get_vocab())
    assert not [token for token in tokens if "▁" in token.lstrip("▁") or "\n" in token]


def test_static_vectors_are_those_of_wordllama(whole: Any) -> None:
    from safetensors.numpy import load_file

    (table,) = load_file(_folder() / "weights" / "l2_supercat_256.safetensors").values()
    for text in TEXTS[:2]:
        ids = whole.encode(text, add_special_tokens=False).ids
        mean = table[ids].astype(np.float32).mean(axis=0)
        (row,) = Static().documents([text])
        assert np.allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
        (short,) = Static(width=64).documents([text])
        assert np.allclose(short, mean[:64] / np.linalg.norm(mean[:64]), atol=1e-6)


def test_words_that_are_remembered_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersely.rag.embed_static.KNOWN_PIECES", 60)
    table = _table()
    before = Static().documents(TEXTS)
    for start in range(0, 300, 30):
        table.tokens([" ".join(f"w{i}" for i in range(start, start + 30))])
        assert len(table._known) <= 60
    assert (Static().documents(TEXTS) == before).all()


def test_static_sets_up_no_logging() -> None:
    code = (
        "import logging, sys; from tersely.rag.embed_static import Static;"
        "Static().documents(['a']);"
        "print(logging.getLogger().handlers, 'wordllama' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] False False"


# onnx


def test_an_export_reads_as_the_model_does(made: Callable[[str], Embedder]) -> None:
    texts = [text for text in TEXTS if "[SEP]" not in text]  # which the model takes for its own
    expected = made("sentence_transformers").documents(texts)
    exact = (made("onnx fp32").documents(texts) * expected).sum(axis=1)
    rough = (made("onnx").documents(texts) * expected).sum(axis=1)
    assert exact.min() > 0.99999
    assert 0.9 < rough.min() < 0.99999


def test_an_export_is_made_once_and_needs_no_torch(tiny_bert: Path) -> None:
    said: list[str] = []
    one = Onnx(model=str(tiny_bert))
    place = one.export()
    stamp = (place / "model.onnx").stat().st_mtime_ns
    assert one.export(said.append) == place
    assert said == [f"exported already: {place}"]
    assert (place / "model.onnx").stat().st_mtime_ns == stamp
    assert not [path for path in place.parent.iterdir() if path.name.endswith("model")]
    for model in (tiny_bert, place):
        code = (
            "import sys; from tersely.rag.embed_onnx import Onnx;"
            f"Onnx(model={str(model)!r}).documents(['a']);"
            "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout == "[]\n"
    assert Onnx(model=str(place)).key == one.key
    assert Onnx(model=str(place)).exported


def test_a_changed_model_is_exported_anew(tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    before = place_of(folder, "int8")
    (folder / "tokenizer_config.json").write_text("{}")
    assert place_of(folder, "int8") != before
    assert not Onnx(model=str(folder)).exported


def test_a_model_that_can_not_be_exported(tiny_llama: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    rows = StaticEmbedding(tokenizer, embedding_dim=4)
    SentenceTransformer(modules=[rows], device="cpu").save(str(tmp_path / "m"))
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"can't be exported to ONNX.*sentence_transformers"):
        Onnx(model=str(tmp_path / "m")).documents(["a"])
    assert not place_of(tmp_path / "m", "int8").exists()


def test_an_export_that_reads_otherwise_is_not_kept(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    monkeypatch.setattr("tersely.rag.onnx_export.ALIKE", {"int8": 1.1})
    with pytest.raises(ModelError, match="does not read as the model does"):
        Onnx(model=str(tiny_bert)).export()
    assert not place_of(tiny_bert, "int8").exists()


def test_a_damaged_export(tiny_bert: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(Onnx(model=str(tiny_bert)).export(), tmp_path / "export")
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:1000])
    with pytest.raises(ModelError, match="exported anew"):
        Onnx(model=str(folder)).documents(["a"])
    (folder / "embedder.json").write_text('{"width": 3}')
    with pytest.raises(ModelError, match="key: Field required"):
        Onnx(model=str(folder)).documents(["a"])


def test_no_place_for_an_export(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="can't write the export"):
        Onnx(model=str(tiny_bert)).export()


def test_onnxruntime_is_not_installed(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersely.errors.missing", lambda package: package == "onnxruntime")
    with pytest.raises(MissingExtra, match=r"tersely\[onnx\]"):
        Onnx(model=str(tiny_bert), precision="int8", query_prompt="new").export()
        from tersely.rag.onnx_run import Exported

        Exported(tiny_bert)


@pytest.mark.model
def test_minilm_in_eight_bits() -> None:
    texts = ["Who wrote Faust?", "Goethe wrote Faust, a play in two parts.", "Rice needs water."]
    expected = SentenceTransformers(precision="float32").documents(texts)
    found = Onnx().documents(texts)
    assert (found * expected).sum(axis=1).min() > 0.98
    assert found[0] @ found[1] > 0.5 > found[0] @ found[2]
    one, why = best()
    assert isinstance(one, Onnx)
    assert "exported" in why


# sentence-transformers


def test_prompts_of_the_model_and_of_the_user(tiny_bert: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "model"
    told = {"query": "list ", "document": "table "}
    SentenceTransformer(str(tiny_bert), prompts=told, device="cpu").save(str(folder))
    plain = SentenceTransformers(model=str(tiny_bert), precision="float32")
    for kind in (SentenceTransformers, Onnx):
        precision = "float32" if kind is SentenceTransformers else "fp32"
        one: Any = kind(model=str(folder), precision=precision)
        own: Any = kind(model=str(folder), precision=precision, query_prompt="", document_prompt="")
        for found, text in (
            (one.queries(["rice"]), "list rice"),
            (one.documents(["rice"]), "table rice"),
            (own.queries(["rice"]), "rice"),
            (own.documents(["rice"]), "rice"),
        ):
            assert np.allclose(found, plain.documents([text]), atol=1e-5)


# LangChain


class Rows(Embeddings):
    def __init__(self, *rows: Sequence[float]) -> None:
        self.rows = [list(row) for row in rows]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.rows

    def embed_query(self, text: str) -> list[float]:
        raise RuntimeError("no such model")


def test_langchain_vectors_are_scaled_and_checked() -> None:
    assert np.allclose(LangChain(embeddings=Rows([3, 4])).documents(["a"]), [[0.6, 0.8]])
    with pytest.raises(BackendError, match=r"Rows failed \(RuntimeError: no such model\)"):
        LangChain(embeddings=Rows([3, 4])).queries(["a"])
    for rows in (Rows([1, 2], [3, 4]), Rows([float("nan"), 1]), Rows()):
        with pytest.raises(BackendError, match="gave 1 texts vectors of shape"):
            LangChain(embeddings=rows).documents(["a"])
    with pytest.raises(BackendError, match="Rows failed"):
        LangChain(embeddings=Rows([1, 2], [3])).documents(["a", "b"])


def test_langchain_keys_tell_the_model_and_no_secret() -> None:
    def key(**settings: Any) -> str:
        given = Rows([1])
        vars(given).update(settings)
        return LangChain(embeddings=given).key

    one = key(model="a", api_key="x")
    assert one == key(model="a", api_key="y")
    assert len({one, key(model="b"), key(model="a", dimensions=3), key(model_name="a")}) == 4
    named = {LangChain(embeddings=Rows([1]), known_as=name).key for name in ("", "a", "b")}
    assert len(named) == 3


# HTTP


def http(server: Loopback, **settings: Any) -> Http:
    return Http(base_url=server.url, model="m", pause=0.001, **settings)


def test_http_asks_in_batches_and_keeps_the_order(server: Loopback) -> None:
    one = http(server, batch=2, api_key="secret", dimensions=5, query_prompt="q: ")
    texts = ["a", "bb", "", "ccc \ud800", "a"]
    rows = one.documents(texts)
    assert rows.shape == (5, 5)
    assert one.width == 5
    assert (rows[0] == rows[4]).all()
    assert (rows == np.vstack([one.documents([text]) for text in texts])).all()
    sent = [body["input"] for body in server.bodies[:3]]
    assert sorted(sent) == sorted([["a", "bb"], [" ", "ccc ?"], ["a"]])
    assert server.bodies[0]["dimensions"] == 5
    assert server.seen[0].headers["authorization"] == "Bearer secret"
    assert server.seen[0].path == "/embeddings"
    server.take()
    one.queries(["a"])
    assert server.bodies[0]["input"] == ["q: a"]
    assert "secret" not in repr(one) + one.key


def test_http_tries_again_what_may_pass(server: Loopback) -> None:
    server.faults.extend([503, 429])
    assert http(server).documents(["a"]).shape == (1, 8)
    assert len(server.take()) == 3
    server.faults.extend([401, 503])
    with pytest.raises(BackendError, match="check api_key"):
        http(server).documents(["a"])
    assert len(server.take()) == 1
    with pytest.raises(BackendError, match="HTTP 503") as caught:
        http(server, retries=0).documents(["a"])
    assert caught.value.retryable


def test_http_answers_that_are_none(server: Loopback) -> None:
    for answer, said in (
        ({"data": []}, r"answered 1 texts with vectors of shape"),
        ({"data": [{"embedding": [1.0, None]}]}, "holds no embeddings|of shape"),
        ({"text": "hello"}, "holds no embeddings"),
        ([], "holds no embeddings"),
    ):
        server.embeddings = lambda body, answer=answer: answer
        with pytest.raises(BackendError, match=said):
            http(server).documents(["a"])
    server.embeddings = lambda body: {
        "data": [
            {"index": i, "embedding": [1.0] * len(text)} for i, text in enumerate(body["input"])
        ]
    }
    with pytest.raises(BackendError, match="different lengths"):
        http(server, batch=1).documents(["a", "bb"])


def test_http_settings_that_can_not_work() -> None:
    with pytest.raises(ConfigError, match="must begin with http"):
        embedder("http", base_url="localhost", model="m")
    with pytest.raises(BackendError, match="the server failed") as caught:
        Http(base_url="http://127.0.0.1:9", model="m", retries=0).documents(["a"])
    assert not isinstance(caught.value, ContextLengthError)


# by name


def test_as_embedder(tiny_bert: Path) -> None:
    assert as_embedder(None) is None
    assert as_embedder("") is None
    assert as_embedder("static") == Static()
    assert as_embedder({"static": {"width": 64}}) == Static(width=64)
    assert as_embedder({"onnx": None}) == Onnx()
    assert as_embedder("minilm") == SentenceTransformers()
    assert as_embedder(str(tiny_bert)) == SentenceTransformers(model=str(tiny_bert))
    assert as_embedder("org/model") == SentenceTransformers(model="org/model")
    own = Static(width=128)
    assert as_embedder(own) is own
    fake = DeterministicFakeEmbedding(size=8)
    wrapped = as_embedder(fake)
    assert isinstance(wrapped, LangChain)
    assert wrapped.embeddings is fake


def test_as_embedder_of_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no embedder or model named 'statik'; nearest: static"):
        as_embedder("statik")
    with pytest.raises(UnknownName, match="NUL"):
        as_embedder("NUL \0")
    with pytest.raises(ConfigError, match="one name with its settings"):
        as_embedder({"static": {}, "onnx": {}})
    with pytest.raises(ConfigError, match="width: "):
        as_embedder({"static": {"width": 7}})
    with pytest.raises(ConfigError, match="was 7"):
        as_embedder(7)
    one = as_embedder(str(tmp_path / "none"))
    assert one is not None
    with pytest.raises(ModelError, match="no model folder"):
        one.documents(["a"])


def test_asking_for_an_embedder_loads_nothing() -> None:
    class Heavy:
        @property
        def key(self) -> str:
            raise RuntimeError("loaded")

        width, documents, queries = key, key, key

    assert isinstance(as_embedder(Heavy()), Heavy)


def test_the_best_that_is_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    one, why = best()
    assert one == Static() == as_embedder("auto")
    assert "no model is on this machine" in why
    for name in CATALOGUE:
        (tmp_path / "models" / name).mkdir()
    assert best()[0] == SentenceTransformers()
    gone = {"sentence_transformers", "wordllama", "onnxruntime"}
    monkeypatch.setattr("tersely.rag.embedding.missing", lambda package: package in gone)
    assert best() == (None, "no embedder is at hand: pip install 'tersely[static]'")
    assert as_embedder("auto") is None
