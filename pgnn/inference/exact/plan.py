"""Plans: elimination orders with their costs, compiled to programs at their first use."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.exact.compilation import KERNELS
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.graph_structure import GraphStructure
from pgnn.inference.numba_support import has_numba

Mask = NDArray[np.bool_]

TILE = 8
"""Number of rows in a tile of the CPU kernel."""

# share of the time of executing the best order that a search for a better one may take
_SHARE = 0.1
_SECONDS_PER_ENTRY = 4e-9
_MOST_SECONDS = 5.0
_MOST_TRIES = 100
# seconds per variable and try; tries take longer if cliques are wide
_SECONDS_PER_VARIABLE, _WIDE = 1e-6, 32.0


@dataclass(frozen=True, eq=False)
class Task:
    """The task of a plan: which variables are observed, and which results are wanted.

    All masks are over the variables of a factor graph, ``(V,)``, except ``belief`` and ``used``,
    which are over its factors, ``(F,)``.

    Args:
        observed: Variables observed in every row; they are sliced out of the tables.
        unary: Variables with a separate likelihood in each row (observed in some rows only, or with
            soft evidence).
        wanted: Variables whose marginals are wanted.
        belief: Factors whose beliefs are wanted.
        maximize: Variables to maximise over, after the others are summed out.
        used: Factors that are used (the product of the others sums to one).
        dropped: Variables that are in no used factor.
        relaxed: Whether maxima may precede sums, which gives an upper bound.
    """

    observed: Mask
    unary: Mask
    wanted: Mask
    belief: Mask
    maximize: Mask
    used: Mask
    dropped: Mask
    relaxed: bool = False

    @cached_property
    def last(self) -> Mask:
        """Variables to eliminate after the others."""
        return np.zeros_like(self.maximize) if self.relaxed else self.maximize

    @cached_property
    def free(self) -> Mask:
        """Variables to eliminate."""
        return ~(self.observed | self.dropped)

    @cached_property
    def key(self) -> bytes:
        """A key that is equal for equal tasks."""
        masks = (self.observed, self.unary, self.wanted, self.belief, self.maximize, self.used)
        packed = b"".join(np.packbits(m).tobytes() + b"|" for m in masks)
        return packed + bytes([self.relaxed])


def make_task(
    graph: FactorGraph,
    observed: Mask,
    *,
    unary: Mask | None = None,
    wanted: Mask | None = None,
    belief: Mask | None = None,
    maximize: Mask | None = None,
    prune: bool = True,
    relaxed: bool = False,
) -> Task:
    """Create a task without the variables and factors that cannot affect its result.

    The conditionals of barren variables (unobserved, not wanted, and without observed or wanted
    descendants) sum to one (Shachter 1986) and are not used.

    Args:
        graph: The factor graph.
        observed: ``(V,)`` variables observed in every row.
        unary: ``(V,)`` variables observed in some rows or softly; none if not given.
        wanted: ``(V,)`` variables whose marginals are wanted; none if not given.
        belief: ``(F,)`` factors whose beliefs are wanted; none if not given.
        maximize: ``(V,)`` variables to maximise over; none if not given.
        prune: Whether to omit barren variables.
        relaxed: Whether maxima may precede sums.
    """
    num_vars, num_factors = len(graph.variables), graph.num_factors
    nobody = np.zeros(num_vars, dtype=np.bool_)
    unary = nobody if unary is None else unary & ~observed
    wanted = nobody if wanted is None else wanted & ~observed
    maximize = nobody if maximize is None else maximize & ~observed
    belief = np.zeros(num_factors, dtype=np.bool_) if belief is None else belief
    used = np.ones(num_factors, dtype=np.bool_)
    dropped = nobody
    if prune and not (maximize.any() and (maximize | observed).all()):
        keep = observed | unary | wanted | maximize
        used, dropped = _without_barren(graph, keep, belief)
    return Task(observed, unary, wanted, belief, maximize, used, dropped, relaxed)


def _without_barren(graph: FactorGraph, keep: Mask, belief: Mask) -> tuple[Mask, Mask]:
    """Remove barren leaves repeatedly."""
    used = np.ones(graph.num_factors, dtype=np.bool_)
    dropped = np.zeros(len(keep), dtype=np.bool_)
    child_factor = graph.child_factor
    if keep.all() or not (child_factor >= 0).any():
        return used, dropped
    mentions = np.bincount(graph.scope_var, minlength=len(keep))
    stack = [int(v) for v in np.flatnonzero((mentions == 1) & ~keep & (child_factor >= 0))]
    while stack:
        v = stack.pop()
        f = child_factor[v]
        if belief[f]:
            continue
        used[f], dropped[v] = False, True
        for u in graph.scopes[f]:
            mentions[u] -= 1
            if mentions[u] == 1 and not keep[u] and child_factor[u] >= 0 and used[child_factor[u]]:
                stack.append(u)
    return used, dropped


@dataclass(frozen=True, eq=False)
class EliminationProgram:
    """An elimination order compiled for tiles of a given number of rows.

    Attributes:
        code: The program; see :mod:`pgnn.inference.exact.kernels.program`.
        memory: Number of float64 values of memory that it needs.
        once: Multiply-adds that are done once for all rows.
        each: Multiply-adds per row.
    """

    code: NDArray[np.int64]
    memory: int
    once: float
    each: float

    @staticmethod
    def assemble(
        graph: GraphStructure, task: Task, order: NDArray[np.int64], rank: int, width: int
    ) -> EliminationProgram:
        """Compile an elimination order.

        Args:
            graph: The graph; only its structure is used.
            task: The task.
            order: ``(N,)`` variables in elimination order.
            rank: Number of variables of the largest clique.
            width: Number of rows in a tile.
        """
        from pgnn.inference.exact.kernels import program as columns
        from pgnn.inference.exact.kernels.assembly import arrange, encode

        num_factors, num_vars, num_free = graph.num_factors, len(graph.card), len(order)
        inputs = num_factors + 2 * num_free
        most = 6 * inputs + 2
        order = order.copy()
        arrays = (
            np.empty((num_vars, columns.VARIABLE), dtype=np.int64),
            np.empty((num_factors + 1, columns.FACTOR), dtype=np.int64),
            np.empty((most, columns.BUFFERS), dtype=np.int64),
            np.empty(3 * inputs * rank + num_vars + 1, dtype=np.int64),
            np.empty((most, columns.STEP), dtype=np.int64),
            np.empty(columns.COUNTS, dtype=np.int64),
        )
        cost = _SECONDS_PER_VARIABLE * 1e9 * num_vars
        KERNELS.choose(arrange, cost)(
            graph.card, graph.scope_ptr, graph.scope_var, task.used, graph.rowwise, task.free,
            task.unary, task.wanted, task.belief, task.maximize, order, *arrays,
        )  # fmt: skip
        counts = arrays[-1]
        room = (
            columns.HEAD
            + 2 * (columns.LOAD * num_factors + 2 * len(graph.scope_var))
            + 7 * num_vars
            + 7 * num_free
            + int(counts[columns.NUM_STEPS]) * (columns.HEADER + columns.LOOP * (rank + 1))
            + int(counts[columns.NUM_INPUTS]) * (3 + 2 * rank)
        )
        code, work = np.empty(room, dtype=np.int64), np.empty(2)
        length = KERNELS.choose(encode, cost)(
            graph.scope_var, order, *arrays, rank, width, code, work
        )
        return EliminationProgram(code[:length], int(code[columns.MEMORY]), *work.tolist())


@dataclass(frozen=True, eq=False)
class Plan:
    """An elimination order for a task.

    Attributes:
        graph: The graph; only its structure is used.
        task: The task.
        order: ``(N,)`` variables in elimination order.
        total: Number of entries of all clique tables together.
        largest: Number of entries of the largest clique table.
        width: Number of variables of the largest clique minus one (the width of this order).
        interim: Whether torch executes it because the kernels are not compiled yet.
    """

    graph: GraphStructure
    task: Task
    order: NDArray[np.int64]
    total: float
    largest: float
    width: int
    interim: bool = False
    _programs: dict[int, EliminationProgram] = field(default_factory=dict, repr=False)

    @property
    def compilable(self) -> bool:
        """Whether addresses fit into 64-bit integers."""
        return self.total < 2**44

    def program(self, width: int) -> EliminationProgram:
        """Return the program for tiles of ``width`` rows, assembled on first use."""
        program = self._programs.get(width)
        if program is None:
            program = self._programs[width] = EliminationProgram.assemble(
                self.graph, self.task, self.order, self.width + 1, width
            )
        return program

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds per row (estimated from the order if there is no program)."""
        program = self._programs.get(TILE, self._programs.get(1))
        return 3.0 * self.total if program is None else program.once + program.each


