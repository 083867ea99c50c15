"""Optimal shrinkage of covariances estimated from few rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pgnn.factors.piece import Restorable


@dataclass(frozen=True)
class LedoitWolf(Restorable):
    r"""The shrinkage of a covariance matrix that minimises its expected squared error.

    .. math:: s = \frac{\min(\beta, \delta)}{\delta}, \qquad
        \beta = \frac{1}{n^2} \sum_i \|z_i z_i^\top - R\|^2, \quad \delta = \|R - I\|^2

    of rows :math:`z_i` in units of their standard deviations, with correlations :math:`R`. It
    requires complete rows; give a number instead if values are missing.

    References:
        Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance
        matrices.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 4.0], [5.0, 5.0]])
        >>> round(LedoitWolf().share(x, torch.ones(4)), 4)
        0.3881
    """

    def share(self, rows: Tensor, weights: Tensor) -> float:
        """Return the shrinkage :math:`s`.

        Args:
            rows: ``(N, D)`` values.
            weights: ``(N,)`` weight of each row.
        """
        n = weights.sum()
        centred = rows - weights @ rows / n
        deviation = (weights @ centred.square() / n).sqrt()
        z = centred / torch.where(deviation > 0, deviation, 1.0)
        correlations = (z * weights[:, None]).T @ z / n
        delta = (correlations - torch.diag(correlations.diagonal())).square().sum()
        fourth = (weights * z.square().sum(dim=1).square()).sum() / n
        beta = (fourth - correlations.square().sum()) / n
        return float(torch.where(delta > 0, beta / delta, 1.0).clamp(0.0, 1.0))
