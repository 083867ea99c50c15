"""The M-step: each conditional is set to what fits its expected statistics best."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pgnn.errors import DataError, PgnnError
from pgnn.factors.conditionals.conditional import Conditional
from pgnn.factors.conditionals.exponential_family import ExponentialFamily
from pgnn.inference.learning.expected_statistics import ExpectedStatistics, Pieces

_AT_REST = 1e-3
"""Largest derivative, of the mean over rows, at which an M-step has nothing to gain."""
_ITERATIONS = 20
"""Of L-BFGS, in an M-step without a closed form."""


def maximize(
    pieces: Pieces, expected: ExpectedStatistics, priors: Mapping[Hashable, Any]
) -> list[Hashable]:
    """Set learnable conditionals to what fits expected statistics best, in place.

    In closed form where there is one, by steps of L-BFGS otherwise.

    Args:
        pieces: The conditionals by name.
        expected: Their statistics.
        priors: What is believed of some of them beforehand, by name.

    Returns:
        Names of those that made no step though their gradient is not zero.
    """
    stuck = []
    for name, conditional in pieces.items():
        if name in expected.sums and isinstance(conditional, ExponentialFamily):
            conditional.maximize(expected.sums[name], priors.get(name))
        elif name in expected.rows:
            rows = expected.rows[name]
            if not gradient_step(conditional, rows.values, rows.inputs, rows.weights):
                stuck.append(name)
    return stuck


def log_prior(pieces: Pieces, priors: Mapping[Hashable, Any]) -> float:
    """Return what the priors add to the log-likelihood."""
    total = 0.0
    for name, conditional in pieces.items():
        prior = priors.get(name)
        if prior is not None and isinstance(conditional, ExponentialFamily):
            total += float(conditional.log_prior(prior).detach())
    return total


def doubts(pieces: Pieces, expected: ExpectedStatistics) -> list[str]:
    """Return what is doubtful about conditionals that were estimated in closed form."""
    told = []
    for name, conditional in pieces.items():
        if name in expected.sums and isinstance(conditional, ExponentialFamily):
            told.append(conditional.doubt(expected.sums[name]))
    return [message for message in told if message is not None]


def gradient_step(
    conditional: Conditional,
    values: Mapping[Hashable, Tensor],
    inputs: Mapping[Hashable, Tensor],
    weights: Tensor,
    max_iterations: int = _ITERATIONS,
) -> bool:
    r"""Raise :math:`\sum_n \sum_j w_{nj} \log p(x_n \mid j)` by L-BFGS, in place.

    A generalised M-step: the value is raised, not necessarily maximised, and never falls.

    Args:
        conditional: With learnable parameters.
        values: What was seen, ``(N, ...)`` by name; what is not seen are axes of the weights.
        inputs: Covariates ``(N, ...)``.
        weights: ``(N, K...)`` in the order of the conditional's unseen variables.
        max_iterations: Of L-BFGS.

    Returns:
        Whether the value was raised, or is at rest already.

    Raises:
        DataError: If the value or its gradient is not finite to begin with.

    References:
        Neal and Hinton (1998), A view of the EM algorithm that justifies incremental, sparse, and
        other variants.
    """
    parameters = [p for p in conditional.parameters() if p.requires_grad]
    total = float(weights.sum())
    if not parameters or total <= 0:
        return True
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
            steepest = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None)
            last = _stepped(optimizer, closure, loss)
        with torch.no_grad():
            if not last <= first:
                for p, old in zip(parameters, before, strict=True):
                    p.copy_(old)
    finally:
        for p in parameters:
            p.grad = None
        conditional.train(training)
    return last < first or steepest <= _AT_REST


def _stepped(
    optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor], loss: Callable[[], Tensor]
) -> float:
    """Take the steps; return the value then, NaN where they led out of all bounds."""
    try:
        optimizer.step(closure)  # type: ignore[arg-type]
        with torch.no_grad():
            return float(loss())
    except (ValueError, PgnnError):  # a distribution cannot be made of such numbers
        return math.nan


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
