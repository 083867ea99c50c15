"""Filters and smooths a chain, so that the kernels are compiled and cached."""

from __future__ import annotations

import torch

from pgnn.factors.conditionals.regression import Regression
from pgnn.inference.time.compiled_chain import CompiledChain


def ask_everything() -> None:
    """Filter, smooth and compute the gains."""
    one = torch.ones(1, 1, dtype=torch.float64)
    regression = Regression(one, one[0], one)
    start = Regression(one[:, :0], one[0], one)
    chain = CompiledChain(start, regression, regression, one.expand(1, 3000, 1).contiguous())
    chain.smoothed(chain.filtered())
