"""Tables of a grouped graph as the propagation kernels read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.factor_graph import FactorGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PIECE = 2**18  # entries written at once, so that what is in between stays small


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


def tables_of(graph: FactorGraph, temperature: float, weights: Floats | None) -> Tables:
    r"""Tables to the power :math:`1 / (T \rho_f)`, the largest entry of each one.

    Args:
        graph: The factors.
        temperature: ``T``; at zero the logarithms as they are (over :math:`\rho_f`).
        weights: ``(F,)`` positive powers, or None for ones.
    """
    given = [_numbers(g) for g in graph.compiled]
    counts = [g.num_factors if weights is not None else n.shape[1] for g, n in _both(graph, given)]
    sizes = [n.shape[2] for n in given]
    rows = max([len(n) for n in given if len(n) != 1], default=1)
    values = np.zeros((rows, 1 + sum(c * s for c, s in zip(counts, sizes, strict=True))))
    starts, scale = [np.zeros(0, np.int64)], np.zeros(rows)
    widest = 0.0
    first, done = 1, 0
    for g, numbers, count, size in zip(graph.compiled, given, counts, sizes, strict=True):
        rho = np.ones(1) if weights is None else weights[done : done + g.num_factors]
        target = values[:, first : first + count * size].reshape(rows, count, size)
        own_scale, wide = _fill(target, numbers, rho, temperature)
        scale += own_scale * (g.num_factors if count == 1 else 1)
        widest = max(widest, wide)
        starts.append(first + (size if count > 1 else 0) * np.arange(g.num_factors))
        first += count * size
        done += g.num_factors
    return Tables(values, np.concatenate(starts), scale, widest)


def _both(graph: FactorGraph, given: list[Floats]) -> Iterator[tuple[FactorGroup, Floats]]:
    return zip(graph.compiled, given, strict=True)


def _numbers(g: FactorGroup) -> Floats:
    """``(1 or B, F or 1, size)`` a group's entries, where possible without a copy."""
    entries = g.entries().detach().to("cpu").double().numpy()
    return np.asarray(entries if g.batch_shape else entries[None])


def _fill(target: Floats, numbers: Floats, rho: Floats, temperature: float) -> tuple[Floats, float]:
    """Write a group's tables, piece by piece; return what scaling takes away, and their range.

    Args:
        target: ``(B, F or 1, size)`` zeros, written to; a view.
        numbers: ``(B or 1, F or 1, size)`` logarithms.
        rho: ``(F,)`` or ``(1,)`` powers.
        temperature: At zero logarithms are written.
    """
    scale, widest = np.zeros(len(target)), 0.0
    count, size = target.shape[1:]
    step = max(1, _PIECE // (size * max(len(target), 1)))
    for first in range(0, count, step):
        part = slice(first, first + step)
        own, given = target[:, part], numbers if numbers.shape[1] == 1 else numbers[:, part]
        weight = rho if len(rho) == 1 else rho[part]
        power = 1.0 / (weight * (temperature or 1.0))
        np.multiply(given, power[:, None], out=own)
        finite = ~np.isneginf(own)
        top = own.max(axis=2)
        top[np.isneginf(top)] = 0.0
        least = own.min(axis=2, initial=np.inf, where=finite)
        widest = max(widest, float((top - least).max(initial=0.0)))
        if temperature > 0:
            own -= top[:, :, None]
            np.exp(own, out=own)
            scale += (top * weight).sum(axis=1)
    return scale, widest
