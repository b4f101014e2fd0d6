"""Vectors stand for texts in a pipeline; published checkpoints become writers of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import little_models
import pytest
import torch
from safetensors.torch import load_file, save_file

from tersely import registry
from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.compressors.writer import Shape, Writer, new_writer, predicted
from tersely.compressors.writer_artefact import (
    WriterAbout,
    load_writer,
    save_writer,
    told_of,
)
from tersely.compressors.writer_layouts import adopted
from tersely.compressors.writer_ways import written_in_turn
from tersely.contracts import Context, Request
from tersely.errors import ConfigError, ModelError, UnknownName
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt, Segment
from tersely.report import Decision
from tersely.soft import KVPrefix, SoftPrompt
from tersely.tokens import counter
from tersely.weights import CausalLM, causal_lm

LONG = "the quick brown fox jumps over the lazy dog, 12 times a day. " * 3
ASKED = "What jumps?"


def stirred(lm: CausalLM, shape: Shape) -> Writer:
    """A writer whose parts all do something, by chance."""
    made = new_writer(lm, shape, seed=1)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    return made


@pytest.fixture(scope="module")
def folders(backend: LocalBackend, lm: CausalLM, tmp_path_factory: Any) -> dict[str, Path]:
    made = {}
    for key, form in (("icae", "embeds"), ("autocompressor", "embeds"), ("gist", "kv")):
        shape = Shape(tokens=4, rank=2)
        told = {**told_of(shape, backend.model), "recipe": key, "span": 200, "form": form}
        folder = tmp_path_factory.mktemp(key)
        made[key] = save_writer(folder, WriterAbout.model_validate(told), stirred(lm, shape))
    vectors = tmp_path_factory.mktemp("vectors") / "gist"
    shutil.copytree(made["gist"], vectors)
    page = json.loads((vectors / "tersely.json").read_text()) | {"form": "embeds"}
    (vectors / "tersely.json").write_text(json.dumps(page))
    return {**made, "gist of vectors": vectors}


def chat(*texts: Segment) -> Prompt:
    places = [replace(one, path=(i,)) for i, one in enumerate(texts)]
    asked = Segment(text=ASKED, kind="question", locked=True, path=(len(places),))
    return Prompt((*places, asked), question=ASKED, turns=1)


def run(
    backend: Any, prompt: Prompt, name: str, folder: Path, **settings: Any
) -> tuple[Prompt, list[Decision], list[str]]:
    stage = registry.stage(name, model=str(folder), precision="float32", **settings)
    result = Pipeline([stage], backend=backend, strict=True).run(prompt, model=backend.model)
    decisions = [one for one in result.report.decisions if one.stage == name]
    return result.output, decisions, list(result.report.notes)


@pytest.mark.parametrize("name", ["icae", "autocompressor", "gist of vectors"])
def test_vectors_stand_for_a_text_nobody_knew(
    backend: LocalBackend, folders: dict[str, Path], name: str
) -> None:
    locked = Segment(text="You answer.", role="system", kind="instruction", locked=True)
    prompt = chat(locked, Segment(text=LONG), Segment(text=LONG.upper()))
    made, decisions, _ = run(backend, prompt, name.split()[0], folders[name])
    rules, one, other, asked = made.segments
    assert (rules, asked) == (prompt.segments[0], prompt.segments[-1])
    assert isinstance(one.soft, SoftPrompt) and isinstance(other.soft, SoftPrompt)
    assert one.soft != other.soft and len(one.soft) == 4
    assert (one.text, one.soft.model) == (LONG, backend.model)
    (told,) = [d for d in decisions if "stand for" in d.reason][:1]
    assert "4 vectors that" in told.reason
    (answer,) = backend.complete([Request(prompt=made, max_tokens=4)])
    assert 8 < answer.prompt_tokens < 100, "the texts would have some two hundred"


def test_what_stands_is_what_the_writer_wrote(
    backend: LocalBackend, folders: dict[str, Path]
) -> None:
    made, _, _ = run(backend, chat(Segment(text=LONG)), "icae", folders["icae"])
    _, writer = load_writer(folders["icae"], "icae", "float32")
    ids = writer.lm.tokenizer.encode(LONG)
    (wanted,) = writer.vectors([ids])
    found = made.segments[0].soft
    assert isinstance(found, SoftPrompt)
    assert torch.allclose(found.vectors, wanted, atol=1e-5)


def test_a_gist_of_keys_and_values_begins_a_prompt(
    backend: LocalBackend, folders: dict[str, Path]
) -> None:
    prompt = chat(Segment(text=LONG), Segment(text=LONG))
    made, decisions, _ = run(backend, prompt, "gist", folders["gist"])
    first, second, _ = made.segments
    assert isinstance(first.soft, KVPrefix) and len(first.soft) == 4
    assert second.soft is None
    assert any("another text is before" in one.reason for one in decisions)
    (answer,) = backend.complete([Request(prompt=made, max_tokens=4)])
    assert answer.prompt_tokens > 4

    # the head of the chat template is read with the text, and what follows is read behind it
    _, writer = load_writer(folders["gist"], "gist", "float32")
    ids = writer.lm.tokenizer.encode("<|user|>" + LONG)
    (wanted,) = writer.kept([ids])
    for (keys, values), (k, v) in zip(first.soft.layers, wanted, strict=True):
        assert torch.allclose(keys, k, atol=1e-5) and torch.allclose(values, v, atol=1e-5)


def reasons(decisions: list[Decision]) -> str:
    return " ".join(one.reason for one in decisions)


def test_texts_that_stay(backend: LocalBackend, folders: dict[str, Path]) -> None:
    kept = Segment(text=LONG, spans=((4, 9),))
    prompt = chat(kept, Segment(text="day"), Segment(text=LONG, locked=True))
    made, decisions, _ = run(backend, prompt, "icae", folders["icae"])
    assert [one.soft for one in made.segments] == [None] * 4
    assert [one.text for one in made.segments] == [one.text for one in prompt.segments]
    told = reasons(decisions)
    assert "kept byte for byte" in told and "and 4 vectors would stand for it" in told


def test_a_text_longer_than_a_gist_learned(backend: LocalBackend, folders: dict[str, Path]) -> None:
    made, decisions, _ = run(backend, chat(Segment(text=LONG * 6)), "gist", folders["gist"])
    assert made.segments[0].soft is None
    assert "the gist learned to stand for 200" in reasons(decisions)


def test_backends_that_read_none(
    backend: LocalBackend, folders: dict[str, Path], tiny_llama: Path, tmp_path: Path
) -> None:
    prompt = chat(Segment(text=LONG))
    strange = little_models.make("normed heads", tiny_llama, tmp_path / "strange")
    other = LocalBackend(model=str(strange), precision="float32")
    made, _, notes = run(other, prompt, "icae", folders["icae"])
    assert made.segments[0].soft is None
    assert any("other weights of" in note for note in notes)
    with pytest.raises(ConfigError):
        run(ScriptedBackend([]), prompt, "icae", folders["icae"])
    context = Context(count=counter("gpt-4o"), backend=backend)
    assert registry.stage("icae", model=str(folders["icae"]))(prompt, context) == prompt
    assert "can't carry vectors" in context.said[0]


def test_a_folder_that_is_none(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="no trained artefact"):
        registry.stage("icae", model=str(tmp_path)).ready()  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="trained for 'gist', not for 'icae'"):
        registry.stage("icae", model=str(folders["gist"])).ready()  # type: ignore[attr-defined]
    registry.stage("icae", model=str(folders["icae"])).ready()  # type: ignore[attr-defined]


# published checkpoints


def released_icae(lm: CausalLM, file: Path) -> Writer:
    """A file in the layout of ICAE's second version, and what is in it."""
    from peft import get_peft_model_state_dict

    made = stirred(lm, Shape(tokens=4, rank=2, targets="q_proj,v_proj", anchored=False))
    own: Any = made.module
    table = torch.cat((own.summary, own.cue.repeat(3, 1)))
    table = table + torch.arange(7.0)[:, None] / 100
    lora = get_peft_model_state_dict(made.module.adapter)
    named = {f"icae.{n.removesuffix('.weight')}.default.weight": t for n, t in lora.items()}
    save_file({**named, "memory_token_embed.weight": table.detach()}, file)
    with torch.no_grad():
        own.summary.copy_(table[:4])
    return made


