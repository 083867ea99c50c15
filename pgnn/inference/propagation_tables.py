"""Tables of a grouped graph as the propagation kernels read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.factor_group import FactorGroup, PottsGroup
from pgnn.inference.grouped_graph import GroupedGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Tables(NamedTuple):
    """The numbers of all factors, in the numbers of an algebra.

    Attributes:
        values: ``(1, T)`` or ``(B, T)``: scaled probabilities, or logarithms.
        start: ``(F,)`` first entry of each factor.
        log_scale: ``(1,)`` or ``(B,)`` what scaling has taken away.
        log_range: Largest difference of two finite logarithms in one table.
    """

    values: Floats
    start: Ints
    log_scale: Floats
    log_range: float


def tables_of(graph: GroupedGraph, temperature: float, weights: Floats | None) -> Tables:
    r"""Tables to the power :math:`1 / (T \rho_f)`, the largest entry of each one.

    Args:
        graph: The factors.
        temperature: ``T``; at zero the logarithms as they are (over :math:`\rho_f`).
        weights: ``(F,)`` positive powers, or None for ones.
    """
    parts, starts, scales = [np.zeros((1, 1))], [np.zeros(0, np.int64)], [np.zeros(1)]
    first, done, widest = 1, 0, 0.0
    for g in graph.groups:
        own = None if weights is None else weights[done : done + g.num_factors]
        table = _logarithms(g, temperature or 1.0, own)
        top = table.max(axis=2, keepdims=True)
        top[~np.isfinite(top)] = 0.0
        widest = max(widest, _range(table))
        if temperature > 0:
            table = np.exp(table - top)
            count = g.num_factors if table.shape[1] == 1 else 1
            own_scale = top[:, :, 0] if own is None else top[:, :, 0] * own
            scales.append(own_scale.sum(axis=1) * count)
        size = table.shape[2]
        step = 0 if table.shape[1] == 1 else size
        starts.append(first + step * np.arange(g.num_factors, dtype=np.int64))
        first += size * table.shape[1]
        done += g.num_factors
        parts.append(table.reshape(len(table), -1))
    rows = max(len(p) for p in parts)
    if rows > 1:
        parts = [np.broadcast_to(p, (rows, p.shape[1])) for p in parts]
    values = np.concatenate(parts, axis=1)
    scale = np.zeros(max(len(s) for s in scales))
    for s in scales:
        scale = scale + s
    return Tables(values, np.concatenate(starts), scale, widest)


def _logarithms(g: FactorGroup, temperature: float, weights: Floats | None) -> Floats:
    """``(1 or B, F or 1, size)`` logs over temperature and weight; a new array."""
    numbers = (g.coupling if isinstance(g, PottsGroup) else g.log_values).detach()
    values = numbers.to("cpu").double().numpy()
    axes = 1 if isinstance(g, PottsGroup) else 1 + g.arity
    if values.ndim == axes:
        values = values[None]
    values = values.reshape(*values.shape[:2], -1)
    if isinstance(g, PottsGroup):
        values = np.concatenate([np.zeros_like(values), values], axis=2)
    if weights is None:
        return np.asarray(values / temperature)
    return np.asarray(values / (temperature * weights[None, :, None]))


def _range(table: Floats) -> float:
    finite = np.where(np.isneginf(table), np.inf, table).min(axis=2)
    top = table.max(axis=2)
    kept = np.isfinite(finite) & np.isfinite(top)
    return float((top - finite)[kept].max(initial=0.0))
