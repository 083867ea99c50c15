"""The factor graph of a model, the input of all engines."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from pgnn.abilities import FactorModel, Inputs
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.graph_structure import GraphStructure

_STRUCTURES = 4
"""Number of cached structures; which factors are row-wise may differ between queries."""


def model_graph(
    model: FactorModel,
    observed: Mapping[Hashable, Tensor] | None = None,
    inputs: Inputs | None = None,
) -> FactorGraph:
    """Return the factor graph of a model's current parameters; cached if no factor is row-wise.

    Args:
        model: The model; repeated factors form groups, so that copies are cheap.
        observed: ``(B, *shape)`` values of real variables.
        inputs: ``(B, ...)`` covariates.
    """
    # with gradients, learners check the results themselves, since steps may overshoot
    model.cached_numbers("checked", lambda: None if torch.is_grad_enabled() else model.check())
    if observed or inputs:
        return _graph(model, observed, inputs)
    graph: FactorGraph = model.cached_numbers("graph", lambda: _graph(model, None, None))
    return graph


def _graph(
    model: FactorModel, observed: Mapping[Hashable, Tensor] | None, inputs: Inputs | None
) -> FactorGraph:
    groups = [g.snapshot() for g in model.factor_groups(observed or None, inputs or None)]
    # constant factors are merged
    graph = FactorGraph(model.elements, [g if g.arity else g.product() for g in groups])
    known: deque[GraphStructure] = model.cached("structures", lambda: deque(maxlen=_STRUCTURES))
    if not graph.adopt_structure(known):
        known.append(graph.structure)
    return graph
