"""Maps from unconstrained numbers onto the values that a constraint allows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints

_COVARIANCES = (type(constraints.positive_definite), type(constraints.positive_semidefinite))


def bijection_onto(constraint: Any) -> Any:
    """Return a bijection from vectors of real numbers onto the values that fulfil a constraint.

    Those of ``torch.distributions.biject_to``, and triangular and positive definite matrices.

    Raises:
        NotImplementedError: If none is known.

    Example:
        >>> bijection_onto(constraints.positive)(torch.tensor(0.0))
        tensor(1.)
        >>> bijection_onto(constraints.positive_definite)(torch.zeros(3))
        tensor([[1., 0.],
                [0., 1.]])
    """
    base = getattr(constraint, "base_constraint", None)
    if base is not None:  # independent copies, mixtures: log determinants are summed in any case
        return bijection_onto(base)
    if isinstance(constraint, type(constraints.lower_cholesky)):
        return TriangularMatrix()
    if isinstance(constraint, _COVARIANCES):
        return PositiveDefiniteMatrix()
    return biject_to(constraint)


class TriangularMatrix(Transform):
    r"""Vectors of :math:`n (n + 1) / 2` numbers as lower triangular matrices.

    The first :math:`n` numbers are logs of the diagonal, the others the rows below it. (torch's own
    map takes :math:`n \times n` numbers, half of which mean nothing: it is no bijection.)
    """

    domain = constraints.real_vector
    codomain: Any = constraints.lower_cholesky
    bijective = True

    def forward_shape(self, shape: Any) -> torch.Size:
        """Return the shape of the matrices."""
        n = math.isqrt(2 * shape[-1])
        return torch.Size((*shape[:-1], n, n))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """Return the shape of the vectors."""
        n = shape[-1]
        return torch.Size((*shape[:-2], n * (n + 1) // 2))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log of the product of the diagonal."""
        return x[..., : y.shape[-1]].sum(-1)

    def _call(self, x: Tensor) -> Tensor:
        n = math.isqrt(2 * x.shape[-1])
        place = torch.full((n, n), x.shape[-1])
        place[*_below(n)] = torch.arange(n, x.shape[-1])
        place.fill_diagonal_(0).add_(torch.diag(torch.arange(n)))
        zero = x.new_zeros(*x.shape[:-1], 1)
        every = torch.cat([x[..., :n].exp(), x[..., n:], zero], dim=-1)
        return every.index_select(-1, place.reshape(-1)).reshape(*x.shape[:-1], n, n)

    def _inverse(self, y: Tensor) -> Tensor:
        diagonal = y.diagonal(dim1=-2, dim2=-1).log()
        i, j = _below(y.shape[-1])
        return torch.cat([diagonal, y[..., i, j]], dim=-1)


class PositiveDefiniteMatrix(TriangularMatrix):
    r"""Vectors of :math:`n (n + 1) / 2` numbers as positive definite matrices :math:`L L^\top`.

    .. math:: \left| \frac{\partial L L^\top}{\partial L} \right|
        = 2^n \prod_{i=1}^n L_{ii}^{n - i + 1}

    References:
        Gupta and Nagar (2000), Matrix Variate Distributions, section 1.3.
    """

    codomain = constraints.positive_definite

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log determinant over the entries on and below the diagonal."""
        n = y.shape[-1]
        powers = torch.arange(n + 1, 1, -1, dtype=x.dtype)
        return (powers * x[..., :n]).sum(-1) + n * math.log(2.0)

    def _call(self, x: Tensor) -> Tensor:
        lower = super()._call(x)
        return lower @ lower.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return super()._inverse(torch.linalg.cholesky(y))


def _below(n: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of what lies below the diagonal."""
    i, j = torch.tril_indices(n, n, -1)
    return i, j