def test_icae_is_adopted(backend: LocalBackend, lm: CausalLM, tmp_path: Path) -> None:
    file = tmp_path / "ft_icae.safetensors"
    theirs = released_icae(lm, file)
    out = adopted("icae", file, tmp_path / "ours", base=backend.model, span=40)
    about, ours = load_writer(out, "icae", "float32")
    assert (about.tokens, about.rank, about.alpha, about.span) == (4, 2, 32, 40)
    assert about.model == backend.model
    assert torch.equal(ours.closing, load_file(file)["memory_token_embed.weight"][6:])

    text = [*range(20, 50)]
    row = torch.cat((theirs.embedded(text), theirs.module.summary))  # type: ignore[arg-type]
    read = theirs.model(inputs_embeds=row[None], output_hidden_states=True)
    assert torch.allclose(ours.vectors([text])[0], read.hidden_states[-1][0, -4:], atol=1e-5)
    made, _, _ = run(backend, chat(Segment(text=LONG)), "icae", out)
    stood = made.segments[0].soft
    assert isinstance(stood, SoftPrompt)
    assert torch.equal(stood.vectors[-1:], ours.closing), "the token that questions follow"


def rewritten(file: Path, change: Any) -> Path:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return file


def without_memory(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["memory_token_embed.weight"]


def with_head(tensors: dict[str, torch.Tensor]) -> None:
    tensors["memory_head.dense_in.weight"] = torch.zeros(32, 32)


def of_another_size(tensors: dict[str, torch.Tensor]) -> None:
    tensors["memory_token_embed.weight"] = torch.zeros(7, 48)


def of_a_wider_model(tensors: dict[str, torch.Tensor]) -> None:
    name = next(one for one in tensors if "lora_A" in one)
    tensors[name] = torch.zeros(2, 48)


def of_two_ranks(tensors: dict[str, torch.Tensor]) -> None:
    name = next(one for one in tensors if "lora_A" in one)
    tensors[name] = torch.zeros(3, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_memory, "no ICAE checkpoint"),
        (with_head, "memory_head.dense_in.weight: only a LoRA"),
        (of_another_size, "tokens have 48 values, and the base model's vectors have 32"),
        (of_a_wider_model, r"the shape \(2, 48\), and the base model wants \(2, 32\)"),
        (of_two_ranks, r"no LoRA of one rank: found \[2, 3\]"),
    ],
)
def test_icae_that_does_not_fit(
    backend: LocalBackend, lm: CausalLM, tmp_path: Path, change: Any, message: str
) -> None:
    file = tmp_path / "icae.safetensors"
    released_icae(lm, file)
    with pytest.raises(ModelError, match=message):
        adopted("icae", rewritten(file, change), tmp_path / "o", base=backend.model, span=40)


