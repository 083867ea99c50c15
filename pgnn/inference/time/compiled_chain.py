"""Linear Gaussian chains with small states, filtered and smoothed by compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgnn.inference.numba_support import has_numba
from pgnn.inference.threads import Ints, Stop, in_threads
from pgnn.inference.time.compilation import KERNELS
from pgnn.inference.time.gaussian_chain import (
    Filtered,
    GaussianChain,
    Smoothed,
    StepMoments,
    covariance_of,
    not_definite,
)

MOST = 16
"""Largest dimension of a state or observation for which loops are faster than a library."""
_LITTLE = 2000
"""Number of steps, over all patterns, up to which torch is used before compilation."""


@dataclass(frozen=True, eq=False)
class CompiledChain(GaussianChain):
    """A linear Gaussian chain whose moments are computed by kernels if these are faster.

    Kernels process rows with the same pattern of missing values together.
    """

    def filtered(self) -> Filtered:
        """Return the filtered states; see the base class."""
        if not self._compiled:
            return super().filtered()
        from pgnn.inference.time.kernels.kalman import filter_rows, space_of

        rows, steps, width = self.observed.shape
        size, kinds = self.move.weight.shape[0], len(self.patterns)
        shapes = [(rows, steps, size), (kinds, steps, size, size)]
        ahead, now = ([np.empty(s) for s in shapes] for _ in range(2))
        increments = np.empty((rows, steps))
        arguments = (
            self.patterns.numpy(), _array(self.observed),
            _array(self.move.weight), _array(self.move.bias), _array(covariance_of(self.move)),
            _array(self.emit.weight), _array(self.emit.bias), _array(covariance_of(self.emit)),
            _array(self.start.bias), _array(covariance_of(self.start)),
        )  # fmt: skip

        def run(patterns: Ints, stop: Stop) -> None:
            space = space_of(max(size, width))
            _check(
                filter_rows(
                    patterns, *self._rows, *arguments, *ahead, *now, increments, space, stop
                )
            )

        in_threads(run, np.arange(kinds), self._cost)
        return Filtered(_moments(ahead), _moments(now), torch.from_numpy(increments))

    def smoothed(self, filtered: Filtered) -> Smoothed:
        """Return the smoothed states; see the base class."""
        if not self._compiled or filtered.now.mean.requires_grad:
            return super().smoothed(filtered)
        from pgnn.inference.time.kernels.kalman import smooth_rows, space_of

        size, kinds = self.move.weight.shape[0], len(self.patterns)
        ahead = [_array(x) for x in filtered.ahead]
        moments = [_array(x).copy() for x in filtered.now]
        gains = np.empty((kinds, max(self.steps - 1, 0), size, size))
        move = _array(self.move.weight)

        def run(patterns: Ints, stop: Stop) -> None:
            space = space_of(size)
            _check(smooth_rows(patterns, *self._rows, move, *ahead, *moments, gains, space, stop))

        in_threads(run, np.arange(kinds), self._cost)
        return Smoothed(_moments(moments), torch.from_numpy(gains))

    @cached_property
    def _compiled(self) -> bool:
        """Whether kernels are faster, and compute all requested results."""
        width = max(self.observed.shape[2], self.move.weight.shape[0])
        parts = (*self.start, *self.move, *self.emit, self.observed)
        differentiates = torch.is_grad_enabled() and any(x.requires_grad for x in parts)
        on_cpu = all(x.device.type == "cpu" for x in parts)
        if not self.steps or width > MOST or differentiates or not on_cpu or not has_numba():
            return False
        return KERNELS.ready() or len(self.patterns) * self.steps > _LITTLE

    @cached_property
    def _rows(self) -> tuple[Ints, Ints]:
        """The first position of each pattern, and the rows sorted by pattern."""
        kind = self.kind.numpy()
        counts = np.bincount(kind, minlength=len(self.patterns))
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return first, np.argsort(kind, kind="stable").astype(np.int64)

    @property
    def _cost(self) -> float:
        """Estimate the nanoseconds of a pass."""
        size, steps = self.move.weight.shape[0], self.steps
        return steps * (len(self.patterns) * 10.0 * size**3 + len(self.kind) * 4 * size**2)


def _array(x: Tensor) -> Any:
    return np.ascontiguousarray(x.detach().numpy(), dtype=np.float64)


def _moments(arrays: list[Any]) -> StepMoments:
    return StepMoments(*(torch.from_numpy(x) for x in arrays))


def _check(lost: int) -> None:
    if lost:
        raise not_definite()
