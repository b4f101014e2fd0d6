"""The folder of a trained writer: a peft adapter, summary tokens, and a page with a curve."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tersely.artefact import (
    TENSORS,
    About,
    check_model,
    page_of,
    read_tensors,
    save,
    tokenizer_hash,
    weights_hash,
    write_tensors,
)
from tersely.compressors.writer import Shape, Writer, new_writer
from tersely.errors import ModelError, require
from tersely.models import resolve
from tersely.soft_artefact import Form
from tersely.weights import Precision, causal_lm

ADAPTER = "adapter_model.safetensors"
"""With `adapter_config.json` beside it peft reads the folder too."""

OWN = ("summary", "gain", "cue")


class WriterAbout(About):
    """Where a writer comes from, how large it is and how well it does.

    `span` is how many tokens it learned to write from at a time. A point of the `curve` holds the
    `step`, the mean `loss` of training since the point before, and the figures on rows held out.
    """

    tokens: int
    rank: int
    alpha: float
    targets: str
    anchored: bool
    span: int
    form: Form = "embeds"
    tokenizer_sha256: str = ""
    curve: tuple[Mapping[str, float], ...] = ()

    @property
    def shape(self) -> Shape:
        return Shape(
            tokens=self.tokens,
            rank=self.rank,
            alpha=self.alpha,
            targets=self.targets,
            anchored=self.anchored,
        )


def told_of(shape: Shape, model: str) -> dict[str, object]:
    """What the page tells of a writer's size and of the model that it is for."""
    folder = resolve(model)
    return {
        "tokens": shape.tokens,
        "rank": shape.rank,
        "alpha": shape.alpha,
        "targets": shape.targets,
        "anchored": shape.anchored,
        "model": model,
        "model_sha256": weights_hash(folder),
        "tokenizer_sha256": tokenizer_hash(folder),
    }


def save_writer(folder: Path, about: WriterAbout, writer: Writer) -> Path:
    """Write the folder; the page comes last, so that what is unfinished is no artefact."""
    folder.mkdir(parents=True, exist_ok=True)
    if writer.shape.rank:
        from peft import get_peft_model_state_dict

        adapter = writer.module.adapter
        adapter.peft_config["default"].save_pretrained(str(folder))  # type: ignore[union-attr,index]
        write_tensors(folder / ADAPTER, get_peft_model_state_dict(adapter))
    tensors = {name: getattr(writer.module, name) for name in OWN}
    if len(writer.closing):
        tensors["closing"] = writer.closing
    return save(folder, about, tensors)


def load_writer(
    folder: Path | str, recipe: str, precision: Precision = "auto"
) -> tuple[WriterAbout, Writer]:
    """A trained writer with its base model, loaded once. Nothing is unpickled.

    Raises MissingExtra, and ModelError that tells what is missing, damaged, of another recipe, or
    for another model, rank or hidden size.
    """
    folder = Path(folder).expanduser()
    about = page_of(WriterAbout, folder, recipe)
    changed = (folder / TENSORS).stat().st_mtime_ns if (folder / TENSORS).is_file() else 0
    return about, _loaded(folder, recipe, precision, changed)


def check_base(about: WriterAbout, folder: Path) -> None:
    """Raise ModelError unless the model in a folder is the one that the writer learned for."""
    check_model(about, folder)
    if about.tokenizer_sha256 and about.tokenizer_sha256 != tokenizer_hash(folder):
        raise ModelError(
            f"the writer was trained with another tokenizer of {about.model!r} than lies at"
            f" {folder}: train it again"
        )


@lru_cache(4)
def _loaded(folder: Path, recipe: str, precision: Precision, changed: int) -> Writer:
    about = page_of(WriterAbout, folder, recipe)
    check_base(about, resolve(about.model))
    if about.rank:
        require("peft", extra="train")
    lm = causal_lm(about.model, precision=precision)
    writer = new_writer(lm, about.shape, seed=0)
    return filled(writer, folder)


def filled(writer: Writer, folder: Path) -> Writer:
    """A writer with what a folder holds. Raises ModelError for what does not fit it."""
    import torch

    own = read_tensors(folder / TENSORS)
    closing = own.pop("closing", writer.closing)
    wanted = {name: getattr(writer.module, name) for name in OWN}
    _check(folder / TENSORS, {n: tuple(t.shape) for n, t in wanted.items()}, own)
    if closing.dim() != 2 or closing.shape[1] != writer.closing.shape[1]:
        raise ModelError(
            f"{folder / TENSORS}: closing has the shape {tuple(closing.shape)}, and the model's"
            f" vectors have {writer.closing.shape[1]} values"
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(own[name])
    if writer.shape.rank:
        _fill_adapter(writer, folder / ADAPTER)
    writer.module.requires_grad_(False)
    return Writer(writer.lm, writer.module, writer.shape, closing.to(writer.lm.device))


def _fill_adapter(writer: Writer, path: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    tensors, adapter = read_tensors(path), writer.module.adapter
    wanted = {n: tuple(t.shape) for n, t in get_peft_model_state_dict(adapter).items()}
    _check(path, wanted, tensors)
    set_peft_model_state_dict(adapter, tensors)


def _check(path: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, object]) -> None:
    """Raise ModelError unless the tensors are those wanted, in their shapes."""
    if missing := sorted(wanted.keys() - found.keys()):
        raise ModelError(f"{path} lacks {len(missing)} tensors of the model: {missing[0]} ...")
    if strange := sorted(found.keys() - wanted.keys()):
        raise ModelError(f"{path} holds {len(strange)} tensors that fit nothing: {strange[0]} ...")
    for name, shape in wanted.items():
        own = tuple(getattr(found[name], "shape", ()))
        if own != shape:
            raise ModelError(
                f"{path}: {name} has the shape {own}, and {shape} is wanted: another rank, number"
                " of tokens or hidden size than the page tells of"
            )
