"""Tables in linear units, side by side: what the compiled kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from pgnn.inference.factor_graph import FactorGraph

Floats = NDArray[np.float64]

_DEEPEST = 700.0  # exp of its negative is a double with all its digits


@dataclass(frozen=True, eq=False)
class LinearTables:
    """The numbers of a factor graph, each table divided by its largest entry.

    Attributes:
        values: Tables that all rows share, flat, in the order of the factors.
        log_scale: ``(F,)`` logarithms of what those were divided by; 0 for row-wise tables.
        row_values: ``(B, .)`` row-wise tables, in the order of the factors.
        row_scale: ``(B, R)`` logarithms of what each of the R row-wise tables was divided by.
        flushed: ``(1,)`` or ``(B,)`` whether linear units make a zero of something that is none.
    """

    values: Floats
    log_scale: Floats
    row_values: Floats
    row_scale: Floats
    flushed: NDArray[np.bool_]

    @classmethod
    def of(cls, graph: FactorGraph) -> LinearTables:
        """Turn the logs of a graph into linear units."""
        first, start = graph.first, graph.start
        rowwise = graph.rowwise[first[:-1]].tolist()
        values = np.zeros(max(int(graph.sizes[~graph.rowwise].sum()), 1))
        log_scale = np.zeros(graph.num_factors)
        flushed = np.zeros(1, dtype=np.bool_)
        each: list[Floats] = []
        scales: list[Floats] = []
        for k, group in enumerate(graph.groups):
            tables = _array(graph.sources[k])
            batch, size = (len(tables) if rowwise[k] else 1), int(graph.sizes[first[k]])
            count = tables.shape[int(rowwise[k])]
            linear, tops, lost = _linear(tables.reshape(batch, count, size))
            repeats = group.num_factors // max(count, 1)
            if rowwise[k]:
                flushed = flushed | lost.any(1)
                scales.append(np.tile(tops, (1, repeats)))
                each.append(np.tile(linear, (1, repeats, 1)).reshape(batch, -1))
            elif count:
                log_scale[first[k] : first[k + 1]] = tops[0]
                flushed = flushed | lost.any()
                own = values[start[first[k]] :][: repeats * linear.size]
                own.reshape(repeats, -1)[:] = linear.ravel()
        alone = range(len(graph.groups), len(graph.sources))
        for k in (k for k in alone if rowwise[k]):
            tables = _array(graph.sources[k])
            linear, tops, lost = _linear(tables.reshape(len(tables), -1))
            flushed = flushed | lost
            scales.append(tops[:, None])
            each.append(linear)
        for numbers, rows, tables in _by_size([k for k in alone if not rowwise[k]], graph.sources):
            linear, tops, lost = _linear(tables)
            log_scale[first[numbers]] = tops[rows]
            flushed = flushed | lost.any()
            values[start[first[numbers]][:, None] + np.arange(linear.shape[1])] = linear[rows]
        if not each:
            return cls(values, log_scale, np.zeros((1, 1)), np.zeros((1, 0)), flushed)
        return cls(
            values, log_scale, np.concatenate(each, axis=1), np.concatenate(scales, axis=1), flushed
        )


def _by_size(
    numbers: Sequence[int], sources: Sequence[Tensor]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
    """Tables by size: their numbers, the row that each has, and ``(n, size)`` distinct tables.

    Models that repeat themselves have the same tensor many times.
    """
    places: dict[int, dict[int, int]] = {}
    tables: dict[int, list[Tensor]] = {}
    members: dict[int, tuple[list[int], list[int]]] = {}
    for k in numbers:
        table = sources[k]
        size = table.numel()
        own = places.setdefault(size, {})
        place = own.setdefault(id(table), len(own))
        if place == len(tables.setdefault(size, [])):
            tables[size].append(table.detach())
        held, rows = members.setdefault(size, ([], []))
        held.append(k)
        rows.append(place)
    return [
        (np.array(held), np.array(rows), _stacked(tables[size], size))
        for size, (held, rows) in members.items()
    ]


def _linear(tables: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Linear units, the logs they were divided by, and where something became zero."""
    top: Floats = tables.max(axis=-1) if tables.size else np.zeros(tables.shape[:-1])
    top = np.where(np.isfinite(top), top, 0.0)
    shifted = tables - top[..., None]
    lost = ((shifted < -_DEEPEST) & (shifted > -np.inf)).any(axis=-1)
    return np.exp(shifted, out=shifted), top, np.asarray(lost)


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _stacked(tables: Sequence[Tensor], size: int) -> Floats:
    """``(n, size)`` numbers of tables of one size; their types and shapes may differ."""
    flat = [x.reshape(size) for x in tables]
    alike = all(x.dtype == flat[0].dtype for x in flat)
    return _array(torch.stack(flat if alike else [x.double() for x in flat]))