def whole_model(source: Path, target: Path, extra: Mapping[str, torch.Tensor], **told: Any) -> Path:
    """A model's folder with more tensors in it, and more in its configuration."""
    shutil.copytree(source, target)
    file = target / "model.safetensors"
    save_file({**load_file(file), **extra}, file, {"format": "pt"})
    config = json.loads((target / "config.json").read_text()) | told
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_an_autocompressor_is_adopted(tiny_llama: Path, tmp_path: Path) -> None:
    summary = torch.randn((3, 32), generator=torch.Generator().manual_seed(1))
    extra = {"embed_summary.weight": summary}
    told = {"architectures": ["LlamaAutoCompressorModel"], "summary_length": 3}
    source = whole_model(tiny_llama, tmp_path / "ac", extra, accumulate_summary=True, **told)
    out = adopted("autocompressor", source, tmp_path / "ours", span=10)
    about, ours = load_writer(out, "autocompressor", "float32")
    assert (about.tokens, about.rank, about.model) == (3, 0, str(source))

    # as `forward_segment` does: softprompt, segment, summary tokens; the new ones are added
    lm, soft = causal_lm(str(source), precision="float32"), torch.zeros(0, 32)
    text = [*range(20, 40)]
    for part in (text[:10], text[10:]):
        row = torch.cat((soft, ours.embedded(part), summary))
        read = lm.model.model(inputs_embeds=row[None]).last_hidden_state[0]
        soft = torch.cat((soft, read[-3:]))
    backend = LocalBackend(model=str(source), precision="float32")
    assert torch.allclose(written_in_turn(ours, [text], 10)[0], soft, atol=1e-5)
    made, _, _ = run(backend, chat(Segment(text=LONG)), "autocompressor", out)
    assert made.segments[0].soft is not None


