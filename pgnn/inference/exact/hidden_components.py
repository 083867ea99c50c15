"""Inference for rows with missing values, by connected components of the unobserved variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.threads import Stop, interruptible

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

# nanoseconds per cell, per state, and per factor and state
_SPLITTING, _TERM, _FACTOR = 30.0, 8.0, 2.0


@dataclass(frozen=True, eq=False)
class HiddenComponents:
    r"""The connected components of the unobserved variables of each row, shared between rows.

    The probability of a row is a product,

    .. math:: \tilde p(e) = \prod_{f \text{ observed}} \phi_f(e_f)
        \prod_c \sum_{x_c} \prod_{f \text{ touches } c} \phi_f(x_c, e_f),

    over factors whose variables are all observed, and over connected components :math:`c` of the
    hidden variables, which are small if few values are missing. They depend only on structure and
    evidence and are found once; sums and expected counts follow for any parameters.

    Attributes:
        structure: State counts, scopes and strides of the graph, for the kernels.
        known: Table entries of completely observed factors, and the first of each row.
        parts: Indices of the rows' components, and the first of each row.
        scopes: Variables and factors of each component, and the base offset of each factor.
        left: Rows ``(L,)`` whose components are too large to enumerate.
    """

    structure: tuple[Ints, ...]
    known: tuple[Ints, Ints]
    parts: tuple[Ints, Ints]
    scopes: tuple[Ints, ...]
    left: Ints

    @classmethod
    def of(cls, graph: FactorGraph, codes: Codes, most: float) -> HiddenComponents:
        """Find the components of rows.

        Args:
            graph: The factor graph, without row-wise tables; only its structure is used.
            codes: ``(B, V)`` observed states, -1 where none.
            most: Largest work of a row, states times factors; rows with more are in :attr:`left`.

        Cost:
            Linear in the cells of the rows and the scopes of the factors.
        """
        stride = _strides(graph)
        structure = (graph.card, graph.scope_ptr, graph.scope_var, stride)
        order = np.argsort(graph.scope_var, kind="stable")
        factors = np.repeat(np.arange(graph.num_factors), np.diff(graph.scope_ptr))[order]
        degree = np.bincount(graph.scope_var, minlength=len(graph.card))
        degree_ptr = np.concatenate([[0], np.cumsum(degree)]).astype(np.int64)
        holes = (codes < 0).sum(axis=0)
        cells, touched = int(holes.sum()), int(holes @ degree)
        # an omitted row may write up to all its variables after the last component
        cells, touched = cells + len(graph.card), touched + len(graph.scope_var)

        def zeros(size: int) -> Ints:
            return np.zeros(size, dtype=np.int64)

        known = zeros(len(codes) + 1), zeros(len(codes) * graph.num_factors)
        parts = zeros(len(codes) + 1), zeros(cells)
        hidden = zeros(cells + 1), zeros(cells)
        touching = zeros(cells + 1), zeros(touched), zeros(touched)
        left = np.zeros(len(codes), dtype=np.bool_)
        places = np.full(1 << int(2 * cells).bit_length(), -1, dtype=np.int64)
        count = zeros(1)

        def work(stop: Stop) -> None:
            from pgnn.inference.exact.kernels import components

            count[0] = components.split(
                codes, *structure, graph.start, degree_ptr, factors, float(most),
                np.full(graph.num_factors, -1), np.full(len(graph.card), -1), *known, *parts,
                *hidden, *touching, places, left, stop,
            )  # fmt: skip

        interruptible([work], cost=_SPLITTING * codes.size)
        n = int(count[0])
        ends = int(hidden[0][n]), int(touching[0][n])
        scopes = hidden[0][: n + 1], hidden[1][: ends[0]], touching[0][: n + 1]
        return cls(
            structure,
            (known[0], known[1][: known[0][-1]].copy()),
            (parts[0], parts[1][: parts[0][-1]].copy()),
            tuple(x.copy() for x in (*scopes, touching[1][: ends[1]], touching[2][: ends[1]])),
            np.flatnonzero(left),
        )

    @staticmethod
    def bytes_needed(graph: FactorGraph, codes: Codes) -> int:
        """Return the approximate memory of finding the components."""
        degree = np.bincount(graph.scope_var, minlength=len(graph.card))
        holes = (codes < 0).sum(axis=0)
        return 8 * int(len(codes) * graph.num_factors + holes.sum() * 6 + 2 * (holes @ degree))

    @property
    def num_components(self) -> int:
        """Number of distinct components."""
        return len(self.scopes[0]) - 1

    def log_evidence(self, graph: FactorGraph) -> Floats:
        """Return ``(B,)`` log evidence; undefined for rows in :attr:`left`."""
        values = self._values(graph)
        log_z = self._sums(values, np.ones(self.num_components), values, False)
        return _by_row(values[self.known[1]], self.known[0]) + _by_row(
            log_z[self.parts[1]], self.parts[0]
        )

    def counts(self, graph: FactorGraph, weights: Floats) -> Floats:
        """Return weighted expected counts of all factors, flat, over the rows not in :attr:`left`.

        Args:
            graph: The factor graph with its parameters.
            weights: ``(B,)`` weight of each row.
        """
        values = self._values(graph)
        spread = np.repeat(weights, np.diff(self.known[0]))
        counts: Floats = np.bincount(self.known[1], spread, len(values)).astype(np.float64)
        spread = np.repeat(weights, np.diff(self.parts[0]))
        component_weights = np.bincount(self.parts[1], spread, self.num_components)
        self._sums(values, component_weights.astype(np.float64), counts, True)
        return counts

    def _values(self, graph: FactorGraph) -> Floats:
        values: Floats = graph.flat_log_values.detach().to("cpu").double().numpy()
        return values

    def _sums(self, values: Floats, weights: Floats, counts: Floats, counting: bool) -> Floats:
        """Return log sums of all components; their expected counts are added to ``counts``."""
        log_z = np.zeros(self.num_components)
        sizes, touching = np.diff(self.scopes[0]), np.diff(self.scopes[2])
        logs = np.log(self.structure[0])[self.scopes[1]]
        states = np.exp(_by_row(logs, self.scopes[0])).round()
        shape = int(touching.max(initial=1)), int(sizes.max(initial=1))
        space: tuple[Any, ...] = (
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape[0], dtype=np.int64),
            np.zeros(shape[1], dtype=np.int64),
            np.zeros(int(states.max(initial=1.0))),
        )

        def work(stop: Stop) -> None:
            from pgnn.inference.exact.kernels import components

            components.sum_components(
                *self.structure, *self.scopes, values, *space, log_z, weights, counts, counting,
                stop,
            )  # fmt: skip

        cost = float(states @ (_TERM + _FACTOR * touching))
        interruptible([work], cost=cost)
        return log_z


def _strides(graph: FactorGraph) -> Ints:
    """Return the stride of each variable of each scope in its table."""
    card = graph.card[graph.scope_var].astype(np.int64)
    stride = np.ones_like(card)
    for f in np.flatnonzero(np.diff(graph.scope_ptr) > 1).tolist():
        a, b = graph.scope_ptr[f], graph.scope_ptr[f + 1]
        stride[a : b - 1] = np.cumprod(card[a + 1 : b][::-1])[::-1]
    return stride


def _by_row(terms: Floats, ptr: Ints) -> Floats:
    """Return sums of consecutive terms, which may be minus infinity."""
    rows = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    return np.bincount(rows, terms, len(ptr) - 1).astype(np.float64)
