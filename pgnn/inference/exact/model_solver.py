"""What solves a model: its factor graph, structure looked at once, and the plans for it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from torch import Tensor

from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.exact.planner import Planner
from pgnn.inference.exact.solver import Solver
from pgnn.inference.model_graph import model_graph

_STRUCTURES = 4
"""Structures that are remembered: what is row-wise may differ from question to question."""


def model_solver(
    model: FactorModel,
    observed: Mapping[Hashable, Tensor] | None = None,
    inputs: Inputs | None = None,
    max_bytes: int = 2**32,
) -> Solver:
    """Return the solver for a model's present parameters, remembered where nothing is row-wise.

    Args:
        model: Its tables are taken in arrays where it makes them so (``in_groups``); then many
            copies of one part cost little more than one.
        observed: ``(B, *shape)`` values of real variables.
        inputs: ``(B, ...)`` covariates.
        max_bytes: Memory that messages may take.
    """
    planner = model.cached("planner", Planner)
    if observed or inputs:
        return Solver(model_graph(model, observed, inputs), planner, max_bytes)
    solver: Solver = model.cached_numbers(
        ("solver", max_bytes), lambda: Solver(model_graph(model), planner, max_bytes)
    )
    return solver
