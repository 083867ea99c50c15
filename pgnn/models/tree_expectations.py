"""Expected states and pairs of states of incomplete rows under a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NUMBERS = 2**21
"""Largest number of intermediate values of a batch of rows."""


@dataclass(frozen=True, eq=False)
class TreeExpectations:
    """Posterior expectations in a tree of discrete variables.

    Args:
        parents: ``(V,)`` indices of the parents, -1 where there is none.
        tables: ``(V, S, S)`` probabilities of states given those of the parent; those of a root are
            in the first row.
        sizes: ``(V,)`` number of states of each variable.
    """

    parents: Ints
    tables: Floats
    sizes: Ints

    def log_evidence(self, codes: Ints) -> Floats:
        """Return ``(N,)`` log probabilities of rows ``(N, V)`` of states, -1 where missing."""
        return self._upward(codes)[2]

    def marginals(self, codes: Ints) -> Floats:
        """Return ``(N, V, S)`` posterior probabilities; zeros and ones where observed."""
        below, messages, _ = self._upward(codes)
        marginals = np.zeros((len(codes), *self.tables.shape[:2]))
        for v in self.order[::-1]:
            p = self.parents[v]
            if p < 0:
                above = np.broadcast_to(self.tables[v, 0], below[v].shape)
            else:
                cavity = np.divide(marginals[:, p], messages[v], out=np.zeros_like(messages[v]),
                                   where=messages[v] > 0)  # fmt: skip
                above = cavity @ self.tables[v]
            product = below[v] * above
            total = product.sum(axis=1, keepdims=True)
            marginals[:, v] = np.divide(product, total, out=np.zeros_like(product), where=total > 0)
        return marginals

    def covariances(self, codes: Ints, weights: Floats, marginals: Floats) -> Floats:
        r"""Return ``(V, S, V, S)`` sums of posterior covariances of missing states.

        .. math:: \sum_n w_n \left( p(x_u = s, x_v = t \mid e_n)
            - p(x_u = s \mid e_n) \, p(x_v = t \mid e_n) \right)

        Args:
            codes: ``(N, V)`` states, -1 where missing.
            weights: ``(N,)`` weight of each row.
            marginals: Result of :meth:`marginals`.

        Cost:
            A pass over the tree for each missing cell and state: ``O(H S V S^2)`` for ``H`` cells.
        """
        size, most = self.tables.shape[:2]
        covariances = np.zeros((size * most, size * most))
        for row, variable in self._missing(codes):
            observed = codes[row]
            for s in range(most):
                share = marginals[row, variable, s]
                possible = share * weights[row] > 0
                if not possible.any():
                    continue
                clamped = observed[possible].copy()
                clamped[np.arange(len(clamped)), variable[possible]] = s
                change = self.marginals(clamped) - marginals[row[possible]]
                change[observed[possible] >= 0] = 0.0
                w = (share * weights[row])[possible][:, None]
                terms = change.reshape(len(clamped), -1) * w
                np.add.at(covariances, variable[possible] * most + s, terms)
        return covariances.reshape(size, most, size, most)

    @cached_property
    def order(self) -> list[int]:
        """The variables, children before parents."""
        depth = np.zeros(len(self.parents), dtype=np.int64)
        for v in range(len(depth)):
            p = self.parents[v]
            while p >= 0:
                depth[v] += 1
                p = self.parents[p]
        order: list[int] = np.argsort(-depth, kind="stable").tolist()
        return order

    def _upward(self, codes: Ints) -> tuple[list[Floats], list[Floats], Floats]:
        """Return ``(N, S)`` evidence below variables, messages to parents, and log evidence."""
        most = self.tables.shape[1]
        states = np.arange(most)
        below = []
        for column, size in zip(codes.T[:, :, None], self.sizes, strict=True):
            possible = np.where(column < 0, states < size, column == states)
            below.append(possible.astype(np.float64))
        messages = [np.empty(0)] * len(below)
        logs = np.zeros(len(codes))
        for v in self.order:
            p = self.parents[v]
            message = below[v] @ self.tables[v].T
            if p < 0:
                message = message[:, :1]
            scale = message.max(axis=1, keepdims=True)
            with np.errstate(divide="ignore"):
                logs += np.log(scale[:, 0])
            message = np.divide(message, scale, out=np.zeros_like(message), where=scale > 0)
            if p >= 0:
                messages[v] = message
                below[p] = below[p] * message
        return below, messages, logs

    def _missing(self, codes: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Iterate over batches of rows and variables of missing cells."""
        row, variable = np.nonzero(codes < 0)
        step = max(1, _NUMBERS // self.tables[:, 0].size)
        for first in range(0, len(row), step):
            yield row[first : first + step], variable[first : first + step]
