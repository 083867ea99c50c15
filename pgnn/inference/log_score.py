"""Log scores of complete rows: looked up in the tables, without any engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.factors.factor_group import PottsGroup
from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.grouped_graph import Codes, GroupedGraph
from pgnn.inference.problem import Problem
from pgnn.inference.question import as_evidence

_ENTRIES = 2**22
"""How many elements and factors of rows are looked up at once."""


def log_score(model: FactorModel, data: Any, inputs: Inputs | None = None) -> Tensor | None:
    r"""Return ``(N,)`` values :math:`\sum_f \log \phi_f(x_f)` of rows that miss nothing.

    Args:
        model: Any discrete model.
        data: As evidence in a query; ``()`` is returned for a row that is no batch.
        inputs: Covariates by name.

    Returns:
        The sums, differentiable in the tables; ``None`` if some row misses an element or has
        soft evidence.

    Cost:
        One look at every factor for every row; memory for some rows at a time.
    """
    problem = Problem.read(model, as_evidence(model, data), inputs)
    if not problem.complete:
        return None
    graph, codes = problem.graph, problem.seen.codes
    step = max(1, _ENTRIES // (len(graph.elements) + graph.num_factors + 1))
    if any(g.batch_shape for g in graph.given) or len(codes) <= step:
        total = graph.log_score(codes)
    else:
        rest, couplings = _split(graph)
        pieces = [_score(rest, couplings, codes[k : k + step]) for k in range(0, len(codes), step)]
        total = torch.cat(pieces)
    return total if problem.seen.batched else total[0]


def _split(graph: GroupedGraph) -> tuple[GroupedGraph, list[PottsGroup]]:
    """Take couplings out: they are looked up where the rows of an element stand side by side."""
    couplings = [g for g in graph.groups if isinstance(g, PottsGroup)]
    rest = GroupedGraph(graph.elements, tuple(g for g in graph.given if g not in couplings))
    for name in ("log_field", "log_constant", "dtype"):
        rest.__dict__[name] = getattr(graph, name)
    return rest, couplings


def _score(rest: GroupedGraph, couplings: list[PottsGroup], codes: Codes) -> Tensor:
    total = rest.log_score(codes)
    if not couplings:
        return total
    small = np.uint8 if int(rest.elements.card.max(initial=1)) <= 256 else np.int32
    states = torch.from_numpy(np.ascontiguousarray(codes.T, dtype=small)).to(total.device)
    for g in couplings:
        first, second = torch.from_numpy(g.scopes.T.copy()).to(total.device)
        same = states.index_select(0, first) == states.index_select(0, second)
        total = total + _agreeing(g, same)
    return total


def _agreeing(g: PottsGroup, same: Tensor) -> Tensor:
    """``(B,)`` sum of the couplings of the edges that agree, ``(F, B)``."""
    if g.shared and g.num_factors > 1:
        number = same.sum(0)
        return torch.where(number > 0, g.coupling * number, 0.0)  # no -inf times zero
    coupling = g.coupling[:, None]
    return torch.where(same, coupling, torch.zeros_like(coupling)).sum(0)
