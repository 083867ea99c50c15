"""Sweeps once and back, so that the kernels of dual decomposition are compiled and kept."""

from __future__ import annotations

import numpy as np
import torch

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.search.dual_bound import DualBound


def ask_everything() -> None:
    """Sweep, and decode."""
    ring = [Variable(name, 2) for name in "abc"]
    table = torch.zeros(2, 2, dtype=torch.float64)
    factors = tuple(Factor([ring[k - 1], ring[k]], table) for k in range(3))
    bound = DualBound(FactorGraph(tuple(ring), factors), np.zeros((1, 6)))
    bound.sweep(np.zeros(1, dtype=np.int64))
    bound.sweep(np.zeros(1, dtype=np.int64))
