"""Points with given first and second moments."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def moment_points(mean: Tensor, covariance: Tensor) -> Tensor:
    r"""Return ``(*batch, 2 D, D)`` points of equal weight with a mean and a covariance.

    .. math:: \mu \pm \sqrt D \, L_i, \quad i = 1, \dots, D, \qquad L L^\top = \Sigma

    Averages of quadratic functions over them equal expectations under any distribution with these
    moments. The root :math:`L` is that of the correlations, times the deviations, so that elements
    of very different scales keep their digits.

    Args:
        mean: ``(*batch, D)`` means.
        covariance: ``(*batch, D, D)`` covariances, possibly singular.

    References:
        Julier and Uhlmann (1997), A new extension of the Kalman filter to nonlinear systems.
    """
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt().unsqueeze(-1)
    unit = deviation.masked_fill(deviation == 0, 1.0)
    correlation = (covariance + covariance.mT) / 2 / unit / unit.mT
    values, vectors = torch.linalg.eigh(correlation)
    root = deviation * vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)
    steps = math.sqrt(mean.shape[-1]) * root.mT
    center = mean.unsqueeze(-2)
    return torch.cat([center + steps, center - steps], dim=-2)