def make_plan(graph: FactorGraph, task: Task, rows: int = 1) -> Plan:
    """Find a cheap elimination order.

    Candidates are the order suggested by the graph, if any, three greedy rules, and random
    perturbations of these, as long as the search takes a small share of the time that executing the
    best plan so far on ``rows`` rows would take.

    Args:
        graph: The factor graph.
        task: The task.
        rows: Number of rows that the plan will be used for.

    Cost:
        About a microsecond per variable and candidate with numba (1,000 variables: one or two
        milliseconds per candidate).
    """
    if not has_numba():
        return _plan_without_kernels(graph, task)
    from pgnn.inference.exact.kernels import ordering

    best: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    greedy = (ordering.WEIGHTED_MIN_FILL, ordering.MIN_FILL, ordering.MIN_WEIGHT)
    rank = np.zeros(0, dtype=np.int64) if graph.origin is None else graph.origin.rank()
    rules = greedy if graph.origin is None else (ordering.RANKED, *greedy)
    num_free = int(np.count_nonzero(task.free))
    a_try = _SECONDS_PER_VARIABLE * num_free
    eliminate = KERNELS.choose(ordering.eliminate, 1e9 * a_try)
    for attempt in range(_MOST_TRIES):
        if best is not None:
            worth = _SHARE * min(best[1][0] * rows * _SECONDS_PER_ENTRY, _MOST_SECONDS)
            spent = (attempt + 1) * a_try * max(1.0, (best[1][2] / _WIDE) ** 2)
            if spent > worth:  # an estimate instead of the clock: the same plan in every process
                break
        order, figures = np.empty(num_free, dtype=np.int64), np.empty(3)
        eliminate(
            graph.scope_ptr,
            graph.scope_var,
            task.used,
            task.free,
            graph.card,
            task.last,
            rank,
            rules[attempt] if attempt < len(rules) else greedy[attempt % 3],
            0.0 if attempt < len(rules) else 0.3,
            attempt,
            np.inf if best is None else best[1][0],
            order,
            figures,
        )
        if best is None or figures[0] < best[1][0]:
            best = order, figures
    assert best is not None
    total, largest, width = best[1].tolist()
    return Plan(graph.structure, task, best[0], total, largest, int(width))


