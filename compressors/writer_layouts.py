"""Published checkpoints of writers, made into folders of ours.

Of each project one layout fits what reads here, the base model as it is:

- ICAE, second version (https://github.com/getao/icae, `icae_v2`): one safetensors file with a LoRA
  (`icae.base_model.model. ... .lora_A.default.weight`) and `memory_token_embed.weight`: the memory
  slots, then the tokens for autoencoding, going on, and questions. The last comes behind what is
  written. The first version is pickled, and its `memory_head` changes what is written.
- AutoCompressor of Llama (https://github.com/princeton-nlp/AutoCompressors): a whole model with
  `embed_summary.weight`, which writes and reads. That folder is the base model. Those of OPT give
  summary vectors no position, which no engine here does.
- Gist of Llama (https://github.com/jayelm/gisting): a whole model whose last token of the
  vocabulary is `<GIST>`, which writes and reads, keys and values; what is released are differences
  from Llama's own weights, to be added up first. Its texts began with "Instruction: ". Those of
  T5 are no causal language models.

Nothing is unpickled: `.bin` and `.pt` files are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.artefact import read_tensors
from tersely.compressors.writer import Shape, Writer, new_writer
from tersely.compressors.writer_artefact import WriterAbout, save_writer, told_of
from tersely.errors import ConfigError, ModelError, UnknownName, require
from tersely.models import resolve
from tersely.weights import causal_lm

if TYPE_CHECKING:
    from torch import Tensor

LORA = re.compile(r"icae\.(base_model\.model\..+\.lora_[AB])\.default\.weight")
MEMORY = "memory_token_embed.weight"
SUMMARY, TABLE = "embed_summary.weight", "model.embed_tokens.weight"
SPECIAL = 3
"""The rows of ICAE's table behind the memory slots: autoencoding, going on, questions."""

PICKLED = ("*.bin", "*.pt", "*.pth")
CONVERT = (
    "load it where you trust it, `safetensors.torch.save_file(state_dict, 'model.safetensors')`,"
    " and give that"
)
GIST = "<GIST>"


def adopted(
    layout: str, source: Path | str, out: Path, *, base: str = "", span: int, **settings: Any
) -> Path:
    """A folder for the stage `layout` (icae, autocompressor or gist) from a published checkpoint.

    `source` is its folder, or its one file. `base` names the model that ICAE's adapter is for;
    the others are models of their own. `span` is how many tokens it learned to write from at a
    time. Further settings: of ICAE `alpha` (32 in all its scripts), of gist the number of `tokens`.
    Raises ModelError that tells what does not fit, and how to convert what is pickled.
    """
    require("torch", "transformers", "safetensors", extra="local")
    makers = {"icae": _icae, "autocompressor": _autocompressor, "gist": _gist}
    if layout not in makers:
        raise UnknownName("layout", layout, makers)
    if (layout == "icae") != bool(base):
        raise ConfigError("`base` names the model of an adapter, which only ICAE's checkpoints are")
    source = Path(source).expanduser()
    writer, model = makers[layout](source, base, **settings)
    about = WriterAbout.model_validate(
        {
            **told_of(writer.shape, model),
            "recipe": layout,
            "span": span,
            "form": "kv" if layout == "gist" else "embeds",
            "settings": {"adopted": source.name, "base": base, **settings},
        }
    )
    return save_writer(out, about, writer)


def _icae(source: Path, base: str, *, alpha: float = 32) -> tuple[Writer, str]:
    require("peft", extra="train")
    found = _tensors(source)
    memory = found.pop(MEMORY, None)
    if memory is None or len(memory) <= SPECIAL:
        raise ModelError(f"{source} holds no {MEMORY} with memory slots: it is no ICAE checkpoint")
    if strange := sorted(name for name in found if not LORA.fullmatch(name)):
        raise ModelError(
            f"{source} holds {strange[0]}: only a LoRA on the model's own layers and {MEMORY} fit"
        )
    lora = {LORA.sub(r"\1.weight", name): tensor for name, tensor in found.items()}
    targets = sorted({name.split(".")[-3] for name in lora})
    ranks = {len(tensor) for name, tensor in lora.items() if name.endswith("lora_A.weight")}
    if len(ranks) != 1:
        raise ModelError(f"{source} holds no LoRA of one rank: found {sorted(ranks)}")
    shape = Shape(
        tokens=len(memory) - SPECIAL,
        rank=ranks.pop(),
        alpha=alpha,
        targets=",".join(targets),
        anchored=False,
    )
    writer = new_writer(causal_lm(base), shape, seed=0)
    _fill_lora(writer, lora, source)
    slots, special = memory.float()[: shape.tokens], memory.float()[shape.tokens :]
    return _with_tokens(writer, slots, source, cue=special[:1], closing=special[2:].clone()), base


