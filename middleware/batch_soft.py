"""What many rows begin with is learned once, and stands there as a soft prompt from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from pydantic import Field

from tersely import registry
from tersely.artefact import PAGE, page_of, settings_key
from tersely.contracts import Backend, Request
from tersely.errors import ConfigError, ModelError, RequestError
from tersely.middleware.batch_heads import APART, LEAST, Beginning, Heads, of_rows
from tersely.middleware.batch_worth import SharedHead, weighed
from tersely.middleware.files import Block, Files
from tersely.middleware.meter import meter
from tersely.middleware.row_shapes import Format
from tersely.middleware.settings import Settings
from tersely.middleware.softened import Softened, check_takes
from tersely.prompt import Prompt, Segment, messages_of
from tersely.soft_artefact import RECIPE, SoftAbout, listed
from tersely.training import Progress, Training, silent

STEPS = 1000
"""Into so many the bar is divided while something is learned."""


class SoftWishes(Settings):
    """Which beginnings of rows are learned, and where they lie.

    What is learned goes into `folder`, and is found there and on the shelf by the text's hash. A
    beginning of `least` tokens or more is learned where that pays for the rows that are left, or
    with `rows` where so many are. It learns from `turns` of them, by the `settings` of the trainer
    `soft`. `unfit` lets vectors be used that failed on what was held out.
    """

    called = "soft"
    alone = "folder"

    folder: Path
    least: int = Field(default=LEAST, ge=1)
    rows: int | None = Field(default=None, ge=1)
    turns: int = Field(default=40, ge=1)
    unfit: bool = False
    settings: Mapping[str, Any] = {}


class _Unlearned(Exception):
    """A text that the model can't learn."""


@dataclass(frozen=True, slots=True)
class Softener:
    """Puts what was learned in the place of what requests begin with; `notes` tell how it came."""

    backend: Softened | None
    heads: tuple[Beginning, ...]
    notes: tuple[str, ...] = ()

    def __call__(self, request: Request) -> Request:
        """The request as it is sent."""
        if self.backend is None:
            return request
        apart = headed(request.prompt, self.heads)
        return self.backend.softened(replace(request, prompt=apart))


@dataclass(frozen=True, slots=True, kw_only=True)
class Softening:
    """Learns what the rows that are left begin with. `blocks` gives them, as often as it is asked.

    `ask` makes of a row what a backend is asked; it raises RequestError where that can't be.
    """

    wishes: SoftWishes
    backend: Backend
    answer: int
    files: Files
    format: Format
    blocks: Callable[[], Iterable[Block]]
    ask: Callable[[Mapping[str, Any]], Prompt]
    shown: bool = False

    def made(self) -> Softener:
        """Learn what pays.

        Raises ConfigError for a backend that takes no soft input, or settings that no trainer has.
        """
        check_takes(self.backend)
        found: dict[Beginning, str] = {}
        notes: list[str] = []
        for head, told in self._weighed():
            known, state = self._known(head), ""
            if known is None and self._is_worth(told):
                try:
                    known = self._learned(head)
                except _Unlearned as error:
                    state = f"; it can't be learned: {error}"
            if known is not None:
                found[head], state = str(known), f"; {_state(known)}"
            notes.append(told.message + state)
        if not found:
            return Softener(None, (), tuple(notes))
        softened = Softened.by(self.backend, [*found.values()], unfit=self.wishes.unfit)
        longest = sorted(found, key=lambda one: -len(one.text))
        return Softener(softened, tuple(longest), tuple(notes))

    @property
    def model(self) -> str:
        return str(getattr(self.backend, "model", ""))

    def _weighed(self) -> list[tuple[Beginning, SharedHead]]:
        heads = of_rows(self.files, self.format, self.blocks(), Heads(least=self.wishes.least))
        return weighed(heads, self.model, self.answer)

    def _is_worth(self, told: SharedHead) -> bool:
        """Whether it is to be learned for so many rows."""
        if self.wishes.rows is not None:
            return told.rows >= self.wishes.rows
        remembers = "prefix_sharing" in self.backend.capabilities
        return told.pays == "always" or (told.pays == "anew" and not remembers)

    def _known(self, head: Beginning) -> Path | None:
        """Where it was learned for this model already."""
        own = sorted(page.parent for page in self.wishes.folder.glob(f"*/{PAGE}"))
        for folder in (*own, *listed().values()):
            try:
                about = page_of(SoftAbout, folder, RECIPE)
            except ModelError:
                continue
            told = (about.text_sha256, about.role, about.model)
            if told == (head.sha256, head.role, self.model):
                return folder
        return None

    def _learned(self, head: Beginning) -> Path:
        """Learn it, or go on learning it, from what rows ask behind it. Raises _Unlearned."""
        trainer = registry.trainer(
            "soft",
            text=head.text,
            model=self.model,
            role=head.role,
            **{"form": "kv" if "kv_prefix" in self.backend.capabilities else "embeds"}
            | {**self.wishes.settings},
        )
        trainer.ready()
        turns = [{"question": one} for one in islice(self._asked(head), self.wishes.turns)]
        told = settings_key(trainer.name, trainer.model_dump(mode="json"), turns)
        out = self.wishes.folder / f"{head.sha256[:12]}-{told[:12]}"
        with _shown(shown=self.shown) as progress:
            try:
                return trainer.train(Training(rows=turns, out=out, progress=progress))
            except (ConfigError, ModelError) as error:  # it is too long, or has no place
                raise _Unlearned(str(error)) from error

    def _asked(self, head: Beginning) -> Iterator[str]:
        """What rows ask behind a beginning."""
        for block in self.blocks():
            for row in self.files.rows(block):
                try:
                    messages = messages_of(self.ask(row))
                except RequestError:
                    continue
                if rest := _behind(head, messages):
                    yield rest


