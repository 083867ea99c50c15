"""Sparse precision matrices: solutions, determinants and variances by a sparse factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Intractable, ModelError

Floats = NDArray[np.float64]


class SparseFactor:
    r"""A factorisation of a sparse, symmetric and positive definite matrix.

    Args:
        matrix: ``(n, n)`` SciPy sparse matrix :math:`Q`.

    Raises:
        ModelError: If it is not positive definite.
        Intractable: If its factors do not fit the memory.

    Cost:
        By the fill of the factors: of planar graphs ``O(n log n)`` numbers, ``O(n^1.5)`` steps.

    References:
        Rue and Held (2005), Gaussian Markov Random Fields, sections 2.3 and 2.4. Li (2005), An
        overview of SuperLU.
    """

    def __init__(self, matrix: Any) -> None:
        from scipy.sparse.linalg import splu

        self.size = matrix.shape[0]
        self._factors: Any = None
        if not self.size:
            return
        options = {"SymmetricMode": True}
        try:
            self._factors = splu(
                matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options
            )
        except MemoryError:
            raise Intractable(
                f"the factors of a precision matrix of {self.size:,} nodes do not fit the memory",
                "take engine=pgnn.SparseNormal(iterative=True), which finds means alone",
            ) from None
        except RuntimeError:
            self._factors = None
        pivots = np.zeros(1) if self._factors is None else self._factors.U.diagonal()
        if not (pivots > 0).all():
            raise ModelError(
                "the precision matrix is not positive definite: weights of edges must be positive, "
                "and anchor= too where nothing was observed"
            )
        self._log_det = float(np.log(pivots).sum())

    @property
    def log_determinant(self) -> float:
        """Logarithm of the determinant."""
        return self._log_det if self.size else 0.0

    def solve(self, target: Floats) -> Floats:
        """Return :math:`Q^{-1} b` for ``(n,)`` or ``(n, B)`` numbers."""
        if not self.size:
            return target
        return np.asarray(self._factors.solve(np.ascontiguousarray(target, dtype=np.float64)))

    def variances(self, nodes: NDArray[np.intp], at_once: int = 64) -> Floats:
        """Return the diagonal of the inverse at some nodes, by a solution for each.

        Args:
            nodes: ``(m,)`` numbers of rows.
            at_once: How many are solved for together.
        """
        result = np.empty(len(nodes))
        for first in range(0, len(nodes), at_once):
            block = nodes[first : first + at_once]
            unit = np.zeros((self.size, len(block)))
            unit[block, np.arange(len(block))] = 1.0
            result[first : first + at_once] = self.solve(unit)[block, np.arange(len(block))]
        return result


def iterated(matrix: Any, target: Floats, tolerance: float) -> Floats:
    """Return :math:`Q^{-1} b` by conjugate gradients, for ``(n, B)`` numbers.

    Args:
        matrix: ``(n, n)`` SciPy sparse matrix.
        target: The right sides.
        tolerance: Relative residual at which to stop.

    Raises:
        ModelError: If that is not reached.
    """
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import cg

    scale = diags_array(1.0 / matrix.diagonal())
    result = np.empty_like(target)
    for k in range(target.shape[1]):
        result[:, k], failed = cg(matrix, target[:, k], rtol=tolerance, maxiter=50_000, M=scale)
        if failed:
            raise ModelError(
                "conjugate gradients did not converge: the precision matrix is nearly singular",
                "give anchor= a larger number, or see more nodes",
            )
    return result
