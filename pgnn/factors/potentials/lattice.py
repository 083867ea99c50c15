"""Neighbourhoods of the cells of an array."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import ModelError
from pgnn.factors.piece import Restorable
from pgnn.limits import check_settings, check_size

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Lattice(Restorable):
    """The cells of an array, each joined to the next one along every axis.

    Args:
        periodic: Whether the last cell of an axis is joined to the first one: one answer for all
            axes, or one for each. Axes of fewer than three cells do not wrap, so that no two cells
            are joined twice.
        diagonals: Whether cells that differ by one along several axes at once are joined too: in
            the plane, eight neighbours instead of four.

    Example:
        >>> Lattice().edges((2, 3))[0].tolist()
        [[0, 3], [1, 4], [2, 5], [0, 1], [1, 2], [3, 4], [4, 5]]
        >>> Lattice(periodic=True).edges((4,))[0].tolist()
        [[0, 1], [1, 2], [2, 3], [3, 0]]
    """

    periodic: bool | tuple[bool, ...] = False
    diagonals: bool = False

    def __post_init__(self) -> None:
        check_settings(self)
        periodic = self.periodic if isinstance(self.periodic, tuple) else (self.periodic,)
        if not all(isinstance(p, bool) for p in periodic):
            raise ModelError(f"periodic must be True, False, or one for each axis, got {periodic}")

    def directions(self, num_axes: int) -> tuple[tuple[int, ...], ...]:
        """Return the steps to neighbours: along each axis in order, then the diagonal ones."""
        straight = [tuple(int(a == b) for b in range(num_axes)) for a in range(num_axes)]
        return (*straight, *(_diagonal_steps(num_axes) if self.diagonals else ()))

    def edges(self, shape: Sequence[int]) -> tuple[Ints, Ints]:
        """Return the pairs of neighbours and the direction of each.

        Args:
            shape: Shape of the array, any number of axes.

        Returns:
            ``(M, 2)`` indices of cells in row-major order, one direction after the other, and
            ``(M,)`` indices into :meth:`directions`.

        Raises:
            ModelError: If ``periodic`` has not one entry for each axis.
        """
        wraps = self._wraps(shape)
        pairs = math.prod(shape) * len(self.directions(len(shape)))
        check_size(f"{pairs:,} pairs of neighbours", 2 * pairs, advice="Declare a smaller array")
        cells = np.arange(math.prod(shape), dtype=np.int64).reshape(tuple(shape))
        each = [_pairs(cells, step, wraps) for step in self.directions(len(shape))]
        numbers = np.repeat(np.arange(len(each), dtype=np.int64), [len(p) for p in each])
        return np.concatenate([np.zeros((0, 2), dtype=np.int64), *each]), numbers

    def _wraps(self, shape: Sequence[int]) -> list[bool]:
        periodic = (
            self.periodic if isinstance(self.periodic, tuple) else [self.periodic] * len(shape)
        )
        if len(periodic) != len(shape):
            raise ModelError(
                f"periodic={self.periodic} needs one entry for each axis of the shape {shape}"
            )
        return [wrap and n > 2 for wrap, n in zip(periodic, shape, strict=True)]


def _diagonal_steps(num_axes: int) -> Iterator[tuple[int, ...]]:
    """Steps along several axes, without the reverse of each."""
    for step in itertools.product((1, 0, -1), repeat=num_axes):
        first = next((s for s in step if s), 0)
        if first == 1 and sum(map(abs, step)) > 1:
            yield step


def _pairs(cells: Ints, step: Sequence[int], wraps: Sequence[bool]) -> Ints:
    beyond = np.roll(cells, [-s for s in step], axis=tuple(range(cells.ndim)))
    window = tuple(
        slice(None) if s == 0 or wrap else (slice(0, -1) if s > 0 else slice(1, None))
        for s, wrap in zip(step, wraps, strict=True)
    )
    return np.stack([cells[window].ravel(), beyond[window].ravel()], axis=1)
