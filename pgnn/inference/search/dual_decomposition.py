"""Most probable states of large fields, with an upper bound."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import ModelError, Unsupported
from pgnn.inference.beliefs import Best
from pgnn.inference.engine import Engine, Floats, Mask
from pgnn.inference.expansion import WRITTEN
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.local_search import polish
from pgnn.inference.loop import Info, iterate
from pgnn.inference.question import Question
from pgnn.inference.search.dual_bound import DualBound
from pgnn.inference.search.neighbourhood_search import ConditionalSolver, NeighbourhoodSearch
from pgnn.limits import NOT_NEGATIVE, check_settings

# sweeps over which the bound must improve
_WINDOW = 20
# interval at which one sweep in each direction decodes assignments
_DECODE = 10
# sweeps, entries of tables and tolerance of a short search
_BRIEF = 300, 2**12, 2**20, 1e-9
# largest number of message values of the rows of a chunk
_MEMORY = 2**26


@dataclass(frozen=True)
class DualDecomposition(Engine):
    r"""Most probable states by sequential message passing on the dual (TRW-S, SRMP).

    Minimises an upper bound on :math:`\max_x \log \tilde p(x)`, the dual of the local-polytope
    relaxation (Wainwright, Jaakkola & Willsky 2005), by sweeps over the elements in order and in
    reverse; the bound never increases. Sweeps also decode assignments, the best of which is
    improved by a neighbourhood search. Its score excludes states, which lowers the bound further.
    The answer's ``upper_bound`` bounds the log probability of any assignment.

    A row has converged when the gap is below the tolerance, which proves that its answer is
    optimal, or when the bound no longer improves. On trees, and wherever the relaxation is tight,
    the gap closes.

    Args:
        max_iterations: Largest number of sweeps.
        tolerance: Relative gap, and relative change of the bound over 20 sweeps, below which a row
            has converged.
        search: Search that improves the assignments; ``None`` for no search.
        seed: Random seed of the search.
        progress: Whether to show a progress bar if it takes longer than a second.

    Diagnostics:
        ``converged`` and ``optimal``, ``(B,)`` bool; ``gap``, ``(B,)``; ``iterations``;
        ``history``, a list of ``upper_bound`` and one of ``log_prob``, ``(B,)`` for each sweep.

    Cost:
        :math:`O(\sum_f n_f \prod_{i \in f} K_i)` per sweep, ``O(K)`` for a Potts factor.

    References:
        Kolmogorov (2006), Convergent tree-reweighted message passing for energy minimization.
        Kolmogorov (2015), A new look at reweighted message passing.

    Example:
        >>> import torch
        >>> from pgnn import Factor, MarkovRandomField, Variable
        >>> a, b = Variable("a", 2), Variable("b", 2)
        >>> model = MarkovRandomField([Factor([a, b], torch.tensor([[0.0, 1.0], [2.0, 0.0]]))])
        >>> best = model.most_probable(engine=DualDecomposition())
        >>> dict(best), float(best.log_prob), float(best.upper_bound)
        ({'a': 1, 'b': 0}, 2.0, 2.0)
    """

    max_iterations: int = 3000
    tolerance: float = 1e-6
    search: NeighbourhoodSearch | None = field(default_factory=NeighbourhoodSearch)
    seed: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_settings(self, max_iterations=1, tolerance=NOT_NEGATIVE)
        if self.search is not None and not isinstance(self.search, NeighbourhoodSearch):
            raise ModelError(f"search must be a NeighbourhoodSearch() or None, got {self.search!r}")

    @classmethod
    def brief(cls, seed: int | None = None) -> DualDecomposition:
        """Return settings that take less than a second for a field of some hundred elements.

        There are at most 300 sweeps, and one start of a search with small tables. A row counts as
        optimal only if the gap is no larger than rounding errors.

        Example:
            >>> DualDecomposition.brief(seed=0).max_iterations
            300
        """
        sweeps, entries, whole, tolerance = _BRIEF
        search = NeighbourhoodSearch(starts=1, max_entries=entries, whole_entries=whole)
        return cls(sweeps, tolerance, search, seed, progress=False)

    def reason(self) -> str:
        """Return a short description of the engine."""
        return "the dual of the linear relaxation gives an upper bound on the most probable states"

    def maximize(self, question: Question, maximized: Mask) -> Best:
        """Find the best states of all elements, with an upper bound.

        Raises:
            Unsupported: If unobserved elements are to be summed out.
        """
        question = question.expanded(WRITTEN)
        maximized = question.graph.mask(maximized)
        if (question.observed.codes[:, ~maximized] < 0).any():
            raise Unsupported(
                "DualDecomposition() maximises over all unobserved variables",
                "to sum out variables, or the auxiliary variables of gates with many causes, "
                "use BranchAndBound()",
            )
        graph, log_field = question.graph, question.log_field()
        done = [self._solve(graph, part) for part in _in_pieces(graph, log_field)]
        constant = graph.log_constant.detach().to("cpu", torch.float64).numpy()
        return self._answer(graph, done, np.broadcast_to(constant, len(log_field)))

    def _solve(self, graph: FactorGraph, log_field: Floats) -> _Sweeps:
        """Alternate sweeps and search until neither improves the result."""
        method = _Sweeps(DualBound(graph, log_field), self.tolerance)
        dual, others = method.dual, ConditionalSolver(graph)
        rng = np.random.default_rng(self.seed)
        searched = np.full(len(log_field), np.iinfo(np.int64).max)
        while True:
            left = self.max_iterations - len(method.bounds)
            iterate(method, left, progress=self.progress, label="DualDecomposition")
            undecided = dual.undecided()
            rows = np.flatnonzero(method.open & (undecided < searched))
            if self.search is None or not len(rows):
                return method
            _polish(dual, rows)
            for row in rows:
                self.search.improve(dual, int(row), others, rng)
            searched[rows] = undecided[rows]
            method.resume()

    def _answer(self, graph: FactorGraph, done: list[_Sweeps], constant: Floats) -> Best:
        """Assemble the answers of all rows."""
        duals = [d.dual for d in done]
        scores = np.concatenate([d.scores for d in duals])
        bounds = np.maximum(np.concatenate([d.bounds for d in duals]), scores)
        optimal = ~np.concatenate([d.open for d in done])
        # no possible assignment is known, but there may be one
        lost = np.isneginf(scores) & ~optimal
        states = np.where(lost[:, None], -1, np.concatenate([d.states for d in duals]))
        scores = np.where(lost, np.nan, scores + constant)
        bounds = bounds + constant
        return Best(
            torch.from_numpy(states),
            torch.from_numpy(scores).to(graph.dtype),
            torch.from_numpy(bounds),
            {
                "converged": np.concatenate([d.settled for d in done]) | optimal,
                "optimal": optimal,
                "gap": np.concatenate([d.gaps for d in duals]),
                "iterations": max(len(d.bounds) for d in done),
                "history": {
                    "upper_bound": _side_by_side([d.bounds for d in done], constant),
                    "log_prob": _side_by_side([d.scores for d in done], constant),
                },
            },
            "raise max_iterations",
        )


class _Sweeps:
    """The sweeps as an iterative method, with the rows that still need them."""

    def __init__(self, dual: DualBound, tolerance: float) -> None:
        self.dual = dual
        self.tolerance = tolerance
        self.bounds: list[Floats] = []
        self.scores: list[Floats] = []
        self.settled: Mask = np.zeros(len(dual.bounds), dtype=np.bool_)
        self._since = 0

    @property
    def open(self) -> Mask:
        """``(B,)`` rows whose best assignment is not proved optimal."""
        scale = np.maximum(
            1.0, np.abs(np.where(np.isfinite(self.dual.bounds), self.dual.bounds, 0))
        )
        return ~(self.dual.gaps <= self.tolerance * scale)

    def resume(self) -> None:
        """Reset the convergence test after assignments have improved."""
        self.settled &= ~self.open
        self._since = len(self.bounds)

    def init(self) -> None:
        """Return None: the state is in the decomposition."""

    def step(self, state: None) -> tuple[None, Info]:
        """Run one sweep over the rows that still need it."""
        rows = np.flatnonzero(self.open & ~self.settled)
        number = len(self.bounds)
        self.dual.sweep(rows, decode=number < 2 or number % _DECODE < 2)
        self.bounds.append(self.dual.bounds.copy())
        self.scores.append(self.dual.scores.copy())
        if number - self._since >= _WINDOW:
            now, then = self.bounds[-1], self.bounds[-1 - _WINDOW]
            with np.errstate(invalid="ignore"):
                self.settled |= then - now <= self.tolerance * np.maximum(1.0, np.abs(now))
        open_rows = self.open & ~self.settled
        gap = float(self.dual.gaps.max(initial=0.0))
        return None, Info(not open_rows.any(), {"gap": gap})


def _side_by_side(pieces: list[list[Floats]], constant: Floats) -> list[Floats]:
    """Return the joined histories of all rows; rows with fewer sweeps repeat their last values."""
    longest = max(len(p) for p in pieces)
    rows = [[p[min(k, len(p) - 1)] for p in pieces if p] for k in range(longest)]
    return [np.concatenate(row) + constant for row in rows]


def _polish(dual: DualBound, rows: NDArray[np.int64]) -> None:
    """Improve the best assignments of some rows by local search."""
    selected = np.arange(len(dual.scores)) if dual.graph.interactions_rowwise else rows
    known = np.isfinite(dual.scores)[:, None]
    start = np.where(known, dual.states, dual.decoded)
    polished, _ = polish(
        dual.graph, dual.original[selected], start[selected], np.ones(1, dtype=np.bool_)
    )
    start[selected] = polished
    dual.offer(rows, start)


def _in_pieces(graph: FactorGraph, log_field: Floats) -> list[Floats]:
    """Return chunks of rows whose messages fit into memory."""
    numbers = int(graph.wiring.message[-1]) + log_field.shape[1] + 1
    size = len(log_field) if graph.interactions_rowwise else _MEMORY // numbers
    return np.split(log_field, range(size, len(log_field), size)) if size else [log_field]
