"""Runs propagation once in each arithmetic, so that all its kernels are compiled and cached."""

from __future__ import annotations

import numpy as np
import torch

from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.propagation.cpu_propagation import Control, CpuPropagation
from pgnn.inference.propagation.propagation_plan import PropagationPlan
from pgnn.inference.propagation.schedules import Sequential


def ask_everything() -> None:
    """Query marginals, most probable states, and bounds from forests."""
    ring = [Variable(name, 2) for name in "abc"]
    table = torch.zeros(2, 2, dtype=torch.float64)
    factors = tuple(Factor([ring[k - 1], ring[k]], table) for k in range(3))
    graph = FactorGraph(tuple(ring), factors)
    for temperature, forests in ((1.0, 0), (0.0, 0), (1.0, 2), (0.0, 2)):
        plan = PropagationPlan(graph, temperature, forests)
        propagation = CpuPropagation(plan, np.zeros((1, 6)))
        propagation.run(Control(Sequential(), max_iterations=2))
        elements_part, _ = propagation.bethe()
        propagation.upper_bound(elements_part)
        propagation.decode()
