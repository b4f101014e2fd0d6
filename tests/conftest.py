"""What several test files share: models, and a server that speaks the vendors' formats."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import little_bert
import pytest
from hypothesis import settings
from loopback import Loopback
from points_server import Provider, providing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tersely.backends.local import LocalBackend
    from tersely.weights import CausalLM

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

# Where tests run in the background, Ctrl-C is ignored, and programs they start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure. CI tries the same every time; new things are tried by hand.
settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("untimed")

CORPUS = [
    "The quick brown fox jumps over the lazy dog, 12 times a day.",
    "Ein schöner Tag in Zürich: die Brücke über die Limmat.",
    "naïve café, 東京の天気は晴れ, привет мир, 👍🏽 👩‍👩‍👧 🎉",
]

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

SPECIAL = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"]


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A server on the loopback address, which notes what it is sent."""
    with Loopback() as running:
        yield running


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider on the loopback address that writes skeletons and points."""
    with providing() as running:
        yield running


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of the embedded model; `tersely models pull smollm2` brings it."""
    from tersely.models import resolve

    return resolve("smollm2")


def _tiny(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The shape of tiny causal models of that tokenizer's words."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.3,
    }


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny causal LM of random weights and its byte-level tokenizer."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        CORPUS, vocab_size=320, min_frequency=1, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**_tiny(tokenizer))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def backend(tiny_llama: Path) -> LocalBackend:
    """That model as a backend, in the precision in which a row knows nothing of its neighbours."""
    from tersely.backends.local import LocalBackend

    return LocalBackend(model=str(tiny_llama), precision="float32")


@pytest.fixture(scope="session")
def lm(backend: LocalBackend) -> CausalLM:
    """The weights of that backend."""
    from tersely.weights import causal_lm

    return causal_lm(backend.model, precision=backend.precision)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny token classifier of random weights: drop or keep."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-classifier")
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=400, min_frequency=1, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=128)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    torch.manual_seed(7)
    BertForTokenClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny encoder of random weights, see `little_bert`."""
    return little_bert.make(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def tiny_windowed(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model that looks back a few tokens only."""
    import torch
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("tiny-windowed")
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.save_pretrained(folder)
    config = MistralConfig(**_tiny(tokenizer), sliding_window=8)
    torch.manual_seed(7)
    MistralForCausalLM(config).save_pretrained(folder)
    return folder
