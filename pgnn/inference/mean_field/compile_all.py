"""Runs mean field once, with zeros in tables, so that all its kernels are compiled and cached."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.mean_field.coordinate_ascent import CoordinateAscent
from pgnn.inference.question import Question


def ask_everything() -> None:
    """Search for a possible initial state, sweep, and compute the bound."""
    a, b = Variable("a", 3), Variable("b", 2)
    table = torch.zeros(3, 2, dtype=torch.float64)
    table[0, 0] = -torch.inf
    graph = FactorGraph((a, b), (Factor([a, b], table),))
    observed = RowEvidence(np.full((1, 2), -1, dtype=np.int32), False, None, np.zeros(1))
    nobody: Any = None  # mean field does not use the model itself
    question = Question(nobody, graph, observed)
    ascent, _ = CoordinateAscent(question, question.log_field(), 1e-6).possible()
    q = ascent.start(np.random.default_rng(0), 0.1)
    state, _ = ascent.step(ascent.begin(q, ascent.all_rows))
    ascent.bounds(state.q)
