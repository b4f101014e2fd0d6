"""Tiny language models of many architectures, with random weights and one byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
EXPERTS: dict[str, Any] = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped heads": ("llama", SIZES),
    "one head for all": ("llama", {**SIZES, "num_key_value_heads": 1}),
    "normed heads": ("qwen3", {**SIZES, "head_dim": 16}),
    "scaled embeddings": ("gemma", {**SIZES, "head_dim": 16}),
    "no rotation": (
        "gpt2",
        {"n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 256, "initializer_range": 0.3},
    ),
    "slopes": ("bloom", {"hidden_size": 48, "n_layer": 2, "n_head": 6, "initializer_range": 0.3}),
    "late positions": (
        "opt",
        {
            "hidden_size": 48,
            "word_embed_proj_dim": 48,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "max_position_embeddings": 256,
            "init_std": 0.3,
        },
    ),
    "side by side": (
        "gpt_neox",
        {k: v for k, v in SIZES.items() if k != "num_key_value_heads"} | {"rotary_pct": 0.5},
    ),
    "experts": ("mixtral", {**SIZES, "num_local_experts": 4, "sliding_window": None}),
    "shared experts": (
        "qwen2_moe",
        {**SIZES, **EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32},
    ),
    "sparse experts": ("qwen3_moe", {**SIZES, **EXPERTS, "num_experts": 4, "head_dim": 16}),
}
"""Models with plain attention."""

BOUND: dict[str, tuple[str, dict[str, Any]]] = {
    "a window": ("mistral", {**SIZES, "sliding_window": 8}),
    "a window in turns": (
        "gemma2",
        {**SIZES, "head_dim": 16, "sliding_window": 8, "attn_logit_softcapping": 5.0},
    ),
    "sinks": (
        "gpt_oss",
        {
            **SIZES,
            "head_dim": 8,
            "sliding_window": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "a state": (
        "mamba",
        {"hidden_size": 48, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.3},
    ),
    "a state beside attention": (
        "lfm2",
        {**SIZES, "block_ff_dim": 64, "layer_types": ["conv", "full_attention"]},
    ),
}
"""Models whose rows must enter together; with a state there is one at a time."""


def make(kind: str, tokenizer: Path, folder: Path) -> Path:
    """A model of that kind, with the tokenizer of another folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    known = AutoTokenizer.from_pretrained(tokenizer)
    known.save_pretrained(folder)
    name, settings = {**KINDS, **BOUND}[kind]
    config = AutoConfig.for_model(
        name,
        **settings,
        vocab_size=len(known),
        bos_token_id=None,
        eos_token_id=known.eos_token_id,
        pad_token_id=known.pad_token_id,
    )
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
