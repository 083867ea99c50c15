"""States of higher-order label chains: the last labels and the state of an automaton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import Intractable, ModelError
from pgnn.inference.chains.chain_edges import ChainEdges, Ints, Mask
from pgnn.limits import human_count

_State = tuple[int, tuple[int, ...]]

MAX_EDGES = 2**21
"""Largest number of transitions of a chain."""


class LabelMoves(NamedTuple):
    """A deterministic automaton over ``K`` labels.

    Attributes:
        after: ``(Q, K)`` state after a label, -1 if the label is not accepted.
        start: State before the first label.
        may_end: ``(Q,)`` whether the state accepts the end of a sequence.
    """

    after: Ints
    start: int
    may_end: Mask


class LabelStates:
    r"""The states of a label chain of higher order, with an optional automaton.

    A state consists of the last ``order`` labels, fewer at the beginning, and the state of the
    automaton, if one is given. Only reachable states are stored. Each label leads from a state to
    exactly one state, so that label sequences and state paths correspond one to one.

    Args:
        allowed: ``(K, K)`` whether the column's label may follow the row's label.
        order: Number of labels in a state.
        automaton: Restricts the sequences further.

    Attributes:
        labels: ``(S,)`` last label of each state, in ascending order.
        histories: ``(S, order)`` last labels, the last one last, -1 before the first.
        first: ``(K,)`` state after a first label, -1 if the label may not be the first.
        after: ``(S, K)`` state after one more label, -1 if the label may not follow.
        number: ``(S, K)`` index of the transition by a label, -1 if the label may not follow.
        may_end: ``(S,)`` whether a sequence may end in the state.
        edges: The list of transitions.

    Raises:
        ModelError: If no label may be the first.
        Intractable: If there are too many transitions.

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
        # sorted, so that ties between paths are broken by the last labels, as in all chains
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
        sources, self._follow = np.nonzero(self.after >= 0)
        self.number = np.full_like(self.after, -1)
        self.number[sources, self._follow] = np.arange(len(sources))
        targets = self.after[sources, self._follow]
        self.edges = ChainEdges(self.labels, self.first, self.may_end, sources, targets)

    def __len__(self) -> int:
        """Number of states ``S``."""
        return len(self.labels)

    def paths(self, codes: Tensor) -> Tensor:
        """Return ``(..., T)`` states of label sequences, -1 from the first forbidden label on.

        Args:
            codes: ``(..., T)``, negative beyond the end.
        """
        known, paths = codes.numpy(force=True), np.full(codes.shape, -1)
        for t in range(codes.shape[-1]):
            label = known[..., t]
            # the state -1 indexes the last row, whose result is discarded
            after = self.first[label] if not t else self.after[paths[..., t - 1], label]
            lost = (label < 0) | (False if not t else paths[..., t - 1] < 0)
            paths[..., t] = np.where(lost, -1, after)
        return torch.from_numpy(paths)

    def lost_at(self, codes: Tensor, lengths: Tensor) -> tuple[int, int] | None:
        """Return the row and the step of the first forbidden label; None if all are allowed.

        The step equals the length if the sequence may not end there.

        Args:
            codes: ``(B, T)`` labels, -1 if unknown.
            lengths: ``(B,)``.
        """
        known, ends = codes.numpy(force=True), lengths.numpy(force=True)
        inside = np.arange(known.shape[1]) < ends[:, None]
        partly = (inside & (known < 0)).any(1)
        lost = np.full(len(known), -1)
        lost[~partly] = self._lost_of_known(known[~partly], ends[~partly])
        lost[partly] = self._lost_of_partly_known(known[partly], ends[partly])
        rows = np.flatnonzero(lost >= 0)
        return (int(rows[0]), int(lost[rows[0]])) if len(rows) else None

    def _lost_of_known(self, known: Ints, ends: Ints) -> Ints:
        """Return ``(B,)`` steps of the first forbidden label, -1 if all are allowed."""
        paths, steps = self.paths(torch.from_numpy(known)).numpy(), np.arange(known.shape[1])
        wrong = (paths < 0) & (steps < ends[:, None])
        lost = np.where(wrong.any(1), wrong.argmax(1) if len(steps) else -1, -1)
        last = paths[np.arange(len(paths)), ends - 1] if len(steps) else lost
        stuck = (lost < 0) & (ends > 0) & ~self.may_end[last]
        return np.where(stuck, ends, lost)

    def _lost_of_partly_known(self, known: Ints, ends: Ints) -> Ints:
        """Compute the same for partly known labels, by the set of possible states."""
        alive = np.zeros((len(known), len(self)), dtype=bool)
        lost = np.full(len(known), -1)
        for t in range(known.shape[1] if len(known) else 0):
            alive = self._after(alive, t)
            alive &= (known[:, t, None] < 0) | (known[:, t, None] == self.labels)
            lost[(lost < 0) & (t < ends) & ~alive.any(1)] = t
            stuck = (lost < 0) & (t == ends - 1) & ~(alive & self.may_end).any(1)
            lost[stuck] = ends[stuck]
        return lost

    def _after(self, alive: Mask, step: int) -> Mask:
        """Return ``(B, S)`` possible states at a step, given those at the step before."""
        if not step:
            return np.broadcast_to(np.isin(np.arange(len(self)), self.first), alive.shape).copy()
        after = np.zeros_like(alive)
        for source in np.flatnonzero(alive.any(0)).tolist():
            targets = self.after[source]
            after[:, targets[targets >= 0]] |= alive[:, source, None]
        return after

    def moves(self, tables: Sequence[Tensor]) -> Tensor:
        """Return ``(E,)`` scores of the transitions of :attr:`edges`.

        Args:
            tables: ``(K, K)`` scores of two labels side by side, ``(K, K, K)`` of three, and so on.
        """
        total = tables[0].new_zeros(len(self.edges))
        for n, table in enumerate(tables, start=1):
            before = self.histories[self.edges.sources, -n:]
            known = np.flatnonzero((before >= 0).all(1))
            places = (*before[known].T, self._follow[known])
            scores = table[tuple(_index(p, table) for p in places)]
            total = total.index_add(0, _index(known, total), scores)
        return total


def _next(state: _State, label: int, order: int, moves: LabelMoves) -> _State:
    """Return the state after one more label; the automaton's state is -1 if it rejects."""
    q, history = state
    return int(moves.after[q, label]), (*history, label)[-order:]


def _reached(allowed: Mask, order: int, moves: LabelMoves) -> set[_State]:
    """Return all states that label sequences can reach."""
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
        if len(reached) * len(allowed) > MAX_EDGES:
            raise Intractable(
                f"histories of {order} of {len(allowed):,} labels have more than "
                f"{human_count(MAX_EDGES)} transitions, the most that are listed",
                "Give a smaller order, or a mask that forbids more",
            )
    return reached


def _index(places: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(places)).to(like.device)
