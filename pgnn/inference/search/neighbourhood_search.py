"""Large neighbourhood search: repeated exact maximisation over all elements but a few."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Intractable
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.sampling.annealing import Annealing
from pgnn.inference.search.dual_bound import DualBound
from pgnn.limits import check_settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


# growth of tables in bits; relative rounding error of gains
_GROWTH, _GAIN = 2.0, 1e-9
# log scale of the noise in the choice of fixed elements, relative to neighbour counts; and the #
# preference for elements on which good assignments agree
_SPREAD = (-1.5, 1.5)
_TRUST = 1.0
_CHAINS = 4


@dataclass(frozen=True)
class NeighbourhoodSearch:
    r"""Large neighbourhood search: a few elements are fixed, all others maximised over exactly.

    The fixed elements form a *w-cutset* (Bidyuk & Dechter 2007): without them, elimination needs
    only small tables, so that one step changes nearly all elements at once, and no step makes the
    assignment worse (large neighbourhood search: Shaw 1998). After several cutsets without
    improvement, tables may grow, so that fewer elements are fixed. Every second start is by
    simulated annealing. A start without an assignment chooses the states of a first cutset one by
    one by sweeps of the dual, which also avoid zeros. If no element needs to be fixed the answer is
    exact and proved optimal.

    Args:
        starts: Number of initial assignments.
        patience: Number of cutsets without improvement before tables grow.
        min_entries: Initial size of the largest table, in entries.
        max_entries: Final size of the largest table, in entries.
        whole_entries: Size of the largest table if no element needs to be fixed.
        max_elements: Rows with more undecided elements are not searched.

    Cost:
        At most ``O(V * max_entries)`` multiply-adds per cutset.
    """

    starts: int = 10
    patience: int = 8
    min_entries: int = 2**12
    max_entries: int = 2**20
    whole_entries: int = 2**24
    max_elements: int = 5000

    def __post_init__(self) -> None:
        check_settings(self, starts=1, min_entries=1, max_entries=1, whole_entries=1)

    def improve(
        self, dual: DualBound, row: int, others: ConditionalSolver, rng: np.random.Generator
    ) -> None:
        """Improve the best assignment of a row, and its bound if the whole problem was solved.

        Args:
            dual: Bounds and assignments, updated.
            row: Index of the row.
            others: Solver for the elements that are not fixed.
            rng: Random generator of the cutsets.
        """
        if (dual.choices(row) > 1).sum() > self.max_elements:
            return
        if self._solve_undecided(dual, row, others, rng):
            return
        assignments: list[Ints] = []
        for start in range(self.starts):
            trial = dual.row(row)
            if start == 0:
                trial.scores[0], trial.states[0] = dual.scores[row], dual.states[row]
            elif start % 2 == 1:
                _anneal(trial, row, rng)
            self._improve(trial, row, others, rng, np.zeros(len(trial.states[0])))
            if np.isneginf(trial.scores[0]):
                continue
            assignments.append(trial.states[0])
            _offer(dual, row, trial)
            if len(assignments) > 1:
                # elements on which good assignments agree are fixed, so that the others are
                # recombined
                trial.scores[0], trial.states[0] = dual.scores[row], dual.states[row]
                agreed = np.mean(np.stack(assignments) == trial.states[0], axis=0)
                self._improve(trial, row, others, rng, _TRUST * agreed)
                _offer(dual, row, trial)

    def _solve_undecided(
        self, dual: DualBound, row: int, others: ConditionalSolver, rng: np.random.Generator
    ) -> bool:
        """Solve for all undecided elements, if possible; return whether it was."""
        trial = dual.row(row)
        held = others.cutset(dual.choices(row) > 1, np.log2(self.whole_entries), rng, 0.0)
        if held.any():
            return False
        try:
            self._step(trial, row, others, held)
        except Intractable:  # small tables, but too many
            return False
        _offer(dual, row, trial)
        dual.bounds[row] = min(dual.bounds[row], dual.scores[row])
        return True

    def _improve(
        self,
        trial: DualBound,
        row: int,
        others: ConditionalSolver,
        rng: np.random.Generator,
        preference: Floats,
    ) -> None:
        """Take improving steps until there are none."""
        free = trial.choices(0) > 1
        bits, failures = np.log2(self.min_entries), 0
        while bits <= np.log2(self.max_entries):
            held = others.cutset(free, bits, rng, preference)
            before = trial.scores[0]
            with suppress(Intractable):  # the plan needs more than the cutset's estimate
                self._step(trial, row, others, held)
            failures = 0 if trial.scores[0] > before + _GAIN else failures + 1
            if failures >= self.patience:
                if np.isneginf(trial.scores[0]):
                    return
                bits, failures = bits + _GROWTH, 0

    def _step(self, trial: DualBound, row: int, others: ConditionalSolver, held: Mask) -> None:
        """Solve for all elements that are not fixed."""
        states = trial.states[0]
        if held.any() and np.isneginf(trial.scores[0]):
            decoded = _dive(trial.row(0), held)
            if decoded is None:
                return
            states = decoded
        best = others.solve(trial.fields[0], row, np.where(held, states, -1))
        if best is not None:
            trial.offer(np.zeros(1, dtype=np.int64), best[None])


@dataclass(eq=False)
class ConditionalSolver:
    """Finds the best states of a graph's elements given the states of some.

    Args:
        graph: Elements and factors.
    """

    graph: FactorGraph

    @cached_property
    def solver(self) -> Solver:
        """The exact solver of the factors over two or more elements."""
        return Solver(FactorGraph(self.graph.elements, self.graph.interactions), max_bytes=2**31)

    def cutset(
        self, free: Mask, bits: float, rng: np.random.Generator, preference: Floats | float
    ) -> Mask:
        """Choose ``(E,)`` elements to fix, so that the other free ones have small tables.

        Args:
            free: ``(E,)`` undecided elements.
            bits: Base-2 log of the largest allowed table size.
            rng: Random generator.
            preference: ``(E,)`` relative preference for fixing an element.
        """
        from pgnn.inference.kernels.bitset import adjacency
        from pgnn.inference.search.kernels.cutset import cutset

        wiring = self.graph.wiring
        used = np.ones(len(wiring.factor_ptr) - 1, dtype=np.bool_)
        adjacent = np.zeros((len(free), -(-len(free) // 64)), dtype=np.uint64)
        adjacency(wiring.factor_ptr, wiring.slot_var, used, free, adjacent)
        spread = np.exp(rng.uniform(*_SPREAD))
        noise = (1.0 + spread * rng.random(len(free))) * (1.0 + preference)
        seed = int(rng.integers(2**31))
        sizes = np.log2(wiring.card.astype(np.float64))
        held = np.empty(len(free), dtype=np.bool_)
        cutset(adjacent, sizes, free, float(bits), noise, seed, held)
        return held

    def solve(self, log_field: Floats, row: int, known: Ints) -> Ints | None:
        """Return ``(E,)`` best states given some; None if there are none.

        Args:
            log_field: ``(S,)`` unary log potentials.
            row: Row whose tables to use, if they depend on the row.
            known: ``(E,)`` states of some elements, -1 at others.

        Raises:
            Intractable: If it needs too much memory.
        """
        offset = self.graph.elements.offset
        starts, num = offset[:-1], np.diff(offset)
        level = np.maximum.reduceat(log_field, starts)
        if np.isneginf(level).any():
            return None
        soft = np.exp(log_field - np.repeat(level, num))
        possible = soft > 0.0
        first = np.minimum.reduceat(np.where(possible, np.arange(offset[-1]), offset[-1]), starts)
        single = np.add.reduceat(possible.astype(np.int64), starts) == 1
        codes = np.where(single, first - starts, known).astype(np.int32)
        soft[np.repeat(codes >= 0, num)] = 1.0
        solver = self.solver.at_rows(np.array([row]))
        everything = np.ones(len(codes), dtype=np.bool_)
        best, top = solver.best(codes[None], soft[None], everything)
        return None if np.isneginf(top[0]) else best[0].astype(np.int64)


def _anneal(trial: DualBound, row: int, rng: np.random.Generator) -> None:
    """Start from the best assignment of a few annealed chains."""
    engine = Annealing(chains=_CHAINS, seed=int(rng.integers(2**31)), progress=False)
    cooled, values, _ = engine.cool(trial.graph.at_rows(np.array([row])), trial.original)
    best = cooled[0, int(values[0].argmax())]
    trial.offer(np.zeros(1, dtype=np.int64), np.ascontiguousarray(best[None]))


def _offer(dual: DualBound, row: int, trial: DualBound) -> None:
    """Keep the result of a trial if it is better."""
    if np.isfinite(trial.scores[0]):
        states = dual.states.copy()
        states[row] = trial.states[0]
        dual.offer(np.array([row]), states)


def _dive(dual: DualBound, held: Mask) -> Ints | None:
    """Decide the fixed elements one by one, with sweeps in between.

    An impossible decision is revised once; None if no state remains.
    """
    first = np.zeros(1, dtype=np.int64)
    offset = dual.graph.elements.offset
    dual.sweep(first, drop=False)
    for v in np.flatnonzero(held & (dual.choices(0) > 1)).tolist():
        kept = dual.fields.copy(), dual.deltas.copy(), dual.bounds.copy()
        columns = slice(offset[v], offset[v + 1])
        if np.isfinite(dual.fields[0, columns]).sum() < 2:
            continue
        dual.sweep(first, drop=False)
        state = offset[v] + dual.decoded[0, v]
        others = np.setdiff1d(np.arange(columns.start, columns.stop), [state])
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


def _drop(dual: DualBound, v: int, columns: Ints) -> None:
    """Remove some states of an element."""
    wiring = dual.graph.wiring
    dual.fields[0, columns] = -np.inf
    for slot in wiring.var_slot[wiring.var_ptr[v] : wiring.var_ptr[v + 1]]:
        dual.deltas[0, wiring.message[slot] + columns - wiring.offset[v]] = np.inf
