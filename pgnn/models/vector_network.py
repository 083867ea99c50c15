"""Networks with a vector, whose size and element names may be derived from data."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from pgnn.abilities import Inputs, VectorModel
from pgnn.errors import DataError, EvidenceError, ModelError
from pgnn.evidence.frames import columns_of, is_frame
from pgnn.evidence.reading import floats_of
from pgnn.factors.variable import Variable
from pgnn.limits import whole_number
from pgnn.models.bayesian_network import BayesianNetwork

Features = int | Iterable[Hashable] | None
"""Number or names of the elements of a vector; None if derived from data."""


class VectorNetwork(BayesianNetwork, VectorModel):
    """A network with a vector, whose rows are a matrix or columns named after its elements.

    A subclass calls :meth:`declare_vector` before the constructor of :class:`BayesianNetwork`.
    """

    allows_numbers = False
    """Whether rows may be scalars, of shape ``()``."""
    _vector: Hashable
    _column_names: tuple[Hashable, ...] = ()

    def declare_vector(self, name: Hashable, features: Features) -> dict[Hashable, Variable]:
        """Declare the name and the known features of the vector.

        Args:
            name: Name of the vector.
            features: Number or names of its elements; None if :meth:`fit` derives them.

        Returns:
            The vector by its name, if its features are known.

        Raises:
            ModelError: If a name is duplicated, or equals that of the vector.
        """
        self._vector = name
        if features is None:
            return {}
        if not isinstance(features, Iterable) or isinstance(features, str):
            size = whole_number("features", features, 1, ModelError)
            return {name: Variable(name, None, (size,))}
        columns = tuple(features)
        self._name_columns(columns)
        return {name: Variable(name, None, (len(columns),))}

    def _name_columns(self, columns: tuple[Hashable, ...]) -> None:
        twice = (
            [n for n in columns if columns.count(n) > 1] if len({*columns}) < len(columns) else []
        )
        if not columns or twice or self._vector in columns:
            what = f"{twice[0]!r} is duplicated" if twice else "one is needed, with another name"
            raise ModelError(f"names of the elements of {self._vector!r}: {what}; got {columns}")
        self._column_names = columns

    @property
    def vector(self) -> Hashable:
        """Name of the vector."""
        return self._vector

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """Names of its elements; empty if they have none."""
        return self._column_names

    @property
    def _layout(self) -> Any:
        """Names or number of the elements of the vector, if known."""
        if self._column_names:
            return self._column_names
        return None if self._undeclared is not None else self.variables[self._vector].num_elements

    @contextmanager
    def _declared_by(
        self, data: Any, weights: Any, inputs: Inputs | None
    ) -> Iterator[tuple[Any, Inputs | None]]:
        """See :class:`BayesianNetwork`.

        Rows are a matrix ``(N, D)``, a data frame or mapping whose columns are the elements of the
        vector, or a mapping from the vector's name to a matrix. ``NaN`` is missing.
        """
        before = self._column_names
        rows = data if self._undeclared is None else self._gathered(data, weights)
        try:
            with super()._declared_by(rows, weights, inputs) as declared:
                yield declared
        except BaseException:
            self._column_names = before
            raise

    def _gathered(self, data: Any, weights: Any) -> Any:
        """Return the columns that are not declared yet as one matrix."""
        if isinstance(data, list | tuple) and not any(isinstance(row, Mapping) for row in data):
            try:
                data = floats_of(data)
            except (TypeError, ValueError, EvidenceError):
                raise DataError("rows must be numbers, the same number in each row") from None
        if isinstance(data, np.ndarray | Tensor):
            if data.ndim != 2 and not (self.allows_numbers and data.ndim == 1):
                raise DataError(f"rows must be a matrix (N, D), got shape {tuple(data.shape)}")
            return {self._vector: data}
        if not is_frame(data) and not isinstance(data, Mapping):
            return data
        columns = columns_of(data)
        if self._vector in columns:
            return data
        known = {n for n in self.graph if n != self._vector}
        known |= {weights} if isinstance(weights, str) else set()
        missing = tuple(n for n in columns if n not in known)
        self._name_columns(missing)
        return {
            **{n: x for n, x in columns.items() if n in known},
            self._vector: _matrix(columns, missing),
        }

    def _variables_from(self, columns: Mapping[Hashable, Any]) -> Mapping[Hashable, Variable]:
        """Return the variables of columns, including the shape of the vector."""
        rest = {n: x for n, x in columns.items() if n != self._vector}
        declared = dict(super()._variables_from(rest)) if rest else {}
        if self._vector in columns:
            shape = np.shape(columns[self._vector])
            if self.allows_numbers and len(shape) == 1:
                return {**declared, self._vector: Variable(self._vector)}
            if len(shape) != 2 or not shape[1]:
                raise DataError(
                    f"{self._vector!r} must be a matrix (N, D), got shape {tuple(shape)}"
                )
            declared[self._vector] = Variable(self._vector, None, (int(shape[1]),))
        return declared


def _matrix(columns: Mapping[Hashable, Any], names: tuple[Hashable, ...]) -> np.ndarray:
    """Return columns of numbers as a matrix."""
    numbers = []
    for name in names:
        try:
            numbers.append(floats_of(columns[name]))
        except (TypeError, ValueError, EvidenceError):
            raise DataError(
                f"column {name!r} must be numeric",
                "leave it out, or declare a network in which it has states",
            ) from None
    if len({x.shape for x in numbers}) > 1 or numbers[0].ndim != 1:
        raise DataError(f"columns must have one number for each row, got {[*names]}")
    return np.stack(numbers, axis=1)
