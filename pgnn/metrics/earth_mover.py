"""The exact earth mover's distance between two samples or distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.errors import DataError
from pgnn.limits import check_size

Floats = NDArray[np.float64]


def earth_mover(
    x: Any, y: Any, x_weights: Any = None, y_weights: Any = None, *, costs: Any = None
) -> float:
    r"""Return the smallest mean distance over which mass moves between two samples.

    .. math:: W_1(p, q) = \min_{\pi \ge 0} \sum_{ij} \pi_{ij} \|x_i - y_j\|, \qquad
        \sum_j \pi_{ij} = p_i, \quad \sum_i \pi_{ij} = q_j

    On the line, it is the area between the distribution functions. For equally many points of equal
    weight, it is an assignment problem; otherwise, a linear program.

    Args:
        x: ``(N,)`` numbers or ``(N, ...)`` points; distances are Euclidean.
        y: ``(M,)`` numbers or ``(M, ...)`` points.
        x_weights: ``(N,)`` masses, normalised to sum to one; equal by default.
        y_weights: ``(M,)`` masses, normalised to sum to one; equal by default.
        costs: ``(N, M)`` costs of moving, instead of distances; ``x`` and ``y`` may then be None.

    Raises:
        DataError: If shapes do not fit, or a number is not finite, or weights are negative.
        Intractable: If the matrix of distances does not fit into memory.

    Cost:
        ``N log N`` on the line; about ``N ** 3`` for assignments: a second for 2,000 points; more
        for the linear program, a few hundred points.

    References:
        Villani (2009), Optimal Transport. Peyré and Cuturi (2019), Computational Optimal Transport,
        sections 2.6 and 3.1.

    Example:
        >>> earth_mover([0.0, 1.0], [2.0, 3.0])
        2.0
        >>> earth_mover([[0.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]], y_weights=[0.5, 0.5])
        2.5
    """
    if costs is not None:
        c = _array("costs", costs)
        if c.ndim != 2:
            raise DataError(f"costs must have shape (N, M), got {c.shape}")
        p, q = _masses("x_weights", x_weights, len(c)), _masses("y_weights", y_weights, c.shape[1])
        return _transport(c, p, q)
    first, second = _array("x", x), _array("y", y)
    if not len(first) or not len(second) or first.shape[1:] != second.shape[1:]:
        raise DataError(
            "x and y must have at least one row each, and points of one shape, got "
            f"{first.shape} and {second.shape}"
        )
    p = _masses("x_weights", x_weights, len(first))
    q = _masses("y_weights", y_weights, len(second))
    first, second = first.reshape(len(first), -1), second.reshape(len(second), -1)
    if first.shape[1] == 1:
        return _on_the_line(first[:, 0], second[:, 0], p, q)
    check_size("distances of all pairs of points", len(first) * len(second))
    from scipy.spatial.distance import cdist

    equal_masses = x_weights is None and y_weights is None and len(first) == len(second)
    distances = cdist(first, second)
    if equal_masses:
        from scipy.optimize import linear_sum_assignment

        return float(distances[linear_sum_assignment(distances)].mean())
    return _transport(distances, p, q)


def _on_the_line(x: Floats, y: Floats, p: Floats, q: Floats) -> float:
    places = np.concatenate([x, y])
    order = np.argsort(places, kind="stable")
    gap = np.cumsum(np.concatenate([p, -q])[order])[:-1]
    return float(np.abs(gap) @ np.diff(places[order]))


def _transport(costs: Floats, p: Floats, q: Floats) -> float:
    """Solve the linear program, without one redundant constraint."""
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    n, m = costs.shape
    rows = kron(eye_array(n), np.ones((1, m)))
    columns = kron(np.ones((1, n)), eye_array(m))
    solution = linprog(
        costs.ravel(),
        A_eq=vstack([rows, columns]).tocsr()[:-1],
        b_eq=np.concatenate([p, q])[:-1],
        method="highs",
    )
    if not solution.success:
        raise DataError(f"the linear program of the distance has no solution: {solution.message}")
    return float(solution.fun)


def _array(name: str, value: Any) -> Floats:
    array = value.detach().cpu() if isinstance(value, Tensor) else value
    try:
        floats: Floats = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers: {error}") from error
    if not floats.ndim or not np.isfinite(floats).all():
        raise DataError(f"{name} must be finite numbers with an axis for rows, got {value!r}")
    return floats


def _masses(name: str, weights: Any, count: int) -> Floats:
    if weights is None:
        return np.full(count, 1.0 / count)
    masses = _array(name, weights)
    if masses.shape != (count,) or (masses < 0).any() or not masses.any():
        raise DataError(
            f"{name} must be {count} non-negative masses with a positive sum, got {weights!r}"
        )
    shares: Floats = masses / masses.sum()
    return shares
