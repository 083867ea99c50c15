"""Log scores of complete rows by table lookups, without an engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgnn.abilities import FactorModel, Inputs
from pgnn.factors.groups.kernel_kinds import TABLE
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.question import Question

_ENTRIES = 2**22
"""Largest number of elements and factors of rows that are looked up at once."""
_FEW_TABLES = 2**16
"""Largest number of tables that a compiled kernel looks up one by one."""


def log_score(question: Question) -> Tensor:
    r"""Return ``(B,)`` values :math:`\sum_f \log \phi_f(x_f)` of complete rows.

    Args:
        question: A query of complete rows without soft evidence, see :attr:`Question.complete`.

    Returns:
        The sums, differentiable in the tables.

    Cost:
        One lookup per factor and row.
    """
    graph, codes = question.graph, question.observed.codes
    if _is_of_few_tables(graph):
        return graph.lookup.log_prob(codes, graph.flat_log_values)
    step = max(1, _ENTRIES // (len(graph.elements) + graph.num_interactions + 1))
    if any(g.batch_shape for g in graph.groups) or len(codes) <= step:
        return graph.log_score(codes)
    pieces = [graph.log_score(codes[k : k + step]) for k in range(0, len(codes), step)]
    return torch.cat(pieces)


def looked_up(model: FactorModel, data: Any, inputs: Inputs | None = None) -> Tensor | None:
    """Return log scores of complete rows without an engine; None if some row is incomplete."""
    question = Question.read(model, data, inputs)
    if not question.complete:
        return None
    with question.gradient_mode():
        total = log_score(question)
    return total if question.observed.batched else total[0]


def _is_of_few_tables(graph: FactorGraph) -> bool:
    """Whether all factors are plain tables that are shared by rows."""
    return graph.num_factors <= _FEW_TABLES and all(
        g.kernel_kind == TABLE and not g.batch_shape for g in graph.groups
    )
