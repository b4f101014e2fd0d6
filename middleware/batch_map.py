"""The work of a batch job as a callable, for those who bring the rows: datasets, Ray, Daft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersely.budget import Budget, BudgetLike
from tersely.errors import RequestError
from tersely.middleware.files import COLUMN
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.row_shapes import FormatName, format_of, steps
from tersely.middleware.rows import RowOptimizer, Treated, renewed


@dataclass(frozen=True, kw_only=True)
class MapRows:
    """Compresses the rows that a data library hands over, as `batch` would.

    Call it with a batch: columns by name, as `datasets.map(..., batched=True)` and Ray's
    `map_batches` give them, or a table of pyarrow (`batch_format="pyarrow"`, which keeps types).
    The same comes back with shorter texts and a column `tersely` with the account. `row` does so
    with one row (`datasets.map`, Ray's `map`, Daft), `texts` with a column of texts (Daft).

    It can be pickled; a model is loaded by the first call in each process. The settings are those
    of `BatchJob`. Where neither `format` nor `field` is named, the first row of each batch tells:
    name one where rows may differ. A row that can't be treated goes on unchanged, and its account
    tells why.
    """

    pipeline: Pipeline | str | Path = "default"
    budget: BudgetLike = None
    format: FormatName | None = None
    field: str | tuple[str, ...] | None = None
    question_field: str | None = None
    column: bool = True

    def __post_init__(self) -> None:
        """Raises ConfigError at once, not in another process."""
        made = pipeline_of(self.pipeline)
        untimed = made.budget.model_copy(update={"ms": None, "pace": None})  # as in a batch job
        made = made.but(budget=untimed if self.budget is None else Budget.of(self.budget))
        object.__setattr__(self, "pipeline", made)
        object.__setattr__(self, "budget", None)

    def __call__(self, batch: Any, /) -> Any:
        """A batch with shorter texts."""
        if not isinstance(batch, Mapping):
            return self._table(batch)
        rows = list(_rows(batch))
        made = [self._renewed(row, one) for row, one in zip(rows, self._all(rows), strict=True)]
        if not made:
            return dict(batch)
        touched = {name: [row[name] for row in made] for name in made[0]}
        pairs = list(zip(rows, made, strict=True))
        same = {name for name in batch if all(new[name] is old[name] for old, new in pairs)}
        return {name: batch[name] if name in same else values for name, values in touched.items()}

    def row(self, row: Mapping[str, Any], /) -> dict[str, Any]:
        """One row with shorter texts."""
        plain = {name: _plain(value) for name, value in row.items()}
        (treated,) = self._all([plain])
        return self._renewed(plain, treated)

    def texts(self, texts: Sequence[str | None], /) -> list[str | None]:
        """Texts, each shorter. What is None stays so."""
        rows = [{"text": text} for text in texts]
        optimizer = self._optimizer(rows, "text")
        made = zip(rows, optimizer.each(rows), strict=True)
        return [self._renewed(row, treated)["text"] for row, treated in made]

    def _table(self, table: Any) -> Any:
        from tersely.middleware.tables import edited

        rows = table.to_pylist()
        return edited(table, self._all(rows), column=self.column)

    def _all(self, rows: Sequence[Mapping[str, Any]]) -> list[Treated]:
        if not rows:
            return []
        optimizer = self._optimizer(rows, *self._fields)
        return list(optimizer.each(rows))

    @property
    def _fields(self) -> tuple[str, ...]:
        return (self.field,) if isinstance(self.field, str) else self.field or ()

    def _optimizer(self, rows: Sequence[Mapping[str, Any]], *fields: str) -> RowOptimizer:
        return RowOptimizer(
            pipeline=pipeline_of(self.pipeline),
            format=format_of(iter(rows), self.format, fields),
            question=steps(self.question_field) if self.question_field else (),
        )

    def _renewed(self, row: Mapping[str, Any], treated: Treated) -> dict[str, Any]:
        made = renewed(dict(row), treated.edits)
        told = {"reason": "", "decisions": [], **treated.account}
        return {**made, COLUMN: told} if self.column else dict(made)


def _rows(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of columns. Raises RequestError when these are not of one length."""
    columns = {name: _plain(values) for name, values in batch.items()}
    if any(not isinstance(values, list) for values in columns.values()):
        raise RequestError("a batch holds columns of values: for one row call `.row`")
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _plain(value: Any) -> Any:
    """A value without numpy in it, as adapters read it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return value
