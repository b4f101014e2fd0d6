"""
Our errors, all below one root:

* TerselyError
  x ConfigError (also ValueError)        a setting, or a combination of settings, that cannot work
    x UnknownName (also KeyError)        no stage, recipe or model of that name; tells the nearest
  x MissingExtra (also ImportError)      an optional package is not installed; tells the command
  x RequestError (also ValueError)       a request that cannot be read
  x BudgetError                          `strict` was asked for and the budget cannot be met
  x StageError                           a stage failed; names the stage
    x OutOfTime (also TimeoutError)      a stage ran into the time budget
  x ModelError (also OSError)            weights or tokenizer can't be had or are damaged
  x StoreError (also OSError)            a store of texts can't be opened, or is damaged
  x WriteError (also OSError)            what a job makes can't be written, as on a full disk
  x BackendError                         a backend failed; `retryable` says whether again may help
    x ContextLengthError (also ValueError)  the request is longer than the model can read
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class TerselyError(Exception):
    """Base of all errors raised here."""


class ConfigError(TerselyError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class UnknownName(ConfigError, KeyError):
    """No stage, recipe or model has that name; the message tells the nearest ones."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=3, cutoff=0.4) or names[:5]
        super().__init__(f"no {what} named {name!r}; nearest: {', '.join(near) or 'none known'}")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would quote it


class MissingExtra(TerselyError, ImportError):
    """An optional package is not installed; the message is the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is needed here: pip install 'tersely[{extra}]'")


def require(*packages: str, extra: str) -> None:
    """Raise MissingExtra unless all packages are installed. Nothing is imported."""
    for package in packages:
        if missing(package):
            raise MissingExtra(package, extra)


def missing(package: str) -> bool:
    """Whether an optional package is not installed. Nothing is imported."""
    return find_spec(package) is None


class RequestError(TerselyError, ValueError):
    """A request that cannot be read."""


class BudgetError(TerselyError):
    """The budget cannot be met and `strict` was asked for."""


class StageError(TerselyError):
    """A stage failed; the message names it."""


class OutOfTime(StageError, TimeoutError):
    """A stage ran into the time budget."""


class ModelError(TerselyError, OSError):
    """Weights or a tokenizer can't be had, or are damaged."""


class StoreError(TerselyError, OSError):
    """A store of texts can't be opened, or is damaged."""


class WriteError(TerselyError, OSError):
    """What a job makes can't be written, as on a full disk; the message tells how to go on."""


class BackendError(TerselyError):
    """A backend failed; `retryable` says whether asking again may help."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class ContextLengthError(BackendError, ValueError):
    """The request and its answer are longer than the model can read."""


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, as one line with the value."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{field}: {said} (given: {first['input']!r})"
