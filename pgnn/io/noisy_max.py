"""Noisy-max nodes of GeNIe and SMILE, expanded to tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import DataError
from pgnn.factors.conditionals.table_reader import ROW_TOLERANCE
from pgnn.io.description import parents_backward
from pgnn.io.network_assembly import NORMALISE, NetworkAssembly, Shape


class NoisyMaxReader:
    r"""Reads the parameters of a noisy-max node, and expands them to its table.

    There is a distribution of the child for each state of each parent, those of a parent in the
    order of its strengths, and at last that of the leak, as if it were the only cause. The child's
    states go from the strongest effect to none, and the child has the strongest one:

    .. math:: P(Y \ge y \mid x) = Q_0(Z \ge y) \prod_i Q_i(Z \ge y \mid x_i).

    Args:
        assembly: The assembly of the network.
        child: Name of the node.
        numbers: The distributions, one after the other.
        offset: Where they begin.
        strengths: For each parent the numbers of its states, as the distributions are ordered;
            in the order of the states if there are none.
        strengths_offset: Where these begin.

    References:
        Díez (1993), Parameter adjustment in Bayes networks: the generalized noisy-or gate.
    """

    def __init__(
        self,
        assembly: NetworkAssembly,
        child: str,
        numbers: str,
        offset: int,
        strengths: Sequence[str] = (),
        strengths_offset: int = 0,
    ) -> None:
        self.assembly = assembly
        self.child = child
        self.numbers = numbers
        self.offset = offset
        self.strengths = strengths
        self.strengths_offset = strengths_offset

    def __call__(self, shape: Shape) -> NDArray[np.float64]:
        """Return the table of a shape, parents in order and the child last.

        Raises:
            DataError: If there are too many or too few numbers, one is none, a distribution does
                not sum to one, or strengths are no order of states.
        """
        *sizes, size = shape
        rows = self._distributions(sum(sizes) + 1, size)
        at_most = np.cumsum(rows[:, ::-1], axis=-1)  # from no effect to the strongest
        leak, begins = at_most[-1], np.cumsum([0, *sizes])
        table = leak
        for order, begin in zip(self._orders(sizes), begins[:-1].tolist(), strict=True):
            of_parent = at_most[begin : begin + len(order)][np.argsort(order)]
            axes = (slice(None), *[None] * (table.ndim - 1), slice(None))
            table = of_parent[axes] * table  # the parents before are axes behind
        exactly = np.diff(parents_backward(table), axis=-1, prepend=0.0)
        return np.ascontiguousarray(exactly[..., ::-1])

    def _distributions(self, count: int, size: int) -> NDArray[np.float64]:
        rows = self.assembly.numbers(self.numbers, self.offset, (count, size), self.child)
        sums = rows.sum(axis=-1, keepdims=True)
        if self.assembly.normalise:
            wrong = ~((sums > 0) & np.isfinite(sums))
        else:
            wrong = np.abs(sums - 1) > ROW_TOLERANCE
        if wrong.any():
            row = int(wrong.argmax())
            advice = "" if self.assembly.normalise else NORMALISE
            raise self._error(
                self.offset,
                f"expected distribution {row + 1} of {count} of the noisy-max to sum to 1, got "
                f"{sums[row, 0]:.10g}",
                advice,
            )
        return np.asarray(rows / sums)

    def _orders(self, sizes: Sequence[int]) -> list[list[int]]:
        """States of each parent in the order of their distributions."""
        if not self.strengths:
            return [list(range(size)) for size in sizes]
        if len(self.strengths) != sum(sizes):
            raise self._error(
                self.strengths_offset,
                f"expected {sum(sizes)} strengths, got {len(self.strengths)}",
            )
        words = iter(self.strengths)
        return [self._order([*islice(words, size)]) for size in sizes]

    def _order(self, words: Sequence[str]) -> list[int]:
        if sorted(words) != sorted(map(str, range(len(words)))):
            raise self._error(
                self.strengths_offset,
                f"expected strengths of a parent to be an order of its {len(words)} states, got "
                f"{' '.join(words)[:60]!r}",
            )
        order = [int(word) for word in words]
        if [order[k] for k in order] != list(range(len(order))):
            # states by rank, or ranks by state: no document says which
            raise self._error(
                self.strengths_offset,
                f"the order of strengths {' '.join(words)!r} can be read in two ways; order the "
                "states of the parent by their strength in GeNIe",
            )
        return order

    def _error(self, offset: int, message: str, advice: str = "") -> DataError:
        return self.assembly.source.error(offset, f"node {self.child!r}: {message}", advice)