def test_a_gist_model_is_adopted(tiny_llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = tmp_path / "gist"
    shutil.copytree(tiny_llama, source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    with pytest.raises(ModelError, match="no <GIST>"):
        adopted("gist", tiny_llama, tmp_path / "ours", span=200)
    last = len(tokenizer) - 1
    page = json.loads((source / "tokenizer.json").read_text())
    page["added_tokens"].append({**page["added_tokens"][-1], "id": last, "content": "<GIST>"})
    page["model"]["vocab"] = {k: v for k, v in page["model"]["vocab"].items() if v != last}
    page["model"]["merges"] = page["model"]["merges"][:-1]
    (source / "tokenizer.json").write_text(json.dumps(page))
    out = adopted("gist", source, tmp_path / "ours", span=200, tokens=2)
    about, ours = load_writer(out, "gist", "float32")
    assert (about.form, about.tokens) == ("kv", 2)

    text, rest = [*range(20, 31)], [7, 90, 15]
    row = torch.tensor([[*text, last, last, *rest]])
    size, seen = row.shape[1], len(text)
    mask = torch.full((size, size), torch.finfo(torch.float32).min).triu(1)
    mask[seen + 2 :, :seen] = torch.finfo(torch.float32).min
    lm = causal_lm(str(source), precision="float32")
    wanted = lm.model(row, attention_mask=mask[None, None]).logits[0, -len(rest) :]
    (found,) = predicted(lm, ours.kept([text]), [rest])
    assert torch.allclose(found, wanted, atol=1e-4)


def test_checkpoints_of_other_layouts(tiny_llama: Path, tmp_path: Path) -> None:
    def refused(layout: str, source: Path, message: str, **settings: Any) -> None:
        with pytest.raises(ModelError, match=message):
            adopted(layout, source, tmp_path / "out", span=10, **settings)

    refused("autocompressor", tiny_llama, "no embed_summary.weight")
    opt = whole_model(tiny_llama, tmp_path / "opt", {}, model_type="opt")
    refused("autocompressor", opt, "AutoCompressor of 'opt'")
    refused("gist", whole_model(tiny_llama, tmp_path / "t5", {}, model_type="t5"), "of 't5'")
    last = whole_model(tiny_llama, tmp_path / "rmt", {}, accumulate_summary=False)
    refused("autocompressor", last, "keeps only the last part's vectors")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    refused("icae", pickled, "no safetensors file", base="smollm2")
    (pickled / "icae.pt").write_bytes(b"")
    refused("icae", pickled, "is pickled, .*save_file", base="smollm2")
    refused("icae", pickled / "icae.pt", "is pickled", base="smollm2")
    with pytest.raises(UnknownName, match="nearest: icae"):
        adopted("icea", pickled, tmp_path / "out", span=10)
    with pytest.raises(ConfigError, match="`base` names the model"):
        adopted("icae", pickled, tmp_path / "out", span=10)


@pytest.mark.parametrize("name", ["autocompressor", "gist", "icae"])
def test_who_has_no_writer_is_told_how_to_get_one(name: str) -> None:
    with pytest.raises(ModelError, match=f"needs a trained writer.*tersely train {name} ROWS"):
        registry.stage(name).ready()  # type: ignore[attr-defined]
