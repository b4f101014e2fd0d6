"""Turn a quantized GGUF file into dense weights that load fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tersely.errors import ModelError, require

NEEDED = ("torch", "transformers", "gguf", "accelerate")
"""The packages that converting takes."""


def ready() -> None:
    """Raise MissingExtra when a package that converting needs is not installed."""
    require(*NEEDED, extra="local")


def to_safetensors(file: Path, folder: Path) -> None:
    """Write a GGUF's model as bfloat16 safetensors, with its tokenizer, into a folder.

    Raises MissingExtra, and ModelError when the file cannot be read.
    """
    ready()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.bfloat16, **_dequantized()
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except Exception as error:  # what a damaged file raises depends on where the damage is
            raise ModelError(f"{file} cannot be read as GGUF: {error}") from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _dequantized() -> dict[str, Any]:
    """Ask for dense weights, where transformers knows how to leave them packed."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config(dequantize=True)} if config else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of transformers, which are drawn for every load."""
    from transformers.utils import logging as _logging

    logging: Any = _logging  # its functions carry no types
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def muted() -> Iterator[None]:
    """Quiet, and without warnings: for who looks at what was loaded."""
    from transformers.utils import logging as _logging

    logging: Any = _logging  # its functions carry no types
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet():
            yield
    finally:
        logging.set_verbosity(level)
