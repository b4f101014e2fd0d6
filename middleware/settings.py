"""Settings of one purpose, as people give them: one value, or several by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tersely.errors import ConfigError, first_fault


class Settings(BaseModel):
    """Base of such settings: `called` so in errors, a bare value is that of the field `alone`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    called: ClassVar[str]
    alone: ClassVar[str]

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """From a bare value, or a mapping of the settings; None stays so. Raises ConfigError."""
        if value is None or isinstance(value, cls):
            return value
        given = value if isinstance(value, Mapping) else {cls.alone: value}
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError(f"{cls.called} {first_fault(error)}") from error
