"""Marginal MAP: most probable states with others summed out, by branch and bound."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import Intractable
from pgnn.inference.beliefs import Best
from pgnn.inference.engine import Engine
from pgnn.inference.exact.marginal_map import MarginalSearch
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver
from pgnn.inference.loop import Info, iterate
from pgnn.inference.question import Question
from pgnn.limits import POSITIVE, check_settings

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

# relative rounding error of log values
_ROUNDING = 1e-9
# number of undecided elements up to which exact plans are tried in every case
_FEW = 40
# values of soft evidence in a batch
_AT_ONCE = 2**24


@dataclass(frozen=True)
class BranchAndBound(Engine):
    r"""Most probable states of some variables, all others summed out, by branch and bound.

    Elimination in any order, with maxima before sums where that is cheaper, gives an upper bound on
    :math:`\max_x \sum_y \tilde p(x, y)`. Every state of every variable is bounded in this way;
    states whose bound is below the best known assignment are removed, which lowers the other
    bounds. When no more states can be removed, the remaining problem is solved exactly if that has
    become cheap, otherwise it is split by the states of one variable.

    Solves problems that are too expensive for the exact engine, which has to sum before it
    maximises: marginal MAP, and networks whose gates have hundreds of causes (with auxiliary
    variables).

    Args:
        max_iterations: Largest number of nodes of the search tree, per row.
        max_bytes: Largest memory of messages, in bytes.
        max_work: Largest number of multiply-adds of one elimination, for all the states that it
            bounds.
        seed: Random seed of the local search for an initial assignment.
        progress: Whether to show a progress bar if it takes longer than a second.

    Diagnostics:
        ``converged`` and ``optimal``, ``(B,)`` bool; ``gap``, ``(B,)``; ``iterations``, ``(B,)``.

    Raises:
        Intractable: If the bound itself exceeds the limits of memory or work.

    Cost:
        An iteration bounds each state of each undecided variable at least once: as many rows of
        evidence for an exact engine with an unconstrained elimination order.

    References:
        Park and Darwiche (2003), Solving MAP exactly using systematic search.

    Example:
        >>> from pgnn.models import BayesianNetwork
        >>> model = BayesianNetwork([("a", "b")], {"a": [0.6, 0.4], "b": [[0.5, 0.5], [0.9, 0.1]]})
        >>> best = model.most_probable(targets="b", engine=BranchAndBound())
        >>> dict(best), round(float(best.log_prob.exp()), 2), bool(best.diagnostics["optimal"])
        ({'b': 0}, 0.66, True)
    """

    max_iterations: int = 1000
    max_bytes: int = 2**31
    max_work: float = 1e11
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, max_iterations=1, max_work=POSITIVE)

    def reason(self) -> str:
        """Return a short description of the engine."""
        return "upper bounds by unconstrained elimination exclude states until the best remains"

    def maximize(self, question: Question, maximized: Mask) -> Best:
        """Find the best states of some elements, with an upper bound."""
        num_elements = len(question.graph.elements)
        question = question.expanded()
        maximized = question.graph.mask(maximized)
        seeds = np.random.default_rng(self.seed).integers(2**31, size=question.num_rows)
        solver = Solver(question.graph, max_bytes=self.max_bytes, max_work=self.max_work)
        local = MarginalSearch(question, maximized)
        rows = [
            _Cases(_Bounds(solver, question, maximized, row), local, row, seed)
            for row, seed in enumerate(seeds.tolist())
        ]
        for cases in rows:
            self._search(cases)
        scores, bounds = np.array([c.top for c in rows]), np.array([c.upper_bound for c in rows])
        optimal = np.array([not c.open for c in rows], dtype=np.bool_)
        states = np.stack([c.best for c in rows]) if rows else np.zeros((0, len(maximized)))
        # no possible assignment is known, but there may be one
        lost = np.isneginf(scores) & ~optimal
        with np.errstate(invalid="ignore"):
            gap = np.where(optimal, 0.0, bounds - scores)
        return Best(
            torch.from_numpy(states[:, :num_elements].astype(np.int64)),
            torch.from_numpy(np.where(lost, np.nan, scores)).to(question.graph.dtype),
            torch.from_numpy(bounds),
            {
                "converged": optimal,
                "optimal": optimal,
                "gap": gap,
                "iterations": np.array([c.iterations for c in rows], dtype=np.int64),
            },
            "raise max_iterations",
        )

    def _search(self, cases: _Cases) -> None:
        """Explore cases until none can contain a better assignment."""
        try:
            iterate(cases, self.max_iterations, progress=self.progress, label="BranchAndBound")
        except Intractable as error:
            raise Intractable(
                "BranchAndBound() needs bounds by elimination, which are too expensive even in "
                f"an unconstrained order: {error.reason}",
                "BeliefPropagation() and Annealing() need no such bounds",
            ) from error


class _Case(NamedTuple):
    """A set of assignments, ordered by its bound, highest first.

    Attributes:
        minus_bound: Minus an upper bound on the log values of its assignments.
        number: Unique index, which breaks ties.
        possible: ``(S,)`` mask of the possible states of all elements.
    """

    minus_bound: float
    number: int
    possible: Mask


class _Bounds:
    """Values and bounds of sets of assignments of one row, by elimination.

    A set of assignments is a mask ``(S,)`` of the possible states of all elements.

    Args:
        solver: Solver of the graph.
        question: The query.
        maximized: ``(E,)`` elements to maximise over; the others are summed out.
        row: Index of a row of the evidence.
    """

    def __init__(self, solver: Solver, question: Question, maximized: Mask, row: int) -> None:
        graph, observed = question.graph, question.observed
        self.solver, self.maximized, self.row = solver, maximized, row
        self.first, self.card = graph.offset[:-1], graph.card
        self.element = np.repeat(np.arange(len(self.card)), self.card)
        self.state = np.arange(len(self.element)) - self.first[self.element]
        self.weights = np.ones(len(self.element)) if observed.soft is None else observed.soft[row]
        self.known = observed.codes[row]

    def start(self) -> Mask:
        """Return the states that the evidence allows."""
        known = self.known[self.element]
        return np.asarray(((known < 0) | (known == self.state)) & (self.weights > 0.0))

    def undecided(self, possible: Mask) -> Ints:
        """Return elements to maximise over that have several possible states."""
        count = np.bincount(self.element[possible], minlength=len(self.card))
        return np.flatnonzero((count > 1) & self.maximized)

    def columns(self, elements: Ints) -> Ints:
        """Return columns of all states of some elements."""
        return np.flatnonzero(np.isin(self.element, elements))

    def given(self, possible: Mask) -> tuple[Codes, Floats | None]:
        """Return evidence ``(R, E)``, ``(R, S)`` that allows the states of sets ``(R, S)`` only."""
        single = np.add.reduceat(possible.astype(np.int64), self.first, axis=1) == 1
        single &= np.logical_and.reduceat(self.weights == 1.0, self.first)
        only = np.maximum.reduceat(np.where(possible, self.state, -1), self.first, axis=1)
        codes = np.where(single, only, -1).astype(np.int32)
        weights = np.where(possible | single[:, self.element], self.weights, 0.0)
        return codes, None if (weights == 1.0).all() else weights

    def of_states(self, possible: Mask, columns: Ints) -> Floats:
        """Return upper bounds on the assignments of a set with each of some states."""
        step = max(1, _AT_ONCE // len(possible))
        parts = [columns[k : k + step] for k in range(0, len(columns), step)]
        return np.concatenate([np.zeros(0), *(self._bounds(possible, part) for part in parts)])

    def _bounds(self, possible: Mask, columns: Ints) -> Floats:
        others = self.element[columns, None] == self.element
        others[np.arange(len(columns)), columns] = False
        codes, soft = self.given(possible & ~others)
        solver = self.solver.at_rows(np.full(len(codes), self.row))
        ask = Ask(maximize=self.maximized, soft=solver.softly(soft), relaxed=True)
        bounds = np.zeros(len(codes))
        for plan, rows in solver.plans(codes, ask):
            part, cpu, lost = (
                None if soft is None else soft[rows],
                solver.executor(plan, rows),
                rows,
            )
            if cpu is not None:
                bounds[rows] = cpu.decode(plan, codes[rows], part)[1]
                lost = rows[np.isneginf(bounds[rows])]
            if len(lost):
                bounds[lost] = solver.torch_rows(plan, codes, soft, lost).upper_bound()
        return bounds

    def solve(self, possible: Mask) -> tuple[Codes, float] | None:
        """Return the best assignment of a set and its log value; None if that is too expensive.

        Raises:
            Intractable: If all elements are decided, and the others cannot be summed out.
        """
        codes, soft = self.given(possible[None])
        try:
            solver = self.solver.at_rows(np.array([self.row]))
            states, tops = solver.best(codes, soft, self.maximized)
        except Intractable:
            if not len(self.undecided(possible)):
                raise
            return None
        return states[0], float(tops[0])


class _Cases:
    """The search in one row as an iterative method over cases that may contain a better assignment.

    Attributes:
        best: ``(E,)`` the best assignment so far.
        top: The log value of the best assignment.
        open: Heap of the remaining cases.
        iterations: Number of explored cases.
    """

    def __init__(self, bounds: _Bounds, local: MarginalSearch, row: int, seed: int) -> None:
        self.bounds, self.local, self.row, self.seed = bounds, local, row, seed
        self.best: Codes = np.zeros(len(bounds.maximized), dtype=np.int32)
        self.top = -np.inf
        self.open = [_Case(-np.inf, 0, bounds.start())]
        self.iterations, self._made = 0, 1

    @property
    def upper_bound(self) -> float:
        """Upper bound on the log value of any assignment."""
        return max([self.top, *(-c.minus_bound for c in self.open)])

    @property
    def threshold(self) -> float:
        """Cases with bounds up to this value cannot contain a better assignment, up to rounding."""
        return self.top if np.isneginf(self.top) else self.top + _ROUNDING * max(1.0, abs(self.top))

    def init(self) -> None:
        """Return None: the state is in the cases."""

    def step(self, state: None) -> tuple[None, Info]:
        """Explore the case with the highest bound."""
        self.iterations += 1
        self._explore(heapq.heappop(self.open))
        self.open = [c for c in self.open if -c.minus_bound > self.threshold]
        heapq.heapify(self.open)
        return None, Info(not self.open, {"gap": self.upper_bound - self.top})

    def _explore(self, case: _Case) -> None:
        """Solve a case or split it, after removing states that cannot be better."""
        possible, bounds = case.possible.copy(), self.bounds
        at_first = self.iterations == 1
        while True:
            undecided = bounds.undecided(possible)
            worth_trying = at_first or len(undecided) <= _FEW
            solution, at_first = bounds.solve(possible) if worth_trying else None, False
            if solution is not None:
                self._offer(*solution)
                return
            columns = bounds.columns(undecided)
            columns = columns[possible[columns]]
            log_bounds = np.full(len(possible), -np.inf)
            log_bounds[columns] = bounds.of_states(possible, columns)
            if np.isneginf(self.top):
                self._improve(log_bounds)
            possible[columns] = log_bounds[columns] > self.threshold
            if not np.logical_or.reduceat(possible, bounds.first).all():
                return
            if possible[columns].all():
                break
        self._split(possible, undecided, log_bounds)

    def _split(self, possible: Mask, undecided: Ints, log_bounds: Floats) -> None:
        """Split by the states of the element whose bounds differ most."""
        known = np.where(possible, log_bounds, np.inf)
        least = np.minimum.reduceat(known, self.bounds.first)
        most = np.maximum.reduceat(log_bounds, self.bounds.first)
        element = undecided[int(np.argmax(most[undecided] - least[undecided]))]
        states = self.bounds.columns(np.array([element]))
        for column in states[possible[states]].tolist():
            part = possible.copy()
            part[states] = states == column
            heapq.heappush(self.open, _Case(-float(log_bounds[column]), self._made, part))
            self._made += 1

    def _improve(self, log_bounds: Floats) -> None:
        """Improve the states with the highest bounds by local search."""
        first = self.bounds.first
        start = [int(x.argmax()) for x in np.split(log_bounds, first[1:])]
        states, top, _ = self.local.improve(self.row, np.array([start], dtype=np.int32), self.seed)
        self._offer(states, top)

    def _offer(self, states: Codes, top: float) -> None:
        if top > self.top:
            self.best, self.top = np.maximum(states, 0), top
