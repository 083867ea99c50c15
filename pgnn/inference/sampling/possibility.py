"""Proofs that rows of evidence have probability zero, if sampling found no possible state."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import Intractable
from pgnn.inference.exact.differentiable import Differentiable
from pgnn.inference.exact.solver import Solver
from pgnn.inference.expansion import WRITTEN
from pgnn.inference.mean_field.coordinate_ascent import CoordinateAscent
from pgnn.inference.question import Question

Mask = NDArray[np.bool_]

# limits of planning, memory and work of a proof by elimination
_LARGEST, _MAX_BYTES, _MAX_WORK = 5000, 2**28, 1e9


def proven_impossible(question: Question, doubted: Mask) -> Mask:
    """Return ``(B,)`` whether a row provably has probability zero.

    First the zeros of tables are propagated, then the method searches for a possible assignment; if
    both are inconclusive, variables are eliminated if that is cheap.

    Args:
        question: The query.
        doubted: ``(B,)`` the rows to check.
    """
    if not doubted.any():
        return np.zeros(len(doubted), dtype=np.bool_)
    try:
        tables = question.expanded(WRITTEN)
    except Intractable:  # tables that are too large: undecided
        return np.zeros(len(doubted), dtype=np.bool_)
    ascent, possible = CoordinateAscent(tables, tables.log_field(), 0.0).possible()
    impossible = doubted & ~possible
    rest = np.flatnonzero(doubted & possible)
    if len(rest):
        impossible[rest] = ascent.proven_impossible(rest)
    if (doubted & ~impossible).any() and len(tables.graph.elements) <= _LARGEST:
        solver = Solver(tables.graph, max_bytes=_MAX_BYTES, max_work=_MAX_WORK)
        try:
            with torch.no_grad():
                logs = Differentiable(solver, tables.observed).log_evidence()
            impossible |= doubted & logs.isneginf().numpy(force=True)
        except Intractable:
            pass
    return np.asarray(impossible)
