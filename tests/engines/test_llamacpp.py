"""The contract of all backends and more, kept by llama.cpp in this process: see `make engines`.

Nothing is tested where llama-cpp-python isn't installed. `TERSELY_LLAMACPP_MODEL` names another
model than the one of ours.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backend_contract import asked, one
from llamacpp_promises import LlamaCppPromises

from tersely.backends.llamacpp import LlamaCppBackend
from tersely.backends.llamacpp_weights import _loaded, file_of, weights
from tersely.errors import BackendError, ModelError, missing
from tersely.sot.probing import probed

pytestmark = pytest.mark.skipif(missing("llama_cpp"), reason="llama-cpp-python is not installed")

MODEL = os.environ.get("TERSELY_LLAMACPP_MODEL", "smollm2")

JOB = (6, 80, 36, 155, 107)
"""Six points of eighty tokens after a skeleton of 36; prompts of 155 tokens share 107."""


@pytest.fixture
def answers() -> Iterator[LlamaCppBackend]:
    """A backend that remembers nothing of other tests."""
    backend = LlamaCppBackend(model=MODEL, threads=1)
    yield backend
    backend.close()


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[Any]:
    """The weights stay in memory from test to test."""
    yield weights(MODEL, -1)


@pytest.fixture(scope="module")
def table() -> Any:
    """The embeddings of the model's tokens."""
    import torch
    from gguf import GGUFReader, dequantize

    found = {one.name: one for one in GGUFReader(file_of(MODEL)).tensors}["token_embd.weight"]
    return torch.from_numpy(dequantize(found.data, found.tensor_type))


class TestLlamaCpp(LlamaCppPromises):
    same_alone = 5


def test_special_tokens_are_read_and_not_said(answers: LlamaCppBackend) -> None:
    raw = asked("<|im_start|>user\nSay yes<|im_end|>\n<|im_start|>assistant\n", raw=True)
    templated = answers.encode(asked("Say yes"))
    assert templated[-len(answers.encode(raw)) :] == answers.encode(raw)
    done = one(answers, replace(raw, max_tokens=60, grammar='root ::= "yes"'))
    assert (done.text, done.finish_reason) == ("yes", "stop")
    assert answers.encode(asked("", raw=True))


def test_tokens_are_those_of_transformers(answers: LlamaCppBackend, smollm2: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    texts = [
        "Ein schöner Tag in Zürich",
        "東京の天気は 👍🏽\n\n\tx = 12345.67  # é",
        " a  b\r\n",
        "<|im_end|>x",
    ]
    for text in texts:
        tokens = tokenizer.encode(text)
        assert answers.encode(asked(text, raw=True)) == tokens
        assert answers._batch().weights.decode(tokens) == tokenizer.decode(tokens)
        messages = [{"role": "user", "content": text}]
        chat = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert answers.encode(asked(text)) == tokenizer.encode(chat, add_special_tokens=False)


def test_no_memory_for_the_cache(answers: LlamaCppBackend) -> None:
    """Twice what the machine has, at 23,040 bytes a token of the model of ours."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    vast = answers.model_copy(update={"kv_tokens": 2 * memory // 23_040})
    with pytest.raises(BackendError, match=r"no memory for kv_tokens=\d+; lower it: .+"):
        one(vast, asked())


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=r"holds no model that llama\.cpp can load: .+"):
        one(LlamaCppBackend(model=str(tmp_path)), asked())


def test_weights_are_freed_when_nobody_has_them() -> None:
    backend = LlamaCppBackend(model=MODEL, threads=1, gpu_layers=0)
    one(backend, asked(max_tokens=1))
    assert any(layers == 0 for _, layers in _loaded)
    backend.close()
    gc.collect()
    assert not any(layers == 0 for _, layers in _loaded)


def test_a_child_of_a_fork_has_an_engine_of_its_own() -> None:
    script = f"""
import os, warnings
from backend_contract import asked, one
from tersely.backends.llamacpp import LlamaCppBackend
warnings.simplefilter("ignore")
backend = LlamaCppBackend(model={MODEL!r}, threads=1)
before = one(backend, asked())
child = os.fork()
if not child:
    os._exit(0 if one(backend, asked()) == before else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert one(backend, asked()) == before
print("both")
"""
    path = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **path}
    )
    assert done.stdout.strip() == "both", done.stderr
    assert done.stderr == "", "llama.cpp is silent"


def test_the_gate_takes_the_faster_road(answers: LlamaCppBackend) -> None:
    """Four-bit weights on a CPU gain nothing from a batch."""
    profile = probed(answers)
    print(profile.model_dump_json(), profile.reason(*JOB))
    if MODEL == "smollm2":
        assert not profile.pays(*JOB), profile.reason(*JOB)
    assert profile.shared > 0.5
