"""Training that can be watched, stopped and resumed: one loop for everything that learns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from tersely.artefact import read_tensors, settings_key, write_tensors
from tersely.contracts import Backend, Need
from tersely.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

Row = Mapping[str, Any]
"""One example, as it stands in a line of the data."""


class Progress(Protocol):
    """Is told how far the work is, with the figures of the moment (a loss, a reward)."""

    def __call__(self, done: int, total: int, figures: Mapping[str, float], /) -> None: ...


def silent(done: int, total: int, figures: Mapping[str, float], /) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a trainer is given besides its settings: data, where to write, who answers."""

    rows: Sequence[Row]
    out: Path
    backend: Backend | None = None
    progress: Progress = silent


class TrainerModel(BaseModel):
    """Base of what learns: a frozen value whose fields are its settings.

    A subclass gives `name` (as in `tersely train NAME`), `needs`, `paper`, `columns` (what a row
    must hold, unless it holds `other_columns`) and `train`, which writes the artefact into
    `Training.out` and returns the folder. Stopped at any moment and called again with the same
    settings and rows, it goes on where it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    paper: ClassVar[str] = ""
    columns: ClassVar[tuple[str, ...]] = ()
    other_columns: ClassVar[tuple[str, ...]] = ()

    seed: int = 0

    def ready(self) -> None:
        """Raise MissingExtra, UnknownName or ModelError when it can't work here."""

    def train(self, training: Training, /) -> Path:
        raise NotImplementedError

    @classmethod
    def lacks(cls, row: Row) -> tuple[str, ...]:
        """The columns that a row should hold and does not."""
        ways = [way for way in (cls.columns, cls.other_columns) if way]
        missing = [tuple(name for name in way if name not in row) for way in ways]
        return min(missing, key=len, default=())

    def checkpoints(self, training: Training) -> Checkpoints:
        """Where this work keeps its place; of other work under the same folder it knows nothing."""
        key = settings_key(self.name, self.model_dump(mode="json"), list(training.rows))
        return Checkpoints(training.out / "checkpoint", key)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The state of unfinished work, so that it can go on after it was stopped."""

    folder: Path
    key: str

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was saved last, if it was by the same work."""
        page = self.folder / "state.json"
        if not page.is_file():
            return None
        state: dict[str, Any] = json.loads(page.read_text(encoding="utf-8"))
        if state.pop("key") != self.key:
            raise ConfigError(
                f"{self.folder} holds unfinished work with other settings or data:"
                " take another --out, or remove it"
            )
        file = self.folder / f"{state.pop('tensors')}.safetensors"
        return read_tensors(file), state

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep the state; what was kept before stays whole until this is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        old = sorted(self.folder.glob("*.safetensors"))
        name = "b" if any(path.stem == "a" for path in old) else "a"
        write_tensors(self.folder / f"{name}.safetensors", tensors)
        beside = self.folder / "state.new"
        beside.write_text(json.dumps({**state, "key": self.key, "tensors": name}))
        beside.replace(self.folder / "state.json")
        for path in old:
            if path.stem != name:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget the work: it is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def steady(step: int) -> float:
    """Every step at the same rate."""
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One loop over steps for any module.

    `loss` gives the loss of a step; what it draws at random must depend on the step's number
    alone, so that work which was stopped ends as if it had not been. `every` is how often the
    state is saved. `schedule` is what the rate is multiplied by at a step.

    `held` measures what should become less on rows held out: before the first step, every
    `every` steps and at the end. The module is left as it was at its best, and after `patience`
    measurements that were no better (0: never) no more steps are taken.
    """

    module: Module
    loss: Callable[[int], Tensor]
    steps: int
    rate: float = 1e-3
    every: int = 50
    schedule: Callable[[int], float] = steady
    held: Callable[[], float] | None = None
    patience: int = 0
    checkpoints: Checkpoints | None = None
    progress: Progress = field(default=silent)

    def run(self) -> list[float]:
        """Train, or go on training; the losses of all steps."""
        import torch

        wanted = list(self._learning().values())
        optimizer = torch.optim.AdamW(wanted, lr=self.rate)
        losses, watch = self._resumed(optimizer)
        for step in range(len(losses), self.steps):
            if watch.tired(self.patience):
                break
            optimizer.param_groups[0]["lr"] = self.rate * self.schedule(step)
            optimizer.zero_grad()
            loss = self.loss(step)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(wanted, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            last = step + 1 == self.steps
            if (step + 1) % self.every == 0 or last:
                watch.look(self.held, self._learning())
                if self.checkpoints and not last:
                    state = {"losses": losses, "held": watch.figures}
                    self.checkpoints.save(self._state(optimizer) | watch.state(), state)
            self.progress(step + 1, self.steps, {"loss": losses[-1], **watch.told()})
        watch.restore(self._learning())
        return losses

    def _state(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """What learns, and what the optimizer remembers of each of its parameters."""
        state = {f"module.{n}": p for n, p in self._learning().items()}
        for i, kept in optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{name}": tensor for name, tensor in kept.items()}
        return state

    def _resumed(self, optimizer: Optimizer) -> tuple[list[float], Watch]:
        found = self.checkpoints.load() if self.checkpoints else None
        if found is None:
            watch = Watch()
            watch.look(self.held, self._learning())
            return [], watch
        import torch

        tensors, state = found
        with torch.no_grad():
            for name, parameter in self._learning().items():
                parameter.copy_(tensors[f"module.{name}"])
        kept: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if part == "optimizer":
                i, _, what = rest.partition(".")
                kept.setdefault(int(i), {})[what] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
        best = {n.removeprefix(BEST): t for n, t in tensors.items() if n.startswith(BEST)}
        return list(state["losses"]), Watch(list(state.get("held", [])), best)

    def _learning(self) -> dict[str, Tensor]:
        """The parameters that learn: a frozen base is not saved again at every checkpoint."""
        return {n: p for n, p in self.module.named_parameters() if p.requires_grad}


BEST = "best."
"""What the names of the best parameters so far begin with, in a checkpoint."""


@dataclass(slots=True)
class Watch:
    """What was measured on rows held out, and the parameters at which it was least."""

    figures: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def look(self, held: Callable[[], float] | None, learning: Mapping[str, Tensor]) -> None:
        """Measure, and keep a copy of what learns if it is better than ever."""
        if held is None:
            return
        found = held()
        if not self.figures or found < min(self.figures):
            self.best = {name: p.detach().clone() for name, p in learning.items()}
        self.figures.append(found)

    def tired(self, patience: int) -> bool:
        """Whether so many measurements in a row were no better than what went before."""
        return 0 < patience < len(self.figures) - self.figures.index(min(self.figures))

    def told(self) -> dict[str, float]:
        return {"held": self.figures[-1]} if self.figures else {}

    def state(self) -> dict[str, Tensor]:
        return {f"{BEST}{name}": tensor for name, tensor in self.best.items()}

    def restore(self, learning: Mapping[str, Tensor]) -> None:
        """Put the best parameters back in their place."""
        import torch

        with torch.no_grad():
            for name, tensor in self.best.items():
                learning[name].copy_(tensor)
