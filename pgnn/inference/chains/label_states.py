"""States of a chain that remember more than the last label: earlier ones, an automaton's state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.limits import check_size

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_State = tuple[int, tuple[int, ...]]

MAX_TABLE = 2**28
"""Most bytes of a table of all pairs of states."""


class LabelMoves(NamedTuple):
    """A deterministic automaton over ``K`` labels.

    Attributes:
        after: ``(Q, K)`` state after a label, -1 where it may not come.
        start: State before the first label.
        may_end: ``(Q,)`` states in which a sequence may end.
    """

    after: Ints
    start: int
    may_end: Mask


class LabelStates:
    r"""What a chain must know to say which label may follow, and what it scores.

    A state is the last ``order`` labels, fewer at the beginning, and the state of an automaton if
    there is one. Only states that can be reached are kept. A label leads from a state to one
    state, so that sequences of labels and paths of states are one to one.

    Args:
        allowed: ``(K, K)`` which label may follow which.
        order: How many labels are remembered.
        automaton: Says besides which sequences there are.

    Attributes:
        labels: ``(S,)`` last label of each state, in ascending order.
        histories: ``(S, order)`` last labels, the last one last, -1 before the first.
        first: ``(K,)`` state after a first label, -1 where it may not be the first.
        after: ``(S, K)`` state after one label more, -1 where it may not come.
        may_end: ``(S,)`` whether a sequence may end.

    Raises:
        ModelError: If no label may be the first.
        Intractable: If a table of all pairs of states would be too large.

    Example:
        >>> states = LabelStates(np.ones((2, 2), dtype=bool), order=2)
        >>> states.histories.tolist()
        [[-1, 0], [0, 0], [1, 0], [-1, 1], [0, 1], [1, 1]]
        >>> states.paths(torch.tensor([[0, 1, 1]]))
        tensor([[0, 4, 5]])
    """

    def __init__(self, allowed: Mask, order: int = 1, automaton: LabelMoves | None = None) -> None:
        k = len(allowed)
        moves = automaton or LabelMoves(np.zeros((1, k), np.int64), 0, np.ones(1, dtype=bool))
        reached = _reached(allowed, order, moves)
        if not reached:
            raise ModelError("the mask forbids every label at the first step")
        # of paths of equal score those with the smallest last labels come first, as in all chains
        states = sorted(reached, key=lambda s: (s[1][::-1], s[0]))
        number = {s: i for i, s in enumerate(states)}
        self.num_labels, self.order = k, order
        self.labels = np.array([history[-1] for _, history in states])
        self.histories = np.array([(-1,) * (order - len(h)) + h for _, h in states])
        self.may_end = moves.may_end[[q for q, _ in states]]
        first = [_next((moves.start, ()), label, order, moves) for label in range(k)]
        self.first = np.array([number.get(s, -1) for s in first])
        self.after = np.full((len(states), k), -1)
        for state, i in number.items():
            for label in np.flatnonzero(allowed[state[1][-1]]).tolist():
                self.after[i, label] = number.get(_next(state, label, order, moves), -1)
        self._sources, self._follow = np.nonzero(self.after >= 0)

    def __len__(self) -> int:
        """Number of states ``S``."""
        return len(self.labels)

    def paths(self, codes: Tensor) -> Tensor:
        """Return ``(..., T)`` states of labels, -1 from the first on that may not come.

        Args:
            codes: ``(..., T)``, negative beyond the end.
        """
        known, paths = codes.numpy(force=True), np.full(codes.shape, -1)
        for t in range(codes.shape[-1]):
            label = known[..., t]
            # the state -1 indexes the last one, of which nothing is kept
            after = self.first[label] if not t else self.after[paths[..., t - 1], label]
            lost = (label < 0) | (False if not t else paths[..., t - 1] < 0)
            paths[..., t] = np.where(lost, -1, after)
        return torch.from_numpy(paths)

    def lost_at(self, codes: Tensor, lengths: Tensor) -> tuple[int, int] | None:
        """Return the first row and step from which on labels are not allowed, None if all are.

        The step is the length where a sequence may not end.

        Args:
            codes: ``(B, T)``, -1 where not known.
            lengths: ``(B,)``.
        """
        known, ends = codes.numpy(force=True), lengths.numpy(force=True)
        alive = np.zeros((len(known), len(self)), dtype=bool)
        lost = np.full(len(known), -1)
        for t in range(known.shape[1]):
            alive = self._after(alive, t)
            alive &= (known[:, t, None] < 0) | (known[:, t, None] == self.labels)
            lost[(lost < 0) & (t < ends) & ~alive.any(1)] = t
            stuck = (lost < 0) & (t == ends - 1) & ~(alive & self.may_end).any(1)
            lost[stuck] = ends[stuck]
        rows = np.flatnonzero(lost >= 0)
        return (int(rows[0]), int(lost[rows[0]])) if len(rows) else None

    def _after(self, alive: Mask, step: int) -> Mask:
        """``(B, S)`` states in which a row may be at a step, given those at the step before."""
        if not step:
            return np.broadcast_to(np.isin(np.arange(len(self)), self.first), alive.shape).copy()
        after = np.zeros_like(alive)
        for source in np.flatnonzero(alive.any(0)).tolist():
            targets = self.after[source]
            after[:, targets[targets >= 0]] |= alive[:, source, None]
        return after

    def begins(self, scores: Tensor) -> Tensor:
        """Return ``(S,)`` scores of first states from ``(K,)`` of first labels."""
        labels = np.flatnonzero(self.first >= 0)
        none = scores.new_full((len(self),), -torch.inf)
        return none.index_put((_index(self.first[labels], scores),), scores[_index(labels, scores)])

    def moves(self, tables: Sequence[Tensor]) -> Tensor:
        """Return ``(S, S)`` scores of transitions, ``-inf`` where there is none.

        Args:
            tables: ``(K, K)`` scores of two labels side by side, ``(K, K, K)`` of three, and so on.
        """
        total = tables[0].new_zeros(len(self._sources))
        for n, table in enumerate(tables, start=1):
            before = self.histories[self._sources, -n:]
            known = np.flatnonzero((before >= 0).all(1))
            places = (*before[known].T, self._follow[known])
            scores = table[tuple(_index(p, table) for p in places)]
            total = total.index_add(0, _index(known, total), scores)
        none = total.new_full((len(self), len(self)), -torch.inf)
        targets = self.after[self._sources, self._follow]
        return none.index_put((_index(self._sources, total), _index(targets, total)), total)


def _next(state: _State, label: int, order: int, moves: LabelMoves) -> _State:
    """The state after one label more, of an automaton's state -1 if there is none."""
    q, history = state
    return int(moves.after[q, label]), (*history, label)[-order:]


def _reached(allowed: Mask, order: int, moves: LabelMoves) -> set[_State]:
    """All states that some sequence of labels leads to."""
    front: list[_State] = [(moves.start, ())]
    reached: set[_State] = set()
    while front:
        state = front.pop()
        last = state[1][-1:]
        for label in np.flatnonzero(allowed[last[0]]) if last else range(len(allowed)):
            after = _next(state, int(label), order, moves)
            if after[0] >= 0 and after not in reached:
                reached.add(after)
                front.append(after)
        size = len(reached)
        check_size(f"transitions between {size:,} histories of {order} labels", size * size,
                   MAX_TABLE, "Give a smaller order, or a mask that forbids more")  # fmt: skip
    return reached


def _index(places: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(places)).to(like.device)
