"""What is expected of rows with holes under a tree: states, and pairs of states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NUMBERS = 2**21
"""Numbers of some rows that are worked on together."""


@dataclass(frozen=True, eq=False)
class TreeExpectations:
    """A tree of discrete variables, and what it expects where something was not seen.

    Args:
        parents: ``(V,)`` numbers of the variables' parents, -1 where there is none.
        tables: ``(V, S, S)`` probabilities of states, given those of the parent; the first row
            where there is none.
        sizes: ``(V,)`` numbers of states.
    """

    parents: Ints
    tables: Floats
    sizes: Ints

    def log_evidence(self, codes: Ints) -> Floats:
        """Return ``(N,)`` log probabilities of what was seen of rows ``(N, V)``, -1 where not."""
        return self._upward(codes)[2]

    def marginals(self, codes: Ints) -> Floats:
        """Return ``(N, V, S)`` posterior probabilities; ones and zeros where something was seen."""
        own, messages, _ = self._upward(codes)
        found = np.zeros((len(codes), *self.tables.shape[:2]))
        for v in self.order[::-1]:
            p = self.parents[v]
            if p < 0:
                above = np.broadcast_to(self.tables[v, 0], own[v].shape)
            else:
                rest = np.divide(found[:, p], messages[v], out=np.zeros_like(messages[v]),
                                 where=messages[v] > 0)  # fmt: skip
                above = rest @ self.tables[v]
            both = own[v] * above
            total = both.sum(axis=1, keepdims=True)
            found[:, v] = np.divide(both, total, out=np.zeros_like(both), where=total > 0)
        return found

    def covariances(self, codes: Ints, weights: Floats, marginals: Floats) -> Floats:
        r"""Return ``(V, S, V, S)`` sums of covariances of the states that were not seen.

        .. math:: \sum_n w_n \left( p(x_u = s, x_v = t \mid e_n)
            - p(x_u = s \mid e_n) \, p(x_v = t \mid e_n) \right)

        Args:
            codes: ``(N, V)`` states, -1 where not seen.
            weights: ``(N,)`` what each row counts.
            marginals: Of :meth:`marginals`.

        Cost:
            A pass over the tree for each hole and state: ``O(H S V S^2)`` for ``H`` holes.
        """
        size, most = self.tables.shape[:2]
        found = np.zeros((size * most, size * most))
        for row, variable in self._holes(codes):
            held = codes[row]
            for s in range(most):
                share = marginals[row, variable, s]
                some = share * weights[row] > 0
                if not some.any():
                    continue
                part = held[some].copy()
                part[np.arange(len(part)), variable[some]] = s
                change = self.marginals(part) - marginals[row[some]]
                change[held[some] >= 0] = 0.0
                each = change.reshape(len(part), -1) * (share * weights[row])[some][:, None]
                np.add.at(found, variable[some] * most + s, each)
        return found.reshape(size, most, size, most)

    @cached_property
    def order(self) -> list[int]:
        """Children before parents."""
        depth = np.zeros(len(self.parents), dtype=np.int64)
        for v in range(len(depth)):
            p = self.parents[v]
            while p >= 0:
                depth[v] += 1
                p = self.parents[p]
        found: list[int] = np.argsort(-depth, kind="stable").tolist()
        return found

    def _upward(self, codes: Ints) -> tuple[list[Floats], list[Floats], Floats]:
        """``(N, S)`` evidence below each variable, messages to its parent, and log evidence."""
        most = self.tables.shape[1]
        states = np.arange(most)
        own = [np.where(codes[:, v, None] < 0, states < self.sizes[v], codes[:, v, None] == states)
               .astype(np.float64) for v in range(len(self.parents))]  # fmt: skip
        messages = [np.empty(0)] * len(own)
        logs = np.zeros(len(codes))
        for v in self.order:
            p = self.parents[v]
            sent = own[v] @ self.tables[v].T
            if p < 0:
                sent = sent[:, :1]
            scale = sent.max(axis=1, keepdims=True)
            with np.errstate(divide="ignore"):
                logs += np.log(scale[:, 0])
            sent = np.divide(sent, scale, out=np.zeros_like(sent), where=scale > 0)
            if p >= 0:
                messages[v] = sent
                own[p] = own[p] * sent
        return own, messages, logs

    def _holes(self, codes: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Rows and variables of holes, some at a time."""
        row, variable = np.nonzero(codes < 0)
        step = max(1, _NUMBERS // self.tables[:, 0].size)
        for first in range(0, len(row), step):
            yield row[first : first + step], variable[first : first + step]
