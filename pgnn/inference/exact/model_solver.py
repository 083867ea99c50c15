"""What solves a model: its factor graph, structure looked at once, and the plans for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

from torch import Tensor

from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.exact.planner import Planner
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph

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
        return Solver(_graph(model, observed, inputs), planner, max_bytes)
    solver: Solver = model.cached_numbers(
        ("solver", max_bytes), lambda: Solver(_graph(model, None, None), planner, max_bytes)
    )
    return solver


def _graph(
    model: FactorModel, observed: Mapping[Hashable, Tensor] | None, inputs: Inputs | None
) -> FactorGraph:
    singles, given = model.elements.singles, (observed or None, inputs or None)
    if model.in_groups:
        groups = [g.snapshot() for g in model.factor_groups(*given)]
        constants = tuple(g.product() for g in groups if not g.arity)
        graph = FactorGraph(singles, constants, tuple(g for g in groups if g.arity))
    else:
        graph = FactorGraph(singles, tuple(model.factors(*given)))
    known: deque[FactorGraph] = model.cached("skeletons", lambda: deque(maxlen=_STRUCTURES))
    if not graph.like(known):
        known.append(graph.skeleton)
    return graph
