"""Lloyd's algorithm: rows are assigned to the nearest centre, centres to the mean of their rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    """The result of Lloyd's algorithm.

    Attributes:
        labels: ``(N,)`` index of each row's centre.
        centres: ``(K, D)``.
        iterations: Number of iterations.
        converged: Whether no row changed its centre in the last iteration.
    """

    labels: Tensor
    centres: Tensor
    iterations: int
    converged: bool

    def sum_of_squares(self, rows: Tensor, weights: Tensor | None = None) -> float:
        """Return the sum of squared distances of rows to their centres."""
        squares = (rows - self.centres[self.labels]).square().sum(dim=1)
        return float((squares if weights is None else squares * weights).sum())


def lloyd(
    rows: Tensor, centres: Tensor, max_iterations: int, weights: Tensor | None = None
) -> Clusters:
    r"""Lower :math:`\sum_n w_n \min_k \|x_n - m_k\|^2` until it no longer decreases.

    A centre without rows is not moved.

    Args:
        rows: ``(N, D)`` numbers.
        centres: ``(K, D)`` initial centres.
        max_iterations: Largest number of iterations.
        weights: ``(N,)`` weight of each row; one if not given.

    Cost:
        ``O(iterations N K D)``.

    References:
        Lloyd (1982), Least squares quantization in PCM.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [8.0], [9.0]])
        >>> lloyd(rows, torch.tensor([[0.0], [1.0]]), 10).centres.tolist()
        [[0.5], [8.5]]
    """
    labels, settled, iterations = nearest(rows, centres), False, 0
    w = rows.new_ones(len(rows)) if weights is None else weights.to(rows)
    weighted = rows if weights is None else rows * w.unsqueeze(1)
    while iterations < max_iterations and not settled:
        counts = torch.bincount(labels, w, minlength=len(centres)).to(rows).unsqueeze(1)
        sums = torch.zeros_like(centres).index_add_(0, labels, weighted)
        centres = torch.where(counts > 0, sums / counts.masked_fill(counts <= 0, 1.0), centres)
        before, labels = labels, nearest(rows, centres)
        settled, iterations = torch.equal(before, labels), iterations + 1
    return Clusters(labels, centres, iterations, settled)


def spread_centres(rows: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    r"""Choose rows one after another, far from those before.

    Each is the best of :math:`2 + \lfloor\log K\rfloor` candidates, which are drawn with
    probabilities proportional to their squared distances: the one that leaves the smallest sum.

    Cost:
        ``O(N K D log K)``.

    References:
        Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding, section 6.
    """
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    distance = (rows - rows[chosen[0]]).square().sum(dim=1)
    tries = 2 + int(math.log(num_clusters))
    for _ in range(num_clusters - 1):
        total = distance.cumsum(0)
        at = torch.rand(tries, generator=generator, dtype=torch.float64).to(rows) * total[-1]
        candidates = torch.searchsorted(total, at, right=True).clamp(max=len(rows) - 1)
        left = torch.stack([_nearer(distance, rows, rows[n]) for n in candidates.tolist()])
        best = int(left.sum(dim=1).argmin())
        chosen.append(int(candidates[best]))
        distance = left[best]
    return rows[chosen]


def _nearer(distance: Tensor, rows: Tensor, centre: Tensor) -> Tensor:
    """Squared distances of rows to the nearest centre, with one more."""
    return torch.minimum(distance, (rows - centre).square().sum(dim=1))


def nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Return the number of the nearest centre of each row: their own lengths do not matter."""
    score = torch.addmm(centres.square().sum(dim=1), rows, centres.t(), alpha=-2.0)
    return score.argmin(dim=1)
