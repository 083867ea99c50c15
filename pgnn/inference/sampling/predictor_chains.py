"""Gibbs chains on the CPU with softmax factors over many elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgnn.inference.linear_predictors import LinearPredictors
from pgnn.inference.sampling.compilation import KERNELS
from pgnn.inference.sampling.cpu_gibbs import CpuChains, TemperedTables
from pgnn.inference.threads import Stop, in_threads, interruptible

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
States = NDArray[np.uint16]

_TERM = 20.0  # nanoseconds per state of a term


class PredictorChains(CpuChains):
    """``C`` chains for each of some rows of evidence, with linear predictors of softmax children.

    Args:
        tables: Rows, temperatures, and the factors with tables.
        seeds: See :class:`CpuChains`.
        visits: See :class:`CpuChains`.
        predictors: The softmax factors.
    """

    def __init__(
        self,
        tables: TemperedTables,
        seeds: NDArray[np.uint64],
        visits: int,
        predictors: Sequence[LinearPredictors],
    ) -> None:
        super().__init__(tables, seeds, visits)
        self._sums = _program(predictors, self.num_elements)
        rows = np.repeat(np.arange(*tables.rows), self._num_chains)
        rows = rows if len(self._sums.offset) > 1 else np.zeros_like(rows)
        self._chain = np.stack([self._which, rows]).astype(np.int64)
        self._heat = np.tile(1.0 / np.array(tables.temperatures), tables.num_rows)

    def conditionals(self) -> Floats:
        """See :class:`CpuChains`."""
        from pgnn.inference.sampling.kernels.gibbs_predictors import conditionals

        out = np.zeros((len(self._which), int(self._program.wiring.offset[-1])))
        cost = len(self._which) * self._cost_of_a_sweep
        find = KERNELS.choose(conditionals, cost)

        def work(stop: Stop) -> None:
            find(self._program, self._sums, self._chain, self._heat, self.states, out, stop)

        interruptible([work], cost=cost)
        return out

    @property
    def _cost_of_a_sweep(self) -> float:
        return _TERM * (len(self._sums.terms) + 5.0 * self.num_elements)

    def _run(self, sweeps: tuple[int, int], sums: Floats, squares: Floats, trace: States) -> None:
        from pgnn.inference.sampling.kernels.gibbs_predictors import run

        num = len(self._which)
        cost = self._cost_of_a_sweep * num * sweeps[0] * sweeps[1]
        sweep = KERNELS.choose(run, cost)
        sums, squares = (x if x.size else np.zeros((num, 0)) for x in (sums, squares))

        def piece(part: Ints, stop: Stop) -> None:
            sweep(
                self._program, self._sums, (self._order, self._ptr), self._chain, self._heat,
                self.states, self._counters, (part[0], part[-1] + 1), sweeps, sums, squares,
                trace, stop,
            )  # fmt: skip

        in_threads(piece, np.arange(num), cost)


def _program(predictors: Sequence[LinearPredictors], num_elements: int) -> Any:
    """Return all children and terms, concatenated in the layout of the kernels."""
    from pgnn.inference.sampling.kernels.gibbs_predictors import PredictorProgram

    sizes = np.concatenate([np.full(len(p.child), p.num_classes) for p in predictors])
    child = np.concatenate([p.child for p in predictors])
    units = np.cumsum([0, *(len(p.child) for p in predictors)])
    unit = np.concatenate([p.unit + first for p, first in zip(predictors, units, strict=False)])
    parent = np.concatenate([p.parent for p in predictors])
    widths = np.concatenate([np.full(len(p.unit), p.terms[0].numel()) for p in predictors])
    order = np.argsort(parent, kind="stable")
    child_index = np.full(num_elements, -1, dtype=np.int64)
    child_index[child] = np.arange(len(child))
    rows = max(len(p.offset) for p in predictors)
    offsets = [p.offset.detach().cpu().numpy().reshape(len(p.offset), -1) for p in predictors]
    return PredictorProgram(
        child=child,
        first=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        child_index=child_index,
        ptr=np.searchsorted(parent[order], np.arange(num_elements + 1)).astype(np.int64),
        unit=unit[order].astype(np.int64),
        at=(np.cumsum(widths) - widths)[order].astype(np.int64),
        terms=np.concatenate([p.terms.detach().cpu().numpy().ravel() for p in predictors]),
        offset=np.concatenate([np.broadcast_to(x, (rows, x.shape[1])) for x in offsets], axis=1),
    )
