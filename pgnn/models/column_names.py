"""Models of an array with named columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from pgnn.abilities import Inputs, VectorModel
from pgnn.errors import DataError, EvidenceError
from pgnn.evidence.cell_names import CellNames
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.partitioned_frame import is_partitioned
from pgnn.models.learning_verbs import LearningVerbs


class ColumnNames(LearningVerbs, VectorModel):
    """A model whose rows may be a data frame with a column for each component of its array.

    The column names of the first fit are stored, so that later frames may have another order;
    without names columns are used in their order.
    """

    _column_names: tuple[Hashable, ...] = ()

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """Names of the components of the array; empty if they have none."""
        return self._column_names

    def name_columns(self, names: tuple[Hashable, ...]) -> None:
        """Set or remove the names of the components."""
        self._column_names = tuple(names)
        self._cache.clear()

    @property
    def _row_shape(self) -> tuple[int, ...]:
        """See the base class."""
        return () if self.vector is None else self.variables[self.vector].shape

    def _names_a_variable(self, name: Hashable) -> bool:
        return name in self.variables or self.elements.find(name) is not None

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See the base class; frame columns that are not variables are components of the vector."""
        before, rows = self._column_names, data
        if is_frame(data) and not is_partitioned(data) and self.vector is not None:
            try:
                columns = dict(columns_of(data))
            except EvidenceError as error:
                raise DataError(error.reason, error.advice) from None
            counts = {n: columns.pop(n) for n in [*columns] if isinstance(weights, str)
                      and n == weights and n not in self.variables}  # fmt: skip
            array = self.variables[self.vector]
            cells = CellNames(array).among(columns, self._names_a_variable)
            if CellNames(array).are_all(cells):
                self.name_columns((*cells,))
                matrix = CellNames(array).rows(cells)
                others = {n: x for n, x in columns.items() if n not in cells}
                rows = data if matrix is None else {array.name: matrix, **others, **counts}
        try:
            with super()._declared_by(rows, weights, inputs) as declared:
                yield declared
        except BaseException:
            if self._column_names != before:
                self.name_columns(before)
            raise
