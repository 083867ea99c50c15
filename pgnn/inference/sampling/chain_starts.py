"""Initialisation of annealed chains: random streams, states, temperatures, softened zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgnn.errors import Intractable
from pgnn.inference.exact.solver import Solver
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.local_search import finite_spread, floored
from pgnn.inference.question import Question
from pgnn.inference.wiring import LocalWiring

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int32]

# limits of planning and memory for exact samples
_LARGEST, _MAX_BYTES = 5000, 2**28


def chain_rows(rows: int, chains: int) -> Ints:
    """``(B C, 2)`` the row and the index of each chain."""
    number = np.arange(rows * chains)
    return np.stack([number // max(chains, 1), number], axis=1)


def streams_of(seed: int | None, rows: int, chains: int) -> NDArray[np.uint64]:
    """``(B, C)`` random streams; those of a row do not depend on the number of rows."""
    rng = np.random.default_rng(seed)
    return rng.integers(2**64, size=(rows, chains), dtype=np.uint64)


def possible(graph: FactorGraph, log_field: Floats) -> Mask:
    """``(B,)`` whether every element has a state of finite unary potential."""
    if log_field.size == 0:
        return np.ones(len(log_field), dtype=np.bool_)
    top = np.maximum.reduceat(log_field, graph.elements.offset[:-1], axis=1)
    return np.asarray((top > -np.inf).all(axis=1))


def most_likely_states(wiring: LocalWiring, log_field: Floats) -> NDArray[np.int32]:
    """``(B, E)`` the first state with the largest unary potential of each element."""
    if log_field.size == 0:
        return np.zeros((len(log_field), len(wiring.card)), dtype=np.int32)
    first = wiring.offset[:-1]
    top = np.repeat(np.maximum.reduceat(log_field, first, axis=1), wiring.card, axis=1)
    column = np.where(log_field == top, np.arange(log_field.shape[1]), log_field.shape[1])
    return (np.minimum.reduceat(column, first, axis=1) - first).astype(np.int32)


def walled(graph: FactorGraph, depth: float) -> Floats:
    """Replace ``-inf`` by a value ``depth`` below the smallest finite value of the factor."""
    starts = np.unique(graph.wiring.table)
    if not len(starts):
        return graph.log_tables
    least, _ = finite_spread(graph.log_tables, starts)
    return floored(graph.log_tables, starts, least - depth)


def temperature_range(graph: FactorGraph, log_field: Floats) -> tuple[float, float]:
    r"""Return a high and a low temperature for annealing.

    The energy of an element has variance :math:`\sigma_i^2 = \sum_f \mathrm{var}(\theta_f)`, over
    the finite values of its factors. The high temperature is twice the 90th percentile of
    :math:`\sigma_i`; the low one a hundredth of that, or a tenth of the 5th percentile.
    """
    wiring = graph.wiring
    variance = _variance(log_field, wiring.offset[:-1]).max(axis=0, initial=0.0)
    starts = np.unique(wiring.table)
    if len(starts):
        variances = _variance(graph.log_tables, starts).max(axis=0)
        variances = variances[np.searchsorted(starts, wiring.table)]
        held = np.bincount(wiring.slot_var, variances[wiring.slot_factor], len(variance))
        variance = variance + held
    spread = np.sqrt(variance[variance > 0.0])
    if not len(spread):
        return 1.0, 0.01
    hot = 2.0 * float(np.quantile(spread, 0.9))
    return hot, min(hot / 100.0, float(np.quantile(spread, 0.05)) / 10.0)


def _variance(values: Floats, starts: Ints) -> Floats:
    """``(B, P)`` variance of the finite values of each segment."""
    if values.size == 0:
        return np.zeros((len(values), len(starts)))
    finite = values > -np.inf
    count = np.maximum(np.add.reduceat(finite.astype(np.int64), starts, axis=1), 1)
    length = np.diff(np.concatenate([starts, [values.shape[1]]]))
    kept = np.where(finite, values, 0.0)
    mean = np.repeat(np.add.reduceat(kept, starts, axis=1) / count, length, axis=1)
    squares = np.where(finite, (kept - mean) ** 2, 0.0)
    return np.asarray(np.add.reduceat(squares, starts, axis=1) / count)


def exact_draws(question: Question, n: int, seed: int) -> Codes | None:
    """Return ``(B, n, E)`` exact samples from the junction tree; None if it is not cheap."""
    graph = question.graph
    if len(graph.elements) > _LARGEST or graph.num_interactions > 4 * _LARGEST:
        return None
    solver = Solver(graph, max_bytes=_MAX_BYTES)
    try:
        drawn, _ = solver.draw(question.observed.codes, question.observed.soft, n, seed)
    except Intractable:
        return None
    return np.ascontiguousarray(drawn.transpose(1, 0, 2))


def log_normalisers(fields: Floats, offset: Ints) -> Floats:
    """Return ``(B, E)`` log sums of the exponentials of each element's field."""
    if fields.size == 0:
        return np.zeros((len(fields), len(offset) - 1))
    top = np.maximum.reduceat(fields, offset[:-1], axis=1)
    level = np.where(np.isneginf(top), 0.0, top)
    shifted = np.exp(fields - np.repeat(level, np.diff(offset), axis=1))
    with np.errstate(divide="ignore"):
        return np.asarray(level + np.log(np.add.reduceat(shifted, offset[:-1], axis=1)))
