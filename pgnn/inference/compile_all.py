"""Improves one assignment, so that the kernels of local search are compiled and cached."""

from __future__ import annotations

import numpy as np
import torch

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.local_search import polish


def ask_everything() -> None:
    """Run a local search, which also compiles the scoring kernel."""
    a, b = Variable("a", 3), Variable("b", 2)
    graph = FactorGraph((a, b), (Factor([a, b], torch.zeros(3, 2, dtype=torch.float64)),))
    polish(graph, np.zeros((1, 5)), np.zeros((1, 2), dtype=np.int64), np.ones(2, dtype=np.bool_))
