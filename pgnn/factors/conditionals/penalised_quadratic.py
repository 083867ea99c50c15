"""Least squares with penalties on absolute values and squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SWEEPS = 10_000
"""Most rounds over all coordinates."""
_MOVE = 1e-9
"""Relative move of a round that is none: the rest is solved for on the support."""


def penalised_quadratic(matrix: Floats, target: Floats, l1: Floats, l2: Floats) -> Floats:
    r"""Return the minimiser of a quadratic with penalties.

    .. math:: \tfrac12 v^\top H v - g^\top v
        + \sum_k \big(l_{1k} |v_k| + \tfrac12 l_{2k} v_k^2\big)

    Args:
        matrix: ``(P, P)`` symmetric :math:`H`, with no negative eigenvalue.
        target: ``(P,)`` :math:`g`.
        l1: ``(P,)`` penalties of absolute values.
        l2: ``(P,)`` penalties of half squares.

    Cost:
        ``O(P^3)`` without absolute values; otherwise coordinate descent, ``O(P^2)`` per round, and
        a linear system over the nonzero coordinates.

    References:
        Friedman, Hastie and Tibshirani (2010), Regularization paths for generalized linear models
        via coordinate descent, section 2.
    """
    curvature: Floats = np.asarray(matrix + np.diag(l2), dtype=np.float64)
    free, kept = np.flatnonzero(l1 == 0), np.flatnonzero(l1 > 0)
    if not len(kept):
        return _solved(curvature, target)
    solution = np.zeros_like(target)
    # what is not penalised follows from the rest
    across = curvature[np.ix_(free, kept)]
    through = _solved(curvature[np.ix_(free, free)], np.column_stack([across, target[free]]))
    reduced = curvature[np.ix_(kept, kept)] - across.T @ through[:, :-1]
    solution[kept] = _descended(reduced, target[kept] - across.T @ through[:, -1], l1[kept])
    solution[free] = through[:, -1] - through[:, :-1] @ solution[kept]
    return solution


def _descended(gram: Floats, target: Floats, l1: Floats) -> Floats:
    """Return the result of coordinate descent for fully penalised coordinates."""
    curvature = gram.diagonal().copy()
    value: Floats = np.zeros(len(target))
    gradient: Floats = target.copy()  # of what is maximised, but for the kinks
    size = np.abs(target).max(initial=0.0)
    for _ in range(_SWEEPS):
        moved = 0.0
        for k in np.flatnonzero(curvature > 0):
            wanted = gradient[k] + curvature[k] * value[k]
            new = np.sign(wanted) * max(abs(wanted) - l1[k], 0.0) / curvature[k]
            step = new - value[k]
            if step:
                gradient = gradient - gram[k] * step
                value[k] = new
                moved = max(moved, abs(step) * curvature[k])
        if moved <= _MOVE * size:
            break
    return _polished(gram, target, l1, value)


def _polished(gram: Floats, target: Floats, l1: Floats, value: Floats) -> Floats:
    """Return the exact solution on the support, if its signs are consistent."""
    kept = value != 0
    if not kept.any():
        return value
    exact = np.zeros_like(value)
    sign = np.sign(value[kept])
    exact[kept] = _solved(gram[np.ix_(kept, kept)], target[kept] - l1[kept] * sign)
    return exact if np.array_equal(np.sign(exact[kept]), sign) else value


def _solved(matrix: Floats, target: Floats) -> Floats:
    """Return the minimum-norm solution."""
    root = np.sqrt(np.abs(matrix.diagonal()))
    unit = 1.0 / np.where(root > 0, root, 1.0)  # so that units do not matter
    across = unit.reshape(-1, *[1] * (target.ndim - 1))
    solution = np.linalg.lstsq(unit[:, None] * matrix * unit, across * target, rcond=1e-13)[0]
    return np.asarray(across * solution, dtype=np.float64)


def penalised_coefficients(
    zz: Floats,
    yz: Floats,
    precision: Floats,
    l1: Floats,
    l2: Floats,
    old: Floats,
    free: NDArray[np.bool_],
) -> Floats:
    r"""Return the best coefficients ``(D, F)`` of a regression with penalties.

    .. math:: \tfrac12 \mathrm{tr}\, P (W Z W^\top - 2 Y W^\top) + \text{penalties}

    Args:
        zz: ``(F, F)`` :math:`Z`, sums of products of the regressors.
        yz: ``(D, F)`` :math:`Y`, sums of products of responses and regressors.
        precision: ``(D, D)`` :math:`P`, the inverse covariance of the noise.
        l1: ``(F,)`` penalties of absolute values.
        l2: ``(F,)`` penalties of half squares.
        old: ``(D, F)`` current coefficients, kept where not free.
        free: ``(F,)`` mask of coefficients that may change.
    """
    new = old.copy()
    free_matrix = zz[np.ix_(free, free)]
    target = yz[:, free] - old[:, ~free] @ zz[np.ix_(~free, free)]
    if _is_diagonal(precision):
        for d, p in enumerate(np.diag(precision)):
            new[d, free] = penalised_quadratic(p * free_matrix, p * target[d], l1[free], l2[free])
        return new
    size = len(precision)
    whole = penalised_quadratic(
        np.asarray(np.kron(precision, free_matrix), dtype=np.float64),
        (precision @ target).ravel(),
        np.tile(l1[free], size),
        np.tile(l2[free], size),
    )
    new[:, free] = whole.reshape(size, -1)
    return new


def _is_diagonal(matrix: Floats) -> bool:
    return not (matrix - np.diag(np.diag(matrix))).any()
