"""Graphs of nearest neighbours."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np

from pgnn.errors import DataError, ModelError


def neighbour_graph(
    points: Any,
    k: int | None = None,
    radius: float | None = None,
    width: float | None = None,
    *,
    matrix: bool = False,
) -> Any:
    r"""Return the graph that joins each point to its nearest ones, or to all within a radius.

    Edges have the ``weight`` :math:`\exp(-d^2 / 2 h^2)` of their length :math:`d`, or one.

    Args:
        points: ``(N, D)`` numbers.
        k: Neighbours of each point; two points are joined if one is a neighbour of the other.
        radius: Largest length of an edge; instead of ``k``.
        width: :math:`h`; all edges have weight one if not given.
        matrix: Whether to return the weights, a SciPy sparse matrix, which of many points takes
            a small part of the memory and time.

    Returns:
        An ``nx.Graph`` whose nodes are the indices of the points, or the matrix.

    Raises:
        ModelError: If not one of ``k`` and ``radius`` is given, or a number is out of range.
        DataError: If points are not finite numbers.

    Cost:
        ``O(N log N)`` in few dimensions.

    References:
        Belkin and Niyogi (2003), Laplacian eigenmaps for dimensionality reduction and data
        representation, section 2.

    Example:
        >>> sorted(neighbour_graph([[0.0], [1.0], [5.0]], k=1).edges)
        [(0, 1), (1, 2)]
    """
    from scipy.sparse import coo_array
    from scipy.spatial import cKDTree

    try:
        x = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"points must be numbers, got {type(points).__name__}") from None
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"points must be finite numbers (N, D), got shape {x.shape}")
    if (k is None) == (radius is None):
        raise ModelError("give either k=, the number of neighbours, or radius=")
    if k is not None and (not isinstance(k, int) or not 1 <= k < max(len(x), 2)):
        raise ModelError(f"k must be a number from 1 to {max(len(x) - 1, 1)}, got {k!r}")
    for name, value in (("radius", radius), ("width", width)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ModelError(f"{name} must be positive, got {value!r}")
    size = len(x)
    if radius is not None:
        pairs = cKDTree(x).query_pairs(radius, output_type="ndarray")
        first, second = pairs[:, 0], pairs[:, 1]
        lengths = np.sqrt(((x[first] - x[second]) ** 2).sum(axis=1))
    elif size < 2:
        first = second = np.zeros(0, dtype=np.intp)
        lengths = np.zeros(0)
    else:
        first, second, lengths = _nearest(cKDTree(x), x, int(k or 1))
    weights = np.ones(len(lengths)) if width is None else np.exp(-0.5 * (lengths / width) ** 2)
    half = coo_array((np.maximum(weights, 1e-300), (first, second)), shape=(size, size)).tocsr()
    whole = half.maximum(half.T)
    return whole if matrix else nx.from_scipy_sparse_array(whole)


def _nearest(tree: Any, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of neighbours and their distances; no point is its own neighbour."""
    lengths, neighbours = tree.query(x, k + 1)
    is_self = neighbours == np.arange(len(x))[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # more than k points coincide with it
    others = ~is_self
    first = np.repeat(np.arange(len(x)), k)
    return first, neighbours[others], lengths[others]
