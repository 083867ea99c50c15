"""The elements of discrete variables: every cell of every array, numbered from zero."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Unsupported
from pgnn.factors.variable import Variable

Ints = NDArray[np.int64]


class Elements:
    """Numbers ``0 .. E-1`` for the elements of discrete variables, arrays in row-major order.

    A variable without a shape is one element of its own name. An element of an array ``"pixel"``
    goes by the tuple ``("pixel", row, column)``.

    Args:
        variables: Variables of a model, in order; real ones are left out.

    Raises:
        Unsupported: If an axis of an array has a name instead of a length.

    Example:
        >>> elements = Elements([Variable("label", 10), Variable("pixel", 2, shape=(2, 3))])
        >>> len(elements), elements.numbers("pixel").tolist()
        (7, [[1, 2, 3], [4, 5, 6]])
        >>> elements.numbers(("pixel", 1, 0)).tolist(), elements.name(4)
        (4, ('pixel', 1, 0))
    """

    def __init__(self, variables: Iterable[Variable]) -> None:
        self.variables = tuple(v for v in variables if v.is_discrete)
        sizes = [_size(v) for v in self.variables]
        starts = np.cumsum([0, *sizes]).tolist()
        self._first = {v.name: a for v, a in zip(self.variables, starts, strict=False)}
        self._variable = {v.name: v for v in self.variables}
        self._starts = np.array(starts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __contains__(self, name: object) -> bool:
        return self.find(name) is not None

    @property
    def plain(self) -> bool:
        """Whether no variable is an array."""
        return len(self) == len(self.variables)

    @cached_property
    def card(self) -> Ints:
        """``(E,)`` state counts."""
        counts = np.array([v.num_states for v in self.variables], dtype=np.int64)
        return np.repeat(counts, np.diff(self._starts))

    @cached_property
    def offset(self) -> Ints:
        """``(E + 1,)`` first column of each element where all states stand side by side."""
        return np.concatenate([[0], np.cumsum(self.card)]).astype(np.int64)

    @cached_property
    def singles(self) -> tuple[Variable, ...]:
        """Every element as a variable of its own: what factors that expand an array are over."""
        if self.plain:
            return self.variables
        return tuple(
            v.element(*index) if v.shape else v
            for v in self.variables
            for index in np.ndindex(v.shape)
        )

    def find(self, name: object) -> tuple[Variable, Ints] | None:
        """Return a variable, or an element as a variable, with its numbers; None if unknown."""
        try:
            v = self._variable.get(name)
        except TypeError:
            return None
        if v is not None:
            first = self._first[v.name]
            return v, np.arange(first, first + _size(v), dtype=np.int64).reshape(v.shape)
        if isinstance(name, tuple) and len(name) > 1:
            array = self._variable.get(name[0])
            if array is not None and _is_index(name[1:], array.shape):
                place = np.ravel_multi_index(name[1:], array.shape)
                return array.element(*name[1:]), np.array(self._first[array.name] + int(place))
        return None

    def numbers(self, name: Hashable) -> Ints:
        """Return the numbers of a variable's elements, in its shape.

        Raises:
            KeyError: If there is no such variable or element.
        """
        found = self.find(name)
        if found is None:
            raise KeyError(name)
        return found[1]

    def name(self, number: int) -> Hashable:
        """Return the name of an element."""
        k = int(np.searchsorted(self._starts, number, side="right")) - 1
        v = self.variables[k]
        if not v.shape:
            return v.name
        index = np.unravel_index(number - int(self._starts[k]), v.shape)
        return (v.name, *(int(i) for i in index))


def _size(variable: Variable) -> int:
    if not all(isinstance(n, int) for n in variable.shape):
        raise Unsupported(
            f"{variable.name!r} has the shape {variable.shape}, whose length only data knows; "
            "this model needs a fixed shape"
        )
    return math.prod(variable.shape)


def _is_index(index: Sequence[object], shape: Sequence[int]) -> bool:
    return len(index) == len(shape) and all(
        isinstance(i, int | np.integer) and 0 <= i < n for i, n in zip(index, shape, strict=True)
    )
