"""The folder of a soft prompt: what it stands for, whose it is, and whether it may be sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.artefact import PAGE, TENSORS, tokenizer_hash, weights_hash
from tersely.errors import ConfigError, ModelError, UnknownName
from tersely.fidelity import Fidelity, Figures, Interval, Threshold
from tersely.soft import KVPrefix, SoftPrompt
from tersely.soft_artefact import (
    SOURCE,
    Form,
    SoftAbout,
    SoftArtefact,
    find,
    listed,
    place_of,
    remove,
    text_hash,
)

POLICY = "Bags: one is free.\nCancel within 24 hours.\nRefunds take 5 days.\nBe kind.\n"


def vectors(form: Form, length: int = 3) -> KVPrefix | SoftPrompt:
    import torch

    made = torch.arange(2 * length * 4, dtype=torch.float32).reshape(2, length, 4)
    return KVPrefix([(made, made + 1)], "m") if form == "kv" else SoftPrompt(made[0], "m")


def artefact(form: Form = "kv", text: str = POLICY, **told: Any) -> SoftArtefact:
    soft = vectors(form)
    about = SoftAbout(
        form=form,
        role="system",
        model="m",
        tokenizer_sha256="",
        text_sha256=text_hash(text),
        text_tokens=40,
        tokens=len(soft),
        **told,
    )
    return SoftArtefact(about, soft, text)


def figures(kl: float, agreement: float = 0.9) -> Figures:
    one = Interval(mean=agreement, low=agreement, high=agreement)
    return Figures(tokens=3, kl=Interval(mean=kl, low=kl / 2, high=kl * 2), agreement=one)


def fidelity(kl: float, agreement: float = 0.9, **told: Any) -> Fidelity:
    return Fidelity(turns=4, positions=99, **dict(figures(kl, agreement)) | told)


@given(
    text=st.text(st.characters(), max_size=60),
    form=st.sampled_from(["kv", "embeds"]),
    lost=st.lists(st.text(max_size=9), max_size=3),
)
def test_what_is_saved_is_read(
    tmp_path_factory: pytest.TempPathFactory, text: str, form: Form, lost: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("soft")
    told = fidelity(0.1, facts=4, asked=9, lost=tuple(lost), baselines={"truncated": figures(1)})
    made = artefact(form, text, fidelity=told, seconds=12.5, steps=5)
    assert SoftArtefact.load(made.save(folder)) == made
    assert (folder / SOURCE).read_bytes() == text.encode("utf-8", "surrogatepass")
    assert made.stale(text) == ""


def test_it_holds_tensors_and_pages_only(tmp_path: Path) -> None:
    artefact().save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS, SOURCE, PAGE}


def edited(folder: Path, **told: Any) -> None:
    page = json.loads((folder / PAGE).read_text())
    (folder / PAGE).write_text(json.dumps(page | told))


def _cut(folder: Path) -> None:
    (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-9])


DAMAGE: dict[str, tuple[Any, str]] = {
    "no page": (lambda f: (f / PAGE).unlink(), "no trained artefact .*holds no tersely.json"),
    "page cut": (lambda f: (f / PAGE).write_text('{"recipe": "soft"'), "is damaged"),
    "page without its text": (lambda f: edited(f, text_sha256=None), "is damaged: text_sha256"),
    "other recipe": (lambda f: edited(f, recipe="pcrl"), "trained for 'pcrl', not for 'soft'"),
    "no vectors": (lambda f: (f / TENSORS).unlink(), "no safetensors file that can be read"),
    "vectors cut": (_cut, "no safetensors file that can be read"),
    "pickled": (lambda f: (f / TENSORS).write_bytes(b"\x80\x04N."), "no safetensors file"),
    "other length": (lambda f: vectors("kv", 5).save(f / TENSORS), "holds 5 vectors, .*tells of 3"),
    "other form": (lambda f: vectors("embeds").save(f / TENSORS), "holds no KV prefix"),
    "no text": (lambda f: (f / SOURCE).unlink(), "source.txt cannot be read"),
    "text no UTF-8": (lambda f: (f / SOURCE).write_bytes(b"\xff"), "source.txt cannot be read"),
    "other text": (lambda f: (f / SOURCE).write_text("Hello"), "not the text that the vectors"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told(tmp_path: Path, damage: str) -> None:
    hurt, said = DAMAGE[damage]
    hurt(artefact().save(tmp_path))
    with pytest.raises(ModelError, match=said):
        SoftArtefact.load(tmp_path)


def test_what_was_stopped_while_written_is_no_artefact(tmp_path: Path) -> None:
    artefact().save(tmp_path)
    (tmp_path / SOURCE).unlink()
    (tmp_path / SOURCE).mkdir()
    with pytest.raises(OSError, match=r"source\.txt"):
        artefact(text="Other.").save(tmp_path)
    assert not (tmp_path / PAGE).exists()


def test_it_is_for_one_model_and_its_tokenizer(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    told = {"model_sha256": weights_hash(folder)}
    made = artefact(**told)
    with pytest.raises(ModelError, match="another tokenizer or chat template"):
        made.check_model(folder)
    about = made.about.model_copy(update={"tokenizer_sha256": tokenizer_hash(folder)})
    made = SoftArtefact(about, made.soft, made.text)
    made.check(str(folder))
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# #}")
    with pytest.raises(ModelError, match="another tokenizer or chat template"):
        made.check(str(folder))
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match="other weights of 'm'"):
        made.check(str(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POLICY.replace("5 days", "6 days"), r"has changed .*\(75\.0% of its lines are the same\)"),
        (POLICY.rstrip("\n"), r"has changed .*\(all lines are the same\)"),
        ("The kettle is blue.", "it stands for another text"),
        ("", "it stands for another text"),
    ],
)
def test_another_text_makes_it_stale(text: str, said: str) -> None:
    import re

    assert re.search(said, artefact().stale(text))


def test_the_gate_tells_by_how_much_it_fails() -> None:
    gate = Threshold(kl=0.3, of_text=0.5, agreement=0.8, facts=0.5)
    assert gate.shortfall(None) == "its fidelity was not measured"
    assert gate.shortfall(fidelity(0.1, 0.9, facts=2, lost=("24 hours",))) == ""
    assert gate.shortfall(fidelity(0.4, 0.75, facts=4, lost=("a", "b", "c"))) == (
        "KL 0.400 is 0.100 over 0.300, the threshold; agreement 75.0% is 5.0% under 80.0%, the"
        " threshold; facts kept 25.0% is 25.0% under 50.0%, the threshold"
    )
    other = {"truncated": figures(0.3), "pruned": figures(0.22), "untrained": figures(0.01)}
    assert gate.shortfall(fidelity(0.2, baselines=other)) == (
        "KL 0.200 is 0.090 over 0.110, 0.5 of what the text pruned to as many tokens has"
    )


def test_only_what_passed_may_stand_for_the_text() -> None:
    assert not artefact().about.passed
    good, bad = (artefact(fidelity=fidelity(kl)).about for kl in (0.1, 0.9))
    assert (good.passed, bad.passed) == (True, False)
    assert good.model_dump()["passed"] and "over" in bad.model_dump()["shortfall"]


def test_training_pays_back() -> None:
    about = artefact(steps=10, seconds=100.0, read_seconds=2.0).about
    assert about.pays_back == 55, "3 tokens of 40 are still read"
    assert about.seconds_per_step == 10
    assert artefact().about.pays_back is None
    assert artefact().about.seconds_per_step == 0


def test_the_shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path / "home"))
    assert listed() == {}
    with pytest.raises(UnknownName, match="no soft prompt named 'policy'; nearest: none known"):
        find("policy")
    folder = artefact().save(place_of("policy"))
    assert listed() == {"policy": folder}
    assert find("policy") == folder == find(str(folder))
    elsewhere = artefact().save(tmp_path / "elsewhere")
    assert find(str(elsewhere)) == elsewhere
    with pytest.raises(UnknownName, match="no soft prompt named 'polcy'; nearest: policy"):
        find("polcy")
    with pytest.raises(UnknownName, match="no soft prompt named"):
        remove(str(elsewhere))
    assert remove("policy") == folder
    assert (listed(), elsewhere.exists()) == ({}, True)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../up", ".hidden", "a" * 65, "a b"])
def test_what_can_be_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="a name is of up to 64"):
        place_of(name)
