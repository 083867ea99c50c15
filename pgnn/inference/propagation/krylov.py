"""Linear systems that are known by their products only, many at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_RESTART = 12


def solve(
    matrix: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, max_products: int
) -> tuple[Tensor, Tensor]:
    r"""Solve :math:`A_b x_b = r_b` for every row by restarted GMRES.

    Args:
        matrix: Maps ``(B, M)`` vectors to the products of each row's matrix with its vector.
        right: ``(B, M)`` right-hand sides.
        tolerance: Largest residual of a row, relative to its right-hand side.
        max_products: Most products with ``matrix``.

    Returns:
        ``(B, M)`` solutions and ``(B,)`` relative residuals, zero where the right-hand side is.

    Cost: memory of 13 vectors, whatever ``max_products`` is.

    References:
        Saad and Schultz (1986), GMRES: a generalized minimal residual algorithm for solving
        nonsymmetric linear systems.
    """
    size = torch.linalg.vector_norm(right, dim=1)
    x = torch.zeros_like(right)
    rest, products = right, 0
    left = _relative(rest, size)
    while products < max_products and bool((left > tolerance).any()):
        x = x + _cycle(matrix, rest, tolerance * size)
        rest = right - matrix(x)
        products += _RESTART + 1
        before, left = left, _relative(rest, size)
        if bool((left >= before).all()):
            break
    return x, left


def _relative(rest: Tensor, size: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(rest, dim=1)
    return length / size.masked_fill(size == 0, 1.0)


def _cycle(matrix: Callable[[Tensor], Tensor], rest: Tensor, enough: Tensor) -> Tensor:
    """The best correction out of a Krylov space of a few dimensions."""
    size = torch.linalg.vector_norm(rest, dim=1)
    basis = [_unit(rest, size)]
    rows = len(rest)
    hessenberg = rest.new_zeros(rows, _RESTART + 1, _RESTART)
    first = rest.new_zeros(rows, _RESTART + 1)
    first[:, 0] = size
    weights = rest.new_zeros(rows, _RESTART)
    for k in range(_RESTART):
        new = matrix(basis[k])
        # twice is enough to be orthogonal up to rounding
        for _ in range(2):
            for j, direction in enumerate(basis):
                along = (new * direction).sum(1)
                hessenberg[:, j, k] += along
                new = new - along[:, None] * direction
        length = torch.linalg.vector_norm(new, dim=1)
        hessenberg[:, k + 1, k] = length
        basis.append(_unit(new, length))
        used = hessenberg[:, : k + 2, : k + 1]
        weights = torch.linalg.pinv(used) @ first[:, : k + 2, None]
        error = (used @ weights - first[:, : k + 2, None]).norm(dim=(1, 2))
        if bool((error <= enough).all()):
            break
    correction = torch.zeros_like(rest)
    for direction, weight in zip(basis, weights.unbind(1), strict=False):
        correction = correction + weight * direction
    return correction


def _unit(vector: Tensor, length: Tensor) -> Tensor:
    """A vector of length one, or zero if nothing but rounding is left."""
    tiny = length <= torch.finfo(vector.dtype).tiny
    return (vector / length.masked_fill(tiny, 1.0)[:, None]).masked_fill(tiny[:, None], 0.0)
