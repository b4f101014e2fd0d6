"""The second gate: whether this engine is faster at points side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tersely.artefact import settings_key
from tersely.errors import ModelError, first_fault
from tersely.models import home


@dataclass(frozen=True, slots=True)
class Roads:
    """Seconds of both ways to the same answer."""

    plain: float
    sot: float

    @property
    def gain(self) -> float:
        """How many times as long the plain way takes."""
        return self.plain / max(self.sot, 1e-9)


class Profile(BaseModel):
    """What was measured of an engine, and what follows from it.

    `steps` are seconds for one token in each of so many branches at once; `prefill` is seconds for
    a token of a prompt, `fixed` what any call takes besides. `shared` is how much of a prompt's
    beginning, of those that several calls have in common, is not read again when they come at the
    same time: 0 to 1. `fault` tells what went wrong when several were asked at once: then the
    engine is not asked so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str
    model: str
    steps: Mapping[int, float]
    prefill: float = Field(ge=0)
    fixed: float = Field(default=0.0, ge=0)
    shared: float = Field(default=0.0, ge=0, le=1)
    fault: str = ""

    @field_validator("steps")
    @classmethod
    def _measured(cls, steps: Mapping[int, float]) -> Mapping[int, float]:
        if 1 not in steps or min(steps) < 1 or min(steps.values()) <= 0:
            raise ValueError("must tell seconds above 0 for 1 branch, and for more if measured")
        return dict(sorted(steps.items()))

    def step(self, branches: int) -> float:
        """Seconds for one token in each of so many branches, between and beyond those measured.

        Beyond the last it grows as it did before, and where only one branch was measured it is
        taken to grow with their number.
        """
        known = list(self.steps.items())
        if len(known) == 1:
            return known[0][1] * branches
        above = [i for i, (count, _) in enumerate(known) if count >= branches]
        right = max(above[0] if above else len(known) - 1, 1)
        (low, before), (high, after) = known[right - 1], known[right]
        slope = (after - before) / (high - low)
        if branches > high:
            slope = max(slope, 0.0)
        return before + slope * (branches - low)

    def predicted(
        self,
        points: int,
        tokens_a_point: float,
        skeleton_tokens: float,
        prompt_tokens: float,
        shared_tokens: float,
    ) -> Roads:
        """Seconds of one plain answer, and of a skeleton with points of so many tokens.

        `prompt_tokens` is the prompt of one point, `shared_tokens` the beginning of it that all
        have in common, which the skeleton's prompt is about as long as. The plain answer is as long
        as all points together. What the longest point has beyond the others is not known: give
        its length where points are uneven.
        """
        plain = self.fixed + points * tokens_a_point * self.step(1)
        skeleton = shared_tokens * self.prefill + skeleton_tokens * self.step(1)
        spared = self.shared * (points - 1) * min(shared_tokens, prompt_tokens)
        read = (points * prompt_tokens - spared) * self.prefill
        written = tokens_a_point * self.step(points)
        return Roads(plain, 2 * self.fixed + skeleton + read + written)

    def pays(
        self,
        points: int,
        tokens_a_point: float,
        skeleton_tokens: float,
        prompt_tokens: float,
        shared_tokens: float,
        *,
        least: float = 1.1,
    ) -> bool:
        """Whether a skeleton with points is `least` times as fast as the plain answer, or more.

        Never on an engine that failed when it was asked several things at once.
        """
        if self.fault or points < 2:
            return False
        job = (points, tokens_a_point, skeleton_tokens, prompt_tokens, shared_tokens)
        return self.predicted(*job).gain >= least

    def reason(
        self,
        points: int,
        tokens_a_point: float,
        skeleton_tokens: float,
        prompt_tokens: float,
        shared_tokens: float,
    ) -> str:
        """What is to be told of the choice, in a sentence."""
        if self.fault:
            return f"the engine fails when asked several things at once: {self.fault}"
        job = (points, tokens_a_point, skeleton_tokens, prompt_tokens, shared_tokens)
        roads = self.predicted(*job)
        return (
            f"{points} points of {tokens_a_point:g} tokens: {roads.sot:.2f} s side by side,"
            f" {roads.plain:.2f} s in one piece (x{roads.gain:.2f})"
        )

    def ceiling(self, points: int, tokens_a_point: float, skeleton_tokens: float) -> float:
        """The gain that decoding alone allows: reading prompts would cost nothing."""
        written = skeleton_tokens * self.step(1) + tokens_a_point * self.step(points)
        return points * tokens_a_point * self.step(1) / written

    def save(self) -> Path:
        """Keep it for this endpoint and model, whole or not at all; returns where."""
        path = place(self.endpoint, self.model)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
        return path


def place(endpoint: str, model: str) -> Path:
    """Where the profile of an endpoint's model is kept."""
    return home() / "profiles" / f"{settings_key(endpoint, model)}.json"


def stored(endpoint: str, model: str) -> Profile | None:
    """The profile that was kept, if one was. Raises ModelError when it is damaged."""
    path = place(endpoint, model)
    try:
        return Profile.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ModelError(f"{path} is damaged: {first_fault(error)}; remove it") from error
