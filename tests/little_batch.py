"""Stages for tests of batch jobs, where another process can find them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tersely.ahead import Given
from tersely.contracts import Context, StageModel
from tersely.prompt import KINDS, Kind, Prompt


class Half(StageModel):
    """Keeps the first half of every open text's letters."""

    name: ClassVar[str] = "half"
    kinds: tuple[Kind, ...] = KINDS

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        texts = {i: prompt.segments[i].text for i in prompt.open}
        return prompt.with_texts({i: text[: (len(text) + 1) // 2] for i, text in texts.items()})


class Deadly(Half):
    """Half, but ends its process at a text with `die` in it, and once at one with `faint`.

    `grave` is a file by which it knows that it fainted before. `seconds` is what a prompt takes.
    `pids` is a folder in which each process leaves its number.
    """

    name: ClassVar[str] = "deadly"
    grave: str
    seconds: float = 0.0
    pids: str = ""

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        time.sleep(self.seconds)
        if self.pids:
            Path(self.pids, str(os.getpid())).touch()
        text = prompt.text
        if "die" in text:
            os._exit(9)
        if "faint" in text and not Path(self.grave).exists():
            Path(self.grave).touch()
            os._exit(9)
        if "explode" in text:
            raise RuntimeError("exploded")
        return super().__call__(prompt, context)


class Counted(Half):
    """Half, and writes down every text that it is given."""

    name: ClassVar[str] = "counted"
    book: str

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        with Path(self.book).open("a") as file:
            file.writelines(f"{prompt.segments[i].text}\n" for i in prompt.open)
        return super().__call__(prompt, context)


class Sealed(Half):
    """Half, but can't be opened by another process than the one that made it."""

    name: ClassVar[str] = "sealed"
    maker: int

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        if self.maker != os.getpid():
            raise RuntimeError("sealed")


class Foreseeing(Half):
    """Half, and reads ahead for `seconds`; `seen` tells for how many prompts each time.

    Neither can be done with a text that has `explode` in it.
    """

    name: ClassVar[str] = "foreseeing"
    seen: ClassVar[list[int]] = []
    seconds: float = 0.0

    def ahead(self, given: Sequence[Given], /) -> None:
        self.seen.append(len(given))
        time.sleep(self.seconds)
        for prompt, _ in given:
            self._read(prompt)

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        self._read(prompt)
        return super().__call__(prompt, context)

    def _read(self, prompt: Prompt) -> None:
        if "explode" in prompt.text:
            raise RuntimeError(f"exploded at {prompt.text[:9]!r}")
