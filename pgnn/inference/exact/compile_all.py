"""Runs one query of each kind, so that all kernels of exact inference are compiled and cached."""

from __future__ import annotations

import numpy as np
import torch

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.exact.hidden_components import HiddenComponents
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph

_BATCH = 32
"""Number of rows above which duplicates are removed and rows are run in tiles."""


def ask_everything() -> None:
    """Query marginals, best states, samples and expected counts of one row and of many."""
    a, b = Variable("a", 4), Variable("b", 2)
    table = torch.zeros(4, 2, dtype=torch.float64)
    solver = Solver(FactorGraph((a, b), (Factor([a, b], table),)))
    everything = np.ones(2, dtype=np.bool_)
    for rows in (1, _BATCH):
        codes = np.full((rows, 2), -1, dtype=np.int32)
        codes[:, 0] = np.arange(rows) % 4
        solver.marginals(codes, None, everything)
        solver.best(codes, None, everything)
        solver.draw(codes, None, 1, 0)
        solver.evidence_and_counts(codes, None, np.ones(rows))
    components = HiddenComponents.of(solver.graph, codes, 100.0)
    components.log_evidence(solver.graph)
    components.counts(solver.graph, np.ones(_BATCH))
    answer = solver.row_answer(everything)
    if answer is not None and answer.accepts(codes[:1]):
        answer(codes[:1])
