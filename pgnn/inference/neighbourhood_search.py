"""Better assignments by solving exactly for all elements but a few, again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Intractable
from pgnn.inference.decomposition import Decomposition
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.grouped_graph import GroupedGraph
from pgnn.inference.solver import Solver

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class NeighbourhoodSearch:
    r"""Hold a few elements, find the best states of all others exactly, hold others, and so on.

    The elements held are a *w-cutset* (Bidyuk & Dechter 2007): without them, elimination needs
    only small tables, so one step moves nearly all elements at once, and no step makes the
    assignment worse (large neighbourhood search: Shaw 1998). The first states of a cutset are
    chosen one after the other by the dual's sweeps, which also keep clear of zeros. Where nothing
    needs to be held the answer is exact, and proves itself.

    Args:
        rounds: Most cutsets.
        patience: Cutsets without an improvement before it gives up.
        max_entries: Entries of the largest table.
        max_elements: Fields of more undecided elements are left as they are.

    Cost:
        A round takes ``O(V * max_entries)`` multiply-adds at most.
    """

    rounds: int = 40
    patience: int = 12
    max_entries: int = 2**16
    max_elements: int = 5000

    def improve(
        self, dual: Decomposition, row: int, part: Conditional, rng: np.random.Generator
    ) -> None:
        """Improve a row's best assignment, and its bound if the whole could be solved.

        Args:
            dual: Bounds and assignments; changed.
            row: Which row.
            part: Solver for the others, given some elements.
            rng: Chooses the cutsets.
        """
        free = dual.choices(row) > 1
        if free.sum() > self.max_elements:
            return
        bits, failures = float(np.log2(self.max_entries)), 0
        for number in range(self.rounds):
            spread = 0.0 if number == 0 else 4.0
            held = part.cutset(free, bits, spread * rng.random(len(free)), number)
            try:
                gained, exact = self._round(dual, row, part, held, number)
            except Intractable:
                bits -= 2.0
                continue
            if exact:
                dual.bounds[row] = min(dual.bounds[row], dual.scores[row])
                return
            failures = 0 if gained else failures + 1
            if failures >= self.patience:
                return

    def _round(
        self, dual: Decomposition, row: int, part: Conditional, held: Mask, number: int
    ) -> tuple[bool, bool]:
        """Solve for all but the held elements; tell whether that helped, and whether it is all."""
        before = dual.scores[row]
        starts = [dual.states[row]] if before > -np.inf else []
        if held.any() and (number % 4 == 0 or not starts):
            found = _dive(dual.row(row), held)
            starts += [] if found is None else [found]
        elif not held.any():
            starts = [dual.states[row]]
        for states in starts:
            best = part.solve(dual, row, states, held)
            if best is not None:
                every = dual.states.copy()
                every[row] = best
                dual.offer(np.array([row]), every)
        return bool(dual.scores[row] > before), not held.any()


@dataclass(eq=False)
class Conditional:
    """Finds the best states of a graph's elements given those of some.

    Args:
        graph: Elements and factors.
    """

    graph: GroupedGraph
    _codes: dict[int, NDArray[np.int32]] = field(default_factory=dict, repr=False)

    @cached_property
    def solver(self) -> Solver:
        """The exact solver of the factors over two or more elements."""
        factors = [f for g in self.graph.groups for f in g.factors(self.graph.elements)]
        return Solver(FactorGraph(self.graph.elements.singles, tuple(factors)), max_bytes=2**31)

    def cutset(self, free: Mask, bits: float, noise: Floats, seed: int) -> Mask:
        """Choose ``(E,)`` elements without which the free ones have small tables."""
        from pgnn.inference.kernels.cutset import cutset
        from pgnn.inference.kernels.ordering import adjacency

        wiring = self.graph.wiring
        used = np.ones(len(wiring.scope_ptr) - 1, dtype=np.bool_)
        adjacent = adjacency(wiring.scope_ptr, wiring.scope_var, used, free)
        return cutset(adjacent, np.log2(wiring.card.astype(np.float64)), free, bits, noise, seed)

    def solve(self, dual: Decomposition, row: int, states: Ints, held: Mask) -> Ints | None:
        """Return ``(E,)`` best states, some held; None if there are no possible ones.

        Args:
            dual: Whose states in use are the choice.
            row: Which row.
            states: ``(E,)`` states of the elements held.
            held: ``(E,)`` which elements those are.

        Raises:
            Intractable: If it takes too much memory.
        """
        choices = dual.choices(row)
        if (choices == 0).any():
            return None
        offset = self.graph.elements.offset
        level = np.maximum.reduceat(dual.fields[row], offset[:-1])
        soft = np.exp(dual.fields[row] - np.repeat(level, np.diff(offset)))
        only = np.array([np.argmax(soft[a:b]) for a, b in zip(offset, offset[1:], strict=False)])
        codes = np.where(choices == 1, only, np.where(held, states, -1)).astype(np.int32)
        known = np.repeat(codes >= 0, np.diff(offset))
        solver = self.solver.at_rows(np.array([row]))
        free = np.ones(len(choices), dtype=np.bool_)
        found, top = solver.best(codes[None], np.where(known, 1.0, soft)[None], free)
        return None if np.isneginf(top[0]) else found[0].astype(np.int64)


def _dive(dual: Decomposition, held: Mask) -> Ints | None:
    """Decide the held elements one after the other, sweeping in between.

    A decision that proves impossible is taken back, once; None if nothing is left then.
    """
    first = np.zeros(1, dtype=np.int64)
    offset = dual.graph.elements.offset
    dual.sweep(first, drop=False)
    for v in np.flatnonzero(held & (dual.choices(0) > 1)):
        kept = dual.fields.copy(), dual.deltas.copy(), dual.bounds.copy()
        own = slice(offset[v], offset[v + 1])
        if np.isfinite(dual.fields[0, own]).sum() < 2:
            continue
        dual.sweep(first, drop=False)
        state = offset[v] + dual.decoded[0, v]
        others = np.setdiff1d(np.arange(own.start, own.stop), [state])
        _drop(dual, v, others)
        dual.sweep(first, decode=False, drop=False)
        if np.isneginf(dual.bounds[0]):
            dual.fields, dual.deltas, dual.bounds = kept
            _drop(dual, v, np.array([state]))
            dual.sweep(first, decode=False, drop=False)
            if np.isneginf(dual.bounds[0]):
                return None
    dual.sweep(first, drop=False)
    return None if np.isneginf(dual.bounds[0]) else dual.decoded[0]


def _drop(dual: Decomposition, v: int, columns: Ints) -> None:
    """Rule out some states of an element."""
    wiring = dual.graph.wiring
    dual.fields[0, columns] = -np.inf
    for slot in wiring.var_slot[wiring.var_ptr[v] : wiring.var_ptr[v + 1]]:
        dual.deltas[0, wiring.message[slot] + columns - wiring.offset[v]] = np.inf