def ordered_plan(graph: FactorGraph, task: Task, rank: NDArray[np.int64], interim: bool) -> Plan:
    """Return the plan of a given elimination order.

    Args:
        graph: The factor graph.
        task: The task; variables to maximise over are always eliminated last.
        rank: ``(V,)`` ranks by which variables are eliminated.
        interim: Whether torch executes it.
    """
    from pgnn.graphs import evaluate_order

    free = np.flatnonzero(task.free)
    order = free[np.lexsort((rank[free], task.last[free]))]
    states: dict[Hashable, int] = {v: int(graph.card[v]) for v in free.tolist()}
    elimination = evaluate_order(_interactions(graph, task), order.tolist(), states)
    largest = 2.0**elimination.largest
    return Plan(
        graph.structure, task, order, float(elimination.total), largest, elimination.width, interim
    )


def interim_plan(graph: FactorGraph, task: Task) -> Plan:
    """Find an elimination order for torch, without compiled kernels."""
    return _plan_without_kernels(graph, task, interim=True)


def _plan_without_kernels(graph: FactorGraph, task: Task, interim: bool = False) -> Plan:
    from pgnn.graphs import WeightedMinFill, elimination_order
    from pgnn.graphs.heuristics import Heuristic, Ranked

    free = np.flatnonzero(task.free).tolist()
    rules: list[Heuristic] = [WeightedMinFill()]
    if graph.origin is not None:
        rules.append(Ranked(tuple(graph.origin.rank()[free].tolist())))
    elimination = elimination_order(
        _interactions(graph, task),
        {v: int(graph.card[v]) for v in free},
        heuristic=rules,
        last=np.flatnonzero(task.last & task.free).tolist(),
    )
    order = np.array(elimination.order, dtype=np.int64)
    largest = 2.0**elimination.largest
    return Plan(
        graph.structure, task, order, float(elimination.total), largest, elimination.width, interim
    )


def _interactions(graph: FactorGraph, task: Task) -> Any:
    """Return the pairs of free variables that share a used factor."""
    from pgnn.graphs.interaction import interaction_graph

    scopes = [
        [v for v in graph.scopes[f] if task.free[v]] for f in np.flatnonzero(task.used).tolist()
    ]
    return interaction_graph(scopes, np.flatnonzero(task.free).tolist())
