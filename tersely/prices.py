"""What a model's tokens cost, read, cached and written, from a table that can be replaced."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tersely.errors import ConfigError, first_fault

TABLE = Path(__file__).with_name("prices.yaml")
"""The table that comes along, with its date and source."""


class Price(BaseModel):
    """What a model costs.

    `match` are patterns of its names, as for files. `input` and `output` are dollars for a million
    tokens; `read` and `write` tell how many times the input's price a token costs that the provider
    reads from its cache, or writes there. A prefix of fewer than `minimum` tokens is not cached,
    and one that was not used for `ttl` seconds no longer is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: tuple[str, ...] = ("*",)
    input: float = Field(default=1.0, ge=0)
    output: float = Field(default=4.0, ge=0)
    read: float = Field(default=0.1, gt=0, le=1)
    write: float = Field(default=1.0, ge=1)
    minimum: int = Field(default=1024, ge=0)
    ttl: float = Field(default=300.0, ge=0)


class Prices(BaseModel):
    """A table of prices; the first that matches a name counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: date
    source: str
    models: tuple[Price, ...]

    def of(self, model: str) -> Price | None:
        """What a model of that name costs; None when no pattern matches."""
        names = (model.lower(), model.lower().rpartition("/")[2])
        return next(
            (
                price
                for price in self.models
                for pattern in price.match
                if any(fnmatchcase(name, pattern.lower()) for name in names)
            ),
            None,
        )


UNKNOWN = Price()
"""What is taken for a model that no table knows: the terms that most providers share."""


def price_of(model: str, file: str = "") -> Price:
    """What a model costs: by the caller's own table where that knows it, then by ours.

    A model that is in neither costs what is usual (`UNKNOWN`). Raises ConfigError when the file
    can't be read, with the mend.
    """
    own = prices(file).of(model) if file else None
    return own or prices().of(model) or UNKNOWN


@cache
def prices(file: str = "") -> Prices:
    """A table of prices from a YAML or JSON file, or ours. Raises ConfigError."""
    path = Path(file) if file else TABLE
    try:
        read: Any = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML as well
        return Prices.model_validate(read)
    except OSError as error:
        raise ConfigError(f"can't read the prices {str(path)!r}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the prices {str(path)!r} are not YAML or JSON: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"the prices {str(path)!r}: {first_fault(error)}") from error
