"""Which transitions there are in a chain that has few of all pairs of states."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Adjacency(NamedTuple):
    """Transitions side by side that have an end in common."""

    begins: Ints
    """``(S + 1,)`` where those of each state begin."""
    others: Ints
    """``(E,)`` the states at the other ends."""
    order: Ints
    """``(E,)`` the number of each transition."""


class ChainEdges:
    """The transitions of a chain, listed, and what its states show.

    States of a label, of which there may be several, share its scores; a row begins in at most one
    state of each label.

    Args:
        labels: ``(S,)`` label of each state, in ascending order.
        first: ``(K,)`` state after a first label, -1 where it may not be the first.
        may_end: ``(S,)`` whether a row may end.
        sources: ``(E,)`` where each transition comes from.
        targets: ``(E,)`` where it leads to.

    Example:
        >>> here, there = np.array([0, 0, 1]), np.array([0, 1, 1])
        >>> edges = ChainEdges(np.arange(2), np.arange(2), np.ones(2, dtype=bool), here, there)
        >>> edges.incoming.others.tolist()
        [0, 0, 1]
    """

    def __init__(
        self, labels: Ints, first: Ints, may_end: Mask, sources: Ints, targets: Ints
    ) -> None:
        self.labels, self.first, self.may_end = labels, first, may_end
        self.sources, self.targets = sources, targets

    def __len__(self) -> int:
        """Number ``E`` of transitions."""
        return len(self.sources)

    @property
    def num_states(self) -> int:
        """Number ``S``."""
        return len(self.labels)

    @property
    def num_labels(self) -> int:
        """Number ``K``."""
        return len(self.first)

    @cached_property
    def spans(self) -> Ints:
        """``(K + 1,)`` where the states of each label begin."""
        return np.searchsorted(self.labels, np.arange(self.num_labels + 1)).astype(np.int64)

    @cached_property
    def incoming(self) -> Adjacency:
        """The transitions into each state, in the order of their sources."""
        return self._sorted(self.targets, self.sources)

    @cached_property
    def outgoing(self) -> Adjacency:
        """The transitions out of each state, in the order of their targets."""
        return self._sorted(self.sources, self.targets)

    def _sorted(self, ends: Ints, others: Ints) -> Adjacency:
        order = np.lexsort((others, ends))
        begins = np.searchsorted(ends[order], np.arange(self.num_states + 1))
        return Adjacency(_int64(begins), _int64(others[order]), order)


def _int64(numbers: Any) -> Ints:
    return np.ascontiguousarray(numbers, dtype=np.int64)
