"""How faithful something shorter is to a full text, and how faithful it must be to be sent."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

TEXTS = ("truncated", "pruned")
"""Baselines that are texts."""


class Interval(BaseModel):
    """A mean over turns, and the bounds between which 95 % of the means of redrawn turns lie."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float


class Figures(BaseModel):
    """How near a model with something shorter comes to itself with the full text.

    `kl` is the Kullback-Leibler divergence from the full text's next-token distributions, in nats a
    token; `agreement` the share of tokens where the likeliest one is the same. Of the facts that
    the full text makes the model give, `lost` are those that it gives no more.
    """

    model_config = ConfigDict(frozen=True)

    tokens: int
    kl: Interval
    agreement: Interval
    facts: int = 0
    lost: tuple[str, ...] = ()

    @property
    def kept(self) -> float:
        """The share of the facts that are kept; 1 when there are none."""
        return 1 - len(self.lost) / self.facts if self.facts else 1.0


class Fidelity(Figures):
    """What was measured on `turns` held out from training, at `positions` tokens in them.

    `asked` counts the facts that were asked for, those included that the full text does not make
    the model give either. `baselines` are what could stand there instead, by name; those named
    in `TEXTS` are shorter texts.
    """

    turns: int
    positions: int
    asked: int = 0
    baselines: Mapping[str, Figures] = {}

    def best_text(self) -> tuple[str, Figures] | None:
        """The shorter text of as many tokens that comes nearest, and its name."""
        known = [(name, made) for name, made in self.baselines.items() if name in TEXTS]
        return min(known, key=lambda one: one[1].kl.mean, default=None)


class Threshold(BaseModel):
    """What fidelity must reach, or the text is sent instead.

    `kl` is the most that the divergence may be, in nats a token; `of_text` the most it may be of
    what the best shorter text of as many tokens has; `agreement` and `facts` are the least shares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kl: float = Field(default=0.3, gt=0)
    of_text: float = Field(default=1.0, gt=0)
    agreement: float = Field(default=0.8, ge=0, le=1)
    facts: float = Field(default=0.0, ge=0, le=1)

    def shortfall(self, fidelity: Fidelity | None) -> str:
        """Why the fidelity does not suffice and by how much; empty when it does."""
        if fidelity is None:
            return "its fidelity was not measured"
        return "; ".join(
            [
                *_over("KL", fidelity.kl.mean, self.kl, "the threshold"),
                *self._over_text(fidelity),
                *_under("agreement", fidelity.agreement.mean, self.agreement),
                *_under("facts kept", fidelity.kept, self.facts),
            ]
        )

    def _over_text(self, fidelity: Fidelity) -> list[str]:
        if (best := fidelity.best_text()) is None:
            return []
        named = f"{self.of_text:g} of what the text {best[0]} to as many tokens has"
        return _over("KL", fidelity.kl.mean, self.of_text * best[1].kl.mean, named)


def _over(what: str, value: float, most: float, named: str) -> list[str]:
    over = value - most
    return [f"{what} {value:.3f} is {over:.3f} over {most:.3f}, {named}"] if over > 0 else []


def _under(what: str, value: float, least: float) -> list[str]:
    if value >= least:
        return []
    return [f"{what} {value:.1%} is {least - value:.1%} under {least:.1%}, the threshold"]
