"""Answers to single rows of evidence, with all that does not depend on the row prepared."""

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

# how many rows a plan for any of them may serve
_MANY_ROWS = 1000


class _Run(NamedTuple):
    """A plan, as it is run on a row.

    Attributes:
        code: The program.
        memory: Numbers of memory that it takes.
        log_scale: What scaling the tables has taken away.
        certain: Variables that it takes as observed, whose marginals are wanted all the same.
    """

    code: Ints
    memory: int
    log_scale: float
    certain: Ints


class RowAnswer:
    """Answers single rows about some variables.

    Args:
        solver: Of the numbers; no table differs from row to row.
        executor: Its compiled executor.
        wanted: ``(V,)`` variables whose marginals are returned.
        observed: ``(V,)`` variables that every row observes; None if that is not known. Then rows
            are answered by one plan for any evidence or, where running it costs more than planning
            does, by a plan for what they observe.

    Raises:
        Intractable: If a plan exceeds the budget; for a plan that a row takes, when it is answered.
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
        """Whether codes ``(1, V)`` are states, and of all variables that every row observes."""
        return bool(in_range(codes, self._least, self._card))

    def __call__(self, codes: Codes) -> tuple[Floats, Floats] | None:
        """Return ``(1,)`` log evidence and ``(1, S)`` marginals of a row ``(1, V)``.

        None if evidence is impossible, numbers left the range of doubles, or it takes so long that
        it should be interruptible.
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
        """The plan for rows that observe these variables; the last few are remembered."""
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
