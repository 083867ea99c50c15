"""Clusters of rows, as a start for models whose parts must differ."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_ROWS = 20_000
"""Rows that centres are found from; more are thinned out at random."""


def kmeans(
    rows: Tensor, num_clusters: int, generator: torch.Generator, num_iter: int = 20
) -> Tensor:
    r"""Return a cluster for each row: Lloyd's algorithm from k-means++ centres.

    Columns are scaled to unit variance first, so that units do not matter.

    Args:
        rows: ``(N, D)`` real numbers without ``NaN``, at least one row.
        num_clusters: ``K``.
        generator: Source of the draws.
        num_iter: Most rounds of assigning and averaging.

    Returns:
        ``(N,)`` numbers of clusters, ``0 .. K-1``; some are empty where fewer rows are distinct.

    Cost:
        ``O(rounds N K D)``, on at most 20,000 rows until the last assignment.

    References:
        Arthur and Vassilvitskii (2007), k-means++: the advantages of careful seeding.

    Example:
        >>> rows = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
        >>> labels = kmeans(rows, 2, torch.Generator().manual_seed(0))
        >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
        True
    """
    rows = rows.detach().double()
    spread = rows.std(dim=0, correction=0)
    scaled = (rows - rows.mean(dim=0)) / spread.masked_fill(spread == 0, 1.0)
    few = scaled
    if len(rows) > max(MAX_ROWS, 100 * num_clusters):
        chosen = torch.randperm(len(rows), generator=generator)[: max(MAX_ROWS, 100 * num_clusters)]
        few = scaled[chosen.to(rows.device)]
    centres = _spread_centres(few, num_clusters, generator)
    labels = _nearest(few, centres)
    for _ in range(num_iter):
        counts = torch.bincount(labels, minlength=num_clusters).unsqueeze(1)
        sums = torch.zeros_like(centres).index_add_(0, labels, few)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        before, labels = labels, _nearest(few, centres)
        if torch.equal(before, labels):
            break
    return labels if few is scaled else _nearest(scaled, centres)


def _spread_centres(rows: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """Draw rows one after another, each with probability proportional to its squared distance."""
    first = int(torch.randint(len(rows), (1,), generator=generator))
    chosen = [rows[first]]
    distance = (rows - rows[first]).square().sum(dim=1)
    for _ in range(num_clusters - 1):
        total = distance.cumsum(0)
        at = torch.rand(1, generator=generator, dtype=torch.float64).to(rows.device) * total[-1]
        number = int(torch.searchsorted(total, at, right=True).clamp(max=len(rows) - 1))
        chosen.append(rows[number])
        distance = torch.minimum(distance, (rows - rows[number]).square().sum(dim=1))
    return torch.stack(chosen)


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest centre of each row; the rows' own lengths do not matter for that."""
    score = torch.addmm(centres.square().sum(dim=1), rows, centres.t(), alpha=-2.0)
    return score.argmin(dim=1)
