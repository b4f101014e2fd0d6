"""Weights are loaded once, safely, and a GGUF becomes safetensors that say the same."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tersely.convert import to_safetensors
from tersely.errors import MissingExtra, ModelError
from tersely.weights import best_device, best_dtype, causal_lm


def copied(folder: Path, goal: Path) -> Path:
    return Path(shutil.copytree(folder, goal / "model"))


def test_a_model_is_loaded_ready_to_run(tiny_llama: Path) -> None:
    lm = causal_lm(str(tiny_llama))
    assert not lm.model.training
    assert not any(weight.requires_grad for weight in lm.model.parameters())
    assert lm.max_length == 256
    assert lm.tokenizer.is_fast
    assert lm.dtype == next(lm.model.parameters()).dtype == best_dtype(lm.device)
    assert lm.device == best_device()
    assert lm.model.config._attn_implementation == "sdpa"


def test_all_threads_share_one_model(tiny_llama: Path, tmp_path: Path) -> None:
    folder = str(copied(tiny_llama, tmp_path))
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: causal_lm(folder), range(8)))
    assert all(lm is loaded[0] for lm in loaded)


def test_the_precision_can_be_chosen(tiny_llama: Path) -> None:
    import torch

    exact = causal_lm(str(tiny_llama), precision="float32")
    assert exact.dtype == exact.model.dtype == torch.float32
    assert causal_lm(str(tiny_llama), precision="bfloat16").model.dtype == torch.bfloat16


def test_bfloat16_only_where_the_cpu_multiplies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cpu = torch.device("cpu")
    for able, dtype in {
        "avx512_bf16": torch.bfloat16,
        "amx_bf16": torch.bfloat16,
        "avx2": torch.float32,
    }.items():
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {able: True})
        assert best_dtype(cpu) == dtype
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert best_dtype(cpu) == torch.float32


def test_damaged_weights_are_a_clear_error(tiny_llama: Path, tmp_path: Path) -> None:
    folder = copied(tiny_llama, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="holds no language model that can be loaded"):
        causal_lm(str(folder))


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("harmless", [True, False])
def test_pickled_weights_are_never_opened(harmless: bool, tiny_llama: Path, tmp_path: Path) -> None:
    import torch

    folder = copied(tiny_llama, tmp_path)
    (folder / "model.safetensors").unlink()
    if harmless:
        state = causal_lm(str(tiny_llama)).model.state_dict()
        torch.save(state, folder / "pytorch_model.bin")
    else:
        trap = pickle.dumps(Trap(tmp_path / "sprung"))
        (folder / "pytorch_model.bin").write_bytes(trap)
    with pytest.raises(ModelError):
        causal_lm(str(folder))
    assert not (tmp_path / "sprung").exists()


def test_code_beside_the_weights_never_runs(tiny_llama: Path, tmp_path: Path) -> None:
    folder = copied(tiny_llama, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    with pytest.raises(ModelError):
        causal_lm(str(folder))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_package_is_told_with_the_command(missing: str, tiny_llama: Path) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from tersely.weights import causal_lm\n"
        f"try: causal_lm({str(tiny_llama)!r})\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith(f"{MissingExtra.__name__} {missing} is needed here: pip install")


# --- converting ------------------------------------------------------------------------------

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleaved(weight: Any, heads: int) -> Any:
    """A query or key projection with its rotary halves in the order that GGUF keeps them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, -1)


def write_gguf(lm: Any, file: Path) -> None:
    """The same model as a GGUF file."""
    import gguf

    config, tokenizer = lm.model.config, lm.tokenizer
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    special = set(tokenizer.all_special_ids)
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokenizer))])
    writer.add_token_merges([" ".join(pair) for pair in parts["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in lm.model.state_dict().items():
        values = tensor.float().numpy()
        if name in NAMES:
            writer.add_tensor(NAMES[name], values)
            continue
        _, _, layer, *part, _ = name.split(".")
        if part[-1] in heads:
            values = interleaved(values, heads[part[-1]]).copy()
        writer.add_tensor(f"blk.{layer}.{PARTS['.'.join(part)]}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_converted_gguf_says_the_same(tiny_llama: Path, tmp_path: Path) -> None:
    import torch

    source = causal_lm(str(tiny_llama), precision="bfloat16")
    (tmp_path / "gguf").mkdir()
    write_gguf(source, tmp_path / "gguf" / "tiny.gguf")
    to_safetensors(tmp_path / "gguf" / "tiny.gguf", tmp_path / "dense")
    made = causal_lm(str(tmp_path / "dense"), precision="bfloat16")
    text = "The quick brown fox in Zürich, 12 times"
    tokens = source.tokenizer.encode(text)
    assert made.tokenizer.encode(text) == tokens
    assert made.tokenizer.chat_template == source.tokenizer.chat_template
    ids = torch.tensor([tokens])
    with torch.inference_mode():
        assert torch.equal(made.model(ids).logits, source.model(ids).logits)


def test_a_file_that_is_no_gguf_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(ModelError, match=r"bad\.gguf cannot be read as GGUF"):
        to_safetensors(tmp_path / "bad.gguf", tmp_path / "dense")
    assert not (tmp_path / "dense").exists()
