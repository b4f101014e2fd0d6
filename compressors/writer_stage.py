"""What the stages `icae`, `autocompressor` and `gist` share: vectors for texts nobody knew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tersely.artefact import page_of
from tersely.compressors.soft import model_of
from tersely.compressors.writer import Writer, batches
from tersely.compressors.writer_artefact import WriterAbout, check_base, load_writer
from tersely.compressors.writer_ways import Ids, spans
from tersely.contracts import Backend, Context, Need, StageModel
from tersely.errors import ModelError, TerselyError, require
from tersely.models import resolve
from tersely.prompt import Prompt, Segment, sendable
from tersely.soft import KVPrefix, SoftPrompt
from tersely.weights import Precision

if TYPE_CHECKING:
    from torch import Tensor


class WriterStage(StageModel):
    """Writes vectors for texts it has not seen, and lets them stand in the texts' place.

    `model` is the folder that `tersely train` left (or `adopted` made of a published checkpoint).
    A text stays, and the report tells why, where the vectors would be no fewer than its tokens,
    where something in it must reach the model byte for byte, and where the backend takes no
    vectors or is another model than the writer learned for.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"soft"})

    model: str = ""
    precision: Precision = "auto"

    def ready(self) -> None:
        """Raise MissingExtra, UnknownName or ModelError when it can't write here."""
        about = self.about()
        require("torch", "transformers", extra="local")
        if about.rank:
            require("peft", extra="train")
        check_base(about, resolve(about.model))

    def about(self) -> WriterAbout:
        """Where the writer comes from. Raises ModelError."""
        if not self.model:
            raise ModelError(
                f"{self.name} needs a trained writer as `model`: a folder from `tersely train"
                f" {self.name} ROWS --out FOLDER`, or a published one that was adopted"
            )
        return page_of(WriterAbout, Path(self.model), self.name)

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        places = [i for i in prompt.open if prompt.segments[i].text.strip()]
        if not places:
            return prompt
        if fault := self._unread(context):
            context.say(f"{self.name}: {fault}")
            return prompt
        about, writer = load_writer(self.model, self.name, self.precision)
        texts = {i: tokens_of(writer, prompt.segments[i].text) for i in places}
        faults = {i: self.fault(i, prompt, ids, about) for i, ids in texts.items()}
        made = self._standing(
            {i: ids for i, ids in texts.items() if not faults[i]}, prompt, context, writer
        )
        return _left(prompt.with_segments(made), {i: one for i, one in faults.items() if one})

    def fault(self, at: int, prompt: Prompt, ids: Ids, about: WriterAbout) -> str:
        """Why the text at a place can't be replaced. Or ''."""
        if prompt.segments[at].spans:
            return "something in it is kept byte for byte, which vectors are not"
        count = about.tokens * len(spans(ids, about.span))
        if count >= len(ids):
            return f"it has {len(ids)} tokens, and {count} vectors would stand for it"
        return ""

    def write(self, writer: Writer, texts: Sequence[Ids], span: int) -> list[Tensor]:
        """Vectors for each of some texts. Shape: (vectors, hidden size) each."""
        raise NotImplementedError

    def written(
        self, writer: Writer, segments: Sequence[Segment], texts: Sequence[Ids]
    ) -> list[SoftPrompt | KVPrefix]:
        """What stands for each of some segments, whose tokens are given."""
        made = self.write(writer, texts, self.about().span)
        return [SoftPrompt(one.float()) for one in made]

    def _standing(
        self, texts: Mapping[int, Ids], prompt: Prompt, context: Context, writer: Writer
    ) -> dict[int, Segment]:
        """The segments with what stands for them, written many at a time."""
        import torch

        places, made = [*texts], {}
        for batch in batches([texts[i] for i in places]):
            context.check()
            some = [places[at] for at in batch]
            with torch.inference_mode():
                written = self.written(
                    writer, [prompt.segments[i] for i in some], [texts[i] for i in some]
                )
            for i, soft in zip(some, written, strict=True):
                told = (
                    f"{len(soft)} vectors that {self.name} wrote stand for {len(texts[i])} tokens"
                )
                own = replace(soft, model=model_of(context.backend))
                made[i] = prompt.segments[i].softened(own, told)
        return made

    def _unread(self, context: Context) -> str:
        """Why the backend can't read what is written. Or ''."""
        backend = context.backend
        if not context.soft:
            return "this request can't carry vectors: send `Result.prompt` to the backend"
        about = self.about()
        wanted = "kv_prefix" if about.form == "kv" else "embeds"
        if backend is None or wanted not in backend.capabilities:
            return f"the backend has no {wanted}"
        return _other_model(about, backend)


def tokens_of(writer: Writer, text: str) -> list[int]:
    """The tokens of a text by itself, as the model that reads would read them."""
    found: list[int] = writer.lm.tokenizer.encode(sendable(text), add_special_tokens=False)
    return found


def _other_model(about: WriterAbout, backend: Backend) -> str:
    """Why a backend's model can't read what this one writes. Or ''."""
    name = model_of(backend)
    if getattr(backend, "base_url", None) is not None:  # its weights can't be looked at
        return "" if name == about.model else f"it writes for {about.model!r}, not for {name!r}"
    try:
        check_base(about, resolve(name))
    except TerselyError as error:
        return str(error)
    return ""


def _left(prompt: Prompt, faults: Mapping[int, str]) -> Prompt:
    """A prompt whose segments tell why they were left alone."""
    return prompt.with_segments(
        {i: replace(prompt.segments[i], reason=fault) for i, fault in faults.items()}
    )
