"""The transitions of a sparse chain, in which few pairs of states have a transition."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Adjacency(NamedTuple):
    """Transitions grouped by one of their two states."""

    begins: Ints
    """``(S + 1,)`` offset of the transitions of each state."""
    others: Ints
    """``(E,)`` the other state of each transition."""
    order: Ints
    """``(E,)`` the number of each transition."""


class ChainEdges:
    """The list of transitions of a sparse chain, and the labels of its states.

    Several states may have the same label; they share its scores. A row begins in at most one state
    of each label.

    Args:
        labels: ``(S,)`` label of each state, in ascending order.
        first: ``(K,)`` state in which a row begins with a label, -1 if no row may.
        may_end: ``(S,)`` whether a row may end in the state.
        sources: ``(E,)`` source state of each transition.
        targets: ``(E,)`` target state of each transition.

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
        """Number ``S`` of states."""
        return len(self.labels)

    @property
    def num_labels(self) -> int:
        """Number ``K`` of labels."""
        return len(self.first)

    @cached_property
    def spans(self) -> Ints:
        """``(K + 1,)`` offset of the states of each label."""
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
