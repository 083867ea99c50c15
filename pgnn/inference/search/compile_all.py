"""Runs a sweep in each direction, so that all kernels of dual decomposition are compiled."""

from __future__ import annotations

import numpy as np
import torch

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.search.dual_bound import DualBound


def ask_everything() -> None:
    """Run sweeps, and decode."""
    ring = [Variable(name, 2) for name in "abc"]
    table = torch.zeros(2, 2, dtype=torch.float64)
    factors = tuple(Factor([ring[k - 1], ring[k]], table) for k in range(3))
    bound = DualBound(FactorGraph(tuple(ring), factors), np.zeros((1, 6)))
    bound.sweep(np.zeros(1, dtype=np.int64))
    bound.sweep(np.zeros(1, dtype=np.int64))
