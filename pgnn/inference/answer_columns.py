"""Columns of the variables of an answer."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from torch import Tensor

from pgnn.evidence.unknown_variable import unknown_variable
from pgnn.factors.variable import Variable


class AnswerColumns:
    """Concatenated columns of variables: one for each element, or for each state.

    Args:
        variables: Discrete variables; an array's elements come in row-major order.
        of: What the columns belong to, for error messages.
        states: Whether each state of an element has a column.

    Example:
        >>> import torch
        >>> pixel = Variable("pixel", 2, shape=(2, 2))
        >>> columns = AnswerColumns([Variable("label", 3), pixel], "answer")
        >>> columns.cut(torch.tensor([[2, 0, 1, 1, 0]]), "pixel")
        tensor([[[0, 1],
                 [1, 0]]])
        >>> columns.cut(torch.tensor([[2, 0, 1, 1, 0]]), ("pixel", 1, 0))
        tensor([1])
    """

    def __init__(self, variables: Sequence[Variable], of: str, *, states: bool = False) -> None:
        self._of = of
        self._states = states
        self._first_columns: dict[Hashable, tuple[Variable, int]] = {}
        self.num_columns = 0
        self._sizes: list[int] = []
        for v in variables:
            self._first_columns[v.name] = (v, self.num_columns)
            self._sizes.append((v.num_elements if v.shape else 1) * self._width(v))
            self.num_columns += self._sizes[-1]
        self._shaped = [v for v in variables if v.shape or not states]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._first_columns)

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def find(self, name: object) -> tuple[Variable, int]:
        """Return a variable, or an element as a variable, and its first column.

        Raises:
            EvidenceError: If it has no columns (also a ``KeyError``).
        """
        place = self._find(name)
        if place is None:
            variables = [v for v, _ in self._first_columns.values()]
            raise unknown_variable(name, variables, f"variable of {self._of}")
        return place

    def cut(self, table: Tensor, name: object) -> Tensor:
        """Return ``(..., *shape)`` or ``(..., *shape, K)`` of one variable from ``(..., S)``."""
        v, first = self.find(name)
        if not v.shape and not self._states:
            return table[..., first]
        width = self._width(v)
        part = table[..., first : first + v.num_elements * width]
        if not v.shape:
            return part
        return part.reshape(*table.shape[:-1], *v.shape, *([width] if self._states else []))

    def views(self, table: Tensor) -> dict[Hashable, Tensor]:
        """Return :meth:`cut` of all variables, computed at once."""
        parts = dict(zip(self._first_columns, table.split_with_sizes(self._sizes, -1), strict=True))
        for v in self._shaped:
            parts[v.name] = self.cut(table, v.name)
        return parts

    def _find(self, name: object) -> tuple[Variable, int] | None:
        try:
            place = self._first_columns.get(name)
            if place is not None or not isinstance(name, tuple) or len(name) < 2:
                return place
            array, first = self._first_columns.get(name[0], (None, 0))
        except TypeError:  # not hashable
            return None
        if array is None or not array.has_element(name[1:]):
            return None
        return array.element(*name[1:]), first + array.position(name[1:]) * self._width(array)

    def _width(self, variable: Variable) -> int:
        return variable.num_states if self._states else 1
