"""Minimal sets of contradictory findings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import ImpossibleEvidence
from pgnn.inference.exact.planner import Ask
from pgnn.inference.exact.solver import Solver
from pgnn.limits import human_count

_ROWS_NAMED = 10
_AFFORDABLE = 1e8
"""Largest number of multiply-adds of an elimination that is repeated to name a conflict."""


def minimal_conflict(solver: Solver, codes: NDArray[np.int32]) -> list[int]:
    """Return a minimal set of findings that cannot occur together.

    Without any one of them the others have positive probability (QuickXplain, Junker 2004).

    Args:
        solver: Solver of the model.
        codes: ``(V,)`` observed states of an impossible row.

    Returns:
        Variable indices in ascending order; empty if the findings are possible (and the soft
        evidence is not), or if no state of the model has positive probability.

    Cost:
        O(k log(n / k)) evaluations of the log evidence, for k of n findings.
    """

    def possible(findings: list[int]) -> bool:
        row = np.full((1, len(codes)), -1, dtype=np.int32)
        row[0, findings] = codes[findings]
        return bool(np.isfinite(solver.log_evidence(row, None)[0]))

    def explain(background: list[int], added: bool, suspects: list[int]) -> list[int]:
        if added and not possible(background):
            return []
        if len(suspects) == 1:
            return suspects
        left, right = suspects[: len(suspects) // 2], suspects[len(suspects) // 2 :]
        of_right = explain(background + left, bool(left), right)
        of_left = explain(background + of_right, bool(of_right), left)
        return of_left + of_right

    observed = np.flatnonzero(codes >= 0).tolist()
    if not observed or possible(observed) or not possible([]):
        return []
    return sorted(explain([], False, observed))


def _work(solver: Solver, row: NDArray[np.int32]) -> float:
    """Multiply-adds of an elimination without findings, the most expensive one of a search."""
    nothing = np.full((1, len(row)), -1, dtype=np.int32)
    plans = solver.planner.split(solver.graph, nothing, Ask())
    return max((plan.multiply_adds for plan, _ in plans), default=0.0)


def impossible(
    solver: Solver, codes: NDArray[np.int32], rows: Sequence[int], batched: bool
) -> ImpossibleEvidence:
    """Return the error that names the impossible rows, and the reason for the first one.

    Args:
        solver: Solver of the model.
        codes: ``(B, V)`` observed states, -1 where none.
        rows: Indices of the impossible rows.
        batched: Whether the evidence came in rows.
    """
    row = codes[rows[0]]
    solver = solver.at_rows(np.array(rows[:1]))
    conflict: dict[Hashable, object] = {}
    work = _work(solver, row)
    for v in minimal_conflict(solver, row) if work <= _AFFORDABLE else ():
        variable = solver.graph.variables[v]
        conflict[variable.name] = variable.decode([row[v]])[0]
    findings = ", ".join(f"{name}={state}" for name, state in conflict.items())
    if batched:
        named = ", ".join(map(str, rows[:_ROWS_NAMED])) + (", ..." if len(rows) > 10 else "")
        where = f"{len(rows)} of {len(codes)} rows are impossible: {named}. Row {rows[0]}: "
    else:
        where = "the evidence is impossible: "
    if work > _AFFORDABLE:
        why = (
            "its findings cannot occur together (which of them was not searched, since each step "
            f"of a search takes {human_count(work)} multiply-adds)"
        )
    elif conflict:
        why = (
            f"{findings} cannot occur together" if len(conflict) > 1 else f"{findings} never occurs"
        )
    elif not np.isfinite(solver.log_evidence(np.full_like(row, -1)[None], None)[0]):
        why = "no state of the model has positive probability"
    else:
        why = "the soft evidence excludes every state that the other findings allow"
    advice = "errors='nan' answers the other rows" if batched else ""
    return ImpossibleEvidence(f"{where}{why}", tuple(rows), conflict, advice=advice)
