"""Segment chains by torch operations on logs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgnn.inference.chains.chain_tensors import ChainTensors
from pgnn.inference.semiring import Reduction, contract


class TorchSegmentChain:
    r"""Forward messages over a state and the steps that its segment still has to go.

    .. math:: \alpha_{t+1}(k, r) = e^{f_{t+1}(k)} \Big[ \alpha_t(k, r + 1)
        + e^{g(k, r)} \sum_j \alpha_t(j, 1) e^{A(j, k)} \Big]

    Args:
        initial: ``(K,)`` logs.
        transition: ``(K, K)`` logs.
        duration: ``(K, D)`` logs.
        field: ``(B, T, K)`` logs.
        tensors: Where rows end.
        reduction: Sum, maximum, or draws.
        censored: Whether the last segment may outlast its row.
    """

    def __init__(
        self,
        initial: Tensor,
        transition: Tensor,
        duration: Tensor,
        field: Tensor,
        tensors: ChainTensors,
        reduction: Reduction,
        censored: bool,
    ) -> None:
        self.initial, self.transition, self.duration = initial, transition, duration
        self.field, self.tensors = field, tensors
        self.reduction, self.censored = reduction, censored

    def log_partition(self) -> Tensor:
        """Return ``(B,)`` values: zero in empty rows, ``-inf`` in impossible ones."""
        T = self.field.shape[1]
        none = self.initial[:0].sum() + self.transition[:0].sum() + self.duration[:0].sum()
        zero = self.field[:, :0].sum((1, 2)) + none
        if not T:
            return zero
        last = contract([self._last()], self.reduction, 2 if self.censored else 1)
        last = contract([last], self.reduction, 1) if self.censored else last[:, 0]
        return torch.where(self.tensors.ends > 0, last, zero)

    def _last(self) -> Tensor:
        """``(B, K, D)`` messages at the last step of each row."""
        B, T, K = self.field.shape
        ends = self.tensors.ends[:, None, None]
        alpha = (self.initial[:, None] + self.duration) + self.field[:, 0, :, None]
        nothing = alpha.new_full((B, K, 1), -math.inf)
        for t in range(1, T):
            ended = alpha[:, :, 0]
            entered = contract([ended[:, :, None], self.transition[None]], self.reduction, 1)
            going = torch.cat([alpha[:, :, 1:], nothing], 2)
            both = torch.stack([going, entered[:, :, None] + self.duration])
            arrived = contract([both], self.reduction, 0) + self.field[:, t, :, None]
            alpha = torch.where(t < ends, arrived, alpha)
        return alpha
