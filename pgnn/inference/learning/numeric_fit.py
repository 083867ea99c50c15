"""Maximum likelihood of a conditional that has no closed form, by L-BFGS."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import DataError, NotConverged
from pgnn.factors.conditionals.conditional import Conditional

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]

_GRADIENT = 1e-6
"""Largest derivative of the mean log-likelihood at which a fit counts as converged."""


def fit_conditional(
    conditional: Conditional, rows: Codes, weights: Floats, max_iter: int
) -> tuple[dict[str, Any], float]:
    r"""Maximise :math:`\sum_u w_u \log p(y_u \mid x_u)` over the learnable parameters.

    Args:
        conditional: Discrete, without inputs; it is not changed.
        rows: ``(U, parents + 1)`` state indices of its scope.
        weights: ``(U,)`` what each row counts.
        max_iter: Most iterations.

    Returns:
        The parameters (a ``state_dict``) and the log-likelihood.

    Raises:
        DataError: If the rows are impossible under the starting values.

    Warns:
        NotConverged: If the gradient is not yet small after ``max_iter`` iterations.

    References:
        Nocedal and Wright (2006), Numerical Optimization, section 7.2.
    """
    fitted = copy.deepcopy(conditional).eval()  # L-BFGS needs the same value each time
    parameters = [p for p in fitted.parameters() if p.requires_grad]
    total = float(weights.sum())
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iter,
        tolerance_grad=_GRADIENT,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -_log_likelihood(fitted, rows, weights) / total
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        if not np.isfinite(closure().item()):
            raise DataError(
                f"some rows have probability zero under the starting values of the conditional of "
                f"{conditional.child.name!r}; give it others (such as a leak) or check the data"
            )
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        value = -closure().item() * total
    worst = max(float(p.grad.abs().max()) for p in parameters if p.grad is not None and p.numel())
    if not worst <= 10 * _GRADIENT:
        warnings.warn(
            f"the fit of {conditional.child.name!r} stopped within {max_iter} iterations at a "
            f"gradient of {worst:.2g}, more than {10 * _GRADIENT:g}; raise max_iter",
            NotConverged,
            stacklevel=2,
        )
    return fitted.state_dict(), value


def log_likelihood(conditional: Conditional, rows: Codes, weights: Floats) -> float:
    """Return the log-likelihood of weighted rows; arguments as :func:`fit_conditional`."""
    with torch.no_grad():
        return float(_log_likelihood(conditional, rows, weights))


def _log_likelihood(conditional: Conditional, rows: Codes, weights: Floats) -> Tensor:
    device = next((p.device for p in conditional.parameters()), torch.device("cpu"))
    columns = torch.from_numpy(np.ascontiguousarray(rows[weights > 0].T)).long().to(device)
    values = {v.name: x for v, x in zip(conditional.scope, columns, strict=True)}
    child = values.pop(conditional.child.name)
    log_probs = conditional.distribution(values).log_prob(child)
    return (log_probs * torch.from_numpy(weights[weights > 0]).to(log_probs)).sum()
