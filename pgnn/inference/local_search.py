"""Exact local improvement of complete assignments."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.compilation import Compilation
from pgnn.inference.factor_graph import FactorGraph
from pgnn.inference.threads import Stop, in_threads, interruptible
from pgnn.inference.wiring import LocalWiring, Neighbours

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_PATIENCE = 10
_VISIT = 5.0  # nanoseconds
_VISITS = 1000  # per slot, until convergence

KERNELS = Compilation("pgnn.inference")
"""Compilation of the kernels of this file; until then, small tasks run in Python."""


class Work(NamedTuple):
    """Working memory of the polishing kernel: two queues of elements to visit, and a forest."""

    singles: Ints
    single_ends: Ints
    single_waiting: Mask
    pairs: Ints
    pair_ends: Ints
    pair_waiting: Mask
    swap: Floats
    touching: Ints
    visited: Mask
    roots: Ints
    order: Ints
    up: Ints
    gain: Floats
    chosen: Ints


def score(
    graph: FactorGraph, log_field: Floats, states: NDArray[np.integer], rows: Ints | None = None
) -> Floats:
    r"""Return ``(B,)`` log scores :math:`c + \sum_i h_i(x_i) + \sum_f \theta_f(x_f)`.

    Args:
        graph: The graph; its factors over two or more elements and its constant are used.
        log_field: ``(B, S)`` unary log potentials h of all elements, evidence included.
        states: ``(B, E)`` states.
        rows: ``(N,)`` row of evidence of each assignment, if there are N assignments instead.
    """
    if rows is None:
        rows = np.arange(len(log_field))
    constant = graph.log_constant.detach().cpu().double().numpy()
    total = np.zeros(len(rows))
    x = np.ascontiguousarray(states, dtype=np.int64)
    tables = np.ascontiguousarray(graph.log_tables)
    score_all(graph.wiring, tables, np.ascontiguousarray(log_field), rows, x, total)
    total += constant[rows if len(constant) > 1 else 0]
    return total


def score_all(
    wiring: Any, tables: Floats, fields: Floats, rows: Ints, states: Ints, scores: Floats
) -> None:
    """See :func:`pgnn.inference.kernels.local_fields.score_rows`."""
    from pgnn.inference.kernels.local_fields import score_rows

    cost = _VISIT * len(rows) * (len(wiring.card) + len(wiring.slot_var))
    kernel = KERNELS.choose(score_rows, cost)

    def work(stop: Stop) -> None:
        kernel(wiring, tables, fields, rows, states, scores, stop)

    interruptible([work], cost=cost)


def polish(
    graph: FactorGraph,
    log_field: Floats,
    states: NDArray[np.integer],
    free: Mask,
    rows: Ints | None = None,
) -> tuple[Ints, Floats]:
    """Improve assignments until no change of one element, or of two that share a factor, does.

    A queue holds the elements whose neighbours have changed; each takes its best state, then pairs
    of elements do, then random induced forests take their jointly best states by max-product (Hamze
    & de Freitas 2004, applied to maximisation), until ten forests in a row bring no improvement. An
    impossible assignment is better if it violates fewer factors. The result is deterministic, and
    its score is never lower than that of the initial states.

    Args:
        graph: The factors.
        log_field: ``(B, S)`` unary log potentials, evidence included; ``-inf`` is legal.
        states: ``(B, E)`` initial states; not changed.
        free: ``(E,)`` or ``(B, E)`` elements that may change.
        rows: ``(N,)`` row of evidence of each assignment, if there are N assignments instead.

    Returns:
        ``(B, E)`` states and ``(B,)`` log scores, ``-inf`` where only impossible states were
        found.

    Cost:
        ``O(degree K)`` per change, ``O(K^2)`` per pair in a shared factor.

    Example:
        >>> import torch
        >>> from pgnn.factors import Variable
        >>> from pgnn.factors.elements import Elements
        >>> from pgnn.factors.groups.potts_group import PottsGroup
        >>> pair = PottsGroup([[0, 1]], torch.tensor([2.0], dtype=torch.float64), 2)
        >>> graph = FactorGraph(Elements([Variable("x", 2, shape=(2,))]), (pair,))
        >>> field = np.array([[0.0, 1.0, 0.5, 0.0]])
        >>> polish(graph, field, np.array([[0, 0]]), np.array([True, True]))
        (array([[1, 1]]), array([3.]))
    """
    start = np.array(states, dtype=np.int64, order="C")
    if rows is None:
        rows = np.arange(len(log_field))
    before = score(graph, log_field, start, rows)
    if start.size == 0:
        return start, before
    from pgnn.inference.kernels import polishing

    wiring = graph.local_wiring
    tables, fields, scale = penalised(graph, log_field)
    may = np.array(np.broadcast_to(free, start.shape), order="C")
    improved = start.copy()
    near, tolerance = Neighbours.of(wiring), 1e-13 * scale
    run = KERNELS.choose(polishing.polish, _VISIT * _VISITS * len(improved) * len(wiring.slot_var))

    def improve(part: Ints, stop: Stop) -> None:
        indices = np.stack([rows[part], part], axis=1)
        work = _work(wiring)
        run(wiring, near, tables, fields, may, indices, tolerance, _PATIENCE, improved, work, stop)

    in_threads(improve, np.arange(len(improved)))
    after = score(graph, log_field, improved, rows)
    worse = after < before  # up to rounding
    improved[worse] = start[worse]
    return improved, np.where(worse, before, after)


def penalised(graph: FactorGraph, log_field: Floats) -> tuple[Floats, Floats, float]:
    r"""Replace ``-inf`` by finite penalties such that fewer violated factors are always better.

    An infinity becomes the factor's smallest finite value minus :math:`2R`, where :math:`R` is the
    sum over all factors of the range of their finite values.

    Returns:
        Tables, fields, and their magnitude, for bounds of rounding errors.
    """
    offset, starts = graph.wiring.offset[:-1], np.unique(graph.wiring.table)
    total = np.zeros(1)
    field_least, field_range = finite_spread(log_field, offset)
    total = total + field_range.sum(axis=1)
    if len(starts):
        least, wide = finite_spread(graph.log_tables, starts)
        total = total + wide[:, np.searchsorted(starts, graph.wiring.table)].sum(axis=1)
    penalty = 2.0 * float(total.max(initial=0.0)) or 1.0
    tables = graph.log_tables
    if len(starts):
        tables = floored(tables, starts, least - penalty)
    return tables, floored(log_field, offset, field_least - penalty), 2.0 * penalty


def unsettled(graph: FactorGraph, log_field: Floats) -> Mask:
    """Return ``(B, E)`` whether the unary potential of an element allows more than one state."""
    if log_field.size == 0:
        return np.zeros((len(log_field), len(graph.elements)), dtype=np.bool_)
    possible = (log_field > -np.inf).astype(np.int64)
    count = np.add.reduceat(possible, graph.elements.offset[:-1], axis=1)
    return np.asarray(count > 1)


def finite_spread(values: Floats, starts: Ints) -> tuple[Floats, Floats]:
    """Smallest value and range of the finite values in segments of rows; zeros if there are none.

    Args:
        values: ``(B, N)`` concatenated segments.
        starts: ``(P,)`` first index of each segment, ascending.
    """
    least = np.minimum.reduceat(np.where(np.isneginf(values), np.inf, values), starts, axis=1)
    most = np.maximum.reduceat(values, starts, axis=1)
    nothing = np.isneginf(most)
    return np.where(nothing, 0.0, least), np.where(nothing, 0.0, most - least)


def floored(values: Floats, starts: Ints, floor: Floats) -> Floats:
    """Replace ``-inf`` by the floor ``(B, P)`` of its segment."""
    length = np.diff(np.concatenate([starts, [values.shape[1]]]))
    holes = np.isneginf(values)
    if not holes.any():
        return np.ascontiguousarray(values)
    return np.where(holes, np.repeat(floor, length, axis=1), values)


def _work(wiring: LocalWiring) -> Work:
    num, most = len(wiring.card), int(wiring.card.max(initial=1))

    def numbers() -> Ints:
        return np.zeros(num, dtype=np.int64)

    def marks() -> Mask:
        return np.zeros(num, dtype=np.bool_)

    return Work(
        singles=numbers(),
        single_ends=np.zeros(2, dtype=np.int64),
        single_waiting=marks(),
        pairs=numbers(),
        pair_ends=np.zeros(2, dtype=np.int64),
        pair_waiting=marks(),
        swap=np.zeros((most, most)),
        touching=numbers(),
        visited=marks(),
        roots=numbers(),
        order=numbers(),
        up=numbers(),
        gain=np.zeros(int(wiring.offset[-1])),
        chosen=numbers(),
    )