def headed(prompt: Prompt, heads: Sequence[Beginning]) -> Prompt:
    """The prompt with the first of some beginnings that it has as a segment of its own."""
    groups = groupby(prompt.segments, key=lambda one: (one.turn, one.role))
    first = [*next((group for _, group in groups), ())]
    if not first:
        return prompt
    text = messages_of(replace(prompt, segments=tuple(first)))[0]["content"]
    for head in heads:
        rest = _rest(head, str(first[0].role), text)
        if rest is None:
            continue
        kind: Any = "instruction" if head.role == "system" else "context"
        turn = first[0].turn
        apart = [Segment(text=head.text, role=head.role, kind=kind, turn=turn, path=("head",))]
        if rest:
            apart.append(Segment(text=rest, kind="question", turn=turn, path=("rest",)))
        return replace(prompt, segments=(*apart, *prompt.segments[len(first) :]))
    return prompt


def _rest(head: Beginning, role: str, text: str) -> str | None:
    """What follows a beginning in a message; None where the message does not begin with it."""
    if role != head.role:
        return None
    if head.role == "system":
        return "" if text == head.text else None
    begun = head.text + APART
    return text[len(begun) :] if text.startswith(begun) else None


def _behind(head: Beginning, messages: Sequence[Mapping[str, str]]) -> str:
    """What is asked behind a beginning; "" where another row is meant."""
    rest = _rest(head, messages[0]["role"], messages[0]["content"])
    if rest is None or len(messages) != 1 + (head.role == "system"):
        return ""
    return rest or messages[1]["content"]


def _state(folder: Path) -> str:
    """Where something learned lies, and whether it is used."""
    short = page_of(SoftAbout, folder, RECIPE).shortfall
    return f"learned in {folder}" + (f", and not faithful enough: {short}" if short else "")


@contextmanager
def _shown(*, shown: bool) -> Iterator[Progress]:
    """A bar for the steps of training."""
    if not shown:
        yield silent
        return
    with meter(STEPS) as move:

        def progress(done: int, total: int, figures: Mapping[str, float], /) -> None:
            told = f"learning what rows begin with: {done} of {total}"
            move(round(STEPS * done / max(total, 1)), told)

        yield progress
