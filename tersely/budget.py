"""How much a prompt may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tersely.errors import ConfigError, first_fault
from tersely.prompt import Kind

CHARACTERS = 4
"""Of these a token has about so many."""


class Budget(BaseModel):
    """A ceiling for a prompt.

    `tokens` bounds the whole prompt as the target model counts it. `ratio` is the share of
    the text that *may* change which is kept, so that a locked half does not make it
    impossible; `shares` are such ratios for single kinds and go before `ratio`. `ms` is the
    time that compressing may take; a prompt for whose tokens `pace`, in microseconds a token,
    comes to more may take that. When several of the others are given, the tightest holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int | None = None
    ratio: float | None = None
    shares: Mapping[Kind, float] = {}
    ms: float | None = None
    pace: float | None = None

    @field_validator("tokens", "ms", "pace")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and value <= 0:
            raise ValueError(f"must be above 0, was {value}")
        return value

    @field_validator("ratio")
    @classmethod
    def _a_ratio(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"must be above 0 and at most 1, was {value}")
        return value

    @field_validator("shares")
    @classmethod
    def _ratios(cls, value: Mapping[Kind, float]) -> Mapping[Kind, float]:
        for kind, share in value.items():
            if not 0 < share <= 1:
                raise ValueError(f"{kind} must be above 0 and at most 1, was {share}")
        return value

    def timed(self, characters: int) -> Self:
        """The budget of a prompt of so many characters: its time settled, no pace any more.

        Tokens are reckoned by the characters of usual text: counting them would take time.
        """
        if self.ms is None or self.pace is None:
            return self
        by_size = self.pace * characters / CHARACTERS / 1000
        return self.model_copy(update={"ms": max(self.ms, by_size), "pace": None})

    @classmethod
    def of(cls, value: BudgetLike) -> Self:
        """Read a budget as people write it.

        `1500` and `"1500"` are tokens, `0.5`, `"0.5"` and `"50%"` a ratio; a mapping holds
        the fields by name. Raises ConfigError with the value when it can't be read.
        """
        try:
            match value:
                case None:
                    return cls()
                case Budget():
                    return cls.model_validate(value.model_dump())
                case Mapping():
                    return cls.model_validate(dict(value))
                case bool():
                    raise ConfigError(f"a budget is a number, was {value!r}")
                case int():
                    return cls(tokens=value)
                case float():
                    return cls(ratio=value)
                case str():
                    return cls._read(value)
        except ValidationError as error:
            raise ConfigError(f"budget {first_fault(error)}") from error
        raise ConfigError(f"a budget is a number, a mapping or a Budget, was {value!r}")

    @classmethod
    def _read(cls, text: str) -> Self:
        try:
            return cls.of(_number(text))
        except ConfigError as error:
            raise ConfigError(f"{error} in {text!r}") from error


BudgetLike = Budget | Mapping[str, Any] | int | float | str | None
"""What `Budget.of` reads."""


def _number(text: str) -> int | float:
    bare = text.strip()
    try:
        if bare.endswith("%"):
            return float(bare.removesuffix("%")) / 100
        return int(bare) if bare.lstrip("+-").isdecimal() else float(bare)
    except ValueError as error:
        raise ConfigError("a budget is tokens, a ratio or a percentage") from error
