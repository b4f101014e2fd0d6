"""Texts that were learned: vectors, or keys and values, stand in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from tersely.artefact import PAGE
from tersely.contracts import Backend, Context, Need, StageModel
from tersely.errors import TerselyError
from tersely.prompt import Kind, Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt
from tersely.soft_artefact import SoftArtefact, find, listed

KEPT = 16
"""Artefacts whose vectors are in memory."""


class Soft(StageModel):
    """Lets what was learned of a text stand in its place, for a model that runs here.

    `artefacts` are names on the shelf or folders (see `tersely soft`); empty: all on the shelf. A
    text is known by its hash, so that vectors never stand for another one. The text stays, and the
    report tells why, where it has changed since it was learned, stands elsewhere in the chat than
    it did then, is asked of another model, or where the vectors failed on turns held out from
    training, unless `unfit` lets those pass.

    Keys and values (Cartridges: Eyuboglu et al. 2025, https://arxiv.org/abs/2506.06266) stand at
    the beginning of a prompt only, vectors (Wingate et al. 2022, https://arxiv.org/abs/2210.03162)
    anywhere. Texts that nobody learned keep out of the way of budgets.
    """

    name: ClassVar[str] = "soft"
    needs: ClassVar[frozenset[Need]] = frozenset({"soft"})
    paper: ClassVar[str] = "https://arxiv.org/abs/2506.06266"

    kinds: tuple[Kind, ...] = ("instruction", "context", "example")
    artefacts: tuple[str, ...] = ()
    unfit: bool = False

    def ready(self) -> None:
        """Raise UnknownName or ModelError for an artefact that is not there, or damaged."""
        for _ in self._learned():
            pass

    def takes(self, segment: Segment) -> bool:
        """A text that was learned, or that has changed a little since."""
        return segment.kind in self.kinds and any(one.about(segment) for one in self._learned())

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        learned = [*self._learned()]
        made: dict[int, Segment] = {}
        for i in prompt.open:
            context.check()
            candidates = [one for one in learned if one.about(prompt.segments[i])]
            if candidates:
                made[i] = self._standing(i, prompt, candidates, context)
        return prompt.with_segments(made)

    def _standing(
        self, at: int, prompt: Prompt, candidates: list[Learned], context: Context
    ) -> Segment:
        """A segment with the first of what was learned that may stand for it, or why none may."""
        segment = prompt.segments[at]
        faults = []
        for one in candidates:
            fault = one.misplaced(at, prompt) or one.unread(context) or self._unfit(one)
            if not fault:
                return segment.softened(one.soft(context.backend), one.told)
            faults.append(f"{one.name}: {fault}")
        return replace(segment, reason="; ".join(faults))

    def _unfit(self, one: Learned) -> str:
        return "" if self.unfit else one.artefact.about.shortfall

    def _learned(self) -> Iterator[Learned]:
        folders: Mapping[str, Path] = (
            {name: find(name) for name in self.artefacts} if self.artefacts else listed()
        )
        for name, folder in folders.items():
            yield Learned(name, _loaded(folder, (folder / PAGE).stat().st_mtime_ns))


@dataclass(frozen=True, slots=True)
class Learned:
    """An artefact by its name, and what speaks against it."""

    name: str
    artefact: SoftArtefact

    def about(self, segment: Segment) -> bool:
        """Whether it was learned from this text, or from an earlier form of it."""
        return self.artefact.resembles(segment.text)

    def misplaced(self, at: int, prompt: Prompt) -> str:
        """Why it can't stand for a segment in this prompt: another text or place. Or ''."""
        segment, about = prompt.segments[at], self.artefact.about
        if changed := self.artefact.stale(segment.text):
            return changed
        if segment.role != about.role:
            return f"it was learned as a text of the {about.role}, and is one of the {segment.role}"
        if about.form == "kv" and any(one.text or one.soft for one in prompt.segments[:at]):
            return "keys and values stand for the beginning of a prompt, and another text is before"
        return ""

    def unread(self, context: Context) -> str:
        """Why the backend can't read it: by its nature, or since it is another model. Or ''."""
        about, backend = self.artefact.about, context.backend
        wanted = "kv_prefix" if about.form == "kv" else "embeds"
        if not context.soft:
            return "this request can't carry it: send `Result.prompt` to the backend"
        if backend is None or wanted not in backend.capabilities:
            return f"the backend has no {wanted}"
        name, here = model_of(backend), str(getattr(backend, "weights", ""))
        if _remote(backend) and not here:  # its weights can't be looked at
            return "" if name == about.model else f"it is for {about.model!r}, not for {name!r}"
        try:
            self.artefact.check(here or name)
        except TerselyError as error:
            return str(error)
        return ""

    def soft(self, backend: Backend | None) -> SoftPrompt | KVPrefix:
        """What stands there, by the name that the backend has for the model."""
        return _named(self.artefact.soft, model_of(backend))

    @property
    def told(self) -> str:
        """What stands there, and how faithful it is."""
        about = self.artefact.about
        what = "keys and values" if about.form == "kv" else "vectors"
        if (known := about.fidelity) is None:
            return f"{about.tokens} {what} of {self.name!r} stand for it"
        measured = f"KL {known.kl.mean:.2f}, agreement {known.agreement.mean:.0%}"
        return f"{about.tokens} {what} of {self.name!r} stand for it ({measured})"


def model_of(backend: Backend | None) -> str:
    """The name that a backend has for its model."""
    return str(getattr(backend, "model", ""))


def _remote(backend: Backend) -> bool:
    return getattr(backend, "base_url", None) is not None


@lru_cache(KEPT)
def _named(soft: SoftPrompt | KVPrefix, model: str) -> SoftPrompt | KVPrefix:
    return soft if soft.model == model else replace(soft, model=model)


@lru_cache(KEPT)
def _loaded(folder: Path, changed: int) -> SoftArtefact:
    """An artefact, read once as long as its page stays the same."""
    return SoftArtefact.load(folder)
