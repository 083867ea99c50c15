"""A directed model's tables as forward sampling reads them."""

from __future__ import annotations

import graphlib
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pgnn.errors import Unsupported
from pgnn.factors.factor import Factor
from pgnn.inference.factor_graph import FactorGraph

if TYPE_CHECKING:
    from pgnn.inference.sampling.kernels.likelihood_weighting import Tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def directed_tables(graph: FactorGraph, num_rows: int) -> Tables:
    r"""Return the tables :math:`p(x_i \mid x_{\mathrm{pa}(i)})`, and what else weighs in.

    A factor that is no child's table, such as the density of a real variable that was observed,
    is looked up when its variables have been drawn.

    Args:
        graph: Factors over elements.
        num_rows: Rows of evidence ``B``.

    Raises:
        Unsupported: If a variable has no table given its parents.
    """
    from pgnn.inference.sampling.kernels.likelihood_weighting import Tables

    own = graph.child_factor
    if (own < 0).any():
        name = graph.variables[int(np.flatnonzero(own < 0)[0])].name
        raise Unsupported(
            f"ImportanceSampling() draws along a directed graph, but {name!r} has no table given "
            "parents; use Gibbs() or BeliefPropagation()"
        )
    rest = np.setdiff1d(np.arange(graph.num_factors), own).tolist()
    scopes, logs = [], []
    for f in [*own.tolist(), *rest]:
        scope, table = _child_last(graph, f)
        scopes.append(scope)
        logs.append(table)
    children = len(own)
    parents = [s[:-1] if k < children else s for k, s in enumerate(scopes)]
    strides = [_strides(t.shape[1:], len(p)) for t, p in zip(logs, parents, strict=True)]
    rowwise = np.array([graph.factors[f].batch_shape != () for f in [*own, *rest]], dtype=np.bool_)
    cdfs = [_cumulative(t) if k < children else np.zeros_like(t) for k, t in enumerate(logs)]
    start = np.zeros(len(logs), dtype=np.int64)
    for which in (rowwise, ~rowwise):
        sizes = np.array([t[0].size if len(t) else 0 for t in logs], dtype=np.int64)[which]
        start[which] = np.cumsum(sizes) - sizes
    return Tables(
        order=_order(parents[:children]),
        card=graph.card,
        offset=graph.offset,
        ptr=np.concatenate([[0], np.cumsum([len(p) for p in parents])]).astype(np.int64),
        parent=np.array([v for p in parents for v in p], dtype=np.int64),
        stride=np.array([n for s in strides for n in s], dtype=np.int64),
        start=start,
        rowwise=rowwise,
        log_shared=_side_by_side(logs, ~rowwise, 1)[0],
        log_own=_side_by_side(logs, rowwise, num_rows),
        cdf_shared=_side_by_side(cdfs, ~rowwise, 1)[0],
        cdf_own=_side_by_side(cdfs, rowwise, num_rows),
    )


def _child_last(graph: FactorGraph, f: int) -> tuple[list[int], Floats]:
    """Scope and ``(1 or B, K1, ..., Kn)`` log table of a factor, its child's axis last."""
    factor: Factor = graph.factors[f]
    scope = list(graph.scopes[f])
    table = factor.log_values.detach().to("cpu", torch.float64).numpy()
    table = table if factor.batch_shape else table[None]
    if factor.child is not None:
        axis = factor.names.index(factor.child)
        scope.append(scope.pop(axis))
        table = np.moveaxis(table, axis + 1, -1)
    return scope, np.ascontiguousarray(table)


def _strides(shape: tuple[int, ...], count: int) -> list[int]:
    """Strides of the first axes of a table in row-major order."""
    return [int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(count)]


def _cumulative(log_table: Floats) -> Floats:
    """Cumulative probabilities along the last axis; the last of them is one."""
    total = np.cumsum(np.exp(log_table), axis=-1)
    last = total[..., -1:]
    return np.asarray(total / np.where(last > 0, last, 1.0))


def _order(parents: list[list[int]]) -> Ints:
    """Elements, parents before children."""
    return np.array(
        [*graphlib.TopologicalSorter(dict(enumerate(parents))).static_order()], np.int64
    )


def _side_by_side(tables: list[Floats], which: NDArray[np.bool_], rows: int) -> Floats:
    """``(rows, .)`` some of the tables, flat."""
    kept = [_flat(t) for t, taken in zip(tables, which, strict=True) if taken]
    return np.ascontiguousarray(np.concatenate([np.zeros((rows, 0)), *kept], axis=1))


def _flat(table: Floats) -> Floats:
    return table.reshape(len(table), math.prod(table.shape[1:]))