def _fill_lora(writer: Writer, lora: Mapping[str, Tensor], source: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    adapter = writer.module.adapter
    wanted = get_peft_model_state_dict(adapter)
    for name in sorted(wanted.keys() | lora.keys()):
        one, other = wanted.get(name), lora.get(name)
        if one is None or other is None or one.shape != other.shape:
            shapes = [None if part is None else tuple(part.shape) for part in (other, one)]
            raise ModelError(
                f"{source}: {name} has the shape {shapes[0]}, and the base model wants {shapes[1]}"
            )
    set_peft_model_state_dict(adapter, dict(lora))


def _autocompressor(source: Path, base: str) -> tuple[Writer, str]:
    config = _config(source)
    if config.get("model_type") != "llama":
        raise ModelError(
            f"{source} is an AutoCompressor of {config.get('model_type')!r}: only those of llama"
            " give summary vectors the positions that engines give them"
        )
    if not config.get("accumulate_summary", True):
        raise ModelError(f"{source} keeps only the last part's vectors: here all are kept")
    return _itself(source, _stored(source, SUMMARY, "summaries")), str(source)


def _stored(source: Path, name: str, called: str) -> Tensor:
    """One tensor of a model, whose other weights may be large and are not read."""
    from safetensors import SafetensorError, safe_open

    for path in _files(source):
        try:
            with safe_open(str(path), framework="pt") as file:
                if name in file.keys():  # noqa: SIM118 - it is no mapping
                    return file.get_tensor(name).float()  # type: ignore[no-any-return]
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from error
    raise ModelError(f"{source} holds no {name}: it is no model of {called}")


def _gist(source: Path, base: str, *, tokens: int = 1) -> tuple[Writer, str]:
    config = _config(source)
    if config.get("model_type") != "llama":
        raise ModelError(f"{source} is a gist model of {config.get('model_type')!r}, not of llama")
    lm = causal_lm(str(source))
    known = lm.tokenizer.get_added_vocab()
    if GIST not in known:
        raise ModelError(f"the tokenizer in {source} has no {GIST}: it is no gist model")
    table = _stored(source, TABLE, "gists")
    return _itself(source, table[[known[GIST]] * tokens]), str(source)


def _itself(source: Path, summary: Tensor) -> Writer:
    """A model that writes as it reads, with these summary tokens."""
    shape = Shape(tokens=len(summary), rank=0, targets="", anchored=False)
    return _with_tokens(new_writer(causal_lm(str(source)), shape, seed=0), summary, source)


def _with_tokens(
    writer: Writer,
    summary: Tensor,
    source: Path,
    *,
    cue: Tensor | None = None,
    closing: Tensor | None = None,
) -> Writer:
    """The writer with a checkpoint's tokens; hidden states are its vectors as they are."""
    import torch

    module: Any = writer.module
    if summary.shape != module.summary.shape:
        raise ModelError(
            f"{source}: its tokens have {summary.shape[1]} values, and the base model's vectors"
            f" have {module.summary.shape[1]}"
        )
    with torch.no_grad():
        module.summary.copy_(summary)
        module.gain.fill_(1.0)
        if cue is not None:
            module.cue.copy_(cue)
    behind = writer.closing if closing is None else closing.to(writer.lm.device)
    return Writer(writer.lm, writer.module, writer.shape, behind)


def _config(source: Path) -> dict[str, Any]:
    folder = resolve(str(source))
    try:
        read: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{source} holds no config.json that can be read: {error}") from error
    return read


def _tensors(source: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    found = (read_tensors(file) for file in _files(source))
    return {name: tensor for one in found for name, tensor in one.items()}


def _files(source: Path) -> list[Path]:
    """The safetensors files of a checkpoint. Raises ModelError for what is pickled."""
    files = [source] if source.is_file() else sorted(source.glob("*.safetensors"))
    pickles = [path for sort in PICKLED for path in source.glob(sort)]
    if [path for path in files if path.suffix != ".safetensors"] or (pickles and not files):
        raise ModelError(f"{source} is pickled, and what is pickled can run code: {CONVERT}")
    if not files:
        raise ModelError(f"{source} holds no safetensors file")
    return files
