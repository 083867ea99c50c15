"""The likelihood of Gaussian fields, of which all but a ratio has a closed form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from pgnn.abilities import GaussianFieldModel
from pgnn.factors.gaussians.sparse_precision import SparseFactor

_RATIOS = (-16.0, 16.0)
"""Logs between which the ratio of anchor and smoothness is sought."""


class FieldProfile:
    """The likelihood of rows as a function of the ratio of anchor and smoothness.

    Args:
        field: What is given, and what is not.
        x: ``(N, n)`` rows.
        weights: ``(N,)``.
    """

    def __init__(self, field: Any, x: np.ndarray, weights: np.ndarray) -> None:
        self.field, self.x, self.weights = field, x, weights
        self.patterns = _patterns(~np.isnan(x))

    def best(self) -> tuple[float, float, float, float]:
        """The best over all ratios; see :meth:`at`."""
        from scipy.optimize import minimize_scalar

        found = minimize_scalar(
            lambda log_ratio: -self.at(float(np.exp(log_ratio)))[0],
            bounds=_RATIOS,
            method="bounded",
            options={"xatol": 1e-8},
        )
        return self.at(float(np.exp(found.x)))

    def at(self, ratio: float | None) -> tuple[float, float, float, float]:
        """The log-likelihood, and the best smoothness, anchor and mean; None for given ratios."""
        own = self.field
        given = {n: float(getattr(own, n).detach()) for n in ("smoothness", "anchor", "mean")}
        learnt = {n for n in given if getattr(own, n).requires_grad}
        if ratio is None and "smoothness" in learnt and given["anchor"] > 0:
            return self._by_line(given, learnt)
        if "smoothness" not in learnt:
            tau = given["smoothness"]
            kappa = given["anchor"] if ratio is None else ratio * tau
            return self._evaluated(tau, kappa, 1.0, given["mean"], "mean" in learnt, False)
        kappa = 0.0 if ratio is None else ratio
        return self._evaluated(1.0, kappa, 1.0, given["mean"], "mean" in learnt, True)

    def _by_line(
        self, given: Mapping[str, float], learnt: Collection[str]
    ) -> tuple[float, float, float, float]:
        """Smoothness beside a given anchor."""
        from scipy.optimize import minimize_scalar

        kappa, mean, free = given["anchor"], given["mean"], "mean" in learnt

        def value(log_tau: float) -> tuple[float, float, float, float]:
            return self._evaluated(float(np.exp(log_tau)), kappa, 1.0, mean, free, False)

        best = minimize_scalar(
            lambda t: -value(float(t))[0], bounds=_RATIOS, method="bounded", options={"xatol": 1e-8}
        )
        return value(float(best.x))

    def _evaluated(
        self, tau: float, kappa: float, scale: float, mean: float, free: bool, scaled: bool
    ) -> tuple[float, float, float, float]:
        """The value at a precision; its mean, and its scale, are the best if they are free."""
        field = self.field
        precision = field.precision_at(tau, kappa)
        whole = log_determinant(field, precision, kappa)
        terms = [self._sums(precision, seen, rows) for seen, rows in self.patterns]
        if free and kappa > 0:
            up, down = (sum(t[k] for t in terms) for k in (0, 1))
            mean = up / down if down > 0 else mean
        if not kappa > 0:
            mean = 0.0 if free else mean
        parts = 0 if kappa > 0 else int(field.parts().max()) + 1
        count = rank = log_det = square = 0.0
        for (_, rows), (up, down, own, remaining, size) in zip(self.patterns, terms, strict=True):
            w = self.weights[rows].sum()
            square += own - 2.0 * mean * up + mean**2 * down
            log_det += w * (whole - remaining)
            rank += w * (size - parts)
            count += w
        if scaled:
            scale = rank / square if square > 0 else 1e12
        value = 0.5 * (log_det + rank * np.log(scale / (2.0 * np.pi)) - scale * square)
        return value, tau * scale, kappa * scale, mean

    def _sums(
        self, precision: Any, seen: np.ndarray, rows: np.ndarray
    ) -> tuple[float, float, float, float, int]:
        """Weighted products of rows and ones with the precision of what was seen, and its size."""
        hidden = ~seen
        x, w = self.x[rows][:, seen], self.weights[rows]
        factor = SparseFactor(precision[hidden][:, hidden])
        both = np.column_stack([x.T, np.ones(int(seen.sum()))])
        across = precision[hidden][:, seen] @ both
        whole = precision[seen][:, seen] @ both - precision[seen][:, hidden] @ factor.solve(across)
        ones = whole[:, -1]
        up = float((x @ ones) @ w)
        down = float(w.sum() * ones.sum())
        square = float(((x.T * whole[:, :-1]).sum(axis=0) * w).sum())
        return up, down, square, factor.log_determinant, int(seen.sum())


def log_determinant(field: GaussianFieldModel, precision: Any, anchor: float) -> float:
    """Return the log determinant of a precision; without an anchor, that of what is proper.

    Of each part of the graph one node is held: what is left times the number of its nodes is the
    product of the eigenvalues that are not zero.
    """
    if anchor > 0:
        return SparseFactor(precision).log_determinant
    parts = field.parts()
    _, first, sizes = np.unique(parts, return_index=True, return_counts=True)
    kept = np.ones(len(parts), dtype=bool)
    kept[first] = False
    own = SparseFactor(precision[kept][:, kept]).log_determinant
    return own + float(np.log(sizes).sum())


def _patterns(seen: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Which nodes were seen, and the rows that have seen just these."""
    keys, place = np.unique(seen, axis=0, return_inverse=True)
    place = place.reshape(-1)
    return [(k, np.flatnonzero(place == i)) for i, k in enumerate(keys) if k.any()]
