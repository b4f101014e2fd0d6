"""Vectors for texts that nobody has seen: how they are written, learned, kept and checked."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersely.artefact import page_of
from tersely.compressors.train_autocompressor import cut
from tersely.compressors.writer import Shape, Writer, batches, new_writer, predicted
from tersely.compressors.writer_artefact import WriterAbout, load_writer
from tersely.compressors.writer_figures import by_chance
from tersely.compressors.writer_lessons import drawn
from tersely.compressors.writer_ways import spans, written_apart, written_in_turn
from tersely.errors import ConfigError, ModelError
from tersely.registry import trainer
from tersely.training import Training, silent
from tersely.weights import CausalLM

WORDS = ("quick", "fox", "dog", "Tag")
SMALL: dict[str, Any] = {"tokens": 3, "span": 16, "rest": 8, "rank": 2, "batch": 2, "held": 0.4}
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("icae", {}),
    ("autocompressor", {"segments": 2}),
    ("gist", {}),
    ("gist", {"form": "embeds"}),
]
each_way = pytest.mark.parametrize(("name", "settings"), WAYS, ids=lambda w: str(w))


def rows(count: int = 8) -> list[dict[str, str]]:
    chance = random.Random(7)
    texts = [" ".join(chance.sample(WORDS, 2) * 15) for _ in range(count)]
    asked = {"question": "Who jumps?", "answer": "fox"}
    return [{"text": text} | (asked if i % 2 == 0 else {}) for i, text in enumerate(texts)]


def trained(name: str, base: Path, out: Path, progress: Any = silent, **settings: Any) -> Path:
    made = trainer(name, base=str(base), precision="float32", **SMALL | settings)
    return made.train(Training(rows=rows(), out=out, progress=progress))


@pytest.fixture(scope="module")
def folders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Writers of each sort that have learned a little."""
    made = {}
    for name, settings in WAYS:
        key = f"{name} {settings.get('form', '')}".strip()
        out = tmp_path_factory.mktemp(key.replace(" ", "-"))
        made[key] = trained(name, tiny_llama, out, steps=24, rate=0.02, measure=12, **settings)
    return made


@pytest.fixture
def writer(lm: CausalLM) -> Writer:
    """A writer whose adapter does something."""
    made = new_writer(lm, Shape(tokens=3, rank=2), seed=1)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(3)
        for parameter in made.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    return made


# writing


def test_each_text_is_written_as_if_it_were_alone(writer: Writer) -> None:
    texts = [range(5, 25), range(40, 44), range(100, 109)]
    together = writer.vectors(texts)
    for text, vectors in zip(texts, together, strict=True):
        assert vectors.shape == (3, 32)
        assert torch.allclose(vectors, writer.vectors([text])[0], atol=1e-5)


def test_the_model_that_reads_is_not_changed(lm: CausalLM, writer: Writer) -> None:
    ids = torch.arange(10)[None]
    before = lm.model(ids).logits
    assert not torch.equal(writer.model(ids).logits, before)
    assert torch.equal(lm.model(ids).logits, before)
    own = {one.data_ptr() for one in lm.model.parameters()}
    shared = [p for n, p in writer.module.named_parameters() if "base_layer" in n]
    assert shared and {one.data_ptr() for one in shared} <= own, "weights are held once"


def test_vectors_begin_as_tokens_of_the_text(lm: CausalLM) -> None:
    fresh = new_writer(lm, Shape(tokens=3), seed=0)
    assert torch.equal(fresh.vectors([range(9)])[0], fresh.embedded([2, 5, 8]))
    alike = new_writer(lm, Shape(tokens=3, anchored=False), seed=0)
    assert not torch.equal(alike.vectors([range(9)])[0], fresh.embedded([2, 5, 8]))


def test_keys_and_values_are_what_a_gist_mask_leaves_to_see(lm: CausalLM) -> None:
    """In one pass in which what follows sees the gist tokens alone, the model says the same."""
    gist = new_writer(lm, Shape(tokens=3, rank=0, anchored=False), seed=0)
    text, rest = [*range(20, 31)], [7, 90, 15, 200]
    (found,) = predicted(lm, gist.kept([text]), [rest])

    row = torch.cat((gist._row(text), gist.embedded(rest)))
    size, seen = len(row), len(text)
    mask = torch.full((size, size), torch.finfo(torch.float32).min).triu(1)
    mask[seen + 3 :, :seen] = torch.finfo(torch.float32).min
    one_pass = lm.model(inputs_embeds=row[None], attention_mask=mask[None, None]).logits[0]
    assert torch.allclose(found, one_pass[-len(rest) :], atol=1e-4)


