"""Concatenated tables in probability units, the input of the compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgnn.factors.groups.factor_group import FactorGroup
from pgnn.inference.graph_structure import GraphStructure

Floats = NDArray[np.float64]

_DEEPEST = 700.0  # exp(-x) is still a normal double


@dataclass(frozen=True, eq=False)
class ScaledTables:
    """The tables of a factor graph, each divided by its largest entry.

    Attributes:
        values: Concatenated tables shared by all rows, in the order of the factors.
        log_scale: ``(F,)`` logs of the largest entries; 0 for row-wise tables.
        row_values: ``(B, .)`` row-wise tables, in the order of the factors.
        row_scale: ``(B, R)`` logs of the largest entries of the R row-wise tables.
        flushed: ``(1,)`` or ``(B,)`` whether an entry underflows in probability units.
    """

    values: Floats
    log_scale: Floats
    row_values: Floats
    row_scale: Floats
    flushed: NDArray[np.bool_]

    @classmethod
    def of(
        cls, groups: Sequence[FactorGroup], log_tables: Sequence[Tensor], structure: GraphStructure
    ) -> ScaledTables:
        """Convert the log tables of groups to probability units."""
        first, start = structure.first, structure.start
        values = np.zeros(max(int(structure.sizes[~structure.rowwise].sum()), 1))
        log_scale = np.zeros(int(first[-1]))
        flushed = np.zeros(1, dtype=np.bool_)
        row_values: list[Floats] = []
        row_scale: list[Floats] = []
        for k, group in enumerate(groups):
            if not group.num_factors:
                continue
            tables = log_tables[k].detach().to("cpu", torch.float64).numpy()
            rowwise, size = structure.batched[k], int(structure.sizes[first[k]])
            count = tables.shape[int(rowwise)]
            linear, tops, lost = _linear(tables.reshape(len(tables) if rowwise else 1, count, size))
            repeats = group.num_factors // count
            if rowwise:
                flushed = flushed | lost.any(1)
                row_scale.append(np.tile(tops, (1, repeats)))
                row_values.append(
                    np.tile(linear, (1, repeats, 1)).reshape(len(linear), count * repeats * size)
                )
            else:
                log_scale[first[k] : first[k + 1]] = tops[0]
                flushed = flushed | lost.any()
                block = values[start[first[k]] :][: repeats * linear.size]
                block.reshape(repeats, -1)[:] = linear.ravel()
        if not row_values:
            return cls(values, log_scale, np.zeros((1, 1)), np.zeros((1, 0)), flushed)
        return cls(
            values,
            log_scale,
            np.concatenate(row_values, axis=1),
            np.concatenate(row_scale, axis=1),
            flushed,
        )


def _linear(tables: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return tables in probability units, their log scales, and which entries underflow."""
    top: Floats = tables.max(axis=-1) if tables.size else np.zeros(tables.shape[:-1])
    top = np.where(np.isfinite(top), top, 0.0)
    shifted = tables - top[..., None]
    lost = ((shifted < -_DEEPEST) & (shifted > -np.inf)).any(axis=-1)
    return np.exp(shifted, out=shifted), top, np.asarray(lost)
