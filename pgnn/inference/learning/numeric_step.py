"""A step towards the weighted maximum likelihood of a conditional that has no closed form."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from pgnn.errors import DataError
from pgnn.factors.conditionals.conditional import Conditional

_ITERATIONS = 20


def numeric_step(
    conditional: Conditional,
    values: Mapping[Hashable, Tensor],
    inputs: Mapping[Hashable, Tensor],
    weights: Tensor,
    max_iterations: int = _ITERATIONS,
) -> None:
    r"""Raise :math:`\sum_n \sum_j w_{nj} \log p(x_n \mid j)` by L-BFGS, in place.

    A generalised M-step: the value is raised, not necessarily maximised, and never falls.

    Args:
        conditional: With learnable parameters.
        values: What was seen, ``(N, ...)`` by name; what is not seen are axes of the weights.
        inputs: Covariates ``(N, ...)``.
        weights: ``(N, K...)`` in the order of the conditional's unseen variables.
        max_iterations: Of L-BFGS.

    Raises:
        DataError: If the value or its gradient is not finite to begin with.

    References:
        Neal and Hinton (1998), A view of the EM algorithm that justifies incremental, sparse, and
        other variants.
    """
    parameters = [p for p in conditional.parameters() if p.requires_grad]
    total = float(weights.sum())
    if not parameters or total <= 0:
        return
    before = [p.detach().clone() for p in parameters]
    training = conditional.training
    conditional.eval()  # the same value at each look
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=max_iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        table = conditional.factor(dict(values), dict(inputs) or None).log_values
        # what has no weight may be impossible
        terms = torch.where(weights > 0, weights.to(table) * table, torch.zeros_like(table))
        return -terms.sum() / total

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    try:
        with torch.enable_grad():
            first = float(closure().detach())
            _check_finite(conditional, first, parameters)
            optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            last = float(loss())
            if not last <= first:
                for p, old in zip(parameters, before, strict=True):
                    p.copy_(old)
    finally:
        for p in parameters:
            p.grad = None
        conditional.train(training)


def _check_finite(conditional: Conditional, value: float, parameters: Sequence[Tensor]) -> None:
    """Check that there is a gradient to follow where a step begins."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if math.isfinite(value) and all(bool(g.isfinite().all()) for g in gradients):
        return
    what = "log-likelihood" if not math.isfinite(value) else "gradient"
    raise DataError(
        f"what was seen of {conditional.child.name!r} has no finite {what} under the present "
        f"numbers of its {type(conditional).__name__} conditional: a value at the edge of what is "
        "possible (such as 0 of a Gamma distribution), or numbers that were given as infinite; "
        "check the data, or begin with other numbers"
    )
