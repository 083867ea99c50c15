"""The conjugate prior on the means and covariances of normal distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.errors import ModelError
from pgnn.factors.conditionals.table_reader import read_numbers
from pgnn.factors.piece import Restorable


@dataclass(frozen=True, eq=False)
class NormalWishart(Restorable):
    r"""A normal-inverse-Wishart prior on each mean and covariance; fits give the joint mode.

    .. math:: \mu \mid \Sigma \sim N(m, \Sigma / \kappa), \qquad
        \Sigma \sim W^{-1}(\Psi, \nu): \quad
        \hat\Sigma = \frac{\Psi + S + \kappa (\hat\mu - m)(\hat\mu - m)^\top}{n + \nu + D + 2}

    with :math:`S` the scatter about :math:`\hat\mu = (\kappa m + n \bar x) / (\kappa + n)`.
    Diagonal and spherical covariances have the same density restricted to their form. A tied one
    has one such prior, and a normal for each mean. In a regression the coefficients have the
    prior of the mean, about zero, and each counts in the denominator as the mean does.

    Args:
        mean: :math:`m`, a number or ``(D,)``.
        confidence: :math:`\kappa`, how many rows the prior mean counts as.
        degrees: :math:`\nu`, degrees of freedom; the formula also holds for values that make the
            prior improper.
        scale: :math:`\Psi`, a number (times the identity), ``(D,)`` (a diagonal) or ``(D, D)``.

    Raises:
        ModelError: If the confidence is negative, or a number is not finite.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, third edition, section 3.6.

    Example:
        >>> NormalWishart(confidence=1.0, degrees=4.0, scale=[1.0, 2.0]).matrix(2)
        tensor([[1., 0.],
                [0., 2.]], dtype=torch.float64)
    """

    mean: Any = 0.0
    confidence: float = 0.0
    degrees: float = 0.0
    scale: Any = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.confidence) and self.confidence >= 0):
            raise ModelError(f"confidence must be finite and not negative, got {self.confidence}")
        if not math.isfinite(self.degrees):
            raise ModelError(f"degrees must be finite, got {self.degrees}")

    def location(self, size: int) -> Tensor:
        """The prior mean ``(D,)``.

        Raises:
            ModelError: If the mean that was given has another shape.
        """
        given = _finite("mean of NormalWishart", self.mean)
        if given.shape not in ((), (size,)):
            raise ModelError(f"mean of NormalWishart must have shape ({size},), got {given.shape}")
        return torch.from_numpy(np.broadcast_to(given, (size,)).copy())

    def matrix(self, size: int) -> Tensor:
        """The scale as a matrix ``(D, D)``.

        Raises:
            ModelError: If the scale that was given has another shape, or is not symmetric with a
                diagonal that is not negative.
        """
        given = _finite("scale of NormalWishart", self.scale)
        if given.shape in ((), (size,)):
            given = np.diag(np.broadcast_to(given, (size,)))
        if given.shape != (size, size):
            raise ModelError(
                f"scale of NormalWishart must be a number or have shape ({size},) or "
                f"({size}, {size}), got {given.shape}"
            )
        if not np.allclose(given, given.T) or np.linalg.eigvalsh(given)[0] < -1e-9:
            raise ModelError("scale of NormalWishart must be symmetric and not negative")
        return torch.from_numpy(given.copy())


def _finite(what: str, given: Any) -> np.ndarray:
    values = read_numbers(what, given)
    if not np.isfinite(values).all():
        raise ModelError(f"{what} must be finite")
    return values
