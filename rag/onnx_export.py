"""Turn a sentence encoder into a graph that runs without torch: once, whole, and checked."""

from __future__ import annotations

import tempfile
import warnings
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock

from tersely.artefact import model_hash
from tersely.convert import quiet
from tersely.errors import ModelError, require
from tersely.models import Say, home
from tersely.rag.onnx_run import GRAPH, PAGE, TOKENIZER, About, Exported
from tersely.weights import Encoder, prompts

if TYPE_CHECKING:
    from torch import Tensor

Grade = Literal["int8", "fp32"]

LAYOUT = 1
"""Counts up when what is exported changes: older exports are no longer taken."""

OPSET = 17
"""The first in which a layer norm is one operation."""

LARGEST = 1_900_000_000
"""Bytes of weights: a graph in one file can't hold more than 2 GB."""

PROBES = (
    "Who wrote it?",
    "In 1887 Zamenhof, an oculist in Warsaw, published the FIRST book of a new language.",
    "naïve café, 東京の天気は晴れ, привет мир - 3.14 % of `f(x)`; see https://example.org/a?b=c.",
    "a river runs through the old town, and " * 80,
)
"""Texts that the export must read as the model does; the last one is cut by many models."""

ALIKE: dict[Grade, float] = {"fp32": 0.9999, "int8": 0.9}
"""The least cosine of an exported vector with the model's own."""


def place_of(folder: Path, grade: Grade) -> Path:
    """Where a model's export lies; it moves when a file of the model changes."""
    return home() / "onnx" / f"{model_hash(folder)}-{grade}-{LAYOUT}"


def export(folder: Path, grade: Grade, say: Say = lambda _: None) -> Path:
    """Export the model in a folder, unless that was done, and return where the export lies.

    It appears at once and whole, and only if it reads some texts as the model does. Of several
    processes that want it, one makes it and the others wait. Raises MissingExtra, and ModelError
    that tells why a model can't be exported.
    """
    goal = place_of(folder, grade)
    if goal.is_dir():
        say(f"exported already: {goal}")
        return goal
    require("torch", "sentence_transformers", extra="rag")
    require("onnx", "onnxruntime", "tokenizers", extra="onnx")
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(goal.with_name(f".{goal.name}.lock")):
            if not goal.is_dir():
                _make(folder, goal, grade, say)
    except OSError as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"can't write the export to {goal.parent}: {error}") from error
    return goal


def _make(folder: Path, goal: Path, grade: Grade, say: Say) -> None:
    with tempfile.TemporaryDirectory(dir=goal.parent, prefix=f".{goal.name}-") as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        say(f"loading {folder.name}")
        loaded = Encoder(_loaded(folder))
        try:
            _write(loaded, made, grade, say)
        except Exception as error:  # of torch, onnx or a model's own code: they share no root
            raise ModelError(f"{folder} can't be exported to ONNX: {error}; {MEND}") from error
        asked, told = prompts(loaded)
        about = About(
            key=f"onnx:{goal.name}{_bits(grade)}", width=loaded.width, asked=asked, told=told
        )
        (made / PAGE).write_text(about.model_dump_json(indent=1) + "\n", "utf-8")
        say("comparing it with the model")
        _compare(loaded, made, grade)
        made.chmod(0o755)
        made.replace(goal)
    say(f"exported: {goal}")


MEND = "the embedder 'sentence_transformers' runs it as it is"


def _loaded(folder: Path) -> Any:
    """The encoder in float32, with attention written out: a graph of few kinds of operations."""
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    if size > LARGEST:
        raise ModelError(f"{folder} is too large to be exported ({size} bytes); {MEND}")
    import torch
    from sentence_transformers import SentenceTransformer

    given = {"dtype": torch.float32, "use_safetensors": True, "attn_implementation": "eager"}
    try:
        with quiet():
            return SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, model_kwargs=given
            ).eval()
    except Exception as error:  # what is missing or damaged decides what is raised
        raise ModelError(f"{folder} holds no sentence encoder: {error}") from error


def _write(loaded: Encoder, made: Path, grade: Grade, say: Say) -> None:
    tokenizer = loaded.model[0].tokenizer.backend_tokenizer
    longest = loaded.model.max_seq_length
    cut = type(tokenizer).from_str(tokenizer.to_str())
    cut.no_padding()
    cut.no_truncation()
    if longest and longest < 1 << 20:  # some models say that they read without end
        cut.enable_truncation(int(longest))
    cut.save(str(made / TOKENIZER))
    say("tracing the graph")
    _trace(loaded.model, made / GRAPH)
    if grade == "int8":
        say("rounding the weights to 8 bits")
        _quantize(made / GRAPH)


def _trace(model: Any, goal: Path) -> None:
    """Write the graph from token ids of one text to its vector."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts: Any = torch.nn.ModuleList(list(model))

        def forward(self, input_ids: Tensor) -> Tensor:
            reader, *rest = self.parts
            # one text needs no padding, and no mask that tells of it
            seen = reader.auto_model(input_ids=input_ids, attention_mask=None)
            said = {"token_embeddings": seen[0], "attention_mask": torch.ones_like(input_ids)}
            for part in rest:
                said = part(said)
            return torch.nn.functional.normalize(said["sentence_embedding"], dim=-1)

    legacy: dict[str, Any] = (
        {"dynamo": False} if "dynamo" in signature(torch.onnx.export).parameters else {}
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and that there is a newer exporter
        torch.onnx.export(
            Whole().eval(),
            (torch.arange(1, 10)[None],),
            str(goal),
            input_names=["input_ids"],
            output_names=["vector"],
            dynamic_axes={"input_ids": {1: "tokens"}},
            opset_version=OPSET,
            **legacy,
        )


def _quantize(graph: Path) -> None:
    """Round the weights of a graph to 8 bits, one scale a column."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain = graph.with_name("plain.onnx")
    quant_pre_process(str(graph), str(plain), skip_symbolic_shape=True)
    quantize_dynamic(
        str(plain),
        str(graph),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=narrow(),
    )
    plain.unlink()


def narrow() -> bool:
    """Whether 8 bits are one too many: without instructions for it, sums of products overflow."""
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch we take
    able = ask() if ask else {}
    known = able.get("architecture") == "x86_64"
    return known and not (able.get("avx512_vnni") or able.get("avx_vnni"))


def _bits(grade: Grade) -> str:
    """What tells vectors of narrow weights from others."""
    return ":narrow" if grade == "int8" and narrow() else ""


def _compare(loaded: Encoder, made: Path, grade: Grade) -> None:
    """Raise ModelError when the export reads otherwise than the model."""
    found = Exported(made).vectors(PROBES)
    alike = np.sum(found * np.vstack([loaded.vectors([text]) for text in PROBES]), axis=1)
    if not alike.min() >= ALIKE[grade]:
        raise ModelError(
            f"the export in {grade} does not read as the model does (cosine {alike.min():.4f},"
            f" at least {ALIKE[grade]} is wanted); nothing was kept; {MEND}"
        )
