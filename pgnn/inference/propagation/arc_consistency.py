"""Which rows propagation of zeros alone proves impossible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.propagation.cpu_propagation import Control, CpuPropagation
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.schedules import Sequential

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def arc_consistent(plan: PropagationPlan, log_field: Floats, rows: Ints) -> Mask:
    """Return ``(b,)`` whether each element keeps a state that every neighbour supports.

    Where one does not, the row has probability zero: no rounding is involved, as only zeros
    matter. Without loops the reverse holds too.

    Args:
        plan: Of the graph.
        log_field: ``(b, S)`` fields of some rows.
        rows: ``(b,)`` which rows of its tables they belong to.

    References:
        Mackworth (1977), Consistency in networks of relations.
    """
    hard = replace(plan, temperature=0.0, num_forests=0)
    run = CpuPropagation(hard, _zeros_only(log_field), rows)
    run.numbers = run.numbers._replace(table=_zeros_only(run.numbers.table))
    # every iteration but the last one rules out a state
    limit = log_field.shape[1] + int(plan.graph.wiring.message[-1]) + 2
    run.run(Control(Sequential(), adaptive=False, tolerance=0.0, max_iterations=limit))
    return np.asarray(run.course.state != CpuPropagation.IMPOSSIBLE)


def _zeros_only(logs: Floats) -> Floats:
    return np.where(np.isneginf(logs), -np.inf, 0.0)
