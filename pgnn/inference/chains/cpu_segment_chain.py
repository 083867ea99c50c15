"""Runs the kernel of segment chains over rows."""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.threads import in_threads

if TYPE_CHECKING:
    from pgnn.inference.chains.kernels.chain_segments import SegmentNumbers, SegmentSums

Floats = NDArray[Any]
Ints = NDArray[np.int64]


class CpuSegmentChain:
    """Sums over segmentations, computed with logs in float64.

    Args:
        tensors: Everything but the durations.
        log_duration: ``(K, D)``.
        censored: Whether the last segment may outlast its row.
    """

    def __init__(self, tensors: ChainTensors, log_duration: Tensor, censored: bool) -> None:
        self.tensors = tensors.detach()
        self.log_duration = log_duration
        self.censored = censored
        self.lengths: Ints = tensors.lengths.numpy()

    @cached_property
    def numbers(self) -> SegmentNumbers:
        """The chain as the kernel takes it."""
        from pgnn.inference.chains.kernels.chain_segments import SegmentNumbers

        transition = _array(self.tensors.transition[0, 0])
        return SegmentNumbers(
            _array(self.tensors.initial[0]),
            transition,
            np.ascontiguousarray(transition.T),
            _array(self.log_duration),
            _array(self.tensors.field),
            self.lengths,
        )

    def expectations(self, weights: Floats | None, everything: bool) -> SegmentSums:
        """Return log Z alone, or all sums over rows, too.

        Args:
            weights: ``(B,)`` what rows count.
            everything: Whether to compute more than log Z.
        """
        from pgnn.inference.chains.kernels.chain_segments import SegmentSums, sum_segments

        (B, T, K), D = self.tensors.field.shape, self.log_duration.shape[1]
        numbers, lock = self.numbers, Lock()
        sums = SegmentSums(
            np.zeros(B),
            np.zeros((B, T, K) if everything else (0, 0, 0)),
            np.zeros(K),
            np.zeros((K, K)),
            np.zeros((K, D)),
        )
        given = np.zeros(0)
        if everything:
            given = np.ones(B) if weights is None else np.ascontiguousarray(weights)

        def work(rows: Ints) -> None:
            own = SegmentSums(*sums[:2], *(np.zeros_like(part) for part in sums[2:]))
            room = np.empty(T * K * D), np.empty(K * D + K), np.empty(K + max(K, D))
            sum_segments(numbers, own, rows, given, self.censored, *room)
            with lock:
                for whole, part in zip(sums[2:], own[2:], strict=True):
                    whole += part

        in_threads(work, np.flatnonzero(self.lengths))
        return sums


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().double().numpy())
