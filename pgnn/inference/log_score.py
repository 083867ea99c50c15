"""Log scores of complete rows: looked up in the tables, without any engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgnn.inference.engine import FactorModel, Inputs
from pgnn.inference.question import Question

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
    question = Question.read(model, data, inputs)
    if not question.complete:
        return None
    graph, codes = question.graph, question.seen.codes
    step = max(1, _ENTRIES // (len(graph.elements) + graph.num_interactions + 1))
    if any(g.batch_shape for g in graph.groups) or len(codes) <= step:
        total = graph.log_score(codes)
    else:
        pieces = [graph.log_score(codes[k : k + step]) for k in range(0, len(codes), step)]
        total = torch.cat(pieces)
    return total if question.seen.batched else total[0]
