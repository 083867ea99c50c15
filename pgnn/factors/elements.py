"""The elements of discrete variables: every cell of every array, numbered from zero."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgnn.errors import ModelError
from pgnn.factors.variable import Variable
from pgnn.limits import check_size

Ints = NDArray[np.int64]

_BYTES_OF_AN_ELEMENT = 32
"""What the arrays of numbers alone take."""


class Elements:
    """Numbers ``0 .. E-1`` for the elements of discrete variables, arrays in row-major order.

    A variable without a shape is one element of the same name. An element of an array ``"pixel"``
    is named by the tuple ``("pixel", row, column)``.

    Args:
        variables: Variables of a model, in order; real ones are left out.

    Attributes:
        variables: The discrete variables.
        first: Index of each variable's first element, by name.

    Raises:
        ModelError: If a variable's name is that of an element of an array.
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
        total = sum(v.num_elements for v in self.variables)
        check_size(f"a model of {total:,} elements", total, advice="Declare smaller arrays",
                   each=_BYTES_OF_AN_ELEMENT)  # fmt: skip
        starts = np.cumsum([0, *(v.num_elements for v in self.variables)])
        self._starts = starts.astype(np.int64)
        self._variable = {v.name: v for v in self.variables}
        self.first = dict(zip(self._variable, starts.tolist(), strict=False))
        for v in self.variables:
            if isinstance(v.name, tuple) and len(v.name) > 1 and self._array(v.name) is not None:
                raise ModelError(
                    f"{v.name!r} is an element of the array {v.name[0]!r}", "rename one"
                )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __contains__(self, name: object) -> bool:
        return self.find(name) is not None

    @cached_property
    def plain(self) -> bool:
        """Whether no variable is an array."""
        return not any(v.shape for v in self.variables)

    @cached_property
    def card(self) -> Ints:
        """``(E,)`` numbers of states."""
        counts = np.array([v.num_states for v in self.variables], dtype=np.int64)
        return np.repeat(counts, np.diff(self._starts))

    @cached_property
    def offset(self) -> Ints:
        """``(E + 1,)`` first column of each element where all states are concatenated."""
        return np.concatenate([[0], np.cumsum(self.card)]).astype(np.int64)

    @cached_property
    def singles(self) -> tuple[Variable, ...]:
        """All elements as single variables, which are those of factors that expand an array."""
        if self.plain:
            return self.variables
        return tuple(single for v in self.variables for single in v.elements())

    def find(self, name: object) -> tuple[Variable, Ints] | None:
        """Return a variable, or an element as a variable, with its indices; None if unknown."""
        try:
            v = self._variable.get(name)
        except TypeError:
            return None
        if v is not None:
            first = self.first[v.name]
            return v, np.arange(first, first + v.num_elements, dtype=np.int64).reshape(v.shape)
        array = self._array(name)
        if array is None or not isinstance(name, tuple):
            return None
        number = self.first[array.name] + array.position(name[1:])
        return array.element(*name[1:]), np.array(number)

    def numbers(self, name: Hashable) -> Ints:
        """Return the indices of a variable's elements, in its shape.

        Raises:
            KeyError: If there is no such variable or element.
        """
        element = self.find(name)
        if element is None:
            raise KeyError(name)
        return element[1]

    def name(self, number: int) -> Hashable:
        """Return the name of an element."""
        v = self.variables[int(self.owners(np.int64(number)))]
        if not v.shape:
            return v.name
        index = np.unravel_index(number - self.first[v.name], v.shape)
        return (v.name, *(int(i) for i in index))

    def owners(self, numbers: ArrayLike) -> Ints:
        """Return the indices in :attr:`variables` of the variables of some elements."""
        return np.asarray(np.searchsorted(self._starts, numbers, side="right") - 1)

    def _array(self, name: object) -> Variable | None:
        """The array of which a tuple names an element, if there is one."""
        if not isinstance(name, tuple) or len(name) < 2:
            return None
        try:
            array = self._variable.get(name[0])
        except TypeError:
            return None
        return array if array is not None and array.has_element(name[1:]) else None
