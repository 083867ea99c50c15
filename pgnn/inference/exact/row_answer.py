"""Queries of single rows of evidence, with everything prepared that does not depend on the row."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.exact.cpu_executor import WORTH_WAITING, CpuExecutor
from pgnn.inference.exact.kernels.execution import answer_row
from pgnn.inference.exact.kernels.rows import in_range
from pgnn.inference.exact.plan import TILE, Mask, Plan
from pgnn.inference.exact.planner import REMEMBERED, Ask
from pgnn.inference.exact.underflow import underflow

if TYPE_CHECKING:
    from pgnn.inference.exact.solver import Solver

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# number of rows for which a plan for any evidence is optimised
_MANY_ROWS = 1000


class _Run(NamedTuple):
    """A plan in the form that is executed for a row.

    Attributes:
        code: The program.
        memory: Number of float64 values of memory that it needs.
        log_scale: Log of the factor by which scaling the tables has divided the result.
        certain: Observed variables whose marginals are wanted as well.
    """

    code: Ints
    memory: int
    log_scale: float
    certain: Ints


class RowAnswer:
    """Computes marginals of some variables for single rows.

    Args:
        solver: The solver, of a graph without row-wise tables.
        executor: The compiled executor of the solver.
        wanted: ``(V,)`` variables whose marginals are returned.
        observed: ``(V,)`` variables that every row observes; None if not known. Rows are then
            answered by one plan for any evidence or, if executing it costs more than planning, by a
            plan for their observed variables.

    Raises:
        Intractable: If a plan exceeds the budget; if it is the plan of a single row, when that row
            is answered.
    """

    def __init__(
        self, solver: Solver, executor: CpuExecutor, wanted: Mask, observed: Mask | None = None
    ) -> None:
        graph = solver.graph
        self._solver, self._executor, self._wanted = solver, executor, wanted
        self._ask = Ask(wanted=wanted)
        self._tables = graph.scaled_tables.values, graph.start, graph.scaled_tables.flushed
        self._card, self._column = graph.card, graph.columns(wanted)
        self._least = np.full(len(wanted), -1) if observed is None else np.where(observed, 0, -1)
        self._num_states = int(graph.card[wanted].sum())
        self._flags = underflow()
        self._by_pattern: OrderedDict[bytes, _Run | None] = OrderedDict()
        if observed is None:
            plan = solver.planner.for_any_row(graph, self._ask)
        else:
            plan = solver.planner.for_pattern(graph, observed, _MANY_ROWS, self._ask)
        self._for_any = None if plan is None else self._prepared(plan)

    def accepts(self, codes: Codes) -> bool:
        """Whether codes ``(1, V)`` are valid and include all variables that every row observes."""
        return bool(in_range(codes, self._least, self._card))

    def __call__(self, codes: Codes) -> tuple[Floats, Floats] | None:
        """Return ``(1,)`` log evidence and ``(1, S)`` marginals of a row ``(1, V)``.

        None if the evidence is impossible, values underflow, or the computation takes so long that
        it must be interruptible.
        """
        run = self._for_any or self._for_pattern(codes[0] >= 0)
        if run is None:
            return None
        memory = self._executor.take(run.memory)
        marginals = np.zeros((1, self._num_states))
        self._flags.clear()
        log_z = answer_row(
            run.code, *self._tables, codes, memory, self._column, run.certain, marginals
        )
        lost = self._flags.happened() or log_z == -np.inf
        self._executor.give_back(memory)
        return None if lost else (np.array([log_z + run.log_scale]), marginals)

    def _for_pattern(self, observed: Mask) -> _Run | None:
        """Return the plan for rows that observe these variables; the last few are cached."""
        key = observed.tobytes()
        try:
            run = self._by_pattern.pop(key)
        except KeyError:
            planner, graph = self._solver.planner, self._solver.graph
            run = self._prepared(planner.for_pattern(graph, observed, 1, self._ask))
        self._by_pattern[key] = run
        while len(self._by_pattern) > REMEMBERED:
            self._by_pattern.popitem(last=False)
        return run

    def _prepared(self, plan: Plan) -> _Run | None:
        self._solver.check(plan, 1)
        program = plan.program(1)
        if program.once + program.each > WORTH_WAITING:
            return None
        certain = np.flatnonzero(plan.task.observed & self._wanted)
        scale = float(self._solver.graph.scaled_tables.log_scale[plan.task.used].sum())
        return _Run(program.code, program.memory + TILE, scale, certain)