def test_gists_of_texts_of_any_length_are_read_together(lm: CausalLM, writer: Writer) -> None:
    texts, rests = [range(5, 25), range(40, 44)], [[7, 9], [3, 4, 5, 6]]
    found = predicted(lm, writer.kept(texts), rests)
    for text, rest, logits in zip(texts, rests, found, strict=True):
        (alone,) = predicted(lm, writer.kept([text]), [rest])
        assert torch.allclose(logits, alone, atol=1e-4)


def test_a_model_without_turning_positions_gives_no_keys(tmp_path: Path, tiny_llama: Path) -> None:
    import little_models

    base = little_models.make("no rotation", tiny_llama, tmp_path / "base")
    with pytest.raises(ConfigError, match="rotary positions"):
        trained("gist", base, tmp_path / "out", steps=1)
    trained("gist", base, tmp_path / "out", steps=1, form="embeds", most_held=1)


def test_targets_that_are_not_there(lm: CausalLM) -> None:
    with pytest.raises(ConfigError, match="targets 'nose'"):
        new_writer(lm, Shape(tokens=3, targets="nose"), seed=0)


# texts of any length


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 20))
def test_parts_make_the_text(text: list[int], span: int) -> None:
    parts = spans(text, span)
    assert [token for part in parts for token in part] == text
    assert all(len(part) <= span for part in parts)
    assert len(parts) == max(1, -(-len(text) // span))


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=60), st.lists(st.integers(2, 20), min_size=1)
)
def test_parts_cut_at_random_are_its_beginning(text: list[int], lengths: list[int]) -> None:
    parts = cut(text, lengths)
    joined = [token for part in parts for token in part]
    assert joined == text[: len(joined)]
    assert all(len(part) > 1 for part in parts)


def test_parts_by_themselves_or_by_those_before(writer: Writer) -> None:
    text = [*range(10, 30)]
    (apart,) = written_apart(writer, [text], 10)
    (again,) = written_apart(writer, [text[10:]], 10)
    assert torch.allclose(apart[3:], again, atol=1e-5)
    in_turn, short = written_in_turn(writer, [text, text[:10]], 10)
    assert in_turn.shape == (6, 32)
    assert torch.allclose(in_turn[:3], short, atol=1e-5)
    assert not torch.allclose(in_turn[3:], again, atol=1e-3)
    (known,) = writer.vectors([text[10:]], [short])
    assert torch.allclose(in_turn[3:], known, atol=1e-5)


@given(st.lists(st.integers(1, 3000), max_size=30))
def test_batches_hold_every_text_once(sizes: list[int]) -> None:
    found = [*batches([[0] * size for size in sizes])]
    assert sorted(i for batch in found for i in batch) == [*range(len(sizes))]
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(sizes[i] for i in batch) <= 4096


# learning


def test_every_row_comes_once_a_round() -> None:
    places = drawn(range(21), 7, seed=3)
    assert [sorted(places[at : at + 7]) for at in (0, 7, 14)] == [[*range(7)]] * 3
    assert places[:7] != places[7:14]
    assert by_chance(range(50), 5) == sorted(by_chance(range(50), 5))


@each_way
def test_it_learns(folders: dict[str, Path], name: str, settings: dict[str, str]) -> None:
    folder = folders[f"{name} {settings.get('form', '')}".strip()]
    about = page_of(WriterAbout, folder, name)
    first, *_, last = about.curve
    assert [point["step"] for point in about.curve] == [0, 12, 24]
    # of texts alone a gist learns what the model expects behind the text, right or wrong
    assert last["held_loss"] != first["held_loss"]
    assert name == "gist" or last["held_loss"] < first["held_loss"]
    assert about.figures["held_loss"] == last["held_loss"]
    beside = {f"{what}_loss" for what in ("none", "first", "last", "random", "full")}
    assert beside | {"train_loss", "held_answer_loss", "held_f1"} <= about.figures.keys()
    assert about.form == ("kv" if (name, settings) == ("gist", {}) else "embeds")
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "model.safetensors",
        "tersely.json",
    }


