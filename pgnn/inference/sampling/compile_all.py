"""Runs a few sweeps of each kind, so that all kernels of sampling are compiled and cached."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pgnn.evidence.row_evidence import RowEvidence
from pgnn.factors.factor import Factor
from pgnn.factors.variable import Variable
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.linear_predictors import LinearPredictors
from pgnn.inference.question import Question
from pgnn.inference.sampling.annealed_importance_sampling import AnnealingPath, PathChains
from pgnn.inference.sampling.annealing import Annealing
from pgnn.inference.sampling.chain_starts import most_likely_states
from pgnn.inference.sampling.cpu_gibbs import CpuChains, TemperedTables
from pgnn.inference.sampling.predictor_chains import PredictorChains


def ask_everything() -> None:
    """Run sweeps at one temperature, at decreasing ones, and along an annealing path."""
    a, b = Variable("a", 3), Variable("b", 2)
    table = torch.zeros(3, 2, dtype=torch.float64)
    graph = FactorGraph((a, b), (Factor([a, b], table),))
    observed = RowEvidence(np.full((1, 2), -1, dtype=np.int32), False, None, np.zeros(1))
    nobody: Any = None  # chains do not use the model itself
    question = Question(nobody, graph, observed)
    chains = CpuChains(TemperedTables(question), np.ones(1, dtype=np.uint64), 100)
    chains.start()
    chains.run(1)
    chains.collect(1, 1)
    chains.trace(1, 1)
    chains.conditionals()
    numbers = torch.zeros(1, 1, 2, dtype=torch.float64), torch.zeros(1, 3, 2, dtype=torch.float64)
    index = np.zeros(1, dtype=np.int64)
    sums = LinearPredictors(graph.elements, index + 1, index, index, *numbers)
    tables = TemperedTables(question.over(FactorGraph((a, b), ())))
    by_sums = PredictorChains(tables, np.ones(1, dtype=np.uint64), 1, [sums])
    by_sums.run(1)
    by_sums.conditionals()
    Annealing(sweeps=2, chains=1, seed=0, progress=False).cool(graph, question.log_field())
    path = AnnealingPath.prepare(question, np.array([0.0, 1.0]), 1)
    states = most_likely_states(path.wiring, path.fields)
    path.walk(PathChains(states, np.ones(1, dtype=np.uint64), np.zeros(1)), 1, path.betas, 1)
    path.smoothed(states[:, None], np.ones((1, 1)))
    path.violated(states[:, None])
