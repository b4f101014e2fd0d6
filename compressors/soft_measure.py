"""Measure what was learned beside what else could stand there: shorter texts, and the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tersely.compressors.soft_fidelity import Cloze, Turn, figures
from tersely.compressors.soft_reading import Begun, Rendering, begun
from tersely.contracts import Context
from tersely.fidelity import Fidelity, Figures
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.soft import KVPrefix, SoftPrompt
from tersely.tokens import counter
from tersely.weights import encode

PRUNER = "query"
"""The stage that makes a text shorter, to compare with."""

Soft = KVPrefix | SoftPrompt


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """A text and its full reading, with the turns and facts by which all else is measured."""

    rendering: Rendering
    text: str
    full: Begun
    model: str
    turns: Sequence[Turn]
    clozes: Sequence[Cloze]
    batch: int
    seed: int

    def fidelity(self, soft: Soft, untrained: Soft) -> Fidelity:
        """How faithful vectors are, with what else could stand there at as many tokens."""
        found = self.beside({"": soft, "untrained": untrained}, len(soft))
        own = found.pop("")
        return Fidelity(
            **own.model_dump(),
            turns=len(self.turns),
            positions=sum(len(turn.answer) for turn in self.turns),
            asked=len(self.clozes),
            baselines=found,
        )

    def beside(self, softs: Mapping[str, Soft], count: int) -> dict[str, Figures]:
        """The figures of vectors by name, and of shorter texts of `count` tokens."""
        beginnings = {"full": self.full, **self._texts(count)}
        beginnings |= {name: self._read(soft) for name, soft in softs.items()}
        found = figures(
            self.rendering, beginnings, self.turns, self.clozes, batch=self.batch, seed=self.seed
        )
        return {name: one.model_copy(update={"tokens": count}) for name, one in found.items()}

    def _texts(self, count: int) -> dict[str, Begun]:
        import torch

        lm = self.rendering.lm
        cut = encode(self.text, lm)[0][:count].tolist()
        with torch.no_grad():
            return {
                "truncated": begun(lm, [*self.rendering.before, *cut]),
                "pruned": begun(lm, self.rendering.head(self._pruned(count))),
            }

    def _pruned(self, count: int) -> str:
        context = Context(count=counter(self.model))
        prompt = Prompt((Segment(text=self.text, kind="context"),))
        limit = count + context.count.framing * prompt.turns
        return stage(PRUNER)(prompt, context.within(limit)).text

    def _read(self, soft: Soft) -> Begun:
        import torch

        if isinstance(soft, KVPrefix):
            return [(keys[None], values[None]) for keys, values in soft.layers]
        with torch.no_grad():
            return begun(self.rendering.lm, self.rendering.before, soft.vectors)