class Stopped(Exception):
    """What stops the work."""


@each_way
def test_work_that_was_stopped_ends_the_same(
    folders: dict[str, Path],
    tiny_llama: Path,
    tmp_path: Path,
    name: str,
    settings: dict[str, str],
) -> None:
    def stop(done: int, total: int, told: Mapping[str, float], /) -> None:
        if done == 8:
            raise Stopped

    given = {"steps": 24, "rate": 0.02, "measure": 12, "every": 4, **settings}
    with pytest.raises(Stopped):
        trained(name, tiny_llama, tmp_path / "out", stop, **given)
    folder = trained(name, tiny_llama, tmp_path / "out", **given)
    whole = folders[f"{name} {settings.get('form', '')}".strip()]
    for file in ("adapter_model.safetensors", "model.safetensors"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes()
    one, other = (page_of(WriterAbout, path, name) for path in (folder, whole))
    assert one.curve == other.curve and one.figures == other.figures
    assert not (folder / "checkpoint").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"text": "one text " * 9}], "two different texts"),
        ([{"text": "a"}, {"text": "b"}], "teach too little"),
        ([{"text": "a", "question": "why?"}], "row 1: .*needs an answer"),
        ([{"text": ""}], "row 1: text"),
    ],
)
def test_rows_that_teach_nothing(
    tiny_llama: Path, tmp_path: Path, given: list[dict[str, str]], message: str
) -> None:
    made = trainer("icae", base=str(tiny_llama), **SMALL)
    with pytest.raises(ConfigError, match=message):
        made.train(Training(rows=given, out=tmp_path))


# the folder


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_reads_the_adapter_too(folders: dict[str, Path], lm: CausalLM) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _, writer = load_writer(folders["icae"], "icae", "float32")
    plain = AutoModelForCausalLM.from_pretrained(lm.model.name_or_path)
    theirs = PeftModel.from_pretrained(plain, str(folders["icae"]))
    ids = torch.arange(12)[None]
    assert torch.allclose(theirs(ids).logits, writer.model(ids).logits, atol=1e-5)


def changed(source: Path, target: Path, **told: Any) -> Path:
    """The folder with something else on its page."""
    shutil.copytree(source, target)
    page = json.loads((target / "tersely.json").read_text()) | told
    (target / "tersely.json").write_text(json.dumps(page))
    return target


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"rank": 4}, r"lora_A.weight has the shape \(2, 32\), and \(4, 32\) is wanted"),
        ({"tokens": 9}, r"summary has the shape \(3, 32\), and \(9, 32\) is wanted"),
        ({"targets": "q_proj"}, "tensors that fit nothing"),
        ({"model_sha256": "0" * 64}, "other weights of"),
        ({"tokenizer_sha256": "0" * 64}, "another tokenizer"),
        ({"recipe": "gist"}, "trained for 'gist', not for 'icae'"),
        ({"rank": "many"}, "damaged: rank"),
    ],
)
def test_a_folder_that_does_not_fit(
    folders: dict[str, Path], tmp_path: Path, told: dict[str, Any], message: str
) -> None:
    folder = changed(folders["icae"], tmp_path / "changed", **told)
    with pytest.raises(ModelError, match=message):
        load_writer(folder, "icae", "float32")


def test_a_folder_that_is_not_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    for file, message in [("model", "cannot be read"), ("adapter_model", "cannot be read")]:
        folder = changed(folders["icae"], tmp_path / file)
        (folder / f"{file}.safetensors").write_bytes(b"\x00" * 64)
        with pytest.raises(ModelError, match=message):
            load_writer(folder, "icae", "float32")


def test_what_was_saved_is_what_writes(folders: dict[str, Path], lm: CausalLM) -> None:
    _, one = load_writer(folders["autocompressor"], "autocompressor", "float32")
    _, same = load_writer(str(folders["autocompressor"]), "autocompressor", "float32")
    assert one is same, "loaded once"
    assert np.isfinite(one.vectors([range(12)])[0].numpy()).all()
    assert not any(p.requires_grad for p in one.module.parameters())
