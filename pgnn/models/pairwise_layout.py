"""Layout of pairwise counts of states, for trees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PairwiseLayout:
    """Layout of the states of variables in matrices of pairwise counts.

    Args:
        sizes: Numbers of states.

    Attributes:
        most: The largest number of states.
        reduced: Rows of a matrix of counts: a constant, and all states but the first.
        kept: Variables and states of these rows.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes, self.most = list(sizes), max(sizes)
        self.reduced = 1 + sum(k - 1 for k in sizes)
        self._offset = np.concatenate([[0], np.cumsum(sizes)])
        self._owner = np.repeat(np.arange(len(sizes)), sizes)
        expand = np.zeros((self._offset[-1], self.reduced))
        column = 1
        for first, k in zip(self._offset, self.sizes, strict=False):
            expand[first, 0] = 1.0
            expand[first, column : column + k - 1] = -1.0
            expand[first + 1 : first + k, column : column + k - 1] = np.eye(k - 1)
            column += k - 1
        self._expand = expand
        owners = [np.full(k - 1, v) for v, k in enumerate(sizes)]
        self.kept = np.concatenate(owners), np.concatenate([np.arange(1, k) for k in sizes])
        self._indicator = expand[:, :0] if not len(sizes) else np.eye(len(sizes))[self._owner]

    def indicators(self, codes: Tensor) -> Tensor:
        """Return ``(N, d)`` a constant one, and indicators of all states but first ones."""
        indicators = torch.empty(len(codes), self.reduced, dtype=torch.float64)
        indicators[:, 0] = 1.0
        if self.most == 2:
            indicators[:, 1:] = codes[:, [v for v, k in enumerate(self.sizes) if k == 2]]
            return indicators
        state = np.concatenate([np.arange(1, k) for k in self.sizes])
        owner = np.concatenate([np.full(k - 1, v) for v, k in enumerate(self.sizes)])
        indicators[:, 1:] = codes[:, torch.from_numpy(owner)] == torch.from_numpy(state)
        return indicators

    def smoothed(self, counts: NDArray[np.float64], pseudo: float) -> NDArray[np.float64]:
        """Return counts of all pairs of states ``(C, D, D)``, with uniform pseudo-counts added."""
        full = (self._expand @ counts @ self._expand.T).clip(min=0.0)
        uniform = np.repeat(1.0 / np.asarray(self.sizes), self.sizes)
        prior = np.outer(uniform, uniform)
        same = self._owner[:, None] == self._owner
        prior[same] = 0.0
        prior[np.diag_indices(len(uniform))] = uniform
        full[:, same & ~np.eye(len(uniform), dtype=bool)] = 0.0
        return np.asarray(full + pseudo / len(full) * prior)

    def information(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(V, V)`` mutual information of pairs, given the class, times the counts."""
        single = np.diagonal(counts, axis1=1, axis2=2)
        total = single[:, : self.sizes[0]].sum(axis=1)[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = counts * total / (single[:, :, None] * single[:, None, :])
            terms = np.where(counts > 0, counts * np.log(ratio), 0.0).sum(axis=0)
        return np.asarray(self._indicator.T @ terms @ self._indicator)

    def tables(
        self, counts: NDArray[np.float64], parents: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return ``(V, C, S, S)`` log probabilities of states given those of the parents."""
        tables = self.uniform(len(counts))
        for v, p in enumerate(parents):
            states = slice(self._offset[v], self._offset[v + 1])
            if p < 0:
                rows = np.diagonal(counts[:, states, states], axis1=1, axis2=2)[:, None, :]
                rows = np.repeat(rows, self.most, axis=1)
            else:
                rows = counts[:, self._offset[p] : self._offset[p + 1], states]
            total = rows.sum(axis=-1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log(rows / total)
            table = tables[v][:, : rows.shape[1], : self.sizes[v]]
            table[...] = np.where(total > 0, logs, table)
        return tables

    def uniform(self, classes: int) -> NDArray[np.float64]:
        """Return uniform tables; ``-inf`` where a variable has fewer states than ``most``."""
        tables = np.full((len(self.sizes), classes, self.most, self.most), -np.inf)
        for v, k in enumerate(self.sizes):
            tables[v, ..., :k] = -np.log(k)
        return tables
