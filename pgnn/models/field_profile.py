"""The profile likelihood of Gaussian fields, with closed forms of all parameters but a ratio."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from pgnn.abilities import GaussianFieldModel
from pgnn.factors.gaussians.sparse_precision import SparseFactor

_RATIOS = (-16.0, 16.0)
"""Bounds of the log ratio of anchor and smoothness."""


class FieldProfile:
    """The profile likelihood of rows as a function of the ratio of anchor and smoothness.

    Args:
        field: The field; its learnable parameters are free, others are fixed.
        x: ``(N, n)`` rows.
        weights: ``(N,)``.
    """

    def __init__(self, field: Any, x: np.ndarray, weights: np.ndarray) -> None:
        self.field, self.x, self.weights = field, x, weights
        self.patterns = _patterns(~np.isnan(x))

    def best(self) -> tuple[float, float, float, float]:
        """Return the maximum over all ratios; see :meth:`at`."""
        from scipy.optimize import minimize_scalar

        optimum = minimize_scalar(
            lambda log_ratio: -self.at(float(np.exp(log_ratio)))[0],
            bounds=_RATIOS,
            method="bounded",
            options={"xatol": 1e-8},
        )
        return self.at(float(np.exp(optimum.x)))

    def at(self, ratio: float | None) -> tuple[float, float, float, float]:
        """Return the profile log-likelihood at a ratio, and its smoothness, anchor and mean.

        Args:
            ratio: Of anchor to smoothness; None for that of a fixed anchor.
        """
        field = self.field
        parameters = {"smoothness": field.smoothness, "anchor": field.anchor, "mean": field.mean}
        values = {n: float(p.detach()) for n, p in parameters.items()}
        free = {n for n, p in parameters.items() if p.requires_grad}
        if ratio is None and "smoothness" in free and values["anchor"] > 0:
            return self._by_line_search(values, free)
        if "smoothness" not in free:
            tau = values["smoothness"]
            kappa = values["anchor"] if ratio is None else ratio * tau
            return self._evaluated(tau, kappa, 1.0, values["mean"], "mean" in free, False)
        kappa = 0.0 if ratio is None else ratio
        return self._evaluated(1.0, kappa, 1.0, values["mean"], "mean" in free, True)

    def _by_line_search(
        self, values: Mapping[str, float], parameters: Collection[str]
    ) -> tuple[float, float, float, float]:
        """Maximise over the smoothness with the anchor fixed."""
        from scipy.optimize import minimize_scalar

        kappa, mean, free = values["anchor"], values["mean"], "mean" in parameters

        def value(log_tau: float) -> tuple[float, float, float, float]:
            return self._evaluated(float(np.exp(log_tau)), kappa, 1.0, mean, free, False)

        best = minimize_scalar(
            lambda t: -value(float(t))[0], bounds=_RATIOS, method="bounded", options={"xatol": 1e-8}
        )
        return value(float(best.x))

    def _evaluated(
        self, tau: float, kappa: float, scale: float, mean: float, free: bool, scaled: bool
    ) -> tuple[float, float, float, float]:
        """The log-likelihood at a precision, maximised over mean and scale if they are free."""
        field = self.field
        precision = field.precision_at(tau, kappa)
        joint = log_determinant(field, precision, kappa)
        terms = [self._sums(precision, observed, rows) for observed, rows in self.patterns]
        if free and kappa > 0:
            up, down = (sum(t[k] for t in terms) for k in (0, 1))
            mean = up / down if down > 0 else mean
        if not kappa > 0:
            mean = 0.0 if free else mean
        parts = 0 if kappa > 0 else int(field.parts().max()) + 1
        count = rank = log_det = square = 0.0
        for (_, rows), (up, down, squares, hidden, size) in zip(self.patterns, terms, strict=True):
            w = self.weights[rows].sum()
            square += squares - 2.0 * mean * up + mean**2 * down
            log_det += w * (joint - hidden)
            rank += w * (size - parts)
            count += w
        if scaled:
            scale = rank / square if square > 0 else 1e12
        value = 0.5 * (log_det + rank * np.log(scale / (2.0 * np.pi)) - scale * square)
        return value, tau * scale, kappa * scale, mean

    def _sums(
        self, precision: Any, observed: np.ndarray, rows: np.ndarray
    ) -> tuple[float, float, float, float, int]:
        """Weighted products of rows and ones with the marginal precision of observed nodes."""
        hidden = ~observed
        x, w = self.x[rows][:, observed], self.weights[rows]
        factor = SparseFactor(precision[hidden][:, hidden])
        columns = np.column_stack([x.T, np.ones(int(observed.sum()))])
        across = precision[hidden][:, observed] @ columns
        products = precision[observed][:, observed] @ columns
        products -= precision[observed][:, hidden] @ factor.solve(across)
        ones = products[:, -1]
        up = float((x @ ones) @ w)
        down = float(w.sum() * ones.sum())
        square = float(((x.T * products[:, :-1]).sum(axis=0) * w).sum())
        return up, down, square, factor.log_determinant, int(observed.sum())


def log_determinant(field: GaussianFieldModel, precision: Any, anchor: float) -> float:
    """Return the log determinant of a precision; without an anchor, its log pseudo-determinant.

    The product of the non-zero eigenvalues of a connected component is the determinant without one
    of its nodes, times the number of its nodes.
    """
    if anchor > 0:
        return SparseFactor(precision).log_determinant
    parts = field.parts()
    _, first, sizes = np.unique(parts, return_index=True, return_counts=True)
    reduced_nodes = np.ones(len(parts), dtype=bool)
    reduced_nodes[first] = False
    reduced = SparseFactor(precision[reduced_nodes][:, reduced_nodes]).log_determinant
    return reduced + float(np.log(sizes).sum())


def _patterns(observed: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return patterns of observed nodes, each with the rows in which just these were observed."""
    patterns, index = np.unique(observed, axis=0, return_inverse=True)
    index = index.reshape(-1)
    return [(p, np.flatnonzero(index == i)) for i, p in enumerate(patterns) if p.any()]
