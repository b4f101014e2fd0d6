"""What trainers share that learn from a backend's answers: rows, scores, and answers on disk."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import regex
from pydantic import BaseModel, ValidationError

from tersely.artefact import settings_key
from tersely.contracts import Backend, Request
from tersely.errors import ConfigError, first_fault
from tersely.prompt import messages_of
from tersely.training import Checkpoints, TrainerModel, Training

Score = Literal["contains", "exact", "rouge_l"]
"""How an answer is measured: the right one stands in it, is all of it, or shares its words."""

CJK = "\u2e80"
"""From here on scripts write words without a space."""

ANSWERS = "answers.jsonl"

_ASIDE = regex.compile(r"\b(?:a|an|the)\b|[\p{P}\p{S}]")

R = TypeVar("R", bound=BaseModel)


def rows_of(kind: type[R], training: Training) -> list[R]:
    """The rows, checked. Raises ConfigError that names the row."""
    rows: list[R] = []
    for i, row in enumerate(training.rows, 1):
        try:
            rows.append(kind.model_validate(dict(row)))
        except ValidationError as error:
            raise ConfigError(f"row {i}: {first_fault(error)}") from error
    return rows


def scored(how: Score, said: str, wanted: Sequence[str]) -> float:
    """How good an answer is, 0 to 1, by the best of the right ones; case and marks are no matter.

    `rouge_l` is the F-measure of the longest common row of words (Lin 2004,
    https://aclanthology.org/W04-1013).
    """
    measure = {"contains": _contains, "exact": _exact, "rouge_l": _rouge}[how]
    return max((measure(_plain(said), _plain(right)) for right in wanted), default=0.0)


@dataclass(slots=True)
class Answers:
    """A backend's answers, on disk as they come: what was answered is never asked again."""

    backend: Backend
    file: Path
    batch: int
    known: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.known = {}
        if not self.file.is_file():
            return
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):  # stopped while it was written
            self.file.write_text("".join(whole), encoding="utf-8")
        self.known = dict(map(json.loads, whole))

    def to(
        self, requests: Sequence[Request], tell: Callable[[int], None] = lambda done: None
    ) -> list[str]:
        """The answer to each request; `tell` is told how many there are so far."""
        keys = [_key(request) for request in requests]
        new = {key: r for key, r in zip(keys, requests, strict=True) if key not in self.known}
        tell(len(keys) - len(new))
        asked = list(new.items())
        for at in range(0, len(asked), self.batch):
            some = asked[at : at + self.batch]
            said = self.backend.complete([request for _, request in some])
            self._note({key: one.text for (key, _), one in zip(some, said, strict=True)})
            tell(sum(key in self.known for key in keys))
        return [self.known[key] for key in keys]

    def _note(self, answers: dict[str, str]) -> None:
        lines = [json.dumps(pair) + "\n" for pair in answers.items()]
        with self.file.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
        self.known |= answers


def begun(
    trainer: TrainerModel, training: Training, batch: int, *about: Any
) -> tuple[Checkpoints, Answers]:
    """Where the work keeps its place, and the answers that it has.

    `about` is what else the work depends on. Raises ConfigError without a backend, and when the
    folder holds other unfinished work.
    """
    backend = training.backend
    if backend is None:
        raise ConfigError(f"trainer {trainer.name!r} needs a backend that answers: give it one")
    who = f"{type(backend).__name__} {getattr(backend, 'model', '')}"
    plain = trainer.checkpoints(training)
    checkpoints = Checkpoints(plain.folder, settings_key(plain.key, who, about))
    if checkpoints.load() is None:
        checkpoints.save({}, {})
    return checkpoints, Answers(backend, checkpoints.folder / ANSWERS, batch)


def _key(request: Request) -> str:
    return settings_key(messages_of(request.prompt), request.max_tokens)


def _plain(text: str) -> str:
    """A text in lower case without articles and marks, unless it is nothing else."""
    lower = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_ASIDE.sub(" ", lower).split()) or " ".join(lower.split())


def _exact(said: str, right: str) -> float:
    return float(said == right)


def _contains(said: str, right: str) -> float:
    if not right:
        return float(not said)
    return float(right in said if max(right) >= CJK else f" {right} " in f" {said} ")


def _rouge(said: str, right: str) -> float:
    ours, theirs = said.split(), right.split()
    if not ours or not theirs:
        return float(ours == theirs)
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before = 0
        for i, other in enumerate(theirs, 1):
            before, row[i] = row[i], before + 1 if word == other else max(row[i], row[i - 1])
    return 2 * row[-1] / (len(ours) + len(theirs))
