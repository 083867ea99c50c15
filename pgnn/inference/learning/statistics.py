"""Sufficient statistics of complete discrete rows, accumulated batch by batch."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import DataError
from pgnn.evidence.coded_columns import CodedColumns
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.tabular import Tabular
from pgnn.factors.variable import Variable
from pgnn.inference.learning.term import Term
from pgnn.inference.learning.training_data import check_weights
from pgnn.inference.lookup_tables import LookupTables

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]


class Statistics:
    """Counts of all table entries, and of the distinct configurations of other conditionals.

    Args:
        variables: All variables of the model.
        tables: Conditionals with tables, counted entry by entry.
        others: Conditionals whose distinct rows are stored with their counts, since their tables
            may be too large.
    """

    def __init__(
        self,
        variables: Mapping[Hashable, Variable],
        tables: Mapping[Hashable, Tabular],
        others: Mapping[Hashable, Conditional],
    ) -> None:
        used = {v.name for c in [*tables.values(), *others.values()] for v in c.scope}
        self.variables = tuple(v for name, v in variables.items() if name in used)
        self._tables, self._others = tables, others
        self._lookup = LookupTables.of(self.variables, tables.values())
        self._flat: NDArray[Any] = np.zeros(self._lookup.start[-1], dtype=np.int64)
        index = {v.name: k for k, v in enumerate(self.variables)}
        self._columns = {n: [index[v.name] for v in c.scope] for n, c in others.items()}
        self._kept: dict[Hashable, tuple[Codes, Floats]] = {
            n: (np.empty((0, len(s)), dtype=np.int32), np.empty(0))
            for n, s in self._columns.items()
        }
        self.num_rows = 0
        self.weight = 0.0

    @property
    def counts(self) -> dict[Hashable, NDArray[Any]]:
        """Counts of each table, in its shape."""
        return dict(zip(self._tables, self._lookup.split(self._flat), strict=True))

    def term(self, name: Hashable) -> Term:
        """Return the term of another conditional, from its distinct rows and their counts."""
        rows, counts = self._kept[name]
        conditional = self._others[name]
        columns = torch.from_numpy(np.ascontiguousarray(rows[counts > 0].T)).long()
        device = next((p.device for p in conditional.parameters()), columns.device)
        values = {v.name: x.to(device) for v, x in zip(conditional.scope, columns, strict=True)}
        return Term(conditional, values, {}, torch.from_numpy(counts[counts > 0]).to(device))

    def log_likelihood(self, name: Hashable) -> float:
        """Return the log-likelihood of all rows under another conditional."""
        with torch.no_grad():
            return float(self.term(name).value())

    def add(self, table: CodedColumns, weights: Any = None) -> None:
        """Count the rows of a table.

        Args:
            table: Rows of :attr:`variables`.
            weights: ``(N,)`` weight of each row; one if not given.

        Raises:
            DataError: If a cell is missing or a weight is invalid; counts may then be incomplete.
        """
        weights = None if weights is None else check_weights(weights, table.num_rows)
        if weights is not None and self._flat.dtype != np.float64:
            self._flat = self._flat.astype(np.float64)
        for start, block in table.blocks():
            if block.min(initial=0) < 0:
                _refuse_missing(table)
            stop = start + block.shape[1]
            part = None if weights is None else weights[start:stop]
            if part is None and self._flat.dtype == np.float64:
                part = np.ones(stop - start)
            self._lookup.count(block.T, part, out=self._flat)
            for name, columns in self._columns.items():
                self._keep(name, block[columns].T, part)
        self.num_rows += table.num_rows
        self.weight += table.num_rows if weights is None else float(weights.sum())

    def __add__(self, other: Statistics) -> Statistics:
        """Return the counts of the rows of both."""
        both = copy.copy(self)
        both._flat, both._kept = self._flat + other._flat, dict(self._kept)
        for name, (rows, counts) in other._kept.items():
            both._keep(name, rows, counts)
        both.num_rows += other.num_rows
        both.weight += other.weight
        return both

    def check(self) -> None:
        """Check that there are counts.

        Raises:
            DataError: If there were no rows, or only weights of zero.
        """
        if not self.num_rows:
            raise DataError(
                "data has no rows: the iterable has no batches (was it already consumed?)"
            )
        if not self.weight > 0:
            raise DataError("the weights of all rows are zero")

    def _keep(self, name: Hashable, rows: Codes, weights: Floats | None) -> None:
        """Merge a block into the distinct rows observed so far."""
        before, counts = self._kept[name]
        weights = np.ones(len(rows)) if weights is None else weights
        rows, index = np.unique(np.concatenate([before, rows]), axis=0, return_inverse=True)
        total: Floats = np.zeros(len(rows))
        np.add.at(total, index.ravel(), np.concatenate([counts, weights]))
        self._kept[name] = (rows, total)


def _refuse_missing(table: CodedColumns) -> None:
    """Raise an error that names the missing cells."""
    counts = np.zeros(len(table.variables), dtype=np.int64)
    first: dict[int, int] = {}
    for start, block in table.blocks():
        missing = block < 0
        counts += missing.sum(axis=1)
        for k in np.flatnonzero(missing.any(axis=1)).tolist():
            first.setdefault(k, start + int(missing[k].argmax()))
    columns = sorted(first, key=lambda k: -counts[k])
    shown = ", ".join(
        f"{table.variables[k].name!r} in {counts[k]} of {table.num_rows} rows (first row "
        f"{first[k]})"
        for k in columns[:5]
    )
    more = f" and {len(columns) - 5} more columns" if len(columns) > 5 else ""
    raise DataError(
        f"cells are missing: column {shown}{more}. Maximum likelihood needs complete rows",
        "learn with EM() or Gradient(), which sum out missing values, or drop or fill those "
        "rows yourself",
    )
